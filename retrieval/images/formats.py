"""Read a file, and tell its format by its first bytes; name what is an image and not read."""

import contextlib
import hashlib
import io
import os
import re
import stat
from pathlib import Path
from typing import NamedTuple

from retrieval.errors import ImageError
from retrieval.files import modified_ns
from retrieval.images import jxl, raws
from retrieval.objects import ObjectPath
from retrieval.text import NOT_THERE

MAX_FILE_BYTES = 1 << 30
HEADER_BYTES = 64
SUFFIXES_OF_SHARDS = (".tar", ".parquet")
A_FOLDER = "a folder, not an image; `imgret index` it, or give files"
_SUFFIX = re.compile(
    r"\.(jpe?g|jpe|jfif|mpo|a?png|webp|avif|gif|bmp|dib|tiff?|p[pgbn]m|hei[cf]s?|hif)"
)
_SIGNATURES = (
    ("JPEG", re.compile(rb"\xff\xd8\xff")),
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("WEBP", re.compile(rb"RIFF....WEBPVP8", re.DOTALL)),
    ("GIF", re.compile(rb"GIF8[79]a")),
    ("RAW", raws.SIGNATURES),
    ("TIFF", re.compile(rb"II[*+]\0|MM\0[*+]")),
    ("JXL", re.compile(re.escape(jxl.CONTAINER) + b"|" + re.escape(jxl.CODESTREAM))),
    # "BM" and "P5" may begin any text, so the size of the header and a number must follow them.
    ("BMP", re.compile(rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL)),
    ("PPM", re.compile(rb"P[1-6]\s*#|P[1-6]\s+\d")),
)
# As pillow_heif accepts them.
_HEIF_BRANDS = re.compile(rb"hei[cxms]|hev[cxms]|m[is]f1")

# Pictures, videos and documents that are not read: their names, and what some of them begin with.
_OTHER_SUFFIX = re.compile(
    r"\.(jxl|jp[2cfmx]|j2[ck]|jpe?g2000|jxr|wdp|hdp|jls|bpg|flif|qoi|ps[db]|xcf|kra|ora|clip|ai|eps|"
    r"cdr|indd|sketch|afphoto|svgz?|wmf|emf|ico|cur|icns|ani|tga|targa|exr|hdr|rgbe|dds|pcx|sgi|ras|"
    r"pict?|pct|x[bp]m|pfm|pam|dcm|dicom|fits?|nii|djvu?|pdf|lottie|mng|jng|fpx|"
    r"mp4|m4v|mov|qt|avi|mkv|webm|wmv|asf|flv|f4v|3gp2?|3g2|mpe?g|m2v|vob|mts|m2ts|ogv|rmvb?|insv)"
)
_OTHER_SIGNATURES = (
    (".jp2", re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51")),
    (".psd", re.compile(rb"8BPS\0[\1\2]")),
    (".pdf", re.compile(rb"%PDF-")),
    (".exr", re.compile(rb"\x76\x2f\x31\x01")),
    (".dds", re.compile(rb"DDS \x7c\0\0\0")),
    (".jxr", re.compile(rb"II\xbc\x01")),
    (".qoi", re.compile(rb"qoif")),
    (".xcf", re.compile(rb"gimp xcf ")),
    (".djvu", re.compile(rb"AT&TFORM....DJV", re.DOTALL)),
    (".icns", re.compile(rb"icns\0")),
    (
        ".svg",
        re.compile(
            rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*|<!DOCTYPE[^>]*>\s*)*<svg[\s>]", re.DOTALL
        ),
    ),
    (".webm", re.compile(rb"\x1a\x45\xdf\xa3")),
    (".avi", re.compile(rb"RIFF....AVI ", re.DOTALL)),
    (".mp4", re.compile(rb"....ftyp(isom|iso\d|mp4\d|avc1|M4V |qt  |3g[p2]\w|dash)", re.DOTALL)),
)


def sniff(header: bytes) -> str | None:
    """Name the format of a file that begins with these bytes; 32 are enough, 64 are better.

    Returns "JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM" (PGM and PBM too), "HEIF",
    "JXL", "RAW" (of cameras, where it is no TIFF), or None when it is none of them.

    >>> sniff(b"GIF89a")
    'GIF'
    """
    if header[4:8] == b"ftyp" and header[8:12] != b"crx ":
        return _sniff_ftyp(header)
    return next((name for name, signature in _SIGNATURES if signature.match(header)), None)


def has_image_suffix(name: str) -> bool:
    """Tell whether a file's suffix is that of a format that this installation reads."""
    suffix = _suffix(name).lower()
    if _SUFFIX.fullmatch(suffix):
        return True
    if suffix == ".jxl":
        return jxl.is_readable()
    return raws.are_readable() and _is_raw_suffix(suffix)


def unread_kind(name: str) -> str | None:
    """Return the suffix of a picture, video or document that is not read, by name; else None."""
    suffix = _suffix(name).lower()
    if not has_image_suffix(name) and (_OTHER_SUFFIX.fullmatch(suffix) or _is_raw_suffix(suffix)):
        return _suffix(name)
    return None


