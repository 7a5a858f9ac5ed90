"""imgret finds, in folders of images, the ones that look like a given image.

>>> from imgret import Retriever
>>> cars = Retriever("cars.imgret", backbone="mobilenetv2")

``cars.index("cars/")`` embeds a folder, ``cars.search("photo.jpg", k=5)`` gives the matches.
"""

from __future__ import annotations

from importlib import import_module, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from classify.predicting import Predictor as Predictor
    from classify.run import Run as Run
    from classify.training import train as train
    from retrieval.errors import BackboneError as BackboneError
    from retrieval.errors import GalleryError as GalleryError
    from retrieval.errors import ImageError as ImageError
    from retrieval.errors import ImgretError as ImgretError
    from retrieval.errors import RecipeError as RecipeError
    from retrieval.evaluation import Evaluation as Evaluation
    from retrieval.retriever import IndexReport as IndexReport
    from retrieval.retriever import Match as Match
    from retrieval.retriever import Retriever as Retriever

_PUBLIC = {
    "BackboneError": "retrieval.errors",
    "GalleryError": "retrieval.errors",
    "ImageError": "retrieval.errors",
    "Evaluation": "retrieval.evaluation",
    "ImgretError": "retrieval.errors",
    "IndexReport": "retrieval.retriever",
    "Match": "retrieval.retriever",
    "Predictor": "classify.predicting",
    "RecipeError": "retrieval.errors",
    "Retriever": "retrieval.retriever",
    "Run": "classify.run",
    "train": "classify.training",
}
_PACKAGES = ("classify", "retrieval")

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    """Load a public name on first use, so that `import imgret` costs nothing."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'imgret' has no attribute {name!r}")
    check_packages()
    return getattr(import_module(_PUBLIC[name]), name)


def check_packages() -> None:
    """Raise ImportError when a folder of the user's has the name of one of our packages."""
    home = Path(__file__).resolve().parent.parent
    for name in _PACKAGES:
        spec = util.find_spec(name)
        places = [Path(p).resolve() for p in (spec and spec.submodule_search_locations) or []]
        if home / name not in places:
            where = places[0] if places else (spec and spec.origin) or "nothing"
            raise ImportError(
                f"imgret needs its own package {name!r}, but Python finds {where} in its place. "
                "Rename that folder or file, or start Python from another folder."
            )
