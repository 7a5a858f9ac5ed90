"""imgret mcp: a gallery as tools for agents."""

from __future__ import annotations

from pathlib import Path

import click

from imgret.command import Command
from imgret.galleries import existing_gallery
from imgret.options import gallery_option, trust_option, trusted


@click.command(
    "mcp",
    cls=Command,
    epilog="""\b
Examples:
  imgret mcp
  imgret mcp --gallery cars.imgret
""",
)
@gallery_option
@trust_option
def mcp_command(gallery: Path | None) -> int:
    """Answer agents on standard input and output, by the Model Context Protocol.

    The tools are search (by a picture's path), info and duplicates. They change nothing. An agent
    starts this command itself; the guide shows what to write into its settings.
    """
    from imgret.agent_tools import agent_server
    from retrieval.retriever import Retriever

    retriever = Retriever(existing_gallery(gallery), trust=trusted())
    retriever.info()  # what is wrong with the gallery is told to whoever starts this
    agent_server(retriever).run("stdio")
    return 0
