"""Animations: how many frames there are, and the first of them that shows something."""

from collections.abc import Callable, Iterator

from PIL import Image

MAX_FRAMES = 1000  # looked at
MAX_CANVAS = 16_000_000  # pixels of a frame; what is larger is no animation that anybody shows
MAX_PIXELS = 200_000_000  # of all frames looked at
FRAME_BYTES = 24  # a pixel: canvases of the decoder, Python's and Pillow's copies
_ENDS = (EOFError, OSError, SyntaxError, ValueError, LookupError, TypeError, RuntimeError, Warning)
_EXTENSION, _PICTURE = 0x21, 0x2C


def gif_frames(data: bytes) -> int:
    """Count the pictures of a GIF by its blocks (GIF89a, appendix A); at least 1."""
    frames = 0
    try:
        at = 13 + _table(data[10])
        while data[at] in (_EXTENSION, _PICTURE):
            if data[at] == _PICTURE:
                frames += 1
                at += 11 + _table(data[at + 9])
            else:
                at += 2
            while data[at]:
                at += data[at] + 1
            at += 1
    except IndexError:
        pass
    return max(1, frames)


def later_frames(opener: Callable[[], Image.Image], frames: int) -> Iterator[Image.Image]:
    """Give the decoded frames after the first, within bounds; an undecodable one ends them."""
    try:
        image = opener()
        if image.width * image.height > MAX_CANVAS:
            return
        most = min(frames, MAX_FRAMES, 1 + MAX_PIXELS // (image.width * image.height))
        for frame in range(1, most):
            image.seek(frame)
            image.load()
            yield image
    except (*_ENDS, Image.DecompressionBombError):
        return


def _table(flags: int) -> int:
    """Count the bytes of a colour table."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0
