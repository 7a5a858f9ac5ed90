"""Tar shards as WebDataset has them: which files are in one, and where their bytes lie.

A shard is read once from its beginning to its end, header by header; then each file in it is a
range of bytes (POSIX.1-2001, pax; github.com/webdataset). Nothing is extracted.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from retrieval.errors import ImageError
from retrieval.images.shards.table import MemberPlace, ShardTable
from retrieval.objects import ObjectPath

MOST_MEMBERS, MOST_OF_A_NAME, MOST_OF_A_LABEL = 5_000_000, 1024, 1000
LABELS = (".cls", ".label")  # beside an image, its class in text
CHUNK_OF_TAR = 1 << 22
MOST_OF_AN_EXTENDED = 1 << 20  # bytes of a header that tarfile reads whole
EXTENDED = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip


def read_tar_table(path: Path) -> ShardTable:
    """List the files of a tar. Raises ImageError for what is none, and OSError."""
    places: dict[str, MemberPlace] = {}
    labels: dict[str, str] = {}
    try:
        with (
            _opened(path) as (stream, mode),
            tarfile.open(fileobj=stream, mode=mode, tarinfo=_Header) as archive,
        ):
            for member in archive:
                if member.size < 0:  # which would lead back to what was read, again and again
                    raise ValueError("a size below zero")
                name = _plain_name(member)
                if name is None:
                    continue
                if len(places) >= MOST_MEMBERS:
                    raise ImageError(f"it holds more than {MOST_MEMBERS:,} files; split it")
                stem, dot, kind = name.rpartition(".")
                if f"{dot}{kind}" in LABELS and member.size <= MOST_OF_A_LABEL:
                    held = archive.extractfile(member)
                    labels[stem] = held.read().decode(errors="replace").strip() if held else ""
                else:
                    places[name] = MemberPlace(member.offset_data, member.size)
                archive.members = []  # type: ignore[attr-defined]  # else all headers stay
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise ImageError(f"it is no plain tar that can be read ({error}); unpack it") from error
    return ShardTable(places, labels={name: labels.get(name.rpartition(".")[0]) for name in places})


def read_range(path: Path, place: MemberPlace) -> bytes:
    """Read the bytes of a file inside a tar. Raises OSError."""
    if isinstance(path, ObjectPath):
        return path.read_range(place.start, place.size)
    with path.open("rb") as stream:
        stream.seek(place.start)
        return stream.read(place.size)


def _plain_name(member: tarfile.TarInfo) -> str | None:
    """The name of a regular file that stays inside; None for links, devices and what leads out.

    Bytes that are no UTF-8 are spelled out, as the gallery stores them.
    """
    name = member.name.removeprefix("./")
    name = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    parts = name.split("/")
    odd = not name or name.startswith("/") or len(name) > MOST_OF_A_NAME or "\0" in name
    if odd or not member.isreg() or {"", ".", ".."} & set(parts) or member.sparse is not None:
        return None
    return name


class _Header(tarfile.TarInfo):
    """A header as it is read; a bad one ends the reading, and not only the list of what follows."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            found = super().frombuf(buf, encoding, errors)
        except (tarfile.EmptyHeaderError, tarfile.EOFHeaderError):  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise ValueError(str(error)) from error
        if found.type in EXTENDED and found.size > MOST_OF_AN_EXTENDED:
            raise ValueError("a name or its facts are too long")
        return found


class _opened:
    """The stream of a tar, and how tarfile reads it: seeking, or once through an object."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream: Any = None

    def __enter__(self) -> tuple[Any, Any]:
        if isinstance(self._path, ObjectPath):
            self._stream = io.BufferedReader(_ObjectStream(self._path), CHUNK_OF_TAR)
            return self._stream, "r|"
        self._stream = self._path.open("rb")
        return self._stream, "r:"

    def __exit__(self, *_: object) -> None:
        self._stream.close()


class _ObjectStream(io.RawIOBase):
    """An object as a stream, read a part at a time."""

    def __init__(self, path: ObjectPath) -> None:
        self._parts: Iterator[bytes] = path.parts_of_content(CHUNK_OF_TAR)
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            self._left = next(self._parts, b"")
        part, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)
