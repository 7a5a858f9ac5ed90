"""imgret finds, in folders of images, the ones that look like a given image.

>>> from imgret import Retriever
>>> cars = Retriever("cars.imgret", backbone="mobilenetv2")

``cars.index("cars/")`` embeds a folder, ``cars.search("photo.jpg", k=5)`` gives the matches.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from classify.predictor import Prediction, Predictor
    from classify.recipe import Recipe, TrainingSettings, read_recipe
    from classify.run import Epoch, Run, RunFacts
    from classify.training import Trained, train
    from retrieval import __version__
    from retrieval.comparison import (
        ComparedFolders,
        Comparison,
        Experiment,
        ExperimentResult,
        NamedExperiment,
        PairedTest,
        compare,
    )
    from retrieval.comparison.recipes import read_experiment
    from retrieval.comparison.tuner import Step, Tuning, tune
    from retrieval.errors import (
        ArgumentError,
        BackboneError,
        DataError,
        FilterError,
        GalleryChangedError,
        GalleryEmptyError,
        GalleryError,
        GalleryWriteError,
        ImageError,
        ImgretError,
        ProcessError,
        QueryError,
        RecipeError,
        RunError,
        ServerError,
        WriteError,
    )
    from retrieval.evaluation import (
        Calibration,
        ClassScore,
        Confidence,
        Confusion,
        Evaluation,
        Metric,
        Neighbour,
        PerQuery,
        RankedQuery,
        ReliabilityBin,
        VoteScores,
    )
    from retrieval.evaluation.protocols import Measured
    from retrieval.gallery.filter import Filter
    from retrieval.milvus import Publication
    from retrieval.refinement import Neighbourhood, Refinement, Reranking
    from retrieval.retriever import (
        DuplicateGroup,
        DuplicateMember,
        DuplicateReport,
        FacetCount,
        Facets,
        GalleryImage,
        GalleryInfo,
        ImagePage,
        IndexEstimate,
        IndexReport,
        Match,
        OpenGallery,
        QueryResult,
        Retriever,
        ServedInfo,
        VerifyReport,
    )
    from retrieval.retriever.clusters import ClusterOrder, ClusterPage, ClusterStart
    from retrieval.retriever.duplicates.threshold import Threshold
    from retrieval.retriever.facets import SizeCount
    from retrieval.retriever.left_out import LeftOut
    from retrieval.retriever.map import GalleryMap, Point
    from retrieval.settings import EmbeddingSettings, SearchSettings

_PLACES = {  # module -> the public names that are loaded from it on first use
    "classify.predictor": ["Prediction", "Predictor"],
    "classify.recipe": ["Recipe", "TrainingSettings", "read_recipe"],
    "classify.run": ["Epoch", "Run", "RunFacts"],
    "classify.training": ["Trained", "train"],
    "retrieval": ["__version__"],
    "retrieval.comparison": [
        "ComparedFolders", "Comparison", "Experiment", "ExperimentResult", "NamedExperiment",
        "PairedTest", "compare",
    ],
    "retrieval.comparison.recipes": ["read_experiment"],
    "retrieval.comparison.tuner": ["Step", "Tuning", "tune"],
    "retrieval.errors": [
        "ArgumentError", "BackboneError", "DataError", "FilterError", "GalleryChangedError",
        "GalleryEmptyError", "GalleryError", "GalleryWriteError", "ImageError", "ImgretError",
        "ProcessError", "QueryError", "RecipeError", "RunError", "ServerError", "WriteError",
    ],
    "retrieval.evaluation": [
        "Calibration", "ClassScore", "Confidence", "Confusion", "Evaluation", "Metric", "Neighbour",
        "PerQuery", "RankedQuery", "ReliabilityBin", "VoteScores",
    ],
    "retrieval.evaluation.protocols": ["Measured"],
    "retrieval.gallery.filter": ["Filter"],
    "retrieval.milvus": ["Publication"],
    "retrieval.refinement": ["Neighbourhood", "Refinement", "Reranking"],
    "retrieval.retriever": [
        "DuplicateGroup", "DuplicateMember", "DuplicateReport", "FacetCount", "Facets",
        "GalleryImage", "GalleryInfo", "ImagePage", "IndexEstimate", "IndexReport", "Match",
        "OpenGallery", "QueryResult", "Retriever", "ServedInfo", "VerifyReport",
    ],
    "retrieval.retriever.clusters": ["ClusterOrder", "ClusterPage", "ClusterStart"],
    "retrieval.retriever.duplicates.threshold": ["Threshold"],
    "retrieval.retriever.facets": ["SizeCount"],
    "retrieval.retriever.left_out": ["LeftOut"],
    "retrieval.retriever.map": ["GalleryMap", "Point"],
    "retrieval.settings": ["EmbeddingSettings", "SearchSettings"],
}  # fmt: skip
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}

__all__ = [
    "ArgumentError",
    "BackboneError",
    "Calibration",
    "ClassScore",
    "ClusterOrder",
    "ClusterPage",
    "ClusterStart",
    "ComparedFolders",
    "Comparison",
    "Confidence",
    "Confusion",
    "DataError",
    "DuplicateGroup",
    "DuplicateMember",
    "DuplicateReport",
    "EmbeddingSettings",
    "Epoch",
    "Evaluation",
    "Experiment",
    "ExperimentResult",
    "FacetCount",
    "Facets",
    "Filter",
    "FilterError",
    "GalleryChangedError",
    "GalleryEmptyError",
    "GalleryError",
    "GalleryImage",
    "GalleryInfo",
    "GalleryMap",
    "GalleryWriteError",
    "ImageError",
    "ImagePage",
    "ImgretError",
    "IndexEstimate",
    "IndexReport",
    "LeftOut",
    "Match",
    "Measured",
    "Metric",
    "NamedExperiment",
    "Neighbour",
    "Neighbourhood",
    "OpenGallery",
    "PairedTest",
    "PerQuery",
    "Point",
    "Prediction",
    "Predictor",
    "ProcessError",
    "Publication",
    "QueryError",
    "QueryResult",
    "RankedQuery",
    "Recipe",
    "RecipeError",
    "Refinement",
    "ReliabilityBin",
    "Reranking",
    "Retriever",
    "Run",
    "RunError",
    "RunFacts",
    "SearchSettings",
    "ServedInfo",
    "ServerError",
    "SizeCount",
    "Step",
    "Threshold",
    "Trained",
    "TrainingSettings",
    "Tuning",
    "VerifyReport",
    "VoteScores",
    "WriteError",
    "__version__",
    "compare",
    "read_experiment",
    "read_recipe",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use, so that `import imgret` costs nothing."""
    place = _PLACE_OF.get(name)
    if place is None:
        raise AttributeError(f"module 'imgret' has no attribute {name!r}")
    from imgret.packages import check_packages

    check_packages()
    from retrieval.libraries import how_to_install, lacks_library

    try:
        module = import_module(place)
    except ImportError as error:
        if not lacks_library(error):
            raise
        raise ImportError(how_to_install(str(error.name), by=f"imgret.{name}")) from error
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return list(__all__)
