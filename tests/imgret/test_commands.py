"""The command line as users run it: processes, exit codes, what goes to stdout and to stderr."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.samples import command_environment, command_line, on_a_terminal, picture


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, weights: Path, cache: Path) -> Path:
    """A folder with 12 pictures, one broken file, and their gallery."""
    folder = tmp_path_factory.mktemp("prepared")
    for n in range(12):
        file = folder / "pictures" / f"class {n % 3}" / f"{n:02}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(n).save(file, quality=95)
    (folder / "pictures" / "broken.jpg").write_text("no image")
    subprocess.run(
        command_line("index", "pictures", "--backbone", weights),
        cwd=folder, env=command_environment(cache), check=True, capture_output=True,
    )  # fmt: skip
    return folder


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Path:
    """The same, in the working directory of the command, for a test to change."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_help_names_all_commands_and_imports_little(imgret: Command, cache: Path) -> None:
    code = (
        "import sys; sys.argv = ['imgret', '--help']\n"
        "import imgret.cli\n"
        "try: imgret.cli.main()\n"
        "finally: print([m for m in ('torch', 'timm', 'sklearn', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=command_environment(cache), capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stdout.endswith("[]\n")
    for name in (
        "index",
        "query",
        "duplicates",
        "info",
        "remove",
        "verify",
        "export",
        "Exit codes",
    ):
        assert name in done.stdout


@pytest.mark.parametrize(
    "name", ["index", "query", "duplicates", "info", "remove", "verify", "export"]
)
def test_each_command_has_help_with_examples(imgret: Command, name: str) -> None:
    done = imgret(name, "--help")
    assert done.returncode == 0
    assert f"  imgret {name}" in done.stdout


def test_version(imgret: Command) -> None:
    assert imgret("--version").stdout.startswith("imgret, version 0.")


def test_index_prints_its_summary_and_nothing_else_to_stdout(
    imgret: Command, folder: Path, weights: Path
) -> None:
    done = imgret("index", "pictures", "--backbone", weights, "--gallery", "new.imgret")
    assert done.returncode == 0
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == ["added", "changed", "unchanged", "removed", "failed", "images/s", "gallery"]
    assert done.stdout.splitlines()[0].split() == ["added", "12"]
    assert "failed: pictures/broken.jpg: not an image this program reads" in done.stderr
    assert "Encoding: " in done.stderr


def test_index_without_a_backbone_takes_imgrets_own_and_says_so_once(
    imgret: Command, folder: Path
) -> None:
    done = imgret("index", "pictures", "--gallery", "own.imgret")
    assert done.returncode == 0
    (said,) = (line for line in done.stderr.splitlines() if "Backbone: mini" in line)
    assert "--backbone mobilenetv2" in said
    assert "mini" not in imgret("index", "pictures", "--gallery", "own.imgret").stderr
    query = imgret("query", "pictures/class 1/04.jpg", "--k", 1, "--gallery", "own.imgret")
    assert query.stdout.endswith("pictures/class 1/04.jpg\n")
    assert query.stderr == ""
    assert "mini" in imgret("info", "--gallery", "own.imgret").stdout


def test_index_in_json(imgret: Command, folder: Path) -> None:
    report = json.loads(imgret("index", "pictures", "--format", "json").stdout)
    assert (report["unchanged"], report["failed"], report["encoded"]) == (12, 1, 0)


def test_strict_exits_with_2_when_an_image_failed(imgret: Command, folder: Path) -> None:
    assert imgret("index", "pictures", "--strict").returncode == 2
    (folder / "pictures" / "broken.jpg").unlink()
    assert imgret("index", "pictures", "--strict").returncode == 0


def test_a_folder_without_images_exits_with_1(imgret: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = imgret("index", "empty")
    assert (done.returncode, "There are no images below empty" in done.stderr) == (1, True)
    assert not (tmp_path / ".imgret").exists()


def test_dry_run_counts_and_estimates_and_stores_nothing(
    imgret: Command, folder: Path, weights: Path
) -> None:
    done = imgret("index", "pictures", "--backbone", weights, "--gallery", "x", "--dry-run")
    assert done.stdout.splitlines()[0].split() == ["new", "13"]
    assert "time" in done.stdout
    assert "disk" in done.stdout
    assert not (folder / "x").exists()


def test_exclude_hidden_and_labels(imgret: Command, folder: Path) -> None:
    (folder / "pictures" / ".hidden").mkdir()
    picture(90).save(folder / "pictures" / ".hidden" / "h.png")
    (folder / "labels.csv").write_text("path,label\npictures/.hidden/h.png,mine\n")
    done = imgret(
        "index", "pictures", "--include-hidden", "--exclude", "class 1", "--labels", "labels.csv",
        "--format", "json",
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert (report["added"], report["removed"]) == (1, 4)
    found = imgret("query", "pictures/.hidden/h.png", "--k", 1, "--where", "label = 'mine'")
    assert found.stdout.splitlines()[1].split("\t")[2] == "mine"


def test_another_backbone_needs_reembed_and_gets_it(
    imgret: Command, folder: Path, other_weights: Path
) -> None:
    refused = imgret("index", "pictures", "--backbone", other_weights)
    assert refused.returncode == 2
    assert "with --reembed" in refused.stderr
    done = imgret("index", "pictures", "--backbone", other_weights, "--reembed")
    assert done.returncode == 0
    assert str(other_weights) in imgret("info").stdout


def test_a_terminal_shows_a_bar_and_a_table(folder: Path, cache: Path) -> None:
    long_name = "a long name " * 12
    shutil.copy(
        folder / "pictures" / "class 0" / "00.jpg", folder / "pictures" / f"{long_name}.jpg"
    )
    shown, code = on_a_terminal(folder, cache, "index", "pictures")
    assert code == 0
    assert "Encoding" in shown
    shown, code = on_a_terminal(folder, cache, "query", "pictures/class 0/00.jpg", "--k", 2)
    assert code == 0
    assert "rank" in shown
    assert "…" not in shown
    assert long_name.replace(" ", "") in shown.replace(" ", "").replace("\r\n", "")


def test_query_in_a_pipe_is_one_line_a_match(imgret: Command, folder: Path) -> None:
    done = imgret("query", "pictures/class 1/04.jpg", "--k", 3)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert lines[0] == ["rank", "score", "label", "path"]
    assert lines[1] == ["1", "1.000", "class 1", "pictures/class 1/04.jpg"]
    assert [line[0] for line in lines[1:]] == ["1", "2", "3"]


def test_query_in_json_csv_and_paths(imgret: Command, folder: Path) -> None:
    query = "pictures/class 1/04.jpg"
    (result,) = json.loads(imgret("query", query, "--k", 2, "--format", "json").stdout)
    assert result["query"] == query
    assert set(result["matches"][0]) == {"rank", "score", "label", "path", "probability"}
    assert (result["matches"][0]["rank"], result["matches"][0]["path"]) == (1, query)
    rows = list(csv.DictReader(io.StringIO(imgret("query", query, "--format", "csv").stdout)))
    assert list(rows[0]) == ["query", "rank", "score", "label", "path", "probability"]
    assert len(rows) == 5
    paths = imgret("query", query, "--k", 2, "--format", "paths").stdout.splitlines()
    assert paths[0] == query
    ended = imgret("query", query, "--k", 2, "--format", "paths", "-0").stdout
    assert ended.split("\0") == [*paths, ""]


def test_queries_come_from_arguments_and_standard_input(imgret: Command, folder: Path) -> None:
    one, two = "pictures/class 1/04.jpg", "pictures/class 2/05.jpg"
    given = imgret("query", one, two, "--k", 1, "--format", "json").stdout
    assert [r["matches"][0]["path"] for r in json.loads(given)] == [one, two]
    for text in (f"{one}\n{two}\n", f"{one}\0{two}\0"):
        assert imgret("query", "-", "--k", 1, "--format", "json", stdin=text).stdout == given


def test_the_mean_of_images_is_one_query(imgret: Command, folder: Path) -> None:
    one, two = "pictures/class 1/04.jpg", "pictures/class 2/05.jpg"
    done = imgret("query", one, two, "--mean", "--k", 2, "--format", "paths")
    assert set(done.stdout.splitlines()) == {one, two}


def test_nothing_above_the_least_score_exits_with_1(imgret: Command, folder: Path) -> None:
    query = "pictures/class 1/04.jpg"
    done = imgret("query", query, "--min-score", 1.5, "--format", "json")
    assert (done.returncode, json.loads(done.stdout)) == (1, [{"query": query, "matches": []}])
    assert imgret("query", query, "--where", "label = 'none'").returncode == 1


@pytest.mark.parametrize("where", ["colour = 'red'", "label = 'a", "width > 'x'", "not " * 9_000])
def test_a_wrong_filter_is_one_sentence_with_the_columns_of_a_user(
    imgret: Command, folder: Path, where: str
) -> None:
    done = imgret("query", "pictures/class 1/04.jpg", "--where", where)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(("imgret: The filter is ", "imgret: The filter has "))
    assert done.stderr.count("\n") == 1
    for inner in ("embedding", "error", "checksum", "stored_ns", "Lance", "lance"):
        assert inner not in done.stderr


def test_a_filter_goes_with_other_options(imgret: Command, folder: Path) -> None:
    query, where = "pictures/class 1/04.jpg", "not label <> 'class 1' and facts.format = 'JPEG'"
    asked = ("--where", where, "--exclude-self", "--distinct", "--k", 50, "--format", "paths")
    found = imgret("query", query, *asked).stdout.splitlines()
    assert query not in found
    assert len(found) == len(list((folder / "pictures" / "class 1").iterdir())) - 1
    assert all("/class 1/" in path for path in found)


def test_a_broken_query_never_stands_among_the_results(imgret: Command, folder: Path) -> None:
    done = imgret("query", "pictures/broken.jpg", "pictures/class 1/04.jpg", "--format", "json")
    assert done.returncode == 2
    assert [r["query"] for r in json.loads(done.stdout)] == ["pictures/class 1/04.jpg"]
    reason = "not an image this program reads. Give another image."
    assert done.stderr == f"imgret: pictures/broken.jpg: {reason}\n"


def test_crop_and_exclude_self(imgret: Command, folder: Path) -> None:
    query = "pictures/class 1/04.jpg"
    cropped = imgret("query", query, "--crop", "0,0,80,60", "--k", 1, "--format", "paths")
    assert cropped.stdout == f"{query}\n"
    others = imgret("query", query, "--exclude-self", "--k", 11, "--format", "paths").stdout
    assert query not in others
    assert len(others.splitlines()) == 11


def test_a_contact_sheet_needs_no_other_file(imgret: Command, folder: Path) -> None:
    odd = folder / "pictures" / "<b>bold"
    odd.mkdir()
    shutil.copy(folder / "pictures" / "class 1" / "04.jpg", odd / "x.jpg")
    imgret("index", "pictures")
    done = imgret("query", "pictures/class 1/04.jpg", "--k", 3, "--report", "sheet.html")
    page = (folder / "sheet.html").read_text()
    assert done.returncode == 0
    assert page.count("data:image/jpeg;base64,") == 4
    assert "&lt;b&gt;bold" in page
    assert "<b>bold" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert 'src="' not in page.replace('src="data:', "")


def test_a_gallery_is_found_from_a_folder_below(folder: Path, cache: Path) -> None:
    done = subprocess.run(
        command_line("query", "04.jpg", "--k", 1), cwd=folder / "pictures" / "class 1",
        env=command_environment(cache), capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[1].split("\t")[3] == "04.jpg"


def test_a_gallery_is_named_by_option_or_environment(
    imgret: Command, folder: Path, cache: Path
) -> None:
    (folder / ".imgret").rename(folder / "cars.imgret")
    assert imgret("info").returncode == 2
    assert imgret("info", "--gallery", "cars.imgret").returncode == 0
    environment = command_environment(cache) | {"IMGRET_GALLERY": str(folder / "cars.imgret")}
    done = subprocess.run(command_line("info"), cwd=folder, env=environment, capture_output=True)
    assert done.returncode == 0


def test_info_in_text_json_and_failures(imgret: Command, folder: Path) -> None:
    text = imgret("info").stdout
    for name in ("images", "failed", "backbone", "engine", "transform", "index", "recall", "disk"):
        assert f"\n{name}" in text
    assert json.loads(imgret("info", "--format", "json").stdout)["images"] == 12
    failed = imgret("info", "--failed")
    assert failed.stdout.splitlines() == [
        "image\treason", "pictures/broken.jpg\tnot an image this program reads"
    ]  # fmt: skip


def test_remove_verify_and_export(imgret: Command, folder: Path) -> None:
    assert imgret("remove", "pictures/class 0").stdout == "removed  4\n"
    assert imgret("remove", "pictures/class 0").returncode == 1
    assert imgret("verify").returncode == 0
    (folder / "pictures" / "class 1" / "04.jpg").unlink()
    broken = imgret("verify")
    assert (broken.returncode, "files that are gone: 1" in broken.stdout) == (2, True)
    assert imgret("verify", "--repair").returncode == 0
    for name in ("out.npz", "out.parquet"):
        assert imgret("export", "--out", name).stdout == f"exported  7 images to {name}\n"


def test_a_closed_pipe_is_no_error(folder: Path, cache: Path) -> None:
    command = " ".join(f"'{part}'" for part in command_line("query", "pictures/class 1/04.jpg"))
    done = subprocess.run(
        ["/bin/sh", "-c", f"{command} | head -n 1"], cwd=folder, env=command_environment(cache),
        capture_output=True, text=True,
    )  # fmt: skip
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr


WRONG = [
    ["nonsense"],
    ["index"],
    ["index", "nowhere"],
    ["index", "pictures", "--transform", "magic"],
    ["index", "pictures", "--size", "7"],
    ["index", "pictures", "--size", "96"],
    ["index", "pictures", "--fit", "stretch"],
    ["index", "pictures", "--engine", "gpu"],
    ["index", "pictures", "--labels", "nowhere.csv"],
    ["index", "pictures", "--labels", "pictures/broken.jpg"],
    ["index", "pictures", "--backbone", "resnet50", "--reembed"],
    ["index", "pictures", "--backbone", "no-such-model", "--reembed"],
    ["query"],
    ["query", "nowhere.jpg"],
    ["query", "pictures"],
    ["query", "pictures/class 1/04.jpg", "--k", "0"],
    ["query", "pictures/class 1/04.jpg", "--crop", "1,2,3"],
    ["query", "pictures/class 1/04.jpg", "--crop", "0,0,900,900"],
    ["query", "pictures/class 1/04.jpg", "--where", "label = "],
    ["query", "pictures/class 1/04.jpg", "--report", "nowhere/sheet.html"],
    ["query", "pictures/class 1/04.jpg", "--gallery", "nowhere"],
    ["query", "pictures/class 1/04.jpg", "-0"],
    ["info", "--gallery", "pictures"],
    ["remove", "pictures", "--gallery", "nowhere"],
    ["export", "--out", "out.txt"],
    ["export", "--out", "nowhere/out.npz"],
    ["export", "out.npz"],
]


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_wrong_use_is_a_message_and_exit_code_2(
    imgret: Command, prepared: Path, cache: Path, arguments: list[str]
) -> None:
    done = subprocess.run(
        command_line(*arguments), cwd=prepared, env=command_environment(cache),
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "imgret: " in done.stderr or "Error: " in done.stderr


@pytest.mark.parametrize("damage", ["settings", "table", "index"])
def test_a_damaged_gallery_is_a_message(imgret: Command, folder: Path, damage: str) -> None:
    gallery = folder / ".imgret"
    if damage == "settings":
        (gallery / "gallery.toml").write_text("garbage")
    elif damage == "table":
        for file in (gallery / "images.lance").rglob("*.manifest"):
            file.write_bytes(b"garbage")
    else:
        for file in gallery.glob("index-*"):
            file.write_bytes(b"garbage")
    done = imgret("query", "pictures/class 1/04.jpg", "--k", 1)
    assert "Traceback" not in done.stderr
    if damage == "index":  # it is made again
        assert done.returncode == 0
    else:
        assert done.returncode == 2
        assert done.stderr.startswith("imgret: ")


def test_a_folder_of_the_users_that_hides_ours_is_named(folder: Path, cache: Path) -> None:
    (folder / "retrieval").mkdir()
    (folder / "retrieval" / "__init__.py").touch()
    done = subprocess.run(
        command_line("info"), cwd=folder, env=command_environment(cache) | {"PYTHONSAFEPATH": ""},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Rename that folder or file" in done.stderr
    code = "from imgret import Retriever"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].startswith("ImportError: imgret needs its own package")
