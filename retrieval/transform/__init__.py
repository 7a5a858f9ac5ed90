"""Transforms of embeddings: one affine map and an L2 norm, fitted to a gallery.

fitted.py  fit one, apply one; what there is
table.py   the transforms, an entry each
spec.py    a name, N and P
chain.py   standard, pca and whiten
within.py  wccn and rca, of which the default is one
lda.py     lda
"""

from retrieval.transform.fitted import FIT_ROWS, Transform, fit, rows_to_fit
from retrieval.transform.spec import Spec
from retrieval.transform.table import (
    KINDS,
    NAMES,
    WITHOUT_LABELS,
    fitted_width,
    parse_spec,
    resolve_spec,
    sees_labels,
)

__all__ = [
    "FIT_ROWS",
    "KINDS",
    "NAMES",
    "WITHOUT_LABELS",
    "Spec",
    "Transform",
    "fit",
    "fitted_width",
    "parse_spec",
    "resolve_spec",
    "rows_to_fit",
    "sees_labels",
]
