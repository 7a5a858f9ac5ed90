"""The commands speak one language: help for all, examples, options once, names that are like it."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from imgret.cli import COMMANDS, cli
from imgret.command import Command as Once
from retrieval.backbones import load_backbone
from retrieval.errors import BackboneError
from retrieval.transform import NAMES
from tests.conftest import Command


def made(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert isinstance(found, click.Command)
    return found


def options(name: str) -> list[click.Option]:
    return [p for p in made(name).params if isinstance(p, click.Option)]


def suffixes(option: click.Option) -> tuple[str, ...]:
    """Those of the files that an option takes."""
    return tuple(getattr(option.type, "suffixes", ()))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained_and_every_command_has_an_example(name: str) -> None:
    assert [option.name for option in options(name) if not (option.help or "").strip()] == []
    assert f"imgret {name}" in (made(name).epilog or "")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_is_a_report_wherever_there_is_one(name: str) -> None:
    spelled = {opt for option in options(name) for opt in option.opts}
    assert not spelled & {"--html", "--page"}
    pages = [o for o in options(name) if "HTML" in (o.help or "") or ".html" in suffixes(o)]
    assert all("--report" in option.opts for option in pages)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_folder_is_called_a_folder_in_every_help(inline: Command, name: str) -> None:
    told = inline(name, "--help").stdout
    assert re.findall(r"\bDIR(?:ECTORY)?\b|--\S+ PATH\b", told) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_an_option_given_twice_is_a_list_or_an_error(name: str) -> None:
    assert isinstance(made(name), Once)


@pytest.mark.parametrize(
    "arguments",
    [
        ("query", "a.jpg", "--k", "1", "--k", "5"),
        ("evaluate", "--k", "1", "--k", "5"),
        ("evaluate", "--k=1", "--transform", "none", "--k=5"),
        ("tune", ".", "--minutes", "1", "--minutes", "2"),
        ("info", "--failed", "--failed"),
    ],
)
def test_the_last_of_two_does_not_win_in_silence(
    inline: Command, arguments: tuple[str, ...]
) -> None:
    done = inline(*arguments)
    assert done.returncode == 2
    assert "given 2 times" in done.stderr


def test_what_may_be_repeated_is_a_list(inline: Command, tmp_path: Path) -> None:
    done = inline("compare", tmp_path, "--size", "128", "--size", "224")
    assert "given 2 times" not in done.stderr


def test_a_name_that_is_like_it_is_offered(inline: Command) -> None:
    done = inline("qury", "a.jpg")
    assert done.returncode == 2
    assert "There is no command 'qury'. Did you mean query? Run `imgret --help`" in done.stderr
    assert "imgret --help" in inline("zzz").stderr
    with pytest.raises(BackboneError, match=r"'resnt50'\. Did you mean .*resnet50"):
        load_backbone("resnt50")


@pytest.mark.parametrize("name", ["index", "evaluate", "compare"])
def test_the_help_of_transform_lists_the_table(inline: Command, name: str) -> None:
    told = " ".join(inline(name, "--help").stdout.split())
    assert NAMES in told
