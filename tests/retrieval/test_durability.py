"""What was stored survives the loss of power: what is on the disk when, and what is opened after.

test_power_cuts.py cuts the power; this holds, without being root, the order of the syncs.
"""

from __future__ import annotations

import ast
import os
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from retrieval.errors import GalleryError
from retrieval.gallery import ImageTable
from retrieval.gallery.versions import manifest_of, versions_of
from retrieval.retriever import Retriever
from tests.retrieval.stored import faults, rows, save_small

ROOT = Path(__file__).parents[2]
COMMITS = ["write", "update", "remove", "write_settings", "become", "compact", "drop_piece"]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("durable")
    save_small(root / "p", *(f"{'ab'[n % 2]}/{n:02}.png" for n in range(12)))
    Retriever(root / "g.imgret").index(root / "p")
    return root


@pytest.fixture
def home(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "home"))


# The order of the syncs


@dataclass
class Disk:
    """What is surely on the disk: files by their number and size, folders by their names."""

    files: dict[tuple[int, int], int] = field(default_factory=dict)
    folders: dict[tuple[int, int], set[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    checks: int = 0

    def synced(self, handle: int) -> None:
        status, path = os.fstat(handle), Path(f"/proc/self/fd/{handle}").readlink()
        if path.is_dir():
            self.folders[status.st_dev, status.st_ino] = {entry.name for entry in path.iterdir()}
        else:
            self.files[status.st_dev, status.st_ino] = status.st_size

    def check(self, moment: str, *paths: Path) -> None:
        """Note which of the files are not on the disk, or not found there by their names."""
        self.checks += 1
        for path in paths:
            status = path.stat()
            if path.is_file() and self.files.get((status.st_dev, status.st_ino)) != status.st_size:
                self.faults.append(f"{moment}: {path.name} is not synced")
            above = path.parent.stat()
            if path.name not in self.folders.get((above.st_dev, above.st_ino), ()):
                self.faults.append(f"{moment}: the name of {path.name} is not synced")

    def check_table(self, moment: str, table: Path) -> None:
        files = [file for file in table.rglob("*") if file.suffix != ".json"]
        self.check(moment, table, *files)


@contextmanager
def watched(gallery: Path) -> Iterator[Disk]:
    """Look at each commit, at each publication and before versions are dropped."""
    disk, table = Disk(), gallery / "images.lance"
    fsync, replace, old = os.fsync, os.replace, set(gallery.glob("index-*"))
    with pytest.MonkeyPatch.context() as patch:

        def synced(handle: int) -> None:
            fsync(handle)
            disk.synced(handle)

        def replaced(source: Path, target: Path) -> None:
            if Path(target) == gallery / "gallery.toml":
                disk.check_table("before gallery.toml is published", table)
                made = set(gallery.glob("index-*")) - old
                disk.check("before gallery.toml is published", *made)
            replace(source, target)

        def after(name: str, real: Callable[..., None]) -> Callable[..., None]:
            def called(self: ImageTable, *args: object, **named: object) -> None:
                real(self, *args, **named)
                if self._path == table:
                    disk.check_table(f"after {name}", table)

            return called

        def dropped(self: ImageTable) -> None:
            disk.check("before versions are dropped", gallery / "gallery.toml")
            drop(self)

        drop = ImageTable.drop_old_versions
        patch.setattr(os, "fsync", synced)
        patch.setattr(os, "replace", replaced)
        patch.setattr(ImageTable, "drop_old_versions", dropped)
        for name in COMMITS:
            patch.setattr(ImageTable, name, after(name, getattr(ImageTable, name)))
        yield disk


STEPS: dict[str, Callable[[Path], object]] = {
    "index": lambda home: Retriever(home / "g.imgret").index(home / "p"),
    "refit": lambda home: Retriever(home / "g.imgret").index(home / "p", refit=True),
    "reembed": lambda home: Retriever(home / "g.imgret", size=96).index(home / "p", reembed=True),
    "transform": lambda home: Retriever(home / "g.imgret", transform="standard").index(home / "p"),
    "remove": lambda home: Retriever(home / "g.imgret").remove(home / "p" / "a"),
    "remove all": lambda home: Retriever(home / "g.imgret").remove(home / "p"),
    "repair": lambda home: Retriever(home / "g.imgret").verify(repair=True),
}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs to know what a handle is of")
@pytest.mark.parametrize("step", STEPS)
def test_all_that_a_commit_needs_is_on_the_disk_before_the_next_step(step: str, home: Path) -> None:
    for file in sorted((home / "p" / "b").iterdir())[:2]:
        file.unlink()
    save_small(home / "p", "new/0.png", "a/00.png", first=70)
    with watched(home / "g.imgret") as disk:
        STEPS[step](home)
    assert disk.faults == []
    assert disk.checks >= 3


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs to know what a handle is of")
def test_a_new_gallery_and_the_folders_above_it_are_on_the_disk(home: Path) -> None:
    gallery = home / "new" / "above" / "g.imgret"
    with watched(gallery) as disk:
        Retriever(gallery).index(home / "p")
    disk.check("in the end", gallery.parent.parent, gallery.parent, gallery)
    assert disk.faults == []


def test_manifests_are_synced_after_what_they_name(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync = os.fsync

    def synced(handle: int) -> None:
        fsync(handle)
        order.append(Path(f"/proc/self/fd/{handle}").readlink().parent.name)

    monkeypatch.setattr(os, "fsync", synced)
    save_small(home / "p", "new/0.png", first=70)
    Retriever(home / "g.imgret").index(home / "p")
    assert order.index("_versions") > order.index("data")
    assert order.index("_versions") > order.index("_transactions")


# One way to replace a file whole

METHODS = {
    "write_text", "write_bytes", "rename", "touch", "symlink_to", "hardlink_to",
    "tofile", "open_memmap", "savefig", "save", "savez", "savez_compressed", "save_model",
    "write_index", "write_table", "to_csv", "write_dataset", "copyfile", "copy2", "copytree",
    "move", "link", "mkstemp",
}  # fmt: skip
FUNCTIONS = {"save_file", "save_for_hf", "ParquetWriter", "NamedTemporaryFile"}
WHOLE = {"replaced", "new_folder", "scratch_folder"}
# What is called from within one of those with a place to write to, or writes nothing that is kept.
ELSEWHERE = {
    ("retrieval/files.py", "write_atomically"),
    ("retrieval/files.py", "new_folder"),
    ("retrieval/files.py", "write_new"),
    ("retrieval/files.py", "put_in_place"),
    ("retrieval/files.py", "_sent"),  # a temporary folder; the object is whole once it is sent
    ("retrieval/objects/path.py", "fetch"),  # to a file that replaced() gave
    ("retrieval/encoder/onnx_files.py", "share_weights"),  # a file that replaced() gave
    ("retrieval/gallery/dataset.py", "write_dataset"),  # a new folder, or Lance's own commit
    ("retrieval/retriever/export.py", "_export_parquet"),
    ("retrieval/retriever/export.py", "_export_npz"),
    ("retrieval/retriever/publish.py", "_save"),  # Index.save, by replaced()
    ("retrieval/retriever/served.py", "publish_gallery"),  # StoredTransform.save, by replaced()
    ("retrieval/retriever/served.py", "_emptied_rows"),  # the same
    ("retrieval/index/delta.py", "save_delta"),  # the same
    ("retrieval/index/size.py", "size_as_file"),  # to nowhere: its bytes are counted
    ("imgret/standard_input.py", "_of_standard_input"),  # a temporary folder of one query
    ("imgret/streams.py", "prepare_streams"),  # to /dev/null
}


def writes(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """The function and the line of each call that writes a file outright."""

    def walk(node: ast.AST, function: str, whole: bool) -> Iterator[tuple[str, int]]:
        if isinstance(node, ast.FunctionDef):
            function = node.name
        if isinstance(node, ast.With):
            calls = [item.context_expr for item in node.items]
            whole |= any(isinstance(c, ast.Call) and name_of(c.func) in WHOLE for c in calls)
        if isinstance(node, ast.Call) and not whole and is_writer(node):
            yield function, node.lineno
        for child in ast.iter_child_nodes(node):
            yield from walk(child, function, whole)

    yield from walk(tree, "", False)


def name_of(node: ast.expr) -> str:
    return getattr(node, "attr", None) or getattr(node, "id", "")


def is_writer(call: ast.Call) -> bool:
    name, given = name_of(call.func), [name_of(a) for a in call.args]
    if name == "open":
        modes = [a.value for a in [*call.args, *(k.value for k in call.keywords)]
                 if isinstance(a, ast.Constant) and isinstance(a.value, str)]  # fmt: skip
        return any(set(mode) & set("wax+") and len(mode) < 4 for mode in modes)
    if name == "replace":  # a path's, not a text's or a dataclass's
        return len(call.args) == 1 and not call.keywords
    if name in ("save", "savefig") and set(given) & {"stream", "encoded"}:
        return False
    return name in FUNCTIONS or (name in METHODS and isinstance(call.func, ast.Attribute))


def test_no_file_is_written_outright() -> None:
    found = set()
    for package in ("retrieval", "classify", "imgret"):
        for file in (ROOT / package).rglob("*.py"):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            place = file.relative_to(ROOT).as_posix()
            found |= {(place, function, line) for function, line in writes(tree)}
    assert {(p, f, n) for p, f, n in found if (p, f) not in ELSEWHERE} == set()


# A newest version that cannot be read


@pytest.fixture
def two(home: Path) -> Path:
    """A gallery whose newest version lacks a row, with the version before it still there."""
    table = Retriever(home / "g.imgret").gallery.open_table()
    table.remove([rows(home / "g.imgret")["p/a/00.png"]["id"]])
    save_small(home / "p", "c/new.png", first=90)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageTable, "drop_old_versions", lambda _: None)
        Retriever(home / "g.imgret").index(home / "p" / "c")
    shutil.rmtree(home / "g.imgret" / "copies")  # as if the power had gone before there were any
    return home


def own_files(gallery: Path, folder: str) -> list[Path]:
    """The files in a folder of the table that only the newest version needs."""
    retriever = Retriever(gallery).gallery
    newest, *older = versions_of(gallery / "images.lance")
    needed = {file for version in older for file in retriever.open_table(version).files()}
    named = retriever.open_table(newest).files()
    return [file for file in named if file not in needed and file.parent.name == folder]


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: file.write_bytes(b""),
    "half": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "zeroed": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "zeroed but its end": lambda file: file.write_bytes(
        bytes(file.stat().st_size - 16) + file.read_bytes()[-16:]
    ),
    "gone": lambda file: file.unlink(),
}


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "gone"])
def test_a_newest_manifest_that_is_damaged_is_stepped_over(two: Path, damage: str) -> None:
    gallery = two / "g.imgret"
    DAMAGES[damage](manifest_of(gallery / "images.lance", versions_of(gallery / "images.lance")[0]))
    check_stepped_over(two)


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "zeroed but its end"])
def test_a_newest_version_whose_data_is_damaged_is_stepped_over(two: Path, damage: str) -> None:
    (file,) = own_files(two / "g.imgret", "data")
    DAMAGES[damage](file)
    check_stepped_over(two)


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "zeroed but its end"])
def test_a_newest_version_whose_deletions_are_damaged_is_stepped_over(
    home: Path, damage: str
) -> None:
    gallery = home / "g.imgret"
    Retriever(gallery).gallery.open_table().remove([rows(gallery)["p/a/00.png"]["id"]])
    (file,) = own_files(gallery, "_deletions")
    DAMAGES[damage](file)
    assert len(rows(gallery)) == 12
    assert not Retriever(gallery).verify().ok
    assert Retriever(gallery).verify(repair=True).ok
    assert faults(gallery) == []


