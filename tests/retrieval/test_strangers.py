"""Galleries from strangers: found by themselves in an archive, and refused by name."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest

from retrieval.errors import GalleryError, ImgretError
from retrieval.gallery import Gallery
from retrieval.gallery.rows import SETTINGS_KEY, TABLE
from retrieval.gallery.settings import write_text
from retrieval.retriever import Retriever
from tests.samples import command_environment, command_line, picture, save_pictures
from tests.watchdog import PATIENCE, ends

MEGABYTES = 1024  # of memory
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pictures, indexed at 64 px by mini; no test changes it."""
    folder = tmp_path_factory.mktemp("archive")
    save_pictures(folder / "pictures")
    Retriever(folder / ".imgret", size=64).index(folder / "pictures")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy: what an archive was unpacked to."""
    shutil.copytree(made, tmp_path / "unpacked")
    return tmp_path / "unpacked"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A picture of the user's, outside of what was unpacked."""
    picture(99).save(tmp_path / "secret.jpg")
    return tmp_path / "secret.jpg"


@pytest.fixture(autouse=True)
def _bounded() -> Iterator[None]:
    """No test of this file takes much or waits forever, whatever it opens."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with ends():
        yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used < MEGABYTES << 10


def rewrite(
    folder: Path,
    rows: Callable[[Rows], object] | None = None,
    toml: Callable[[str], str] | None = None,
) -> None:
    """Change rows or settings as a stranger would, with a checksum and without an index."""
    path = folder / ".imgret" / "images.lance"
    table = lance.dataset(str(path)).to_table()
    metadata = dict(table.schema.metadata)
    if toml is not None:
        before = metadata[SETTINGS_KEY].decode()
        metadata[SETTINGS_KEY] = toml(before).encode()
        assert metadata[SETTINGS_KEY] != before.encode()
    values = table.to_pylist()
    if rows is not None:
        rows(values)
    for row in values:
        if row["embedding"] is not None:  # pyarrow 17 takes no float of Python for a half
            row["embedding"] = np.asarray(row["embedding"], np.float16)
    new = pa.Table.from_pylist(values, schema=table.schema.with_metadata(metadata))
    lance.write_dataset(new, str(path), mode="overwrite")
    (folder / ".imgret" / "gallery.toml").unlink()
    for file in (folder / ".imgret").glob("index-*"):
        file.unlink()


def put(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, 1)


def measured(folder: Path, cache: Path, *arguments: object) -> tuple[int, str]:
    """The command's exit code and all it said; it stays within PATIENCE and MEGABYTES."""
    file = folder.parent / "said.txt"
    with file.open("wb") as said:
        process = subprocess.Popen(
            command_line(*arguments), cwd=folder, env=command_environment(cache),
            stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT,
        )  # fmt: skip
    deadline = time.monotonic() + PATIENCE
    most = 0
    while process.poll() is None:
        most = max(most, memory_of(process.pid))
        if time.monotonic() > deadline:
            process.kill()
            process.wait()
            pytest.fail(f"imgret {' '.join(map(str, arguments))} does not end")
        time.sleep(0.02)
    text = file.read_text()
    assert "Traceback" not in text
    assert most < MEGABYTES << 10
    return process.returncode, text


def memory_of(process: int) -> int:
    """The most that it has had, in kB; what wait4() tells begins with what its parent had."""
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{process}/status").read_text())
        return int(found[1]) if found else 0
    return 0


def a_query(folder: Path) -> Path:
    return folder / "pictures" / "class0" / "00.jpg"


def search(folder: Path, **asked: Any) -> list[Any]:
    return Retriever(folder / ".imgret", **asked).search(a_query(folder), k=30)


