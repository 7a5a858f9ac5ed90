"""Delete from an environment with imgret-light what imgret-light never loads.

    python packaging/light/trim.py path/to/site-packages

OpenVINO's wheel runs on GPUs and NPUs and reads other frameworks' models, Arrow's speaks Flight
and S3, and all bring tests, headers and stubs. imgret-light encodes on a CPU from OpenVINO's own
files and reads galleries through Lance. pip cannot leave the rest out. Uninstalling and upgrading
work as before; what other programs in the same environment want of these libraries is gone, so trim
an image, or an environment that is imgret-light's own.

tests/imgret/test_light.py goes through all commands after trimming.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

NEVER_LOADED = {
    "other devices of OpenVINO": [
        "openvino/libs/libopenvino_intel_gpu_plugin*",
        "openvino/libs/libopenvino_intel_npu_*",
        *(f"openvino/libs/libopenvino_{name}_plugin*" for name in ("auto", "auto_batch", "hetero")),
        "openvino/libs/cache.json",
    ],
    "other frameworks' models in OpenVINO": [
        *(f"openvino/libs/libopenvino_{name}_frontend*"
          for name in ("gguf", "jax", "paddle", "pytorch", "tensorflow*")),
        *(f"openvino/frontend/{name}" for name in ("jax", "paddle", "pytorch", "tensorflow")),
        "openvino/tools/*",
    ],
    "Flight and object stores in Arrow": [
        *(f"pyarrow/lib{name}.*" for name in ("arrow_flight", "arrow_python_flight", "arrow_s3")),
        *(f"pyarrow/_{name}.*" for name in ("azurefs", "flight", "gcsfs", "s3fs")),
    ],
    "second copies of Arrow's libraries": ["pyarrow/libarrow_python*.so.*.*.*"],
    "fonts of PDF, and what colours source code": [
        "fontTools/**/*.so", "pygments/lexers/[a-z]*.py", "pygments/lexers/_[a-z]*builtins.py",
        "matplotlib/mpl-data/fonts/afm", "matplotlib/mpl-data/fonts/pdfcorefonts",
    ],
    "modules of scipy and numpy": [
        "scipy/io/_fast_matrix_market/*.so", "scipy/odr/*.so", "numpy/_core/_simd.*.so",
    ],
    "tests": [  # not the folders: numpy.testing imports from one
        "**/tests/test_*", "**/tests/data", "**/tests/tests", "matplotlib/mpl-data/sample_data",
        "sklearn/datasets/data", "sklearn/datasets/images",
    ],
    "headers, sources and stubs": [
        "*/include", "*/_core/include", "pyarrow/src",
        *(f"**/*.{suffix}" for suffix in ("a", "c", "cc", "cmake", "h", "hpp")),
        *(f"**/*.{suffix}" for suffix in ("pxd", "pxi", "pyi", "pyx", "pyx.tp")),
    ],
}  # fmt: skip


def trim(site: Path) -> dict[str, int]:
    """Delete what is never loaded; the bytes of each kind."""
    if not (site / "imgret").is_dir() or (site / "torch").exists():
        raise SystemExit(f"{site} is no environment of imgret-light. Name its site-packages.")
    freed = {}
    for kind, patterns in NEVER_LOADED.items():
        before = size_of(site)
        for place in [p for pattern in patterns for p in site.glob(pattern)]:
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place, ignore_errors=True)
            else:
                place.unlink(missing_ok=True)
        freed[kind] = before - size_of(site)
    return freed


def size_of(folder: Path) -> int:
    """The bytes of all files below a folder."""
    return sum(f.lstat().st_size for f in folder.rglob("*") if not f.is_dir() or f.is_symlink())


if __name__ == "__main__":
    place = Path(sys.argv[1])
    for what, count in trim(place).items():
        sys.stdout.write(f"{count / 1e6:6.1f} MB  {what}\n")
    sys.stdout.write(f"{size_of(place) / 1e6:6.1f} MB  are left in {place}\n")
