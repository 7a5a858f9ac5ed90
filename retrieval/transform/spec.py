"""A transform's spec: its name, N and P."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from retrieval.errors import ImgretError

SPEC = re.compile(
    r"(none|auto|standard)|(standard\+pca|pca|whiten|lda|wccn|rca)(?::([1-9]\d{0,4}))?"
    r"(?::(\d\.\d{1,6}))?"
)
NAMES = (
    "none, standard, standard+pca:N, pca:N, whiten:N[:P], lda[:N][:P], wccn[:N][:P], rca[:N][:P] "
    "or auto"
)
COMPONENTS = 512
AUTO_NARROW_FROM = 4 * COMPONENTS  # images; fewer keep all components, which costs little then
WITH_LABELS = ("lda", "wccn", "auto")


@dataclass(frozen=True)
class Spec:
    """A spec's name, its N and its P; None where it has none."""

    name: str
    components: int | None = None
    power: float | None = None

    def __str__(self) -> str:
        parts = [self.name, self.components, self.power]
        return ":".join(str(part) for part in parts if part is not None)


def parse_spec(spec: str) -> Spec:
    """Read a spec. Raises ImgretError for what is none.

    >>> parse("whiten:512:0.75")
    Spec(name='whiten', components=512, power=0.75)
    """
    found = SPEC.fullmatch(spec)
    name = found and (found[1] or found[2])
    power = float(found[4]) if found and found[4] else None
    shrinks = name in {"whiten", "lda", "wccn", "rca"}
    if not found or not name or (power is not None and not (shrinks and 0 < power <= 1)):
        raise ImgretError(
            f"There is no transform {spec!r}. Give {NAMES}: N is a whole number, P one like 0.75, "
            "above 0 and at most 1."
        )
    return Spec(name, int(found[3]) if found[3] else None, power)


def resolve_spec(spec: str, n: int, d: int) -> str:
    """The spec that is fitted to n embeddings of width d; "auto" decides between two when it sees
    the labels, so it keeps its name.

    >>> resolve("wccn", 2000, 1280), resolve("rca", 5000, 1280), resolve("whiten:512", 300, 1280)
    ('wccn:1280', 'rca:512', 'whiten:299')
    """
    asked = parse_spec(spec)
    if n < 2:
        return "none"
    if asked.name in {"none", "standard", "lda", "auto"}:
        return spec
    if asked.name in {"wccn", "rca"}:
        own = d if n < AUTO_NARROW_FROM else COMPONENTS
        return str(replace(asked, components=min(asked.components or own, d)))
    return str(replace(asked, components=min(asked.components or COMPONENTS, d, n - 1)))


def sees_labels(spec: str) -> bool:
    """Whether labels take part where a transform is fitted."""
    return parse_spec(spec).name in WITH_LABELS
