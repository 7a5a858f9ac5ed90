"""The address of an object as a path: what reads and writes a folder does the same to a bucket."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from io import BufferedReader, BytesIO, RawIOBase
from pathlib import Path, PosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from retrieval.objects.store import (
    SCHEMES,
    BadKeyError,
    ObjectChangedError,
    said_as_os_errors,
    store_of,
)

__all__ = ["ObjectChangedError", "ObjectFacts", "ObjectPath", "is_address", "place_of"]

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_OBJECT = re.compile(rf"({'|'.join(SCHEMES)})://[^/]+(/.*)?", re.DOTALL)
PART_OF_OBJECT = 1 << 24  # of a large object, which is sent in parts
CHUNK, RANGE_BYTES = 1 << 22, 1 << 20
MOST_OF_A_SIZE = (1 << 63) - 1  # bytes, in a row


@dataclass(frozen=True)
class ObjectFacts:
    """What a store tells of an object: its size in bytes, time in ns since 1970, and etag."""

    name: str
    size: int
    mtime_ns: int
    etag: str

    def as_status(self, kind: int, address: str) -> os.stat_result:
        """Return what stat() gives; st_ino stands for address and etag. kind: S_IFREG, S_IFDIR."""
        told_by = f"{address}\n{self.etag}".encode(errors="surrogatepass")
        number = int.from_bytes(hashlib.sha256(told_by).digest()[:7], "big")
        seconds = self.mtime_ns // 10**9
        known = (kind | 0o600, number, 0, 1, 0, 0, self.size, seconds, seconds, seconds)
        return os.stat_result(known, {"st_mtime_ns": self.mtime_ns})


class ObjectPath(PosixPath):
    """s3://bucket/key, gs://bucket/key or az://container/key.

    Its parts are those of a path, and its methods those of pathlib as far as a store has them: a
    folder is a prefix that some key begins with, nothing is a link, and nothing is renamed. All
    that asks the store raises OSError, as a file system does.

    >>> str(ObjectPath("s3://photos/cars") / "a.jpg"), ObjectPath("s3://photos/cars/a.jpg").key
    ('s3://photos/cars/a.jpg', 'cars/a.jpg')
    """

    def __str__(self) -> str:
        return super().__str__().replace(":/", "://", 1)

    def __fspath__(self) -> str:
        return str(self)

    @property
    def scheme(self) -> str:
        """Which store: "s3", "gs" or "az"."""
        return self.parts[0].rstrip(":")

    @property
    def bucket(self) -> str:
        """The bucket, or Azure's container."""
        return self.parts[1]

    @property
    def key(self) -> str:
        """The name inside the bucket; "" for the bucket."""
        return "/".join(self.parts[2:])

    @contextlib.contextmanager
    def _asked(self) -> Iterator[Any]:
        """Give the client of the bucket; what it raises becomes OSErrors of this path."""
        store = store_of(self.scheme, self.bucket)
        with said_as_os_errors(str(self)):
            yield store

    @property
    def _prefix(self) -> str:
        return f"{self.key}/" if self.key else ""

    # what a path is without asking the store

    def is_absolute(self) -> bool:
        """Return True."""
        return True

    def absolute(self) -> ObjectPath:
        """Return the path itself."""
        return self

    def resolve(self, strict: bool = False) -> ObjectPath:  # noqa: FBT001, FBT002  pathlib's
        """Return the path itself. Raises FileNotFoundError, with strict, where it is not there."""
        if strict:
            self.stat()
        return self

    def is_symlink(self) -> bool:
        """Return False."""
        return False

    def as_uri(self) -> str:
        """Return the address."""
        return str(self)

    # what the store tells

    def facts(self) -> ObjectFacts:
        """Return size, time and etag of an object. Raises FileNotFoundError, OSError."""
        with self._asked() as store:
            if not self.key:
                raise FileNotFoundError
            return _facts(store.head(self.key))

    def stat(self, **_: Any) -> os.stat_result:
        """Return size and time, as of a file or a folder; st_ino stands for address and etag."""
        try:
            facts = self.facts()
        except FileNotFoundError:
            if not self._has_any():
                raise
            return ObjectFacts(self.name, 0, 0, "").as_status(stat.S_IFDIR, str(self))
        return facts.as_status(stat.S_IFREG, str(self))

    def lstat(self) -> os.stat_result:
        """Return stat()."""
        return self.stat()

    def exists(self, **_: Any) -> bool:
        """Tell whether there is such an object, or one below."""
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def is_file(self, **_: Any) -> bool:
        """Tell whether there is such an object."""
        try:
            self.facts()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self, **_: Any) -> bool:
        """Tell whether there is an object below."""
        return self._has_any()

    def listed(self) -> tuple[list[ObjectFacts], list[str]]:
        """Return the objects and the names of the folders in a folder, each sorted by name."""
        with self._asked() as store:
            found = store.list_with_delimiter(self._prefix or None)
        objects = [_facts(meta) for meta in found["objects"]]
        folders = [prefix.rstrip("/").rpartition("/")[2] for prefix in found["common_prefixes"]]
        return sorted(objects, key=lambda each: each.name), sorted(folders)

    def iterdir(self) -> Generator[ObjectPath, None, None]:
        """Give the objects and folders in a folder."""
        objects, folders = self.listed()
        yield from (self / name for name in [*(each.name for each in objects), *folders])

    def glob(self, pattern: str, **_: Any) -> Iterator[Any]:  # type: ignore[override]
        """Give what in this folder has a name that fits; a pattern crosses no slash."""
        return (path for path in self.iterdir() if fnmatchcase(path.name, pattern))

    def all_below(self) -> Iterator[tuple[ObjectPath, ObjectFacts]]:
        """Give every object below, however deep."""
        with self._asked() as store:
            for part in store.list(self._prefix or None):
                for meta in part:
                    yield ObjectPath(f"{self.scheme}://{self.bucket}/{meta['path']}"), _facts(meta)

    def _has_any(self) -> bool:
        with contextlib.suppress(BadKeyError), self._asked() as store:
            return any(len(part) > 0 for part in store.list(self._prefix or None, chunk_size=1))
        return True

    # content

    def read_with_facts(self, most: int | None = None) -> tuple[bytes, ObjectFacts]:
        """Read an object in one request, with what is known of that very content.

        Raises ValueError where it has more bytes than `most`, before they are fetched, and OSError.
        """
        with self._asked() as store:
            if not self.key:
                raise FileNotFoundError
            answer = store.get(self.key)
            facts = _facts(answer.meta)
            if most is not None and facts.size > most:
                raise ValueError(f"it is larger than {most:,} bytes")
            return bytes(answer.bytes()), facts

    def read_bytes(self) -> bytes:
        """Read an object."""
        return self.read_with_facts()[0]

    def read_start(self, length: int) -> bytes:
        """Read the first bytes of an object, at most so many."""
        with self._asked() as store:
            return bytes(store.get(self.key, options={"range": (0, length)}).bytes())

    def read_range(self, start: int, length: int) -> bytes:
        """Read some bytes of an object."""
        with self._asked() as store:
            return bytes(store.get_range(self.key, start=start, length=length)) if length else b""

    def parts_of_content(self, size: int) -> Iterator[bytes]:
        """Give an object in parts of about so many bytes, from its beginning to its end."""
        with self._asked() as store:
            for part in store.get(self.key).stream(min_chunk_size=size):
                yield bytes(part)

    def seekable(self) -> BufferedReader:
        """Open an object as a file that seeks and reads ranges."""
        return BufferedReader(_Ranges(self, self.facts().size), RANGE_BYTES)

    def open(self, mode: str = "r", *_: Any, **__: Any) -> BytesIO:  # type: ignore[override]
        """Open an object for reading bytes, whole in memory."""
        if mode != "rb":
            raise OSError(errno.EINVAL, "an object is opened for reading bytes alone", str(self))
        return BytesIO(self.read_bytes())

    def fetch(self, to: Path) -> None:
        """Copy an object to a file on this machine, a part at a time."""
        with to.open("wb") as file:
            for part in self.parts_of_content(CHUNK):
                file.write(part)

    def write_bytes(self, data: Any) -> int:
        """Write an object: readers see the old one or the new one."""
        self.put(bytes(data))
        return len(data)

    def put(self, content: bytes, *, over: str | None = None) -> str:
        """Write an object, and return its etag.

        over: the etag of the object that it takes the place of, "" for none; None for whatever is
        there. Raises ObjectChangedError where that is not what is there.
        """
        how: Any = "overwrite" if over is None else {"e_tag": over} if over else "create"
        with self._asked() as store:
            done = store.put(self.key, content, mode=how, use_multipart=False)
        return str(done["e_tag"] or "")

    def send(self, file: Path) -> None:
        """Write an object that has the content of a file on this machine, in parts."""
        with self._asked() as store:
            store.put(self.key, file, chunk_size=PART_OF_OBJECT)

    def unlink(self, *_: Any, **__: Any) -> None:
        """Delete an object; stores do not tell whether it was there."""
        with self._asked() as store:
            store.delete(self.key)

    def delete_below(self) -> None:
        """Delete an object, and every one below."""
        keys = [path.key for path, _ in self.all_below()]
        with self._asked() as store:
            for start in range(0, len(keys), 1000):
                store.delete(keys[start : start + 1000])
        if self.is_file():
            self.unlink()

    def mkdir(self, *_: Any, **__: Any) -> None:
        """Do nothing: a folder is there once something is in it."""

    def chmod(self, *_: Any, **__: Any) -> None:
        """Do nothing."""


