"""Standard streams: any encoding, a reader that has gone, a full disk, a picture that comes in."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.samples import command_environment, command_line, picture


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, weights: Path, cache: Path) -> Path:
    """Pictures, one of a name that few encodings have, and their gallery."""
    folder = tmp_path_factory.mktemp("streams")
    (folder / "p").mkdir()
    for n in range(6):
        picture(n).save(folder / "p" / f"{n}.png")
    picture(9).save(folder / "p" / "日本.png")
    subprocess.run(
        command_line("index", "p", "--backbone", weights), cwd=folder,
        env=command_environment(cache), check=True, capture_output=True,
    )  # fmt: skip
    return folder


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Path:
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.mark.long
@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-16"])
def test_no_encoding_of_standard_output_ends_in_a_traceback(
    prepared: Path, cache: Path, encoding: str
) -> None:
    said = {}
    for kind in ("text", "csv", "paths", "json"):
        done = subprocess.run(
            command_line("query", "p/日本.png", "--k", 1, "--format", kind), cwd=prepared,
            env=command_environment(cache) | {"PYTHONIOENCODING": encoding}, capture_output=True,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")
        said[kind] = done.stdout
    assert json.loads(said["json"])[0]["matches"][0]["path"] == "p/日本.png"  # UTF-8 always
    assert said["paths"] == "p/日本.png\n".encode()
    written = "p/日本.png" if encoding == "utf-16" else r"p/\u65e5\u672c.png"
    assert written in said["text"].decode(encoding)
    assert written in said["csv"].decode(encoding)


@pytest.mark.long
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "arguments",
    [("query", *["p/0.png"] * 60, "--k", 7, "--format", kind) for kind in ("text", "csv", "json")]
    + [("query", *["p/0.png"] * 60, "--k", 7, "--format", "paths"), ("--help",), ("recipes",)],
    ids=lambda a: f"{a[0]} {a[-1]}",
)
def test_a_reader_that_stops_early_is_no_error(
    prepared: Path, cache: Path, arguments: tuple[object, ...], unbuffered: str
) -> None:
    process = subprocess.Popen(
        command_line(*arguments), cwd=prepared, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=command_environment(cache) | {"PYTHONUNBUFFERED": unbuffered},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()  # before the first line comes
    said = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=300), said) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_standard_output_that_is_full_is_said(prepared: Path, cache: Path) -> None:
    for kind in ("text", "json"):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                command_line("query", "p/0.png", "--format", kind), cwd=prepared,
                env=command_environment(cache), stdout=full, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
        assert done.returncode == 2
        assert done.stderr == (
            "imgret: Standard output cannot be written (No space left on device). Free some space "
            "and run the same command again.\n"
        )


def test_closed_streams_are_no_error(prepared: Path, cache: Path) -> None:
    command = " ".join(command_line("query", "p/0.png"))
    done = subprocess.run(
        ["/bin/sh", "-c", f"{command} >&- 2>&-"], cwd=prepared, env=command_environment(cache)
    )
    assert done.returncode == 0


def from_pipe(
    folder: Path, cache: Path, content: bytes, *arguments: object
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command_line("query", *arguments), cwd=folder, env=command_environment(cache),
        input=content, capture_output=True,
    )  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
def test_a_picture_on_standard_input_is_a_query(prepared: Path, cache: Path, kind: str) -> None:
    encoded = io.BytesIO()
    picture(3).save(encoded, kind)
    done = from_pipe(prepared, cache, encoded.getvalue(), "-", "--k", 1, "--format", "json")
    assert (done.returncode, done.stderr) == (0, b"")
    (found,) = json.loads(done.stdout)
    assert (found["query"], found["matches"][0]["path"]) == ("-", "p/3.png")


@pytest.mark.long
def test_a_picture_on_standard_input_does_what_a_file_does(folder: Path, cache: Path) -> None:
    content = (folder / "p" / "3.png").read_bytes()
    asked = ("-", "--exclude-self", "--crop", "0,0,60,50", "--report", "sheet.html")
    done = from_pipe(folder, cache, content, *asked, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode())))
    assert {row["query"] for row in rows} == {"-"}
    assert "p/3.png" not in {row["path"] for row in rows}
    page = (folder / "sheet.html").read_text()
    assert 'aria-label="query -"' in page
    assert '<span class="name">-</span>' in page
    mean = from_pipe(folder, cache, content, "-", "p/4.png", "--mean", "--format", "json")
    assert json.loads(mean.stdout)[0]["query"] == "- + p/4.png"


def test_a_damaged_picture_on_standard_input_is_named_by_its_dash(
    prepared: Path, cache: Path
) -> None:
    content = (prepared / "p" / "3.png").read_bytes()[:60]
    for more in ((), ("--mean",)):
        done = from_pipe(prepared, cache, content, "-", *more)
        assert (done.returncode, done.stdout) == (2, b"")
        assert done.stderr.startswith(b"imgret: -: ")
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.long
def test_noise_on_standard_input_is_one_sentence(prepared: Path, cache: Path) -> None:
    for noise in (
        os.urandom(1 << 16),
        b"\x7fELF\x02\x01\x01\0" * 99,
        b"ftyp\0\0\0\x18" * 9,
        bytes(9999),
    ):
        done = from_pipe(prepared, cache, noise, "-")
        assert done.returncode == 2
        (said,) = done.stderr.splitlines()
        assert said.startswith(b"imgret: Standard input is neither an image")


@pytest.mark.parametrize(
    "content",
    [
        b'<?xml version="1.0"?>\n<!-- drawn -->\n<svg>\n' + b"<path/>\n" * 99,
        b"%PDF-1.4\n%\xe2\xe3\n" * 9,
    ],
    ids=["svg", "pdf"],
)
def test_a_format_that_is_not_read_is_one_sentence_on_standard_input(
    prepared: Path, cache: Path, content: bytes
) -> None:
    done = from_pipe(prepared, cache, content, "-")
    assert done.returncode == 2
    (said,) = done.stderr.splitlines()
    assert re.match(
        rb"imgret: Standard input is a \.(svg|pdf) file, which imgret does not read", said
    )


def test_names_on_standard_input_may_hold_what_names_may_hold(folder: Path, cache: Path) -> None:
    odd = folder / "p" / "a\x1b[1mb\nc.png"
    (folder / "p" / "3.png").rename(odd)
    done = from_pipe(folder, cache, f"p/{odd.name}\0".encode(), "-", "--k", 1, "--format", "json")
    assert json.loads(done.stdout)[0]["query"] == f"p/{odd.name}"


WRITERS = [
    ("export", "--out", "out.npz"), ("export", "--out", "out.parquet"),
    ("map", "--report", "map.html", "--method", "tsne"),
    ("query", "p/0.png", "--report", "sheet.html"),
    ("evaluate", "--report", "e.html", "--no-calibrate"),
    ("duplicates", "--threshold", "-1", "--report", "d.html"), ("sample", "made", "--train", "1"),
    ("compare", "classes", "--report", "c.html", "--cache", "kept"), ("index", "more"),
]  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("arguments", WRITERS, ids=" ".join)
def test_a_full_disk_is_a_sentence_that_names_file_and_remedy(
    folder: Path, cache: Path, weights: Path, arguments: tuple[str, ...]
) -> None:
    for n in range(8):
        file = folder / "classes" / "ab"[n % 2] / f"{n}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(n).save(file)
    shutil.copytree(folder / "classes", folder / "more")
    if arguments[0] == "compare":
        arguments = (*arguments, "--backbone", str(weights))
    done = subprocess.run(
        ["/bin/sh", "-c", 'ulimit -f 1; exec "$@"', "sh", *command_line(*arguments)],  # 512 bytes
        cwd=folder, env=command_environment(cache), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    said = done.stderr.splitlines()[-1]
    assert said.startswith("imgret: "), done.stderr
    assert str(folder) in said or any(f"{part}" in said for part in arguments[1:])
    assert "File too large" in said
    assert said.endswith("."), said
    for hint in (".rs:", "site-packages", ".cpp", "Errno", "Traceback", ".imgret-part"):
        assert hint not in done.stderr
