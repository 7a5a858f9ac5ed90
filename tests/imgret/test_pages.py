"""What the pages say is true of the commands, and reads as plain English."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from imgret.cli import COMMANDS, cli
from tests.conftest import ROOT
from tests.pages import DOCS, FENCE, GENERATED, blocks, indented, pages, sentences, words

MOST_WORDS = 30
SHELL = "|<>&;"  # what ends one command's words
INLINE = re.compile(r"`(imgret [^`]+)`")
CHECKED = click.Choice | click.types.IntRange | click.types.FloatRange
SET_PHRASES = [r"\b[Mm]end(s|ed|ing)?\b", r"\bgone on from\b", r"\.\./shared"]


def command_lines(page: Path) -> Iterator[list[str]]:
    """The words of each command of imgret in a page's code, without what is piped to or from it."""
    text = page.read_text(encoding="utf-8")
    shell = [b.text for b in blocks(text) if b.language in ("bash", "console", "sh", "")]
    inline = [re.sub(r"\s+", " ", code) for code in INLINE.findall(FENCE.sub("", text))]
    for code in [*shell, *indented(text), *inline]:
        for line in re.sub(r"\\\n", " ", code).splitlines():
            shell_line = line.strip().removeprefix("$ ")
            lexer = shlex.shlex(shell_line, posix=True, punctuation_chars=SHELL)
            lexer.whitespace_split = True
            try:
                tokens = list(lexer)
            except ValueError:  # a line of a picture of folders, not of a shell
                continue
            part: list[str] = []
            for token in [*tokens, "|"]:
                if not set(token) <= set(SHELL):
                    part.append(token)
                    continue
                if len(part) > 1 and part[0] == "imgret" and part[1] in COMMANDS:
                    yield part[1:]
                part = []


def check(tokens: list[str]) -> None:
    """Raises click's UsageError where a command does not take these words."""
    command = cli.get_command(click.Context(cli), tokens[0])
    assert command is not None
    parent = click.Context(cli, **cli.context_settings)
    context = click.Context(command, info_name=tokens[0], parent=parent)
    given, left, _ = command.make_parser(context).parse_args(list(tokens[1:]))
    if left and not any(isinstance(p, click.Argument) for p in command.params):
        raise click.UsageError(f"{left} is no option of {tokens[0]}")
    for param in command.params:
        value = given.get(param.name or "")
        if isinstance(param.type, CHECKED) and isinstance(value, str | list):
            param.type_cast_value(context, value)


def all_pages() -> list[Path]:
    return [ROOT / "CHANGELOG.md", *pages(), *(DOCS / name for name in sorted(GENERATED))]


def shown(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", pages(), ids=shown)
def test_commands_take_the_options_that_pages_give(page: Path) -> None:
    wrong = []
    for tokens in command_lines(page):
        try:
            check(tokens)
        except click.UsageError as error:
            wrong.append(f"{shlex.join(tokens)}: {error.format_message()}")
    assert wrong == []


def test_commands_are_found_in_pages() -> None:
    found = [tokens[0] for page in pages() for tokens in command_lines(page)]
    assert set(found) >= set(COMMANDS) - {"recipes"}


@pytest.mark.parametrize(
    "words_given", [["query", "a.jpg", "--colour"], ["query", "a.jpg", "--k", "x"], ["info", "a"]]
)
def test_an_option_that_is_not_there_would_be_seen(words_given: list[str]) -> None:
    with pytest.raises(click.UsageError):
        check(words_given)


@pytest.mark.parametrize("page", all_pages(), ids=shown)
def test_no_sentence_is_longer_than_30_words(page: Path) -> None:
    found = [s for s in sentences(page.read_text(encoding="utf-8")) if len(words(s)) > MOST_WORDS]
    assert found == []


def test_long_sentences_would_be_seen() -> None:
    long = " ".join(["word"] * 31)
    text = f"# A title\n\nShort. {long.capitalize()}, 1.5 of\nit. Then.\n\n- an item\n- {long}\n"
    assert [len(words(s)) for s in sentences(f"{text}\n    {long}\n")] == [1, 33, 1, 2, 31]
    table = f"| a | what |\n|---|---|\n| b | Short. {long.capitalize()}. |\n"
    assert [len(words(s)) for s in sentences(table)] == [1, 1, 0, 0, 1, 1, 31]


@pytest.mark.parametrize("phrase", SET_PHRASES)
def test_pages_say_fix_and_resume_and_need_nothing_beside_them(phrase: str) -> None:
    found = [
        f"{shown(page)}:{number}"
        for page in all_pages()
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(phrase, line)
    ]
    assert found == []


def test_decisions_have_an_index() -> None:
    text = (DOCS / "decisions.md").read_text(encoding="utf-8")
    index, _, body = text.partition("\n## ")
    headings = re.findall(r"^## (.*)$", f"## {body}", re.MULTILINE)
    assert len(headings) > 50
    assert re.findall(r"^\| \d{4}-\d\d-\d\d \| \[(.*)\]\(#", index, re.MULTILINE) == [
        heading.replace("`", "") for heading in headings
    ]
