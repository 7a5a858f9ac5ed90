"""Which files are images: folders and files in, ImageFile out, one after the other.

A name with an image suffix is an image; any other is one if its first bytes say so. Pictures of
formats that are not read are passed over, and told of.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from retrieval.images.folders import FoundFile, FoundFolder, find_folders


@dataclass(frozen=True)
class ImageFile:
    """A file that is to be indexed, or a name below a given path that cannot be read.

    path is as it was reached, not resolved; root is the path given by the user; size (bytes) and
    mtime_ns are 0 with an error, which says why the name cannot be read at all. etag: of an object.
    """

    path: Path
    root: Path
    size: int
    mtime_ns: int
    error: str | None = None
    etag: str | None = None


def find_images(
    paths: Iterable[Path],
    *,
    exclude: Sequence[str] = (),
    include_hidden: bool = False,
    known: Callable[[Path], Collection[str]] | None = None,
    passed_over: Callable[[str], None] | None = None,
) -> Iterator[ImageFile]:
    """Find the images in folders, and take the files given by name as they are.

    A folder gives its files, sorted by name, then those of its subfolders. Links are followed, but
    for one to a folder above it; each folder is entered once however many ways lead to it. Hidden
    names (leading dot) below a given path are passed over, and so are folders that machines make:
    thumbnails, resource forks, deleted files, snapshots (@eaDir, __MACOSX, $RECYCLE.BIN, #snapshot,
    lost+found); galleries (.imgret) always.

    exclude: globs as fnmatch reads them (* crosses /), tried on a name and on its path below the
    given folder; an excluded folder is not entered. known: says of a folder which of its files
    need no look inside where they have no image suffix, because they are stored already.
    passed_over: told the suffix of each picture, video or document below a folder that is of a
    format which is not read.

    What cannot be read (a folder, a broken link with an image suffix) comes with an error. Raises
    DataError at once when a given path does not exist.
    """
    folders = find_folders(
        paths,
        exclude=exclude,
        include_hidden=include_hidden,
        known=known,
        passed_over=passed_over,
    )
    return _files_of(folders)


def _files_of(folders: Iterable[FoundFolder]) -> Iterator[ImageFile]:
    for folder in folders:
        for file in folder.files:
            yield image_file(folder, file)


def image_file(folder: FoundFolder, file: FoundFile) -> ImageFile:
    """Return a file that was found in a folder."""
    path = folder.path / file.name
    return ImageFile(path, folder.root, file.size, file.mtime_ns, file.error, file.etag)
