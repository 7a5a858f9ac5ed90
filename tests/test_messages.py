"""Every error has a class of its own kind, and its message says what to do, in plain English."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import imgret
from imgret.cli import cli
from imgret.exits import exit_code
from retrieval import errors
from retrieval.errors import ImgretError
from tests.conftest import ROOT
from tests.test_house import parsed, sources

CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, ImgretError)
}

REASONS = {"ImageError"}  # a part of a line that begins with the file
MISUSE = {"UsageError", "BadParameter", "ImportError"}
SAYS_WHAT_TO_DO = re.compile(
    r"(Add|Bring|Calibrate|Check|Choose|Correct|Create|Delete|Did you mean|Encode|Free|Get|Give"
    r"|Index|Install|Leave|Name|Or (fill|give)|Put|Rename|Remove|Replace|Run|Set|Shorten|Start"
    r"|Train|Try|Uninstall|Use|Wait|Write)\b|.*`(imgret|pip) |.*\{(_?remedy|instead|meant|error)\}$"
)
TOLD_ELSEWHERE = {"{how_to_install}", "{stepped_back}", "{str}"}  # a whole message from there
MOST_WORDS = 30
UNIDIOMATIC = re.compile(
    r"(?<!here )\b(is|are|was|were|be) no (?!longer\b|more than\b)"
    r"|\b(cannot|to) be had\b|\b(go|goes|gone|going) on\b|\bmend|\bknows? no\b|\bstranger"
    r"|\b(is|be) plain\b|\bwhere (it|they) (lie|stand)s?\b|\bof timm's\b|\bat the hub\b"
    r"|\b(asked for|of such|such as has|that do|a class|by itself)\."
)


def made(tree: ast.Module) -> Iterator[ast.Call]:
    """Calls that make an error of ours, wherever it is raised from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and name_of(node) in CLASSES:
            yield node


def name_of(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def place(file: Path, node: ast.AST) -> str:
    return f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"


def test_the_root_of_the_errors_is_never_made_itself() -> None:
    found = [
        place(file, call)
        for file in sources()
        for call in made(parsed(file))
        if name_of(call) == "ImgretError"
    ]
    assert found == []


def test_every_class_of_errors_is_made_somewhere_and_is_on_the_face() -> None:
    used = {name_of(call) for file in sources() for call in made(parsed(file))}
    assert used == CLASSES.keys() - {"ImgretError"}
    assert set(imgret.__all__) >= CLASSES.keys()


def test_the_exit_code_of_an_error_stands_on_its_class() -> None:
    assert {name: error.exit_code for name, error in CLASSES.items()} == dict.fromkeys(CLASSES, 2)

    class NothingFoundError(ImgretError):
        exit_code = 1

    def step() -> None:
        raise NothingFoundError("There is nothing.")

    assert exit_code(step) == 1


def messages() -> Iterator[tuple[str, str]]:
    """Each message of an error that stands in the code, with its place; {} stands for a value."""
    for file in sources():
        tree = parsed(file)
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and call.args:
                kind = call.func.attr if isinstance(call.func, ast.Attribute) else name_of(call)
                if kind in MISUSE or kind in CLASSES.keys() - REASONS:
                    for message in texts(call.args[0]):
                        for told in spelled_out(message, tree):
                            yield place(file, call), told


def spelled_out(message: str, tree: ast.Module) -> list[str]:
    """The message itself, or those that the function returns which makes all of it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and message == f"{{{node.name}}}":
            values = [n.value for n in ast.walk(node) if isinstance(n, ast.Return) and n.value]
            return [text for value in values for text in texts(value)]
    return [message]


def texts(node: ast.expr) -> list[str]:
    """The texts that an expression may give; a value is {}, or the name of what it calls."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.JoinedStr):
        found = [""]
        for part in node.values:
            found = [left + right for left in found for right in texts(part)]
        return found
    if isinstance(node, ast.FormattedValue):
        return texts(node.value)
    if isinstance(node, ast.IfExp):
        return [*texts(node.body), *texts(node.orelse)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [left + right for left in texts(node.left) for right in texts(node.right)]
    if isinstance(node, ast.BinOp):  # a part that is there or not
        return ["", *texts(node.left)]
    if isinstance(node, ast.Call):
        node = node.func
    name = getattr(node, "attr", getattr(node, "id", ""))
    return [f"{{{name}}}"]


def sentences(message: str) -> list[str]:
    """A value that ends in a space is a sentence of its own."""
    return re.split(r"(?<=[.?])\s+|(?<=\})\s*(?=[A-Z][a-z])", message.strip())


@pytest.mark.long
def test_what_the_messages_are_read_from_finds_them() -> None:
    found = dict(messages())
    assert len(found) > 150
    assert any("retrieval/gallery/folder.py" in key for key in found)


def test_every_message_says_what_to_do() -> None:
    found = [
        f"{where}: {message}"
        for where, message in messages()
        if not SAYS_WHAT_TO_DO.match(sentences(message)[-1]) and message not in TOLD_ELSEWHERE
    ]
    assert found == []


@pytest.mark.long
def test_no_sentence_of_a_message_has_more_than_30_words() -> None:
    found = [
        f"{where}: {sentence}"
        for where, message in messages()
        for sentence in sentences(message)
        if len(sentence.split()) > MOST_WORDS
    ]
    assert found == []


@pytest.mark.long
def test_messages_are_plain_english() -> None:
    found = [f"{where}: {text}" for where, text in messages() if UNIDIOMATIC.search(text)]
    assert found == []


def test_help_is_plain_english_in_short_sentences() -> None:
    found = [
        f"{where}: {sentence}"
        for where, text in helps()
        for sentence in sentences(text)
        if len(sentence.split()) > MOST_WORDS or UNIDIOMATIC.search(sentence)
    ]
    assert found == []


def helps() -> Iterator[tuple[str, str]]:
    """The help of each command and of each of its options, with its name."""
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        yield name, " ".join((command.help or "").split())
        for option in command.params:
            if isinstance(option, click.Option):
                yield f"{name} {option.opts[0]}", option.help or ""


@pytest.mark.parametrize(
    "wrong", ["a.png is no image.", "It cannot be had.", "Resume where it lies.", "It knows no x."]
)
def test_what_is_not_plain_english_is_found(wrong: str) -> None:
    assert UNIDIOMATIC.search(wrong)
