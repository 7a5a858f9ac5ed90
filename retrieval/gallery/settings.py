"""gallery.toml: how a gallery was made; checked when read, since anybody may have written it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, cast

import tomli_w
from pydantic import Field, ValidationError

from retrieval.backbones import BackboneSpec
from retrieval.errors import GalleryError, first_fault
from retrieval.files import read_bounded, sha256_of_bytes
from retrieval.images import Preprocessing
from retrieval.text import check_nesting
from retrieval.words import (
    BY_FOLDER,
    DEFAULT_POOL,
    DEFAULT_VIEWS,
    MOST_SIZE,
    AnswerKind,
    EmbeddingSettings,
    Engine,
    Fit,
    Frozen,
    Pool,
    SearchSettings,
    Views,
)

GALLERY_FORMAT: Literal[2] = 2
MAX_SETTINGS_BYTES = 1 << 20
MOST_RELABELLED = 0.1  # of the images that a calibration by class was learnt from
HEADER = "# Written by imgret; change it with the options of `imgret index`, not by hand.\n"
SUM = "# SHA-256 of what follows: "

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
Mean = Annotated[float, Field(ge=-10, le=10, allow_inf_nan=False)]
Std = Annotated[float, Field(ge=1e-4, le=1e4, allow_inf_nan=False)]


class BackboneState(Frozen):
    """A BackboneSpec as it is stored."""

    name: str
    architecture: str
    weights_sha256: Sha256
    dim: int = Field(ge=1, le=1 << 16)
    size: int = Field(ge=1, le=MOST_SIZE)
    mean: tuple[Mean, Mean, Mean]
    std: tuple[Std, Std, Std]
    interpolation: Interpolation
    fit: Fit
    crop_pct: float = Field(gt=0, le=1)
    pool: Pool = DEFAULT_POOL
    views: Views = DEFAULT_VIEWS

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
Version = Annotated[int, Field(ge=1, lt=1 << 62)]


class IndexState(Frozen):
    """Which index files belong to which version of which table, and how they were built.

    built, changed: the numbers in the names of the main file and of what lies beside it: versions
    that they were written for, or higher ones where a published file had that number.
    asked, transform: as the user named it ("auto") and as it was fitted ("whiten:512").
    augment: of its vectors. settings, added, removed: what is known of each file.
    """

    table: str
    version: Version
    built: Version
    changed: Version
    asked: str
    transform: str
    fitted_on: int = Field(ge=0)
    augment: str = "none"
    settings: Facts
    added: Facts = Field(default={})
    removed: Facts = Field(default={})


Weight = Annotated[float, Field(allow_inf_nan=False, ge=-1e6, le=1e6)]


class CalibrationState(Frozen):
    """What is stored of a calibration; see Calibration and Confidence.

    method: the search whose scores they are; of another one they say nothing. kind: what an answer
    is, an image of the same "class" or the same "picture". queries, error: those that it was
    learnt from, and the expected calibration error. images, labels: how many there were, and where
    their labels came from. relabelled: how many times an image got another label since. next_id:
    the least id of what came later. left: how many of the images are still there, unchanged.
    """

    method: str
    kind: AnswerKind
    has_answer: tuple[Weight, Weight, Weight, Weight, Weight]
    is_right: tuple[Weight, Weight, Weight, Weight]
    least: Annotated[float, Field(allow_inf_nan=False, ge=-1.1, le=1.1)]
    prior_known: Annotated[float, Field(gt=0, lt=1)]
    queries: int = Field(ge=0)
    error: Annotated[float, Field(ge=0, le=1)]
    images: int = Field(ge=0)
    labels: str
    relabelled: int = Field(default=0, ge=0)
    next_id: int = Field(ge=0)
    left: int = Field(ge=0)


def same_labels(one: str, other: str) -> bool:
    """Tell whether labels come from the same place, however a file is spelled.

    >>> same_labels("a.csv", "./a.csv"), same_labels("folder", "none")
    (True, False)
    """
    words = (BY_FOLDER, "none")
    if one in words or other in words:
        return one == other
    return Path(one).absolute() == Path(other).absolute()


class PassedOver(Frozen):
    """How many files of unread formats were below some paths, by suffix.

    roots: the paths as they are stored, of one run of index.
    """

    roots: tuple[str, ...] = Field(max_length=10_000)
    kinds: dict[str, Annotated[int, Field(ge=1)]] = Field(max_length=1024)


class Settings(SearchSettings):
    """Everything that gallery.toml says.

    The transform is as asked for, such as "auto". labels: "folder", "none" or a CSV file. index:
    None until the first index is built. calibration: None until the gallery was calibrated. files:
    the SHA-256 of each file of the published version of the rows, by its path below the gallery.
    passed_over: what the last run of index over each path did not read.
    """

    format: Literal[2] = GALLERY_FORMAT
    backbone: BackboneState
    engine: Engine
    labels: str = BY_FOLDER
    index: IndexState | None = None
    calibration: CalibrationState | None = None
    files: dict[str, Sha256] = Field(default={}, max_length=100_000)
    passed_over: tuple[PassedOver, ...] = Field(default=(), max_length=10_000)

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
        return self._recalibrated({"relabelled": known.relabelled + images}) if known else self

    def with_left(self, images: int) -> Settings:
        """Note how many images of the calibration are still there."""
        return self._recalibrated({"left": images})

    def _recalibrated(self, changes: dict[str, int]) -> Settings:
        known = self.calibration
        new = known and known.model_copy(update=changes)
        return self.model_copy(update={"calibration": new})

    def without_derived(self) -> Settings:
        """Return what the table stores: all but the index and what was learnt or counted since."""
        none: dict[str, object] = {
            "index": None,
            "calibration": None,
            "files": {},
            "passed_over": (),
        }
        return self.model_copy(update=none)

    def without_calibration(self) -> Settings:
        """Return the settings as if the gallery had never been calibrated."""
        return self.model_copy(update={"calibration": None})

    def without_index(self) -> Settings:
        """Return the settings with no index published."""
        return self.model_copy(update={"index": None, "calibration": None, "files": {}})

    def with_passed_over(self, roots: Sequence[str], kinds: Mapping[str, int]) -> Settings:
        """Return the settings after a run of index over some paths."""
        others = [p for p in self.passed_over if not {*p.roots} & {*roots}]
        new = [PassedOver(roots=tuple(roots), kinds=dict(kinds))] if kinds else []
        return self.model_copy(update={"passed_over": (*others, *new)})


def write_text(settings: Settings) -> str:
    """Write settings as TOML, with a checksum."""
    text = tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True))
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
        return Settings.model_validate(data)
    except ValidationError as error:
        key, fault = first_fault(error)
        raise GalleryError(f"{source}: {key}: {fault}. {_remedy(source)}") from error


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
