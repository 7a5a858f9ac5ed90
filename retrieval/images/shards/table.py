"""What is in a shard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class MemberPlace(NamedTuple):
    """Where an image lies: from which byte of a tar, or in which row of a dataset; and its size.

    size: in bytes; -1 where only reading it tells.
    """

    start: int
    size: int


@dataclass(frozen=True)
class ShardTable:
    """Images by their names inside, in the order in which they lie. labels: None for none."""

    places: Mapping[str, MemberPlace]
    labels: Mapping[str, str | None]