# --- settings


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put("size = 64", "size = 8192"), "backbone.size"),
        (put("size = 64", "size = 0"), "backbone.size"),
        (put("size = 64", "size = 4097"), "backbone.size"),
        (put("dim = 1280", "dim = 131072"), "backbone.dim"),
        (put("dim = 1280", "dim = 1281"), "width 1280, but its backbone gives 1281"),
        (put("0.485", "nan"), "backbone.mean"),
        (put("0.485", "-inf"), "backbone.mean"),
        (put("0.485", "1e30"), "backbone.mean"),
        (put("0.229", "0.0"), "backbone.std"),
        (put("0.229", "1e-300"), "backbone.std"),
        (put("0.229", "-1.0"), "backbone.std"),
        (put("0.229", "nan"), "backbone.std"),
        (put('"bicubic"', '"nearest-exact"'), "backbone.interpolation"),
        (put('"bicubic"', "3"), "backbone.interpolation"),
        (put("crop_pct = 1.0", "crop_pct = 4.0"), "backbone.crop_pct"),
        (put("crop_pct = 1.0", "crop_pct = nan"), "backbone.crop_pct"),
        (put('fit = "squash"', 'fit = "stretch"'), "backbone.fit"),
        (put('pool = "own"', 'pool = "mean"'), "backbone.pool"),
        (put('views = "none"', 'views = "ten"'), "backbone.views"),
        (put('engine = "', 'engine = "x'), "engine"),
        (put('expand = "none"', 'expand = "1000000000:1"'), "expand"),
        (put('augment = "none"', 'augment = "5:1e9"'), "augment"),
        (put('rerank = "none"', 'rerank = "100000000:100000:100000:0.5"'), "rerank"),
        (put('transform = "auto"', 'transform = "whiten:99999999999999999999"'), "transform"),
        (put('transform = "auto"', 'transform = "pickle"'), "transform"),
        (put('architecture = "', 'architecture = "vit_giant_patch14_dinov2'), None),
        (put("[backbone]", "surprise = 1\n[backbone]"), "surprise"),
        (put("format = 2", "format = 3"), "format 3"),
        (lambda text: text + f"\nx = {'[' * 100_000}{']' * 100_000}\n", "TOML|nested|recursion"),
        (lambda text: text + f"\nx = {'{a=' * 20_000}1{'}' * 20_000}\n", "TOML|nested|recursion"),
        (lambda text: text + f"\n{'a.' * 20_000}b = 1\n", "more than 64 parts"),
        (lambda text: text + "\nx = " + "9" * 5000 + "\n", "TOML"),
    ],
)
def test_settings_beyond_bounds_end_in_a_sentence(
    folder: Path, change: Callable[[str], str], said: str | None
) -> None:
    rewrite(folder, toml=change)
    if said is None:
        assert len(search(folder)) == 24
        return
    with pytest.raises(ImgretError, match=said) as raised:
        search(folder)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "name",
    [
        "/etc", "/nonexistent/backbone", "../../../etc", "hf-hub:evil/model", "resnet50.a1_in1k",
        "random:vit_giant_patch14_dinov2", "local-dir:/etc", "~/weights", "pictures",
    ],
)  # fmt: skip
def test_a_network_that_only_a_stranger_asked_for_is_not_loaded(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retrieval import backbones

    def never(*_: object, **__: object) -> None:
        raise AssertionError("it was loaded")

    rewrite(folder, toml=put('name = "mini"', f'name = "{name}"'))
    monkeypatch.setattr(backbones, "load_backbone", never)
    monkeypatch.setattr("retrieval.backbones.loader.load_backbone", never)
    for call in (
        lambda: search(folder),
        lambda: Retriever(folder / ".imgret").encode([a_query(folder)]),
        lambda: list(Retriever(folder / ".imgret").search_files([a_query(folder)])),
        lambda: Retriever(folder / ".imgret").index(folder / "pictures", reembed=True),
        lambda: Retriever(folder / ".imgret").index(more(folder)),
        lambda: Retriever(folder / ".imgret").estimate(more(folder)),
    ):
        with pytest.raises(GalleryError, match=r"names the backbone .* Give --trust"):
            call()


def test_a_strangers_backbone_is_no_address(folder: Path) -> None:
    rewrite(folder, toml=put('name = "mini"', 'name = "file:///etc"'))
    for call in (search, lambda g: Retriever(g / ".imgret").index(g / "pictures")):
        with pytest.raises(ImgretError, match=r"--trust|is an address"):
            call(folder)


def test_a_gallery_that_came_back_with_other_settings_is_a_strangers(folder: Path) -> None:
    """Its index is of a version that this user wrote; the settings of the newest are not."""
    toml = folder / ".imgret" / "gallery.toml"
    changed = put('name = "mini"', 'name = "hf-hub:evil/model"')
    dataset = lance.dataset(str(folder / ".imgret" / "images.lance"))
    metadata = {key.decode(): value.decode() for key, value in dataset.schema.metadata.items()}
    metadata[SETTINGS_KEY.decode()] = changed(metadata[SETTINGS_KEY.decode()])
    dataset.update_schema_metadata(metadata, replace=True)
    toml.write_text(changed(toml.read_text()))
    retriever = Retriever(folder / ".imgret")
    for call in (lambda: search(folder), lambda: retriever.evaluate(folder / "pictures")):
        with pytest.raises(GalleryError, match=r"names the backbone hf-hub:evil/model"):
            call()


def more(folder: Path) -> Path:
    (folder / "more").mkdir(exist_ok=True)
    picture(77).save(folder / "more" / "77.png")
    return folder / "more"


@pytest.mark.parametrize("labels", ["/dev/zero", "/etc/passwd", "../labels.csv", "link.csv"])
def test_labels_outside_of_a_strangers_gallery_are_not_read(
    folder: Path, labels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.parent / "labels.csv").write_text("path,label\n")
    (folder / "link.csv").symlink_to(folder.parent / "labels.csv")
    monkeypatch.chdir(folder)
    rewrite(folder, toml=put('labels = "folder"', f'labels = "{labels}"'))
    assert len(search(folder)) == 24
    retriever = Retriever(folder / ".imgret")
    for call in (retriever.index, retriever.estimate):
        with pytest.raises(GalleryError, match=r"names the labels .* outside of its folder"):
            call(folder / "pictures")
    assert retriever.index(folder / "pictures", labels="folder").unchanged == 24


@pytest.mark.parametrize("kind", ["fifo", "device", "binary"])
def test_labels_that_are_no_file_are_not_waited_for(
    folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "labels.csv"
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "device":
        file.symlink_to("/dev/zero")
    else:
        file.write_bytes(bytes(1000) + b"\xff")
    monkeypatch.chdir(folder)
    rewrite(folder, toml=put('labels = "folder"', 'labels = "labels.csv"'))
    with pytest.raises(ImgretError, match=r"labels|path and label"):
        Retriever(folder / ".imgret").index(folder / "pictures")


def test_a_huge_file_of_labels_and_a_huge_gallery_toml_are_refused(
    folder: Path, cache: Path
) -> None:
    with (folder / "labels.csv").open("w") as file:
        file.write("path,label\n")
        file.writelines(f"{n},a\n" for n in range(1_100_000))
    rewrite(folder, toml=put('labels = "folder"', 'labels = "labels.csv"'))
    code, said = measured(folder, cache, "index", "pictures")
    assert code == 2
    assert "labels.csv cannot be read" in said
    toml = folder / ".imgret" / "gallery.toml"
    toml.write_text("# hello\n" * 10)
    os.truncate(toml, 8 << 30)
    with pytest.raises(GalleryError, match=r"gallery\.toml cannot be read \(it is larger than"):
        search(folder)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (r"version = \d+", "version = -1"),
        (r"version = \d+", "version = 99999999999999999999"),
        (r"version = \d+", "version = 99"),
        (r"version = \d+", 'version = "../../x"'),
        (r"head = \d+", "head = 0"),
        (r"head = \d+", "head = 99999999999"),
        (r"bytes = \d+", "bytes = 0"),
        ('kind = "exact"', 'kind = "ivf"'),
        ('kind = "exact"', 'kind = "pickle"'),
        (r'sha256 = "\w+"', 'sha256 = "x"'),
        ("built_on = [0-9]+", 'built_on = "x"'),
    ],
)
def test_an_index_that_is_not_what_gallery_toml_says_is_built_anew_or_refused(
    folder: Path, old: str, new: str
) -> None:
    file = folder / ".imgret" / "gallery.toml"
    head, index = file.read_text().split("[index]")
    assert re.search(old, index)
    file.write_text(head + "[index]" + re.sub(old, new, index, count=1))
    with contextlib.suppress(GalleryError):
        assert search(folder)[0].path == a_query(folder)


