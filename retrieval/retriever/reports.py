"""What the Retriever reports of its work and of a gallery."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from retrieval.plain import Plain
from retrieval.words import Fit, Pool, Views


@dataclass(frozen=True)
class IndexReport(Plain):
    """What one call of index() did.

    added, changed, moved, unchanged, failed: images found, each counted once; moved are those whose
    row was of a file that is gone, with the same content. removed: rows dropped.
    reused: of added and changed, those whose embedding was known from the same content.
    encoded: images that went through the backbone. seconds: of the whole run.
    images_per_second: encoded ones, over the time of decoding and encoding.
    notice: what to know of the run, in sentences, or None. failures: path and reason of what failed
    in it, at most 20. passed_over: number of files of unread formats by suffix, the most frequent
    first.
    """

    added: int
    changed: int
    moved: int
    unchanged: int
    removed: int
    failed: int
    reused: int
    encoded: int
    seconds: float
    images_per_second: float
    gallery: Path
    backbone: str
    engine: str
    notice: str | None = None
    failures: tuple[tuple[str, str], ...] = ()
    passed_over: tuple[tuple[str, int], ...] = ()

    @property
    def found(self) -> int:
        """Number of images found below the given paths."""
        return self.added + self.changed + self.moved + self.unchanged + self.failed


@dataclass(frozen=True)
class IndexEstimate(Plain):
    """What index() would do: counts, and time and disk space from a probe of a few images.

    seconds and bytes are None where there was nothing to probe. passed_over: as in IndexReport.
    """

    new: int
    changed: int
    unchanged: int
    removed: int
    seconds: float | None
    bytes: int | None
    probed: int
    engine: str | None
    passed_over: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class ServedInfo(Plain):
    """What a Milvus server holds of a gallery.

    version, images: of the rows. kind, effort, recall: of its index; recall@10 is against exact
    search, measured on images of the gallery. transform: as it was fitted. current: whether the
    gallery has nothing newer.
    """

    address: str
    version: int
    images: int
    kind: str
    effort: int
    recall: float
    transform: str
    current: bool


@dataclass(frozen=True)
class GalleryInfo(Plain):
    """A gallery in figures.

    images, failed: rows with and without an embedding. labels: number of classes. size, fit, pool,
    views: how images are embedded, to vectors of width dim. transform, transform_asked: as fitted
    and as requested ("auto"), on fitted_on images, to width transform_dim. index: its kind; recall:
    its recall@10 against exact search, measured on images of the gallery. indexed: vectors in it;
    current: whether it has all images. failures: path and reason of each failed image. leftovers:
    what interrupted commands left in the folder, with its bytes. notes: path and flaw of images
    that were read with one. passed_over: as in IndexReport, of all paths together. confidence: what
    a probability is learnt from, and its error; "" without a calibration. state: of the rows, as
    OpenGallery.version has it. labels_set: rows whose label a user has set by hand. served: what is
    published at the address that was asked for.
    """

    gallery: Path
    images: int
    failed: int
    labels: int
    backbone: str
    weights_sha256: str
    size: int
    fit: Fit
    pool: Pool
    views: Views
    dim: int
    engine: str
    transform: str
    transform_asked: str
    transform_dim: int
    fitted_on: int
    index: str
    recall: float | None
    indexed: int
    current: bool
    bytes_images: int
    bytes_index: int
    version: int
    failures: tuple[tuple[str, str], ...] = ()
    leftovers: tuple[tuple[Path, int], ...] = ()
    notes: tuple[tuple[str, str], ...] = ()
    passed_over: tuple[tuple[str, int], ...] = ()
    confidence: str = ""
    state: str = ""
    labels_set: int = 0
    served: ServedInfo | None = None


@dataclass(frozen=True)
class VerifyReport(Plain):
    """What verify() found; problems are sentences, and none if all is well.

    missing, damaged: paths of rows whose file is gone, and whose data is not what was written.
    leftovers: what interrupted commands left in the gallery's folder, with its bytes. repaired:
    what was repaired, in words; dropped: number of rows whose files were gone.
    """

    rows: int
    problems: tuple[str, ...]
    missing: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    leftovers: tuple[tuple[Path, int], ...] = ()
    repaired: tuple[str, ...] = ()
    dropped: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong, or everything wrong has been repaired."""
        return not self.problems
