"""docs/networks.md is true: what it says of each of timm's families happens again."""

from __future__ import annotations

import pytest

from benchmarks.families import families, read_page, try_network
from tests.timm_versions import as_the_table

PAGE = read_page()
QUICK = {"levit", "mobilenetv3", "vision_transformer"}  # a CNN, a transformer, and one of two heads


@as_the_table
def test_every_family_of_timm_is_on_the_page() -> None:
    assert sorted(PAGE) == families()


@as_the_table
@pytest.mark.parametrize(
    "family",
    [
        pytest.param(family, marks=() if family in QUICK else pytest.mark.slow)
        for family in sorted(PAGE)
    ],
)
def test_a_network_does_what_the_page_says(family: str) -> None:
    said = PAGE[family]
    assert try_network(family, said.name, said.side) == said