# --- rows


def test_embeddings_that_are_not_finite_are_refused_and_made_again(folder: Path) -> None:
    def spoil(rows: Rows) -> None:
        for row, value in zip(rows, (np.nan, np.inf, -np.inf), strict=False):
            row["embedding"] = [value] * 1280

    rewrite(folder, spoil)
    retriever = Retriever(folder / ".imgret")
    for call in (lambda: search(folder), retriever.evaluate, retriever.duplicates, retriever.map):
        with pytest.raises(GalleryError, match=r"not finite\. Run `imgret verify --repair`"):
            call()
    assert len(retriever.verify().damaged) == 3
    assert retriever.verify(repair=True).ok
    assert search(folder)[0].path == a_query(folder)


def test_rows_without_embedding_and_without_error_are_refused_and_made_again(folder: Path) -> None:
    """What says that a row is usable is that it has no error: that is read at no cost."""
    rewrite(folder, lambda rows: [row.update(embedding=None) for row in rows[:2]])
    retriever = Retriever(folder / ".imgret")
    for call in (lambda: search(folder), retriever.evaluate, retriever.duplicates, retriever.map):
        with pytest.raises(GalleryError, match=r"neither .* nor an error\. Run `imgret verify"):
            call()
    assert len(retriever.verify().damaged) == 2
    assert retriever.verify(repair=True).ok
    assert search(folder)[0].path == a_query(folder)