class _Ranges(RawIOBase):
    """An object as a file; each read is a request, so it stands behind a buffer."""

    def __init__(self, path: ObjectPath, size: int) -> None:
        self._path, self._size, self._place = path, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = max(0, offset + (0, self._place, self._size)[whence])
        return self._place

    def readinto(self, buffer: Any) -> int:
        length = max(0, min(len(buffer), self._size - self._place))
        content = self._path.read_range(self._place, length)
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)


def is_address(text: object) -> bool:
    """Tell whether a text is an address, and no path.

    >>> is_address("s3://pictures/a.jpg"), is_address("pictures/a.jpg")
    (True, False)
    """
    return isinstance(text, str) and _ADDRESS.match(text) is not None


def place_of(text: str | os.PathLike[str]) -> Path:
    """Return a path on this machine, or the ObjectPath of an address.

    Raises ValueError, with a reason, for an address of another kind, without a bucket, or with a
    part that a path would leave out: it would stand for another place.

    >>> str(place_of("file:///data/cars")), str(place_of("gs://cars/a"))
    ('/data/cars', 'gs://cars/a')
    """
    if isinstance(text, Path) or not is_address(text):
        return text if isinstance(text, Path) else Path(text)
    address = str(text)
    if address.startswith("file://"):
        parts = urlsplit(address)
        if parts.netloc not in ("", "localhost"):
            raise ValueError(f"{address} names another machine; write file:///folder")
        return Path(unquote(parts.path))
    if not _OBJECT.fullmatch(address):
        raise ValueError(f"{address} is an address of no object store; use s3://, gs:// or az://")
    names = address.partition("://")[2].removesuffix("/").split("/")
    if not {"", ".", ".."}.isdisjoint(names):
        raise ValueError(
            f"{address} has an empty part, . or .., which no folder here has; leave it out"
        )
    found = ObjectPath(address)
    if "@" in found.bucket or "?" in found.bucket:
        raise ValueError(f"{address} is no plain address; write {found.scheme}://bucket/folder")
    return found


def _facts(meta: Any) -> ObjectFacts:
    moment = meta["last_modified"]
    name = str(meta["path"]).rpartition("/")[2]
    nanoseconds = int(moment.timestamp()) * 10**9 + moment.microsecond * 1000
    size = min(int(meta["size"]), MOST_OF_A_SIZE)  # a store may say anything
    return ObjectFacts(name, size, nanoseconds, str(meta.get("e_tag") or ""))
