"""Libraries that an installation may lack, and how to install them.

imgret-light leaves torch and what stands on it out: it encodes with OpenVINO, by `mini` or by what
another machine exported.
"""

from __future__ import annotations

from functools import cache
from importlib import util

WHOLE, LIGHT = "imgret", "imgret-light"
NEEDED_TO_TRAIN = ("torch", "timm", "torchvision", "captum", "huggingface_hub")
EXTRAS = {
    "mcp": "mcp",
    "obstore": "objects",
    "onnx": "onnx",
    "pillow_jxl": "jxl",
    "pymilvus": "milvus",
    "rawpy": "raw",
    "ray": "cluster",
    "umap": "map",
}
"""The extra of pyproject.toml that brings a library."""


def is_installed(name: str) -> bool:
    """Tell whether a library can be imported; import nothing."""
    try:
        return util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def lacks_library(error: ImportError) -> bool:
    """Tell whether an import failed because of a library that an installation may lack.

    One that is there but broken says itself what is wrong.
    """
    top = (error.name or "").partition(".")[0]
    return top in (*NEEDED_TO_TRAIN, *EXTRAS) and not is_installed(top)


def how_to_install(name: str, *, by: str = "This") -> str:
    """Say that something needs a library, and the line that installs it.

    by: what needs it, as a sentence begins.
    """
    needs_torch = distribution() == LIGHT and name in (*NEEDED_TO_TRAIN, "onnx")
    wanted = [item for item in ("torch" * needs_torch, EXTRAS.get(name)) if item]
    what = f"'{distribution()}[{','.join(wanted)}]'" if wanted else WHOLE
    line = f"pip install {what}"
    return f"{by} needs {name}, which is not installed. Run `{line}`."


@cache
def distribution() -> str:
    """Return the name under which imgret is installed, for pip to add extras to."""
    from importlib import metadata  # a fifth of the time of `imgret --help`

    try:
        metadata.distribution(LIGHT)
    except metadata.PackageNotFoundError:
        return WHOLE
    return LIGHT