@pytest.mark.parametrize("value", [0.0, 65504.0, 6e-8])
def test_embeddings_of_odd_lengths_are_searched(folder: Path, value: float) -> None:
    rewrite(folder, lambda rows: rows[5].update(embedding=[value] * 1280))
    assert search(folder)[0].path == a_query(folder)
    assert all(np.isfinite(match.score) for match in search(folder))


def test_the_next_writer_makes_ids_and_paths_distinct(folder: Path) -> None:
    def spoil(rows: Rows) -> None:
        rows[1]["id"] = rows[0]["id"]
        rows[2]["path"] = rows[3]["path"]
        rows[4]["id"] = -1

    rewrite(folder, spoil)
    retriever = Retriever(folder / ".imgret")
    assert {"some rows have the same id", "some rows have the same path"} <= {
        *retriever.verify().problems
    }
    report = retriever.index(folder / "pictures")
    assert (report.found, report.failed) == (24, 0)
    assert retriever.verify().ok
    assert len({match.path for match in search(folder)}) == 24


def test_a_writer_makes_ids_distinct_whatever_it_does(folder: Path) -> None:
    rewrite(folder, lambda rows: rows[1].update(id=rows[0]["id"]))
    retriever = Retriever(folder / ".imgret")
    assert retriever.remove(folder / "pictures" / "class0") == 8
    assert retriever.verify().ok
    assert {match.label for match in search(folder)} == {"class1", "class2"}


# --- paths that lead out


def lead_out(folder: Path, secret: Path, how: str) -> None:
    """A row that names the user's secret; its embedding is that of the query."""
    if how == "link":
        (folder / "pictures" / "class0" / "out").symlink_to(secret.parent)
    named = {
        "absolute": str(secret),
        "link": "pictures/class0/out/secret.jpg",
        "inside": str(folder / "pictures" / "class1" / "01.jpg"),
    }[how]
    status = secret.stat()

    def name(rows: Rows) -> None:
        row = next(row for row in rows if row["path"].endswith("03.jpg"))
        row.update(path=named, size=status.st_size, mtime_ns=status.st_mtime_ns)

    rewrite(folder, name)


@pytest.mark.parametrize("how", ["absolute", "link"])
def test_paths_that_lead_out_are_followed_only_with_trust(
    folder: Path, secret: Path, how: str, tmp_path: Path
) -> None:
    from retrieval.report import contact_sheet

    lead_out(folder, secret, how)
    retriever, trusting = (Retriever(folder / ".imgret", trust=trust) for trust in (False, True))
    (outside,) = (match for match in search(folder) if match.outside)
    assert outside.path.name == "secret.jpg"
    assert not any(match.outside for match in search(folder, trust=True))
    assert "secret" not in contact_sheet(list(retriever.search_files([a_query(folder)], k=30)))
    assert "secret" in contact_sheet(list(trusting.search_files([a_query(folder)], k=30)))
    for name in ("duplicates", "map", "evaluate"):
        with pytest.raises(GalleryError, match=r"outside of its folder.*Give --trust"):
            getattr(retriever, name)()
        assert getattr(trusting, name)()
    with pytest.raises(GalleryError, match=r"outside of its folder.*Give --trust"):
        retriever.index(folder / "pictures", reembed=True)


def test_another_gallery_that_duplicates_are_looked_for_in_needs_trust_as_well(
    folder: Path, made: Path, secret: Path
) -> None:
    lead_out(folder, secret, "absolute")
    with pytest.raises(GalleryError, match="Give --trust"):
        Retriever(made / ".imgret").duplicates(against=folder / ".imgret")
    report = Retriever(made / ".imgret", trust=True).duplicates(against=folder / ".imgret")
    assert report.against == folder / ".imgret"


