"""The gallery's folder, or prefix in a store: where it is, who writes, what is published in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from retrieval.errors import GalleryError
from retrieval.files import (
    IndexFiles,
    delete,
    disk_use,
    identity,
    is_there,
    leftovers,
    make_folder,
    sweep,
    write_atomically,
)
from retrieval.gallery.dataset import unreached
from retrieval.gallery.fetched import fetched, forget_fetched
from retrieval.gallery.lock import is_locked, locked
from retrieval.gallery.paths import PathsInGallery
from retrieval.gallery.plans import PLANS
from retrieval.gallery.published import PublishedFiles
from retrieval.gallery.run_progress import RunProgress, read_note
from retrieval.gallery.settings import (
    IndexState,
    Settings,
    has_its_checksum,
    read_file,
    read_file_text,
    read_text,
    write_text,
)
from retrieval.gallery.store_lease import WriterLease
from retrieval.gallery.table import ImageTable
from retrieval.objects import ObjectChangedError, ObjectPath

FOLDER_NAME = ".imgret"
STAGING = "reembed"


def find_gallery(start: Path) -> Path:
    """Find the gallery of a folder: `.imgret` in it or in the nearest folder above.

    Raises GalleryError when there is none.
    """
    start = start.absolute()
    for folder in (start, *start.parents):
        if (folder / FOLDER_NAME).is_dir():
            return folder / FOLDER_NAME
    raise GalleryError(
        f"There is no gallery in {start} or above it. Create one with `imgret index FOLDER`, or "
        "name one with --gallery or IMGRET_GALLERY."
    )


class Gallery(PathsInGallery):
    """One gallery folder.

    path: the folder, or prefix in an object store. trusted: whether the user says that what it
    names outside of its folder may be used. published_here: how often this process has published
    in a store, by any Gallery.
    """

    published_here = 0

    def __init__(self, path: Path) -> None:
        super().__init__(path.absolute())
        try:
            str(self.path).encode()
        except UnicodeEncodeError as error:
            raise GalleryError(
                f"The name of the folder {self.path} is not valid UTF-8, so it cannot hold a "
                "gallery. Rename it, or name another place with --gallery."
            ) from error
        self.published = PublishedFiles(self.path)
        self._locked: tuple[int, int] | None = None
        self._lease: WriterLease | None = None
        self._published_etag: str | None = None
        self.trusted = False

    @property
    def table_path(self) -> Path:
        """The path of the Lance table."""
        return self.path / "images.lance"

    @property
    def settings_path(self) -> Path:
        """The path of gallery.toml."""
        return self.path / "gallery.toml"

    def exists(self) -> bool:
        """Tell whether a gallery is here. Raises GalleryError without the right to look."""
        try:
            return self.table_path.is_dir()
        except PermissionError as error:
            raise GalleryError(
                f"You may not enter {self.path}. Get the right to, or name another --gallery."
            ) from error
        except OSError as error:
            raise unreached(self.path, error.strerror or str(error)) from error

    def check_exists(self) -> None:
        """Raise GalleryError if there is no gallery here."""
        if self.path.is_file():
            raise GalleryError(f"{self.path} is a file. Name the folder of a gallery.")
        if not self.exists():
            raise GalleryError(
                f"{self.path} is not a gallery. Create one with `imgret index FOLDER "
                f"--gallery {self.path}`, or name another."
            )

    def index_files(self, built: int, changed: int) -> IndexFiles:
        """Return the files of an index that was built and last changed for two versions."""
        return IndexFiles(
            self.path / f"index-{built}.faiss",
            self.path / f"index-{changed}-added.faiss",
            self.path / f"index-{changed}-removed.ids",
        )

    def index_files_of(self, state: IndexState) -> IndexFiles:
        """Return the files of a published index."""
        return self.index_files(state.built, state.changed)

    def create(self, settings: Settings) -> ImageTable:
        """Create the table of a new gallery and write its settings."""
        make_folder(self.path)
        text = write_text(settings)
        table = ImageTable.create(self.table_path, settings.backbone.dim, text)
        table.guard = self._check_lease
        self.publish(settings)
        return table

    def open_table(self, version: int | None = None) -> ImageTable:
        """Open the table at a version, by default the newest."""
        self.check_exists()
        table = ImageTable.open(self.table_path, version)
        table.guard = self._check_lease
        if self.trusted:
            table.is_ours = True
        return table

    def settings(self) -> Settings:
        """Read the settings: those in the table, and the index that gallery.toml names.

        A crash between the two writes leaves gallery.toml behind the table; the table is right.
        """
        self.check_exists()
        try:
            published = read_file(self.settings_path)
        except FileNotFoundError:
            published = None
        true = self.settings_in_table()
        same = published and published.without_derived() == true
        return published if published and same else true

    def settings_in_table(self) -> Settings:
        """Return the settings in the table itself; they name no index."""
        table = self.open_table()
        settings = read_text(table.settings, self.table_path)
        if table.dim != settings.backbone.dim:
            raise GalleryError(
                f"{self.table_path} holds embeddings of width {table.dim}, but its backbone gives "
                f"{settings.backbone.dim}. Index the images into a new gallery."
            )
        return settings

    def publish(self, settings: Settings) -> None:
        """Publish settings, and with them an index, to readers; atomically.

        Raises GalleryError when the gallery is gone, and OSError where gallery.toml cannot be
        written, which lock() makes a GalleryWriteError.
        """
        self.check_place()
        self._write_settings(write_text(settings).encode())
        self.drop_other_indexes(settings)

    def _write_settings(self, text: bytes) -> None:
        """Replace gallery.toml; in a store only what was there when the lease was taken."""
        if not isinstance(self.settings_path, ObjectPath):
            write_atomically(self.settings_path, text)
            return
        try:
            self._published_etag = self.settings_path.put(text, over=self._published_etag)
            Gallery.published_here += 1
        except ObjectChangedError as error:
            raise GalleryError(
                f"Another writer has published {self.path} meanwhile, and what was stored stays. "
                "Run the same command again."
            ) from error

    def drop_other_indexes(self, settings: Settings) -> None:
        """Delete the files of all indexes but the one of settings."""
        kept = self.index_files_needed(settings.index) if settings.index else []
        for file in self.path.glob("index-*"):
            if file not in kept:
                delete(file)
        if isinstance(self.path, ObjectPath) and settings.index:
            forget_fetched(self.path, settings.index.table, [file.name for file in kept])

    def local_index_files_of(self, state: IndexState) -> IndexFiles:
        """Return the files of a published index on this machine; of a store they are fetched."""
        files = self.index_files_of(state)
        if not isinstance(self.path, ObjectPath):
            return files
        facts = {"main": state.settings, "added": state.added, "removed": state.removed}
        here = {
            name: fetched(ObjectPath(getattr(files, name)), state.table, known)
            for name, known in facts.items()
            if known
        }
        return replace(files, **here)

    def index_files_needed(self, state: IndexState) -> list[Path]:
        """List the files that a published index consists of."""
        files = self.index_files_of(state)
        beside = [(files.added, state.added), (files.removed, state.removed)]
        return [files.main, *(file for file, facts in beside if facts)]

    def check_place(self) -> None:
        """Raise GalleryError when the folder was deleted, moved or replaced since it was locked."""
        self._check_lease()
        if self._locked is not None and identity(self.path) != self._locked:
            raise GalleryError(
                f"{self.path} was deleted or moved while it was being written. Put it back, or run "
                "the same command again to start a new gallery."
            )

    def restore_copies(self) -> list[str]:
        """PublishedFiles.restore(); nothing where gallery.toml is damaged too."""
        if self.check_settings() is not None:
            return []
        return self.published.restore(read_file(self.settings_path).files)

    def check_settings(self) -> str | None:
        """Say what is wrong with the text of gallery.toml; None if nothing is."""
        try:
            text = read_file_text(self.settings_path)
        except FileNotFoundError:
            return "gallery.toml is gone"
        return None if has_its_checksum(text) else "gallery.toml is not what was written"

    def index_state(self, settings: Settings, table: ImageTable) -> IndexState | None:
        """Return the published index if it belongs to this very table, else None."""
        state = settings.index
        if state is None or state.table != table.name or state.version > table.version:
            return None
        return state if all(file.is_file() for file in self.index_files_needed(state)) else None

    def is_being_written(self) -> bool:
        """Tell whether another process holds the lock; False if that cannot be told."""
        return is_locked(self.path)

    def run_progress(self) -> RunProgress | None:
        """Tell how far the process is that writes; None if none does, or if it has not said."""
        return read_note(self.path) if self.is_being_written() else None

    @contextlib.contextmanager
    def lock(self, wait: float = 1) -> Iterator[None]:
        """Be the one writer. Raises GalleryError, naming the holder, when there is another still
        after so many seconds, and GalleryWriteError where a file of the gallery cannot be written.
        """
        with locked(self.path, wait) as lease:
            self._lease = lease
            self._published_etag = self._etag_of_settings() if lease else None
            self._locked = identity(self.path)  # no other folder gets its number while it is open
            try:
                yield
            finally:
                self._lease = self._published_etag = self._locked = None

    def _check_lease(self) -> None:
        if self._lease is not None:
            self._lease.check()

    def _etag_of_settings(self) -> str:
        """What tells the published settings from all others; "" where there are none yet."""
        try:
            return ObjectPath(self.settings_path).facts().etag
        except FileNotFoundError:
            return ""

    def staging(self) -> Gallery:
        """Where --reembed builds the new table beside the old one."""
        staging = Gallery(self.path / STAGING)
        staging.base = self.base
        return staging

    def leftovers(self) -> list[tuple[Path, int]]:
        """List what interrupted commands left, each with its bytes on the disk.

        The rows of an interrupted --reembed are among it, which the same command uses. Not what a
        running writer is making.
        """
        left = [*leftovers(self.path), self.path / STAGING]
        left += [] if self.is_being_written() else [self.path / PLANS]
        return [(path, disk_use(path)) for path in left if is_there(path)]

    def sweep(self) -> None:
        """Delete what killed commands left, except the rows of an interrupted --reembed."""
        sweep(self.path)
        delete(self.path / PLANS)
        if (self.path / STAGING).is_symlink():  # a stranger's
            delete(self.path / STAGING)

    def delete(self) -> None:
        """Delete the folder and all in it."""
        delete(self.path)
