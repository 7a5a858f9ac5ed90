"""The command line -> docs/commands.md: what each command says of itself with --help.

    python packaging/commands_page.py

tests/imgret/test_docs.py fails where the page says something else than the commands.
"""

from __future__ import annotations

from pathlib import Path

import click

from imgret.cli import COMMANDS, cli

PAGE = Path(__file__).parent.parent / "docs" / "commands.md"
WIDTH = 100
HEAD = """# Commands

This is what `imgret COMMAND --help` says. `python packaging/commands_page.py` writes it.

| command | does |
|---|---|
"""


def commands_page() -> str:
    """All commands as one page of Markdown."""
    parent = click.Context(
        cli, info_name="imgret", terminal_width=WIDTH, max_content_width=WIDTH,
        **cli.context_settings,
    )  # fmt: skip
    rows = [f"| [`{name}`](#imgret-{name}) | {does} |" for name, does in COMMANDS.items()]
    parts = [HEAD + "\n".join(rows)]
    for name in COMMANDS:
        command = cli.get_command(parent, name)
        assert command is not None  # noqa: S101  COMMANDS has no other names
        context = click.Context(
            command, info_name=name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH
        )
        parts.append(f"## imgret {name}\n\n```text\n{command.get_help(context).rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(commands_page(), encoding="utf-8")