def test_a_whole_path_that_leads_back_in_is_not_followed_either(folder: Path, secret: Path) -> None:
    lead_out(folder, secret, "inside")
    assert [match.outside for match in search(folder)].count(True) == 1


def test_the_command_passes_no_path_on_that_leads_out(
    folder: Path, secret: Path, cache: Path
) -> None:
    lead_out(folder, secret, "absolute")
    query = ("query", a_query(folder), "--k", "30", "--format", "paths", "--report", "sheet.html")
    code, said = measured(folder, cache, *query)
    assert code == 0
    assert "secret" not in said
    assert "1 of the matches name files outside" in said
    assert "Give --trust" in said
    assert "secret" not in (folder / "sheet.html").read_text()
    code, said = measured(folder, cache, *query, "--trust")
    assert (code, str(secret) in said) == (0, True)
    assert "secret" in (folder / "sheet.html").read_text()


def test_a_path_with_dots_is_refused(folder: Path) -> None:
    rewrite(folder, lambda rows: rows[0].update(path="pictures/../../secret.jpg"))
    with pytest.raises(GalleryError, match="leaves its folder"):
        search(folder)


def test_what_this_user_wrote_is_trusted_wherever_it_leads(tmp_path: Path, secret: Path) -> None:
    retriever = Retriever(tmp_path / "gallery" / ".imgret", size=64)
    retriever.index(secret)
    (match,) = Retriever(tmp_path / "gallery" / ".imgret").search(secret, k=1)
    assert (match.path, match.outside) == (secret, False)
    other = tmp_path / "moved"
    (tmp_path / "gallery").rename(other)
    assert not Retriever(other / ".imgret").search(secret, k=1)[0].outside


# --- links, pipes and devices in the gallery's folder

PLACES = [
    "gallery.toml", "lock", "lock-holder", "reembed", "copies", "copies/*", "index-*",
    ".imgret-part-0123456789ab.toml", "images.lance/_versions/*", "images.lance/data/*",
    "images.lance/_transactions/*", "images.lance",
]  # fmt: skip
COMMANDS = {
    "query": lambda r, f: r.search(a_query(f)),
    "info": lambda r, f: r.info(),
    "verify": lambda r, f: r.verify(),
    "index": lambda r, f: r.index(f / "pictures", refit=True),
    "reembed": lambda r, f: r.index(f / "pictures", reembed=True),
    "remove": lambda r, f: r.remove(f / "pictures" / "class0"),
    "repair": lambda r, f: r.verify(repair=True),
}
KINDS = dict.fromkeys(COMMANDS, ("pipe", "device", "link")) | {"reembed": ("pipe", "link")}
SCRIPT = """
import sys
from pathlib import Path
from retrieval.errors import ImgretError
from retrieval.retriever import Retriever
from tests.retrieval.test_strangers import COMMANDS
for folder in map(Path, sys.argv[2:]):
    try:
        COMMANDS[sys.argv[1]](Retriever(folder / ".imgret"), folder)
    except ImgretError as error:
        assert str(error).endswith(".") and "\\n" not in str(error), error
    print(folder.name, flush=True)
"""


def stand_in(kind: str, place: Path, victims: Path) -> None:
    """Put a pipe, a device or a link to the user's own in a place."""
    was_folder = place.is_dir()
    if was_folder and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "device":
        place.symlink_to("/dev/zero")
    elif was_folder or place.name == "reembed":
        (victims / place.name).mkdir()
        (victims / place.name / "precious.txt").write_text("precious")
        place.symlink_to(victims / place.name)
    else:
        (victims / place.name).write_text("precious")
        place.symlink_to(victims / place.name)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_file_in_a_gallery_is_not_waited_for_and_what_it_names_not_touched(
    made: Path, tmp_path: Path, cache: Path, command: str
) -> None:
    folders = []
    for kind in KINDS[command]:
        for number, pattern in enumerate(PLACES):
            folder = tmp_path / f"{kind}-{number}"
            shutil.copytree(made, folder)
            (folder / "victims").mkdir()
            found = sorted((folder / ".imgret").glob(pattern)) or [folder / ".imgret" / pattern]
            stand_in(kind, found[0], folder / "victims")
            folders.append(folder)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, command, *map(str, folders)],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
        env=command_environment(cache) | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout.splitlines()[-1:] + done.stderr.splitlines()[-5:]
    for folder in folders:
        for victim in (folder / "victims").rglob("*.*"):
            if victim.is_file():
                assert victim.read_text() == "precious", victim
        if (folder / "victims" / "reembed").is_dir():
            assert [f.name for f in (folder / "victims" / "reembed").iterdir()] == ["precious.txt"]


