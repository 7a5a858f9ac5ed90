"""gallery.toml: how a gallery was made; checked when read, since anybody may have written it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import tomli_w

from retrieval.backbones import BackboneSpec
from retrieval.errors import GalleryError
from retrieval.files import read_bounded, sha256_of_bytes
from retrieval.gallery.checks import (
    BadValue,
    Checked,
    fact,
    takes_list,
    takes_number,
    takes_one_of,
    takes_record,
    takes_table,
    takes_text,
    takes_whole,
)
from retrieval.images import Preprocessing
from retrieval.refinement import Refinement
from retrieval.text import check_nesting
from retrieval.words import (
    ANSWER_KINDS,
    BY_FOLDER,
    DEFAULT_POOL,
    DEFAULT_TRANSFORM,
    DEFAULT_VIEWS,
    ENGINES,
    FITS,
    MOST_SIZE,
    POOLS,
    VIEWS,
    AnswerKind,
    Engine,
    Fit,
    Pool,
    Views,
)

if TYPE_CHECKING:
    from retrieval.settings import EmbeddingSettings

GALLERY_FORMAT: Literal[2] = 2
MAX_SETTINGS_BYTES = 1 << 20
MOST_RELABELLED = 0.1  # of the images that a calibration by class was learnt from
HEADER = "# Written by imgret; change it with the options of `imgret index`, not by hand.\n"
SUM = "# SHA-256 of what follows: "

Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
_SHA256 = takes_text(r"[0-9a-f]{64}")
_VERSION = takes_whole(1, (1 << 62) - 1)
_WEIGHT = takes_number(-1e6, 1e6)
_FACTS = takes_table({"check": fact})


@dataclass(frozen=True, kw_only=True)
class BackboneState(Checked):
    """A BackboneSpec as it is stored."""

    name: str = field(metadata=takes_text())
    architecture: str = field(metadata=takes_text())
    weights_sha256: str = field(metadata=_SHA256)
    dim: int = field(metadata=takes_whole(1, 1 << 16))
    size: int = field(metadata=takes_whole(1, MOST_SIZE))
    mean: tuple[float, float, float] = field(metadata=takes_list(takes_number(-10, 10), exactly=3))
    std: tuple[float, float, float] = field(metadata=takes_list(takes_number(1e-4, 1e4), exactly=3))
    interpolation: Interpolation = field(metadata=takes_one_of(get_args(Interpolation)))
    fit: Fit = field(metadata=takes_one_of(FITS))
    crop_pct: float = field(metadata=takes_number(0, 1, without=(0,)))
    pool: Pool = field(default=DEFAULT_POOL, metadata=takes_one_of(POOLS))
    views: Views = field(default=DEFAULT_VIEWS, metadata=takes_one_of(VIEWS))

    @classmethod
    def of(cls, spec: BackboneSpec) -> BackboneState:
        """Return what is stored of a spec."""
        p = spec.preprocessing
        return cls(
            name=spec.name,
            architecture=spec.architecture,
            weights_sha256=spec.weights_sha256,
            dim=spec.dim,
            size=p.size,
            mean=p.mean,
            std=p.std,
            interpolation=cast(Interpolation, p.interpolation),
            fit=p.fit,
            crop_pct=p.crop_pct,
            pool=spec.pool,
            views=spec.views,
        )

    @property
    def embedding(self) -> EmbeddingSettings:
        """The settings that give this backbone."""
        from retrieval.settings import EmbeddingSettings

        return EmbeddingSettings(
            backbone=self.name, size=self.size, fit=self.fit, pool=self.pool, views=self.views
        )

    @property
    def spec(self) -> BackboneSpec:
        """The stored spec."""
        preprocessing = Preprocessing(
            size=self.size,
            mean=self.mean,
            std=self.std,
            interpolation=self.interpolation,
            fit=self.fit,
            crop_pct=self.crop_pct,
        )
        return BackboneSpec(
            self.name,
            self.architecture,
            self.weights_sha256,
            self.dim,
            preprocessing,
            self.pool,
            self.views,
        )


Facts = dict[str, int | float | str | bool]


@dataclass(frozen=True, kw_only=True)
class IndexState(Checked):
    """Which index files belong to which version of which table, and how they were built.

    built, changed: the numbers in the names of the main file and of what lies beside it: versions
    that they were written for, or higher ones where a published file had that number.
    asked, transform: as the user named it ("auto") and as it was fitted ("whiten:512").
    augment: of its vectors. settings, added, removed: what is known of each file.
    """

    table: str = field(metadata=takes_text())
    version: int = field(metadata=_VERSION)
    built: int = field(metadata=_VERSION)
    changed: int = field(metadata=_VERSION)
    asked: str = field(metadata=takes_text())
    transform: str = field(metadata=takes_text())
    fitted_on: int = field(metadata=takes_whole(0))
    augment: str = field(default="none", metadata=takes_text())
    settings: Facts = field(metadata=_FACTS)
    added: Facts = field(default_factory=dict, metadata=_FACTS)
    removed: Facts = field(default_factory=dict, metadata=_FACTS)


@dataclass(frozen=True, kw_only=True)
class CalibrationState(Checked):
    """What is stored of a calibration; see Calibration and Confidence.

    method: the search whose scores they are; of another one they say nothing. kind: what an answer
    is, an image of the same "class" or the same "picture". queries, error: those that it was
    learnt from, and the expected calibration error. images, labels: how many there were, and where
    their labels came from. relabelled: how many times an image got another label since. next_id:
    the least id of what came later. left: how many of the images are still there, unchanged.
    """

    method: str = field(metadata=takes_text())
    kind: AnswerKind = field(metadata=takes_one_of(ANSWER_KINDS))
    has_answer: tuple[float, ...] = field(metadata=takes_list(_WEIGHT, exactly=5))
    is_right: tuple[float, ...] = field(metadata=takes_list(_WEIGHT, exactly=4))
    least: float = field(metadata=takes_number(-1.1, 1.1))
    prior_known: float = field(metadata=takes_number(0, 1, without=(0, 1)))
    queries: int = field(metadata=takes_whole(0))
    error: float = field(metadata=takes_number(0, 1))
    images: int = field(metadata=takes_whole(0))
    labels: str = field(metadata=takes_text())
    relabelled: int = field(default=0, metadata=takes_whole(0))
    next_id: int = field(metadata=takes_whole(0))
    left: int = field(metadata=takes_whole(0))


def same_labels(one: str, other: str) -> bool:
    """Tell whether labels come from the same place, however a file is spelled.

    >>> same_labels("a.csv", "./a.csv"), same_labels("folder", "none")
    (True, False)
    """
    words = (BY_FOLDER, "none")
    if one in words or other in words:
        return one == other
    return Path(one).absolute() == Path(other).absolute()


@dataclass(frozen=True, kw_only=True)
class PassedOver(Checked):
    """How many files of unread formats were below some paths, by suffix.

    roots: the paths as they are stored, of one run of index.
    """

    roots: tuple[str, ...] = field(metadata=takes_list(takes_text(), most=10_000))
    kinds: dict[str, int] = field(metadata=takes_table(takes_whole(1), most=1024))


@dataclass(frozen=True, kw_only=True)
class Settings(Checked):
    """Everything that gallery.toml says.

    The transform is as asked for, such as "auto". labels: "folder", "none" or a CSV file. index:
    None until the first index is built. calibration: None until the gallery was calibrated. files:
    the SHA-256 of each file of the published version of the rows, by its path below the gallery.
    passed_over: what the last run of index over each path did not read.
    """

    transform: str = field(default=DEFAULT_TRANSFORM, metadata=takes_text())
    expand: str = field(default="none", metadata=takes_text())
    augment: str = field(default="none", metadata=takes_text())
    rerank: str = field(default="none", metadata=takes_text())
    format: Literal[2] = field(default=GALLERY_FORMAT, metadata=takes_one_of([GALLERY_FORMAT]))
    backbone: BackboneState = field(metadata=takes_record(BackboneState))
    engine: Engine = field(metadata=takes_one_of(ENGINES))
    labels: str = field(default=BY_FOLDER, metadata=takes_text())
    index: IndexState | None = field(default=None, metadata=takes_record(IndexState))
    calibration: CalibrationState | None = field(
        default=None, metadata=takes_record(CalibrationState)
    )
    files: dict[str, str] = field(default_factory=dict, metadata=takes_table(_SHA256, most=100_000))
    passed_over: tuple[PassedOver, ...] = field(
        default=(), metadata=takes_list(takes_record(PassedOver), most=10_000)
    )

    @property
    def refinement(self) -> Refinement:
        """What follows the first search. Raises ArgumentError for a wrong spec."""
        return Refinement.of(self.expand, self.augment, self.rerank)

    @property
    def method(self) -> str:
        """A line that changes whenever scores get another meaning."""
        b, state = self.backbone, self.index
        transform = f"{state.transform} fitted on {state.fitted_on}" if state else "none"
        search = f"expand {self.expand}, augment {self.augment}, rerank {self.rerank}"
        encoding = f"{b.weights_sha256[:16]} at {b.size}, {b.fit}, pool {b.pool}, views {b.views}"
        return f"{encoding}, {transform}, {search}"

    def calibration_of(self, images: int) -> CalibrationState | None:
        """Return the calibration, if it still fits this search, these labels and the gallery.

        images: how many there are now; of more than twice or less than half as many it says little,
        and once more than half of them were removed. By class it says little, too, once more than a
        tenth of the labels are others.
        """
        known = self.calibration
        if (
            known is None
            or known.method != self.method
            or not same_labels(known.labels, self.labels)
        ):
            return None
        if known.kind == "class" and known.relabelled > MOST_RELABELLED * known.images:
            return None
        if 2 * known.left < known.images:
            return None
        return known if known.images <= 2 * images and images <= 2 * known.images else None

    def with_relabelled(self, images: int) -> Settings:
        """Count images that got another label since the calibration."""
        known = self.calibration
        return self._recalibrated(relabelled=known.relabelled + images) if known else self

    def with_left(self, images: int) -> Settings:
        """Note how many images of the calibration are still there."""
        return self._recalibrated(left=images)

    def _recalibrated(self, **changes: Any) -> Settings:
        known = self.calibration
        new = replace(known, **changes) if known else None
        return replace(self, calibration=new)

    def without_derived(self) -> Settings:
        """Return what the table stores: all but the index and what was learnt or counted since."""
        return replace(self, index=None, calibration=None, files={}, passed_over=())

    def without_calibration(self) -> Settings:
        """Return the settings as if the gallery had never been calibrated."""
        return replace(self, calibration=None)

    def without_index(self) -> Settings:
        """Return the settings with no index published."""
        return replace(self, index=None, calibration=None, files={})

    def with_passed_over(self, roots: Sequence[str], kinds: Mapping[str, int]) -> Settings:
        """Return the settings after a run of index over some paths."""
        others = [p for p in self.passed_over if not {*p.roots} & {*roots}]
        new = [PassedOver(roots=tuple(roots), kinds=dict(kinds))] if kinds else []
        return replace(self, passed_over=(*others, *new))


def write_text(settings: Settings) -> str:
    """Write settings as TOML, with a checksum."""
    text = tomli_w.dumps(settings.as_table())
    return f"{HEADER}{SUM}{_sum(text)}\n{text}"


def has_its_checksum(text: str) -> bool:
    """Tell whether a text is what write_text() gave."""
    head, _, rest = text.removeprefix(HEADER).partition("\n")
    return text.startswith(HEADER) and head == SUM + _sum(rest)


def _sum(text: str) -> str:
    return sha256_of_bytes(text.encode(errors="surrogateescape"))


def read_text(text: str, source: Path) -> Settings:
    """Read settings from TOML. Raises GalleryError, naming source and the key."""
    try:
        check_nesting(text)
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise GalleryError(f"{source} is not valid TOML ({error}). {_remedy(source)}") from error
    if data.get("format") != GALLERY_FORMAT:
        raise GalleryError(
            f"{source} has format {data.get('format')!r}, but this imgret reads format "
            f"{GALLERY_FORMAT}. Index the images again into a new gallery with --gallery."
        )
    try:
        return Settings.read(data)
    except BadValue as fault:
        raise GalleryError(f"{source}: {fault}. {_remedy(source)}") from fault


def _remedy(source: Path) -> str:
    if source.suffix == ".toml":
        return "Delete it and run `imgret verify --repair`, which restores it from images.lance."
    return "Index the images into a new gallery."


def read_file(file: Path) -> Settings:
    """Read gallery.toml. Raises GalleryError, and FileNotFoundError if it is missing."""
    return read_text(read_file_text(file), file)


def read_file_text(file: Path) -> str:
    """Read the text of gallery.toml. Raises GalleryError, FileNotFoundError if it is missing."""
    try:
        return read_bounded(file, MAX_SETTINGS_BYTES).decode("utf-8", errors="replace")
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise GalleryError(
            f"{file} cannot be read ({reason}). Delete it and run `imgret verify --repair`, which "
            "restores it from images.lance."
        ) from error
