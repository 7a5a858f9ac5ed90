"""The settings of embeddings and of searches, defined once: their values, defaults and names.

fit     squash   the picture is stretched to the square; nothing of it is lost
        crop     the middle is cut out, as timm and torchvision evaluate
        pad      all of it, on a ground of the mean colour
pool, views      see retrieval/pool.py
engine           see retrieval/encoder/
answer kind      what counts as an answer to a query: an image of its class, or of the same thing
"""

from __future__ import annotations

from os import PathLike
from typing import Any, Literal, TypedDict, get_args

Fit = Literal["squash", "crop", "pad"]
Pool = Literal["own", "avg", "max", "gem", "avg+max", "avg+gem"]
Views = Literal["none", "flip", "multiscale", "flip+multiscale"]
AnswerKind = Literal["class", "picture"]
IntervalOver = Literal["queries", "classes"]
ProjectionMethod = Literal["umap", "tsne"]
Tier = Literal["bytes", "picture", "copy", "similar"]
ServedKind = Literal["hnsw", "ivf_sq8", "diskann"]
Engine = Literal["openvino-bf16", "openvino-fp32", "torch-cuda-bf16", "torch-fp32"]
FITS: tuple[Fit, ...] = get_args(Fit)
POOLS: tuple[Pool, ...] = get_args(Pool)
VIEWS: tuple[Views, ...] = get_args(Views)
ENGINES: tuple[Engine, ...] = get_args(Engine)
SERVED_KINDS: tuple[ServedKind, ...] = get_args(ServedKind)
"""Of the index in a Milvus server; see retrieval/milvus/kinds.py."""
TIERS: tuple[Tier, ...] = get_args(Tier)
"""From strict to lenient: the same bytes; all that shows is the same; one picture saved again,
scaled, turned or framed; a score above the threshold."""
ANSWER_KINDS: tuple[AnswerKind, ...] = get_args(AnswerKind)

DEFAULT_BACKBONE = "mini"
DEFAULT_FIT: Fit = "squash"
DEFAULT_POOL: Pool = "own"
DEFAULT_VIEWS: Views = "none"
DEFAULT_TRANSFORM = "auto"
BY_FOLDER = "folder"  # where labels come from: the folder that holds an image
DEFAULT_MAX_PIXELS = 200_000_000  # of an image; one with more is not decoded
LEAST_SIZE, MOST_SIZE = 16, 4096  # pixels of a side that a backbone is fed
PRIOR_KNOWN = 0.9  # share of queries assumed to have an answer, where nobody says
MOST_NEIGHBOURS = 10_000  # that one figure is of, or that vote
MEASURED_K = (1, 5, 10)  # numbers of neighbours that figures are of
VOTERS = 5  # neighbours that vote for a label
MOST_ON_MAP = 5_000  # images; of more, a sample
MOST_QUERIES = 10_000  # that are evaluated; of more, a random sample
NO_LABEL = -1  # the number of the class of an image that has none
CONSIDERED = 32  # neighbours of a query that tell whether its matches are right
MOST_PICTURES = 200  # that a calibration without labels learns from


def is_own(pool: Pool, views: Views) -> bool:
    """Tell whether an embedding is what the network gives, of one view."""
    return (pool, views) == (DEFAULT_POOL, DEFAULT_VIEWS)


class EmbeddingOptions(TypedDict, total=False):
    """How a backbone is loaded: EmbeddingSettings without its name."""

    size: int | None
    fit: Fit
    pool: Pool
    views: Views


class SettingsAsked(TypedDict, total=False):
    """Settings that a user may give; left out or None is what a gallery has, or the default.

    backbone: "mini" (the default), a short name ("mobilenetv2", "resnet50", "efficientnet-b7"), a
    timm name, "hf-hub:user/model" or a folder. size: side of its input in pixels, 16 to 4096; by
    default its own. fit: how a picture becomes a square, "squash" (the default), "crop" or "pad".
    pool: "own" (the default), "avg", "max", "gem", "avg+max" or "avg+gem". views: "none" (the
    default), "flip", "multiscale" or "flip+multiscale". transform: "auto" (the default) or what
    `imgret index --help` lists. expand, augment: `N[:ALPHA]`. rerank: `M[:K1:K2:W]`.
    """

    backbone: str | PathLike[str] | None
    size: int | None
    fit: Fit | None
    pool: Pool | None
    views: Views | None
    transform: str | None
    expand: str | None
    augment: str | None
    rerank: str | None


EMBEDDING = ("backbone", "size", "fit", "pool", "views")
SEARCH = ("transform", "expand", "augment", "rerank")


def given(asked: SettingsAsked, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the settings that were given."""
    return {name: asked[name] for name in names if asked.get(name) is not None}  # type: ignore[literal-required]