@pytest.mark.parametrize("inner", ["", "data", "_versions", "_transactions"])
def test_a_table_that_is_a_link_to_the_users_own_is_not_written(
    folder: Path, made: Path, inner: str
) -> None:
    """Else its rows would be dropped, or its files cleaned up, by a command in the archive."""
    own = made / ".imgret" / "images.lance" / inner
    before = sorted(own.rglob("*"))
    place = folder / ".imgret" / "images.lance" / inner
    shutil.rmtree(place)
    place.symlink_to(own)
    retriever = Retriever(folder / ".imgret")
    for call in (
        lambda: retriever.index(folder / "pictures", refit=True),
        lambda: retriever.remove(folder / "pictures"),
        lambda: retriever.verify(repair=True),
        lambda: search(folder),
    ):
        with pytest.raises(GalleryError, match="is a link"):
            call()
    assert sorted(own.rglob("*")) == before
    assert len(search(made)) == 24


@pytest.mark.parametrize(
    "name", ["99999999999999999999", "9" * 30, "-1", "٣", "x", "18446744073709551615", ""]
)
def test_odd_names_of_versions_are_no_traceback(folder: Path, name: str) -> None:
    versions = folder / ".imgret" / "images.lance" / "_versions"
    newest = min(versions.glob("*.manifest"))
    shutil.copy(newest, versions / f"{name}.manifest")
    with contextlib.suppress(GalleryError):
        assert search(folder)[0].path == a_query(folder)
    with contextlib.suppress(GalleryError):
        Retriever(folder / ".imgret").verify(repair=True)


def test_files_that_only_gallery_toml_names_are_not_waited_for(folder: Path) -> None:
    gallery = Gallery(folder / ".imgret")
    settings = gallery.settings()
    os.mkfifo(folder / ".imgret" / "pipe")
    (folder / ".imgret" / "zero").symlink_to("/dev/zero")
    named = dict.fromkeys(("pipe", "zero", "../../x", "/etc/passwd"), "0" * 64)
    changed = replace(settings, files=settings.files | named)
    (folder / ".imgret" / "gallery.toml").write_text(write_text(changed))
    problems = Retriever(folder / ".imgret").verify().problems
    assert len(problems) == 4
    assert Retriever(folder / ".imgret").verify(repair=True).ok


def test_a_holder_of_the_lock_that_never_ends_is_not_waited_for(folder: Path) -> None:
    holder = folder / ".imgret" / "lock-holder"
    with Gallery(folder / ".imgret").lock():
        for make in (lambda: holder.symlink_to("/dev/zero"), lambda: os.mkfifo(holder)):
            holder.unlink(missing_ok=True)
            make()
            with pytest.raises(GalleryError, match="is being written by another process"):
                Retriever(folder / ".imgret").remove(folder / "pictures")


def test_a_table_that_is_none_of_imgrets_is_refused(folder: Path) -> None:
    path = folder / ".imgret" / "images.lance"
    table = lance.dataset(str(path)).to_table()
    metadata = {key: table.schema.metadata[key] for key in (TABLE, SETTINGS_KEY)}
    shutil.rmtree(path)
    wide = pa.list_(pa.float16(), 1 << 30)
    for schema in (
        pa.schema([("id", pa.int64())], metadata),
        pa.schema(
            [pa.field(f.name, wide) if f.name == "embedding" else f for f in table.schema], metadata
        ),
    ):
        lance.write_dataset(schema.empty_table(), str(path), mode="overwrite")
        (folder / ".imgret" / "gallery.toml").unlink(missing_ok=True)
        with pytest.raises(GalleryError):
            search(folder)
        with pytest.raises(GalleryError):
            Retriever(folder / ".imgret").index(folder / "pictures")


def test_the_gallery_of_an_archive_is_found_by_itself_and_says_whose_it_is(
    folder: Path, secret: Path, cache: Path
) -> None:
    rewrite(folder, toml=put('name = "mini"', 'name = "hf-hub:evil/model"'))
    code, said = measured(folder / "pictures", cache, "query", a_query(folder))
    assert code == 2
    assert "names the backbone hf-hub:evil/model, and you did not write it" in said
