"""Paths as they are stored: relative to the folder that holds the gallery, or whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath

from retrieval.errors import GalleryError
from retrieval.gallery.rows import spelled_back
from retrieval.gallery.table import ImageTable
from retrieval.images.shards import holds_member
from retrieval.objects import ObjectPath, is_address, place_of


class PathsInGallery:
    """Turns paths into stored ones and back.

    path: the gallery's. base: what stored paths are relative to, the folder that holds it. What
    lies elsewhere has its whole path, or its address in an object store.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.base = path.parent.resolve()
        self._folders: dict[Path, Path] = {}

    def stored(self, path: Path) -> str:
        """Return a path as it is stored: relative to base if it is below it, else absolute.

        Links in the folders above the image are followed, a link that is the image is not.
        """
        return self._relative(self._resolved(path.parent) / path.name)

    def stored_root(self, path: Path) -> str:
        """Return a folder or file that a user names as it is stored; "." and ".." too."""
        if path.is_symlink() and not path.is_dir():
            return self.stored(path)
        return self._relative(path.resolve())

    def stored_folder(self, folder: Path) -> str:
        """Return the folder of images as it is in their stored paths; "." for base."""
        return self._relative(folder.resolve())

    def _relative(self, full: Path) -> str:
        return (full.relative_to(self.base) if full.is_relative_to(self.base) else full).as_posix()

    def _resolved(self, folder: Path) -> Path:
        """Resolve the links of a folder; remembered, since each image in it asks."""
        if folder not in self._folders:
            self._folders[folder] = folder.resolve()
        return self._folders[folder]

    def full(self, stored: str) -> Path:
        """Return the full path of a stored one. Raises GalleryError if `..` leaves the folder."""
        if is_address(stored):
            return self._object(stored)
        path = Path(stored)
        if path.is_absolute():  # on this machine, also where the gallery is in a store
            return path
        if ".." in path.parts:
            raise GalleryError(
                f"{self.path} holds the path {stored!r}, which leaves its folder. Index the images "
                "into a new gallery."
            )
        return self.base / path

    def _object(self, stored: str) -> Path:
        try:
            return place_of(stored)
        except ValueError as error:
            raise GalleryError(
                f"{self.path} holds the path {stored!r}: {error}. Index the images into a new "
                "gallery."
            ) from error

    def leads_outside(self, stored: str) -> bool:
        """Tell whether a stored path names a file outside of the folder that holds the gallery.

        A whole path does, wherever it leads: imgret stores none for what lies in that folder.
        """
        if is_from_root(stored):
            return True
        try:
            full = self.full(stored)
        except GalleryError:
            return True
        return not full.resolve().is_relative_to(self.base)

    def check_followable(self, table: ImageTable) -> None:
        """Raise GalleryError if untrusted rows name files outside of the gallery's folder."""
        if table.is_ours:
            return
        for path in table.paths():
            if self.leads_outside(path):
                raise GalleryError(
                    f"{self.path} names {path}, outside of its folder, and you did not write it on "
                    "this machine. Give --trust if you know where it comes from."
                )

    def is_gone(self, stored: str) -> bool:
        """Tell whether the file of a stored path surely does not exist; False without the right."""
        return all(_is_gone(self.full(name)) for name in {stored, spelled_back(stored)})

    def roots_above(self, roots: Iterable[str]) -> Callable[[str], list[str]]:
        """Make a function: stored path -> the stored roots that it is, or is below.

        A root may be a folder above the gallery's own. Costs the same for any number of roots.
        """
        places = {self._whole(root): root for root in roots}

        def above(stored: str) -> list[str]:
            place, found = self._whole(stored), []
            while True:
                if place in places:
                    found.append(places[place])
                outer = place.rpartition("/")[0] or "/"
                if outer == place or "/" not in place:
                    return found
                place = outer

        return above

    def _whole(self, stored: str) -> str:
        """A stored path from the root of the file system; text, since it is asked for each row."""
        if is_from_root(stored):
            return stored
        base = self.base.as_posix()
        return base if stored == "." else f"{base.rstrip('/')}/{stored}"

    def is_empty_folder(self, stored: str) -> bool:
        """Tell whether a stored path is an empty folder; in a store there is none."""
        place = self.full(stored)
        if isinstance(place, ObjectPath):
            return False
        try:
            with os.scandir(place) as entries:
                return next(iter(entries), None) is None
        except OSError:
            return False


def is_from_root(stored: str) -> bool:
    """Tell whether a stored path is relative to nothing: from a root, or an address."""
    return is_address(stored) or PurePath(stored).is_absolute()


def _is_gone(path: Path) -> bool:
    try:
        path.lstat()
    except ValueError:
        return True
    except (FileNotFoundError, NotADirectoryError):
        return not _lies_inside(path)
    except OSError:
        return False
    return False


def _lies_inside(path: Path) -> bool:
    """Whether a path leads into a shard, or that cannot be told; False where the shard is gone."""
    try:
        return holds_member(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
