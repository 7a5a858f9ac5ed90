"""The files of the published version: their checksums, and copies of those that all depend on."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from retrieval.files import delete, make_folder, sha256_of, write_atomically
from retrieval.gallery.table import ImageTable
from retrieval.objects import ObjectPath

MOST_OF_A_COPY = 1 << 28  # bytes; a manifest, or marks of deleted rows


class PublishedFiles:
    """Compares files with what gallery.toml says of them. path: the gallery's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def checksums(
        self, table: ImageTable, known: Mapping[str, str], *, same_version: bool = False
    ) -> dict[str, str]:
        """Return the SHA-256 of each file of a version, by its path below the gallery.

        known: those of the version before; a file of the table is never changed, but for manifests
        whose number is used again after a version was given up. same_version: known is of this
        very version, so that a manifest that has changed since is damaged. A store keeps such sums
        itself, so that there are none of its objects.
        """
        if isinstance(self.path, ObjectPath):
            return {}
        sums = {}
        for file in table.files():
            name = file.relative_to(self.path).as_posix()
            trusted = same_version or file.suffix != ".manifest"
            old = known.get(name) if trusted else None
            sums[name] = old or sha256_of(file)
        return sums

    def keep_copies(self, sums: Mapping[str, str]) -> None:
        """Keep a second copy of the small files without which no row can be read.

        They are the manifest and the marks of deleted rows: a few kB that stand for all rows.
        """
        if isinstance(self.path, ObjectPath):
            return
        kept = {
            name: self._copy_of(name)
            for name in sums
            if not name.endswith(".lance") and _is_inside(name) and (self.path / name).is_file()
        }
        if self.copies_path.is_symlink() or not self.copies_path.is_dir():  # a stranger's
            delete(self.copies_path)
        make_folder(self.copies_path)
        for name, copy in kept.items():
            if not self._has_copy(name, sums[name]):
                write_atomically(copy, (self.path / name).read_bytes())

    def drop_copies(self, sums: Mapping[str, str]) -> None:
        """Delete the copies of what is no longer published."""
        if isinstance(self.path, ObjectPath):
            return
        kept = {self._copy_of(name) for name in sums}
        for copy in set(self.copies_path.iterdir()) - kept:
            delete(copy)

    def restore(self, sums: Mapping[str, str]) -> list[str]:
        """Restore published files that have changed from their copies.

        sums: their SHA-256. Gives their names.
        """
        restored = []
        for name, sha256 in sums.items():
            copy, file = self._copy_of(name), self.path / name
            with contextlib.suppress(OSError):
                damaged = not file.is_file() or sha256_of(file) != sha256
                if _is_inside(name) and damaged and self._has_copy(name, sha256):
                    write_atomically(file, copy.read_bytes())
                    restored.append(name)
        return restored

    @property
    def copies_path(self) -> Path:
        """The folder of the second copies."""
        return self.path / "copies"

    def _has_copy(self, name: str, sha256: str) -> bool:
        copy = self._copy_of(name)
        try:
            return copy.stat().st_size <= MOST_OF_A_COPY and sha256_of(copy) == sha256
        except OSError:
            return False

    def _copy_of(self, name: str) -> Path:
        return self.copies_path / PurePosixPath(name).name

    def check(self, sums: Mapping[str, str]) -> dict[str, str]:
        """Say in a sentence what is wrong with each file of the published version, by its name."""
        problems = {}
        for name, sha256 in sums.items():
            file = self.path / name
            try:
                if not _is_inside(name) or sha256_of(file) != sha256:
                    problems[name] = f"{name} is not what was written"
                elif not name.endswith(".lance") and not self._has_copy(name, sha256):
                    problems[name] = f"the copy of {name} is gone or not what was written"
            except OSError as error:
                problems[name] = f"{name} cannot be read ({error.strerror})"
        return problems


def _is_inside(name: str) -> bool:
    """Whether a path from gallery.toml stays below the gallery."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts
