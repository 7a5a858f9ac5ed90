"""Which gallery a command means."""

from __future__ import annotations

from pathlib import Path

from retrieval.milvus import ServedAddress


def existing_gallery(gallery: Path | str | None) -> Path | str:
    """Return the named gallery, or the one found from the working directory upwards.

    An address without a gallery gets that one.
    """
    from retrieval.gallery import find_gallery

    if isinstance(gallery, str):
        address = ServedAddress.parse(gallery)
        return gallery if address.gallery else address.of(str(find_gallery(Path.cwd())))
    return gallery or find_gallery(Path.cwd())


def gallery_to_write(gallery: Path | None) -> Path | str:
    """Return the existing gallery, or `.imgret` in the working directory if there is none yet."""
    from retrieval.errors import GalleryError
    from retrieval.gallery import FOLDER_NAME

    try:
        return existing_gallery(gallery)
    except GalleryError:
        return Path.cwd() / FOLDER_NAME
