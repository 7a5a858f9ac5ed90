"""What a step raises becomes a sentence on standard error and grep's exit code."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from importlib import import_module
from typing import NoReturn

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgret.exits import ERROR, FOUND, NOTHING, exit_code
from imgret.interrupts import INTERRUPTED
from retrieval import libraries
from retrieval.errors import GalleryWriteError, ImageError, ImgretError, QueryError

KINDS = [RuntimeError, ValueError, KeyError, OSError, ImageError, click.ClickException]


def raises(error: BaseException) -> Callable[[], NoReturn]:
    def step() -> NoReturn:
        raise error

    return step


@pytest.mark.parametrize(
    ("result", "code"),
    [(None, FOUND), ("text", FOUND), ([], FOUND), (0, FOUND), (1, NOTHING), (2, ERROR), (5, 5)],
)
def test_a_step_that_ends_well_gives_its_own_code_or_0(
    capfd: pytest.CaptureFixture[str], result: object, code: int
) -> None:
    assert exit_code(lambda: result) == code
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", [QueryError, ImageError, GalleryWriteError])
def test_an_error_of_ours_is_its_own_message(
    capfd: pytest.CaptureFixture[str], kind: type[ImgretError]
) -> None:
    assert exit_code(raises(kind("k is 0. Give 1 or more."))) == ERROR
    assert capfd.readouterr() == ("", "imgret: k is 0. Give 1 or more.\n")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a.html"),
         "a.html: No space left on device. Free some space and run the same command again."),
        (PermissionError(errno.EACCES, "Permission denied", "a.csv"),
         "a.csv: Permission denied. Get the right to write there, or name another place."),
        (OSError(errno.EIO, "Input/output error"),
         "Input/output error. Check the disk, or name another place."),
        (ModuleNotFoundError("No module named 'PIL.absent'", name="PIL.absent"),
         "PIL cannot be loaded: No module named 'PIL.absent'. Install it, or what it lacks."),
        (ImportError("libGL.so.1: cannot open shared object file", name="cv2"),
         "cv2 cannot be loaded: libGL.so.1: cannot open shared object file. "
         "Install it, or what it lacks."),
        (ImportError("retrieval belongs to another project. Remove it."),
         "retrieval belongs to another project. Remove it."),
    ],
)  # fmt: skip
def test_what_the_system_says_is_told_with_its_place_and_a_remedy(
    capfd: pytest.CaptureFixture[str], error: Exception, said: str
) -> None:
    assert exit_code(raises(error)) == ERROR
    assert capfd.readouterr().err == f"imgret: {said}\n"


@pytest.mark.parametrize(
    ("name", "line"),
    [("torch", "imgret"), ("torch.nn", "imgret"), ("rawpy", "'imgret[raw]'")],
)
def test_a_library_that_is_absent_is_told_with_the_line_that_installs_it(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, line: str
) -> None:
    monkeypatch.setattr(libraries, "is_installed", lambda _: False)
    monkeypatch.setattr(libraries, "distribution", lambda: "imgret")
    error = ModuleNotFoundError(f"No module named '{name}'", name=name)
    assert exit_code(raises(error)) == ERROR
    library = name.partition(".")[0]
    said = f"This needs {library}, which is not installed. Run `pip install {line}`."
    assert capfd.readouterr().err == f"imgret: {said}\n"


def test_what_nobody_expected_asks_for_a_report(capfd: pytest.CaptureFixture[str]) -> None:
    assert exit_code(raises(ZeroDivisionError("division by zero"))) == ERROR
    said = capfd.readouterr().err
    assert said.startswith(
        "imgret: imgret did not expect this ZeroDivisionError (division by zero)"
    )
    assert "python -X dev -m imgret" in said
    assert "Traceback" not in said


def test_an_interrupt_says_that_what_was_stored_stays(capfd: pytest.CaptureFixture[str]) -> None:
    for error in (KeyboardInterrupt(), click.Abort()):
        assert exit_code(raises(error)) == INTERRUPTED == 130
        assert capfd.readouterr().err == (
            "\nInterrupted. What was stored stays; run the same command again to continue.\n"
        )


def test_an_exit_of_click_keeps_its_code_and_says_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert exit_code(raises(click.exceptions.Exit(1))) == NOTHING
    assert exit_code(raises(click.exceptions.Exit(0))) == FOUND
    assert capfd.readouterr() == ("", "")


def test_wrong_usage_shows_the_usage_and_where_help_is(capfd: pytest.CaptureFixture[str]) -> None:
    command = click.Command("find", params=[click.Option(["--k"], type=int)])
    context = click.Context(command, info_name="imgret find")
    assert exit_code(raises(click.UsageError("There is no --kk.", context))) == ERROR
    assert capfd.readouterr().err.splitlines() == [
        "Usage: imgret find [OPTIONS]",
        "Try 'imgret find --help' for help.",
        "",
        "Error: There is no --kk.",
    ]


def test_wrong_usage_of_no_command_is_its_sentence_alone(capfd: pytest.CaptureFixture[str]) -> None:
    assert exit_code(raises(click.BadParameter("3 is too many."))) == ERROR
    assert capfd.readouterr().err == "Error: Invalid value: 3 is too many.\n"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(KINDS), said=st.text(st.characters(blacklist_categories=()), max_size=30)
)
def test_no_message_reaches_the_terminal_as_more_than_text(
    capfd: pytest.CaptureFixture[str], kind: type[Exception], said: str
) -> None:
    assert exit_code(raises(kind(said))) == ERROR
    (line,) = capfd.readouterr().err.split("\n")[:-1]
    assert not any(ord(character) < 32 or ord(character) == 127 for character in line)


@pytest.mark.parametrize("kind", [ImportError, ModuleNotFoundError])
def test_an_absent_library_of_an_extra_is_told_with_its_pip_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], kind: type[ImportError]
) -> None:
    class Absent:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "rawpy":
                raise kind("No module named 'rawpy'", name=name)

    monkeypatch.delitem(sys.modules, "rawpy", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    assert exit_code(lambda: import_module("rawpy")) == ERROR
    assert "[raw]'`." in capfd.readouterr().err
