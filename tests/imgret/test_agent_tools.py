"""`imgret mcp`, asked by the official client over a real process."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from retrieval.retriever import Retriever
from tests.conftest import Command

pytest.importorskip("mcp", reason="needs the extra mcp")
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client


@pytest.fixture
def gallery(pictures: Path, weights: Path, tmp_path: Path) -> Path:
    retriever = Retriever(tmp_path / "g.imgret", backbone=str(weights))
    retriever.index(pictures)
    return retriever.gallery.path


def asked(gallery: Path, cache: Path, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
    """Start the command as an agent does, and call its tools."""

    async def ask() -> list[Any]:
        server = StdioServerParameters(
            command=sys.executable,
            args=["-W", "ignore", "-m", "imgret", "mcp", "--gallery", str(gallery)],
            env={**os.environ, "IMGRET_CACHE": str(cache)},
        )
        async with Client(stdio_client(server)) as client:
            if not calls:
                return list((await client.list_tools()).tools)
            return [await client.call_tool(name, arguments) for name, arguments in calls]

    with ThreadPoolExecutor(1) as thread:  # Playwright's loop may be running in this one
        return thread.submit(asyncio.run, ask()).result()


def answer(result: Any) -> Any:
    assert not result.is_error, result.content
    return json.loads(result.content[0].text)


@pytest.mark.long
def test_the_tools_are_search_info_and_duplicates_and_only_read(gallery: Path, cache: Path) -> None:
    tools = asked(gallery, cache)
    assert {tool.name for tool in tools} == {"search", "info", "duplicates"}
    assert all(tool.annotations.read_only_hint for tool in tools)
    assert all(tool.description for tool in tools)


@pytest.mark.long
def test_an_agent_finds_what_the_retriever_finds(gallery: Path, cache: Path) -> None:
    picture = min((gallery.parent).rglob("*.jpg"))
    found, facts, groups = asked(
        gallery, cache,
        ("search", {"picture": str(picture), "k": 3}),
        ("info", {}),
        ("duplicates", {"tier": "bytes"}),
    )  # fmt: skip
    retriever = Retriever(gallery)
    matches = retriever.search(picture, 3)
    assert [match["path"] for match in answer(found)["matches"]] == [str(m.path) for m in matches]
    assert answer(found)["matches"][0]["score"] == pytest.approx(matches[0].score)
    assert answer(facts)["images"] == retriever.info().images
    assert answer(groups)["found"] == len(retriever.duplicates(tier="bytes").groups)


def test_what_is_wrong_is_told_to_the_agent_in_a_sentence_and_the_next_call_works(
    gallery: Path, cache: Path
) -> None:
    picture = min((gallery.parent).rglob("*.jpg"))
    gone, where, many, good = asked(
        gallery, cache,
        ("search", {"picture": str(gallery / "nothing.jpg")}),
        ("search", {"picture": str(picture), "where": "colour = 'red'"}),
        ("search", {"picture": str(picture), "k": 1_001}),
        ("search", {"picture": str(picture), "exclude_self": True}),
    )  # fmt: skip
    assert gone.is_error
    assert "nothing.jpg" in gone.content[0].text
    assert where.is_error
    assert "colour" in where.content[0].text
    assert many.is_error
    assert not any("Traceback" in result.content[0].text for result in (gone, where, many))
    assert str(picture) not in [match["path"] for match in answer(good)["matches"]]


@pytest.mark.long
def test_without_a_gallery_it_ends_with_a_sentence(imgret: Command, tmp_path: Path) -> None:
    done = imgret("mcp", "--gallery", tmp_path / "none.imgret")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "none.imgret" in done.stderr
    assert "Traceback" not in done.stderr