def unread_content(header: bytes) -> str | None:
    """Return the suffix of a picture, video or document that is not read, by first bytes."""
    kind = sniff(header)
    if kind == "JXL" and not jxl.is_readable():
        return ".jxl"
    if kind == "RAW" and not raws.are_readable():
        return ".raw"
    if kind is not None:
        return None
    return next((name for name, begins in _OTHER_SIGNATURES if begins.match(header)), None)


class NotInsideError(Exception):
    """Raised where a path leads into no shard after all."""


class FileFacts(NamedTuple):
    """The size in bytes of a file (-1: unknown), its time in ns, and a number that no other has."""

    size: int
    mtime_ns: int
    number: int

    def are_of(self, size: int, mtime_ns: int) -> bool:
        """Tell whether the file has a size and a time; what is unknown fits."""
        return self.size in (-1, size) and self.mtime_ns == mtime_ns


class Stamp(NamedTuple):
    """When a file was written, in ns since 1970; of an object its etag, which is surer."""

    mtime_ns: int
    etag: str | None = None


def read_bytes(path: Path, etag: str | None = None) -> tuple[bytes, Stamp]:
    """Read one file or object whole, or an image inside a shard.

    etag: of the shard, where it is known. Returns its bytes, and its stamp from just before they
    were read. Raises ImageError when it is gone, closed to us, empty, larger than MAX_FILE_BYTES or
    no regular file. Never waits for a pipe.
    """
    try:
        data, stamp = _read(path, etag)
    except (OSError, ValueError) as error:
        raise ImageError(os_reason(error)) from error
    if not data:
        raise ImageError("empty file")
    return data, stamp


def _read(path: Path, etag: str | None) -> tuple[bytes, Stamp]:
    """Raises ImageError, ValueError, OSError."""
    if may_be_inside(path):
        from retrieval.images.shards import read_member

        with contextlib.suppress(NotInsideError):
            data, etag = read_member(path, etag)
            return data, Stamp(0, etag)
    if isinstance(path, ObjectPath):
        data, facts = path.read_with_facts(MAX_FILE_BYTES)
        return data, Stamp(facts.mtime_ns, facts.etag)
    with _open_regular(path) as file:
        status = os.fstat(file.fileno())
        if status.st_size > MAX_FILE_BYTES:
            raise ImageError(f"{status.st_size:,} bytes, more than {MAX_FILE_BYTES:,}")
        return file.readall(), Stamp(modified_ns(status))


def may_be_inside(path: Path) -> bool:
    """Tell whether a path may lead into a shard, by the names of the folders above."""
    return any(part.lower().endswith(SUFFIXES_OF_SHARDS) for part in path.parts[:-1])


def file_facts(path: Path) -> FileFacts:
    """Look at a file, an object or an image in a shard, without reading it. Raises OSError."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        if not may_be_inside(path):
            raise
        from retrieval.images.shards import size_of_member

        told_by = hashlib.sha256(str(path).encode(errors="surrogatepass")).digest()
        return FileFacts(size_of_member(path), 0, int.from_bytes(told_by[:15], "big"))
    number = status.st_dev << 64 | status.st_ino  # one number, of half the memory of two
    return FileFacts(status.st_size, modified_ns(status), number)


def read_header(path: Path) -> bytes:
    """Read the first bytes of a file; b"" if it cannot be read or is not a regular file."""
    try:
        if isinstance(path, ObjectPath):
            return path.read_start(HEADER_BYTES)
        with _open_regular(path) as file:
            return file.read(HEADER_BYTES) or b""
    except (OSError, ValueError, ImageError):
        return b""


def os_reason(error: OSError | ValueError) -> str:
    """Say in a few words why the system would not open something."""
    if isinstance(error, FileNotFoundError):
        return NOT_THERE
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, IsADirectoryError):
        return A_FOLDER
    return getattr(error, "strerror", None) or str(error)


def _suffix(name: str) -> str:
    """The suffix of a name as pathlib has it, without the cost of a Path."""
    dot = name.rfind(".")
    return name[dot:] if 0 < dot < len(name) - 1 else ""


def _is_raw_suffix(suffix: str) -> bool:
    return raws.RAW_SUFFIX.fullmatch(suffix) is not None


def _sniff_ftyp(header: bytes) -> str | None:
    """Tell AVIF from HEIF by the brands of an ISO container (ISO/IEC 14496-12, box ftyp)."""
    size = int.from_bytes(header[:4], "big")
    brands = {header[at : at + 4] for at in (8, *range(16, min(size, len(header)), 4))}
    if header[8:12] in (b"mif1", b"msf1", b"avif", b"avis") and brands & {b"avif", b"avis"}:
        return "AVIF"
    return "HEIF" if _HEIF_BRANDS.match(header, 8) else None


def _open_regular(path: Path) -> io.FileIO:
    # O_NONBLOCK: opening a pipe waits for a writer. It means nothing to a regular file.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise ImageError(A_FOLDER if stat.S_ISDIR(mode) else "not a regular file")
    return io.FileIO(descriptor, "rb")