def check_stepped_over(home: Path) -> None:
    """The version before is used, which repair and index make the newest, and go on from."""
    gallery = home / "g.imgret"
    copy = Path(shutil.copytree(home, home.parent / "copy"))
    assert "p/c/new.png" not in rows(gallery)
    report = Retriever(gallery).verify()
    assert "the newest version of the rows cannot be read" in report.problems[0]
    assert Retriever(gallery).search(home / "p" / "b" / "01.png", k=1)
    done = Retriever(gallery).verify(repair=True)
    assert any("is the newest now" in line for line in done.repaired)
    assert done.ok
    Retriever(copy / "g.imgret").index(copy / "p")
    assert len(rows(copy / "g.imgret")) == 13
    assert faults(copy / "g.imgret") == []


def test_stepping_back_is_one_line_in_the_log(two: Path, caplog: pytest.LogCaptureFixture) -> None:
    gallery = two / "g.imgret"
    newest, second, *_ = versions_of(gallery / "images.lance")
    manifest_of(gallery / "images.lance", newest).write_bytes(b"")
    caplog.clear()
    Retriever(gallery).search(two / "p" / "b" / "01.png", k=1)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "imgret"]
    assert f"version {newest} cannot be read" in line
    assert f"version {second} is used" in line
    assert "verify --repair" in line


