"""The arguments of index() and estimate(), defined once for both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from retrieval.arguments import Paths, as_paths, as_texts
from retrieval.errors import ArgumentError
from retrieval.gallery.settings import same_labels
from retrieval.images import DEFAULT_MAX_PIXELS
from retrieval.progress import Progress
from retrieval.retriever.cluster_asked import ClusterAsked
from retrieval.retriever.labels import MOST_OF_A_STRANGER, Labels, labels_from
from retrieval.retriever.plan import Plan, check_paths, make_plan
from retrieval.retriever.writer import Reading
from retrieval.words import BY_FOLDER

if TYPE_CHECKING:
    from retrieval.gallery import Gallery, ImageTable, Settings
    from retrieval.gallery.stored_rows import StoredRows


class IndexOptions(TypedDict, total=False):
    """Which files index() looks at, and how it reads them.

    labels: "folder" (the name of the folder that holds the image), "none", or a CSV file with the
    columns path and label; None: what the gallery had. Labels that relabel() has set stay, unless
    these come from elsewhere than before. exclude: a glob of paths to leave out, or
    several. include_hidden: enter hidden folders, too. keep_missing: keep the rows of files that
    are gone. drop_missing: drop them even where so many are gone that a drive may not be mounted,
    which is refused otherwise. checksum: compare the content of files whose size and time are
    unchanged. reembed: embed all stored images again, with the backbone, size or fit of the
    Retriever. batch_size: images encoded at a time; workers: decoding threads; None chooses.
    max_pixels: an image with more is not decoded. cluster: "processes" has several processes of
    this machine read and encode, "ray" or "ray://host:port" those of a Ray cluster;
    cluster_workers: how many, None chooses.
    """

    labels: str | Path | None
    exclude: str | Sequence[str]
    include_hidden: bool
    keep_missing: bool
    drop_missing: bool
    checksum: bool
    reembed: bool
    batch_size: int | None
    workers: int | None
    max_pixels: int
    cluster: str | None
    cluster_workers: int | None


@dataclass(frozen=True)
class IndexRequest:
    """IndexOptions with their defaults, for some folders and files."""

    folders: tuple[Path, ...]
    progress: Progress | None = None
    labels: str | Path | None = None
    exclude: Sequence[str] = ()
    include_hidden: bool = False
    keep_missing: bool = False
    drop_missing: bool = False
    checksum: bool = False
    reembed: bool = False
    batch_size: int | None = None
    workers: int | None = None
    max_pixels: int = DEFAULT_MAX_PIXELS
    cluster: str | None = None
    cluster_workers: int | None = None

    @classmethod
    def of(
        cls, paths: Paths, progress: Progress | None, **options: Unpack[IndexOptions]
    ) -> IndexRequest:
        """Check arguments. Raises DataError, ArgumentError, and TypeError for an unknown option."""
        known = IndexOptions.__annotations__
        if unknown := next((name for name in options if name not in known), None):
            raise TypeError(
                f"Retriever.index() has no argument {unknown!r}; its options are "
                f"{', '.join(known)}."
            )
        if options.get("keep_missing") and options.get("drop_missing"):
            raise ArgumentError(
                "keep_missing and drop_missing contradict each other. Give one of them."
            )
        folders = as_paths(paths)
        check_paths(folders)
        options["exclude"] = as_texts("exclude", options.get("exclude", ()))
        request = cls(tuple(folders), progress, **options)
        _ = request.reading, request.asked_cluster  # raise ArgumentError
        return request

    @property
    def reading(self) -> Reading:
        """How images are read."""
        return Reading.asked(self.batch_size, self.workers, self.max_pixels, self.progress)

    @property
    def asked_cluster(self) -> ClusterAsked | None:
        """Who is to work beside this process; None for nobody."""
        return ClusterAsked.of(self.cluster, self.cluster_workers)

    def labels_for(self, settings: Settings | None) -> str:
        """Return where labels come from: as asked, else as the settings say, else the folder."""
        return str(self.labels or (settings.labels if settings else BY_FOLDER))

    def plan(
        self,
        gallery: Gallery,
        rows: StoredRows,
        labels: str,
        table: ImageTable | None,
        *,
        keeps_set: bool = True,
    ) -> Plan:
        """Plan how to bring rows in step with the files. Raises DataError.

        keeps_set: whether labels that a user has set stay.
        """
        return make_plan(
            gallery, rows, self.folders, self._labels_from(labels, table), exclude=self.exclude,
            include_hidden=self.include_hidden, checksum=self.checksum, keeps_set=keeps_set,
            progress=self.progress,
        )  # fmt: skip

    def replaces_labels(self, settings: Settings | None) -> bool:
        """Tell whether labels shall come from elsewhere than settings say they came before."""
        return (
            settings is not None
            and self.labels is not None
            and not same_labels(str(self.labels), settings.labels)
        )

    def _labels_from(self, asked: str, table: ImageTable | None) -> Labels:
        """Read labels; of a file that only an untrusted gallery names, no more than a bound."""
        strange = self.labels is None and table is not None and not table.is_ours
        return labels_from(asked, MOST_OF_A_STRANGER) if strange else labels_from(asked)
