"""What a picture may be given as: path, bytes, open file, PIL image, array or tensor."""

import os
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from PIL import Image, ImageFile

from retrieval.errors import ImageError, QueryError
from retrieval.images.formats import (
    HEADER_BYTES,
    MAX_FILE_BYTES,
    os_reason,
    read_bytes,
    sniff,
)
from retrieval.images.opened import (
    Opened,
    check_pixels,
    decoder_errors_as_image_errors,
    open_bytes,
    open_loaded,
)
from retrieval.objects import place_of


class BinaryFile(Protocol):
    """A file that is open for reading bytes."""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to size bytes, or all."""


Source: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryFile | Image.Image | np.ndarray
)
"""Torch tensors too: they are not named here, so that nothing imports torch."""

TAKEN = (
    "a path, an image file's bytes, a file opened in binary mode, a PIL image, or uint8 as an "
    "array or tensor of (height, width, 3)"
)


def open_source(source: Any, max_pixels: int) -> Opened:
    """Open a picture, however it is given.

    Raises ImageError, and QueryError, naming the type, for anything that can be none.

    Arrays are (h, w) or (h, w, 1) grey, (h, w, 3) RGB or (h, w, 4) RGBA, uint8; grey may be uint16.
    Tensors may have the channels first, as torch has them. An image that PIL has opened and not
    yet decoded is read as its file is; a decoded one is turned by the EXIF that it still carries.
    A file is read from its beginning where it can seek, and left at the place where it was.
    """
    if isinstance(source, str) and not source:
        raise QueryError("The query is ''. Give a path.")
    if isinstance(source, str | os.PathLike):
        return open_bytes(read_bytes(_place(source))[0], max_pixels)
    if isinstance(source, bytes | bytearray | memoryview):
        return open_bytes(_bounded(bytes(source)), max_pixels)
    if isinstance(source, Image.Image):
        check_pixels(*source.size, max_pixels)
        data = _undecoded(source)
        ours = data is not None and sniff(data[:HEADER_BYTES]) is not None
        return open_bytes(data, max_pixels) if data and ours else open_loaded(source)
    if is_tensor(source):
        source = _from_tensor(source)
    if isinstance(source, np.ndarray):
        return open_loaded(_from_array(source, max_pixels))
    if hasattr(source, "read"):
        return open_bytes(_read(source), max_pixels)
    raise QueryError(f"{_a(type(source).__name__)} is not a picture. Give {TAKEN}.")


def memory_needed(content: bytes, max_pixels: int) -> int:
    """Return the bytes of memory that decoding a file takes, as its header says.

    Raises ImageError where it cannot be used.
    """
    with decoder_errors_as_image_errors():
        return open_bytes(_bounded(content), max_pixels).bytes_needed()


def as_sent(source: Any) -> Any:
    """Convert a picture for another process: open files and tensors become bytes or arrays.

    What is not a picture is given back as it is. Raises ImageError as open_source() does.
    """
    if isinstance(source, Image.Image):
        data = _undecoded(source)
        return data if data and sniff(data[:HEADER_BYTES]) is not None else source
    if is_tensor(source):
        return _from_tensor(source)
    return _read(source) if hasattr(source, "read") else source


def is_tensor(source: object) -> bool:
    """Tell whether this is a tensor of torch; import nothing."""
    return any(
        kind.__module__.partition(".")[0] == "torch" and kind.__name__ == "Tensor"
        for kind in type(source).__mro__
    )


def _place(source: str | os.PathLike[str]) -> Path:
    try:
        return place_of(source)
    except ValueError as error:
        raise QueryError(f"{error}. Give a file or such an address.") from error


def _a(noun: str) -> str:
    return f"{'an' if noun[:1] in set('aeiouAEIOU') else 'a'} {noun}"


def _bounded(data: bytes) -> bytes:
    if len(data) > MAX_FILE_BYTES:
        raise ImageError(f"{len(data):,} bytes, more than {MAX_FILE_BYTES:,}")
    return data


def _read(file: Any) -> bytes:
    """All bytes of an open file, which is left where it was."""
    try:
        place = file.tell() if hasattr(file, "seek") and _can_seek(file) else None
        if place is not None:
            file.seek(0)
        data = _read_to_end(file)
        if place is not None:
            file.seek(place)
    except (OSError, ValueError) as error:
        raise ImageError(f"this file cannot be read: {os_reason(error)}") from error
    return _bounded(data)


def _read_to_end(file: Any) -> bytes:
    """What a file gives until it gives nothing: pipes and sockets give a part at a time."""
    parts, left = [], MAX_FILE_BYTES + 1
    while left > 0 and (part := _part(file, left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _part(file: Any, most: int) -> bytes:
    part = file.read(most)
    if isinstance(part, str):
        raise ImageError("a file opened as text is not a picture; open it in binary mode, 'rb'")
    if not isinstance(part, bytes | bytearray | memoryview):
        kinds = f"{type(file).__name__} whose read() gives {type(part).__name__}"
        raise ImageError(f"{_a(kinds)} is not a picture; give {TAKEN}")
    return bytes(part)


def _can_seek(file: Any) -> bool:
    return bool(file.seekable()) if hasattr(file, "seekable") else False


def _undecoded(image: Image.Image) -> bytes | None:
    """The bytes of the file that PIL has opened and nobody has decoded or changed, or None."""
    untouched = (
        isinstance(image, ImageFile.ImageFile)
        and image._im is None
        and image.fp is not None
        and not getattr(image, "decoderconfig", ())
        and (not hasattr(image, "tell") or image.tell() == 0)
    )
    if not untouched:
        return None
    try:
        return _read(image.fp)  # type: ignore[attr-defined]
    except ImageError:
        return None


def _from_tensor(tensor: Any) -> np.ndarray:
    if not str(tensor.dtype).endswith(".uint8"):  # numpy does not know all of torch's types
        raise ImageError(
            f"a tensor of shape {tuple(tensor.shape)} and type {tensor.dtype} is not a picture; "
            f"give {TAKEN}"
        )
    try:
        array: np.ndarray = tensor.detach().cpu().numpy()  # not yet copied: it may be too large
    except (RuntimeError, NotImplementedError, TypeError) as error:  # it is sparse, or has no data
        raise ImageError(
            f"a tensor of layout {tensor.layout} on {tensor.device} is not a picture; give {TAKEN}"
        ) from error
    first = array.ndim == 3 and array.shape[0] in (1, 3, 4)
    return np.moveaxis(array, 0, 2) if first else array


def _from_array(array: np.ndarray, max_pixels: int) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    grey = array.ndim == 2
    shaped = grey or (array.ndim == 3 and array.shape[2] in (3, 4))
    deep = grey and array.dtype.kind == "u" and array.dtype.itemsize == 2  # in either byte order
    if not (array.dtype == np.uint8 or deep) or not shaped or not array.size:
        raise ImageError(
            f"an array of shape {array.shape} and type {array.dtype} is not a picture; give "
            "(height, width, 3) RGB, (height, width, 4) RGBA or (height, width) grey, uint8"
        )
    check_pixels(array.shape[1], array.shape[0], max_pixels)
    return Image.fromarray(np.ascontiguousarray(array, np.uint16 if deep else np.uint8))