@contextmanager
def as_nobody() -> Iterator[None]:
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


@contextmanager
def no_more_files() -> Iterator[None]:
    """This process can open no file, as one that has too many open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def open_to_all(two: Path) -> Iterator[Path]:
    """The gallery of two(), where everybody may come."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(shutil.copytree(two / "g.imgret", Path(folder) / "g.imgret"))


@pytest.mark.parametrize("what", ["manifest", "data", "files"])
def test_what_passes_is_no_damage(open_to_all: Path, what: str) -> None:
    gallery, table = open_to_all, open_to_all / "images.lance"
    newest = versions_of(table)[0]
    places = {"manifest": manifest_of(table, newest), "data": table / "data", "files": gallery}
    before, mode = {*gallery.rglob("*")}, places[what].stat().st_mode
    barred = no_more_files() if what == "files" else as_nobody()
    places[what].chmod(mode if what == "files" else 0)
    try:
        with barred, pytest.raises(GalleryError):
            Retriever(gallery).gallery.open_table()
    finally:
        places[what].chmod(mode)
    assert {*gallery.rglob("*")} == before
    assert Retriever(gallery).gallery.open_table().version == newest


def test_who_only_reads_gives_no_version_up(two: Path) -> None:
    gallery = two / "g.imgret"
    newest = versions_of(gallery / "images.lance")[0]
    manifest = manifest_of(gallery / "images.lance", newest)
    content = manifest.read_bytes()
    manifest.write_bytes(b"")
    retriever = Retriever(gallery)
    assert retriever.search(two / "p" / "b" / "01.png", k=1)[0].score > 0.99
    assert retriever.info().images == 11
    assert not retriever.verify().ok
    manifest.write_bytes(content)
    assert len(rows(gallery)) == 12
    (match,) = Retriever(gallery).search(two / "p" / "c" / "new.png", k=1)
    assert match.path.name == "new.png"
