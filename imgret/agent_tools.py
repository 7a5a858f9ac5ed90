"""What `imgret mcp` offers to agents: a gallery's search, facts and duplicates as MCP tools.

A thin wrapper of the Retriever, by the official SDK (https://modelcontextprotocol.io). Tools read
only; no tool writes to the gallery or changes a file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field

from imgret import __version__
from retrieval.errors import ImgretError
from retrieval.retriever import DuplicateMember, Match, Retriever
from retrieval.words import Tier

_MOST_MATCHES, _MOST_GROUPS = 1_000, 1_000
INSTRUCTIONS = (
    "Searches a gallery of images by how they look. Pictures are named by their path on this "
    "machine. Nothing is written or deleted."
)
ONLY_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)

_K = Annotated[int, Field(ge=1, le=_MOST_MATCHES, description="How many matches to give.")]
_Groups = Annotated[int, Field(ge=1, le=_MOST_GROUPS, description="How many groups to give.")]
_Picture = Annotated[str, Field(max_length=4096, description="The picture's path.")]
_Where = Annotated[
    str | None,
    Field(max_length=10_000, description="Which images to look at, as in `label = 'fork'`."),
]
_ExcludeSelf = Annotated[bool, Field(description="Leave out the picture itself and its copies.")]
_Tier = Annotated[
    Tier, Field(description="The most lenient kind: bytes, picture, copy or similar.")
]


def agent_server(retriever: Retriever) -> MCPServer:
    """Make the MCP server of a gallery; its run() answers on standard input and output."""
    server = MCPServer("imgret", instructions=INSTRUCTIONS, version=__version__)

    @server.tool(annotations=ONLY_READS)
    def search(
        picture: _Picture, k: _K = 5, where: _Where = None, *, exclude_self: _ExcludeSelf = False
    ) -> dict[str, Any]:
        """Find the images of the gallery that look most like a picture, best first.

        Score is cosine similarity; probability tells how likely a match is right, if calibrated.
        """
        with _told():
            found = retriever.search(Path(picture), k, where=where, exclude_self=exclude_self)
            return {"matches": [_match(match) for match in found]}

    @server.tool(annotations=ONLY_READS)
    def info() -> dict[str, Any]:
        """Tell what the gallery holds and how it was made."""
        with _told():
            facts = dataclasses.asdict(retriever.info())
            return {name: _shown(value) for name, value in facts.items()}

    @server.tool(annotations=ONLY_READS)
    def duplicates(
        tier: _Tier = "copy", where: _Where = None, groups: _Groups = 50
    ) -> dict[str, Any]:
        """Find groups of near-identical images; the first of each is the one to keep.

        Nothing is deleted. "groups" of the answer has at most as many as were asked for, and
        "found" their number.
        """
        with _told():
            report = retriever.duplicates(tier=tier, where=where)
            return {
                "found": len(report.groups),
                "groups": [
                    {"tier": group.tier, "members": [_member(member) for member in group.members]}
                    for group in report.groups[:groups]
                ],
            }

    return server


@contextmanager
def _told() -> Iterator[None]:
    """Give the agent the sentence of an error instead of a failure of the server."""
    try:
        yield
    except ImgretError as error:
        raise ToolError(_shown(str(error))) from error


def _match(match: Match) -> dict[str, Any]:
    return {
        "path": _shown(match.path),
        "score": match.score,
        "label": match.label,
        "probability": match.probability,
        "id": match.id,
    }


def _member(member: DuplicateMember) -> dict[str, Any]:
    return {
        "path": _shown(member.path),
        "keep": member.tier is None,
        "tier": member.tier,
        "score": member.score,
        "width": member.width,
        "height": member.height,
        "bytes": member.size,
        "label": member.label,
    }


def _shown(value: Any) -> Any:
    """A value as JSON has it; names that are no UTF-8 have their odd bytes replaced."""
    if isinstance(value, Path | str):
        return str(value).encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {str(_shown(key)): _shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_shown(item) for item in value]
    return value
