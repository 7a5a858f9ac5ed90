"""Transforms of embeddings: one affine map and an L2 norm, fitted to a gallery.

fitted.py  fit one, apply one; what there is
spec.py    its name, N and P
within.py  wccn and rca, of which the default is one
lda.py     lda
"""

from retrieval.transform.fitted import FIT_ROWS, Transform, fit
from retrieval.transform.spec import NAMES, Spec, parse_spec, resolve_spec, sees_labels

__all__ = [
    "FIT_ROWS",
    "NAMES",
    "Spec",
    "Transform",
    "fit",
    "parse_spec",
    "resolve_spec",
    "sees_labels",
]
