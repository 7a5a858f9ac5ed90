"""The transforms, one entry each: what it takes, whether it needs labels, how it is fitted.

To add one, add an entry to KINDS and a line here; docs/design.md walks through it. Everything else
(specs, messages, galleries, evaluation by fifths) reads this table.

none              the L2 norm alone
standard          StandardScaler
standard+pca:N    StandardScaler, then PCA to N components
pca:N             PCA to N components
whiten:N[:P]      PCA to N components, each divided by its deviation to the power P: of unit
                  variance with P = 1.0, the default; less shrinks what whitening does to rare
                  directions (Jégou and Chum 2012, "Negative evidences and co-occurrences in image
                  retrieval: the benefit of PCA and whitening")
lda[:N][:P]       linear discriminant analysis with the labels, at most classes - 1 components; the
                  covariance within classes shrunk by P towards a multiple of the identity
                  (Friedman 1989, "Regularized discriminant analysis")
wccn[:N][:P]      whitening by the covariance within classes, shrunk by P towards a multiple of the
                  identity, and the N widest directions of it (within.py)
rca[:N][:P]       the same without labels, within pairs of nearest neighbours
auto              wccn where labels say something of what images show, rca otherwise

N is a whole number; P is above 0 and at most 1, and has a decimal point where no N is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from retrieval.errors import ArgumentError
from retrieval.suggestion import did_you_mean
from retrieval.transform.chain import fit_pca, fit_standard, fit_standard_pca
from retrieval.transform.lda import fit_lda
from retrieval.transform.spec import Spec
from retrieval.transform.within import fit_within, tell_something

_N, _P = re.compile(r"[1-9]\d{0,4}"), re.compile(r"\d(?:\.\d{1,6})?")
_WHOLE = "a whole number from 1 to 99,999"
_DECIMAL = "a number above 0 and at most 1 with up to 6 decimals, such as 0.75"
WITHOUT_LABELS = "rca"  # where labels say nothing, or may not be used
COMPONENTS = 512
NARROW_FROM = 4 * COMPONENTS  # images; fewer keep all components, which costs little then

Fitted = tuple[Spec, np.ndarray, np.ndarray]
FitRows = Callable[[Spec, np.ndarray, np.ndarray | None, int], Fitted]
_Width = Callable[[int | None, int, int], int]


@dataclass(frozen=True)
class TransformKind:
    """One transform.

    takes: N and P as its spec is written, such as "[:N][:P]". fit: a spec, (n, d) float32 rows,
    their labels or None, and a seed -> the spec that was fitted, a (components, d) matrix and a
    (components,) bias, float64; None for "none". width: N as asked for, n and d -> N; None where
    the fit finds it. labels: "none", "needed", or "used" where there are some. usual_lengths:
    whether rows that are many times longer than most are left out, which would be the mean alone.
    tried: specs that `imgret tune` tries, in this order. stands_for: the one that is fitted where
    labels say nothing, for one that chooses.
    """

    name: str
    takes: str = ""
    fit: FitRows | None = None
    width: _Width | None = None
    labels: str = "none"
    usual_lengths: bool = False
    tried: tuple[str, ...] = ()
    stands_for: str = ""


def _below_rows(asked: int | None, n: int, d: int) -> int:
    return min(asked or COMPONENTS, d, n - 1)


def _all_or_512(asked: int | None, n: int, d: int) -> int:
    return min(asked or (d if n < NARROW_FROM else COMPONENTS), d)


def _standard(asked: Spec, x: np.ndarray, labels: np.ndarray | None, seed: int) -> Fitted:
    del labels, seed
    return (asked, *fit_standard(x))


def _standard_pca(asked: Spec, x: np.ndarray, labels: np.ndarray | None, seed: int) -> Fitted:
    del labels, seed
    return (asked, *fit_standard_pca(x, asked.components))


def _pca(asked: Spec, x: np.ndarray, labels: np.ndarray | None, seed: int) -> Fitted:
    del labels, seed
    return (asked, *fit_pca(x, asked.components))


def _whiten(asked: Spec, x: np.ndarray, labels: np.ndarray | None, seed: int) -> Fitted:
    del labels, seed
    power = 1.0 if asked.power is None else asked.power
    return (asked, *fit_pca(x, asked.components, power))


def _lda(asked: Spec, x: np.ndarray, labels: np.ndarray | None, seed: int) -> Fitted:
    del seed
    return (asked, *fit_lda(x, labels, asked))


def _wccn(asked: Spec, x: np.ndarray, labels: np.ndarray | None, seed: int) -> Fitted:
    return (asked, *fit_within(x, labels, asked.components, asked.power, seed))


def _rca(asked: Spec, x: np.ndarray, labels: np.ndarray | None, seed: int) -> Fitted:
    del labels
    return (asked, *fit_within(x, None, asked.components, asked.power, seed))


def _auto(asked: Spec, x: np.ndarray, labels: np.ndarray | None, seed: int) -> Fitted:
    fit, name = (_wccn, "wccn") if tell_something(x, labels, seed) else (_rca, WITHOUT_LABELS)
    asked = parse_spec(resolve_spec(name, *x.shape))
    return fit(asked, x, labels, seed)


_WHITENING = tuple(f"whiten:{n}:{p}" for n in (256, 512, 1024) for p in (1.0, 0.75, 0.5))
_LDA = tuple(f"lda:{p}" for p in (0.02, 0.05, 0.1, 0.2, 0.4))
KINDS = {
    kind.name: kind
    for kind in (
        TransformKind("none", tried=("none",)),
        TransformKind("standard", "", _standard, tried=("standard",)),
        TransformKind("standard+pca", ":N", _standard_pca, _below_rows),
        TransformKind("pca", ":N", _pca, _below_rows),
        TransformKind("whiten", ":N[:P]", _whiten, _below_rows, tried=_WHITENING),
        TransformKind("lda", "[:N][:P]", _lda, labels="needed", tried=_LDA),
        TransformKind("wccn", "[:N][:P]", _wccn, _all_or_512, labels="needed", usual_lengths=True),
        TransformKind("rca", "[:N][:P]", _rca, _all_or_512, usual_lengths=True),
        TransformKind(
            "auto", "", _auto, labels="used", usual_lengths=True, stands_for=WITHOUT_LABELS
        ),
    )
}
_USAGE = [kind.name + kind.takes for kind in KINDS.values()]
NAMES = f"{', '.join(_USAGE[:-1])} or {_USAGE[-1]}"


def parse_spec(spec: str) -> Spec:
    """Read a spec; one number alone is N if it is whole. Raises ArgumentError for a wrong one.

    >>> parse_spec("whiten:512:0.75")
    Spec(name='whiten', components=512, power=0.75)
    """
    name, *numbers = spec.split(":")
    kind = KINDS.get(name)
    if kind is None:
        raise ArgumentError(
            f"There is no transform {spec!r}. {did_you_mean(name, KINDS)}Give {NAMES}, with a "
            "whole number N and with P above 0 and at most 1, such as 0.75."
        )
    if len(numbers) > kind.takes.count(":"):
        raise ArgumentError(f"{spec!r} has too many numbers. Write {name + kind.takes}.")
    takes_power = "P" in kind.takes
    if takes_power and len(numbers) == 1 and _P.fullmatch(numbers[0]) and "." in numbers[0]:
        return Spec(name, None, _power(name, numbers[0]))
    n, power = [*numbers, None, None][:2]
    if n is not None and not _N.fullmatch(n):
        other = ", or a P above 0 and at most 1" if takes_power and power is None else ""
        raise ArgumentError(
            f"The N of the transform {name} is {n or repr(n)}. Give {_WHOLE}{other}."
        )
    return Spec(name, int(n) if n else None, None if power is None else _power(name, power))


def _power(name: str, given: str) -> float:
    """Read a P. Raises ArgumentError."""
    power = float(given) if _P.fullmatch(given) else 0
    if not 0 < power <= 1:
        raise ArgumentError(
            f"The P of the transform {name} is {given or repr(given)}. Give {_DECIMAL}."
        )
    return power


def resolve_spec(spec: str, n: int, d: int) -> str:
    """Return the spec that is fitted to n embeddings of width d; "auto" decides between two when it
    sees the labels, so it keeps its name.

    >>> resolve_spec("wccn", 2000, 1280), resolve_spec("rca", 5000, 1280)
    ('wccn:1280', 'rca:512')
    >>> resolve_spec("whiten:512", 300, 1280)
    'whiten:299'
    """
    asked = parse_spec(spec)
    kind = KINDS[asked.name]
    if n < 2:
        return "none"
    if kind.width is None:
        return spec
    return str(replace(asked, components=kind.width(asked.components, n, d)))


def fitted_width(spec: str, n: int, d: int) -> int | None:
    """Return the width of what is fitted to n embeddings of width d; None where the fit finds it.

    >>> [fitted_width(spec, 5000, 1280) for spec in ("none", "pca:8", "auto", "lda")]
    [1280, 8, 512, None]
    """
    seen = KINDS[parse_spec(spec).name].stands_for or spec
    asked = parse_spec(resolve_spec(seen, n, d))
    kind = KINDS[asked.name]
    if kind.width is not None:
        return asked.components
    return None if kind.takes else d


def sees_labels(spec: str) -> bool:
    """Tell whether labels take part in fitting a transform."""
    return KINDS[parse_spec(spec).name].labels != "none"
