"""Commands that end in the middle, and what the same command makes of it when it is run again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from retrieval.retriever import Retriever
from tests.conftest import Command
from tests.retrieval.stored import State, Zygote, age, faults, rows, save_small, state, zygote
from tests.samples import picture

TABLE = "retrieval.gallery.table:ImageTable"
FOLDER = "retrieval.gallery.folder:Gallery"
POINTS = [
    f"{TABLE}.write",
    f"{TABLE}.update",
    f"{TABLE}.remove",
    f"{TABLE}.write_settings",
    f"{TABLE}.become",
    f"{TABLE}.compact",
    f"{TABLE}.forget_removed",
    f"{TABLE}.drop_old_versions",
    f"{FOLDER}.create",
    f"{FOLDER}.publish",
    "retrieval.gallery.published:PublishedFiles.keep_copies",
    f"{FOLDER}.delete",
    "retrieval.index:Index.save",
    "retrieval.index:GrowingIndex.save_delta",
    "retrieval.retriever.publish:_save",
    "retrieval.retriever.reembed:_still_there",
]
SYSCALLS = ["os:fsync", "os:replace", "os:rename"]
MOMENTS = [f"{when} {point}" for point in [*POINTS, *SYSCALLS] for when in ("before", "after")]
# as in a large gallery: what is new lies beside the index, what is gone is left out
GROWS = "from retrieval.index import delta\ndelta.SMALL, delta.MERGED_FROM = 0, 9\n"
COMMANDS = {
    "first": "Retriever('g.imgret').index('p', batch_size=4)",
    "index": "Retriever('g.imgret').index('p', batch_size=4)",
    "refit": "Retriever('g.imgret').index('p', refit=True, batch_size=4)",
    "reembed": "Retriever('g.imgret', size=96).index('p', reembed=True, batch_size=4)",
    "transform": "Retriever('g.imgret', transform='standard').index('p', batch_size=4)",
    "remove": "Retriever('g.imgret').remove('p/a')",
    "repair": "Retriever('g.imgret').verify(repair=True)",
    "added beside": GROWS + "Retriever('g.imgret').index('p', batch_size=4)",
    "left out": GROWS + "Retriever('g.imgret').remove('p/a')",
    "compact": GROWS + "Retriever('g.imgret').index('p', batch_size=4)\n"
    "Retriever('g.imgret').compact()",
}


QUICK = {
    "first": [f"after {FOLDER}.create", f"before {FOLDER}.publish"],
    "index": [f"before {TABLE}.update", f"after {TABLE}.write", f"after {FOLDER}.publish"],
    "refit": ["after retrieval.index:Index.save"],
    "reembed": [
        f"after {TABLE}.write",
        f"before {TABLE}.become",
        f"after {TABLE}.become",
        f"before {TABLE}.drop_old_versions",
    ],
    "transform": [f"after {TABLE}.write_settings"],
    "remove": [
        f"after {TABLE}.remove",
        f"before {TABLE}.forget_removed",
        f"after {TABLE}.forget_removed",
        f"before {TABLE}.drop_old_versions",
    ],
    "repair": [f"after {TABLE}.remove", f"before {TABLE}.drop_old_versions"],
    "added beside": [
        "after retrieval.index:Index.save",
        "after retrieval.index:GrowingIndex.save_delta",
        f"before {TABLE}.drop_old_versions",
    ],
    "left out": ["after retrieval.index:GrowingIndex.save_delta", f"after {FOLDER}.publish"],
    "compact": [f"after {TABLE}.compact", "after retrieval.index:Index.save"],
}


@pytest.fixture(scope="module")
def processes(cache: Path) -> Iterator[Zygote]:
    with zygote(cache) as made:
        yield made


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder p and a gallery of what it was: files are new, gone, changed, moved, relabelled."""
    root = tmp_path_factory.mktemp("before")
    save_small(root / "p", *(f"{'ab'[n % 2]}/{n:02}.png" for n in range(12)))
    Retriever(root / "g.imgret").index(root / "p", labels="none")
    return root


def changed(folder: Path, command: str) -> None:
    """What happens to the files between the gallery's last run and the command."""
    if command == "first":
        shutil.rmtree(folder / "g.imgret")
    if command in ("refit", "transform", "remove", "reembed", "left out"):
        return
    (folder / "p" / "a" / "00.png").unlink()
    if command == "repair":
        (folder / "g.imgret" / "gallery.toml").unlink()
        return
    save_small(folder / "p", *(f"c/{n}.png" for n in range(6)), first=50)
    picture(80, 32, 24).save(folder / "p" / "a" / "02.png")
    age(folder / "p" / "a" / "02.png")
    (folder / "p" / "b" / "01.png").rename(folder / "p" / "c" / "moved.png")


@pytest.fixture(scope="module")
def calm(
    before: Path, tmp_path_factory: pytest.TempPathFactory, processes: Zygote
) -> dict[str, State]:
    """What each command leaves when nothing disturbs it."""
    states = {}
    for command, code in COMMANDS.items():
        place = tmp_path_factory.mktemp("calm") / "w"
        shutil.copytree(before, place)
        changed(place, command)
        assert processes.run(f"os.chdir({str(place)!r})\n{code}") == 0
        assert faults(place / "g.imgret") == []
        states[command] = state(place / "g.imgret")
    return states


@dataclass(frozen=True)
class Campaign:
    """Kills a command and runs it again, each time in a copy of the folder as it was before."""

    before: Path
    place: Path
    processes: Zygote
    calm: dict[str, State]

    def fault(self, command: str, moment: str, nth: int = 1) -> str | None:
        """What is wrong in the end; None where nothing is. Raises LookupError for no kill."""
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.copytree(self.before, self.place)
        changed(self.place, command)
        code = f"os.chdir({str(self.place)!r})\n{COMMANDS[command]}"
        if not self.processes.killed(code, moment, nth):
            raise LookupError(f"{command} does not come to {moment} {nth} times")
        if self.processes.run(code) != 0:
            return f"{moment} {nth}: fails when it is run again"
        found = faults(self.place / "g.imgret")
        if state(self.place / "g.imgret") != self.calm[command]:
            found.append("other rows")
        return f"{moment} {nth}: {found}" if found else None


@pytest.fixture
def campaign(before: Path, tmp_path: Path, processes: Zygote, calm: dict[str, State]) -> Campaign:
    return Campaign(before, tmp_path / "w", processes, calm)


@pytest.mark.long
@pytest.mark.parametrize(("command", "moment"), [(c, m) for c in QUICK for m in QUICK[c]])
def test_a_command_that_was_killed_is_ended_by_running_it_again(
    command: str, moment: str, campaign: Campaign
) -> None:
    assert campaign.fault(command, moment) is None


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_at_whatever_step_a_command_is_killed_it_is_ended_by_running_it_again(
    command: str, campaign: Campaign, record_property: Callable[[str, object], None]
) -> None:
    kills, wrong = 0, []
    for moment in MOMENTS:
        for nth in range(1, 100):
            try:
                wrong.append(campaign.fault(command, moment, nth))
            except LookupError:
                break
            kills += 1
    record_property("kills", kills)
    assert [fault for fault in wrong if fault] == []
    assert kills >= 4


# An interrupted remove


@pytest.fixture
def home(before: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(before, tmp_path / "home"))


def kill(processes: Zygote, home: Path, command: str, moment: str) -> None:
    assert processes.killed(f"os.chdir({str(home)!r})\n{COMMANDS[command]}", moment)


OTHERS: dict[str, Callable[[Path], object]] = {
    "index": lambda home: Retriever(home / "g.imgret").index(home / "p" / "b"),
    "remove of nothing": lambda home: Retriever(home / "g.imgret").remove(home / "p" / "none"),
    "repair": lambda home: Retriever(home / "g.imgret").verify(repair=True),
    "reembed": lambda home: Retriever(home / "g.imgret", size=96).index(
        home / "p" / "b", reembed=True
    ),
}


@pytest.mark.parametrize("other", OTHERS)
def test_whatever_writes_next_ends_an_interrupted_remove(
    other: str, home: Path, processes: Zygote
) -> None:
    kill(processes, home, "remove", f"after {TABLE}.remove")
    OTHERS[other](home)
    found = Retriever(home / "g.imgret").search(home / "p" / "a" / "00.png", k=12)
    assert {match.path.parent.name for match in found} == {"b"}
    assert faults(home / "g.imgret") == []


def test_a_remove_that_is_repeated_counts_what_the_first_had_dropped(
    home: Path, processes: Zygote
) -> None:
    kill(processes, home, "remove", f"after {TABLE}.remove")
    assert Retriever(home / "g.imgret").remove(home / "p" / "a") == 6
    assert Retriever(home / "g.imgret").remove(home / "p" / "a") == 0


@pytest.mark.parametrize("what", ["p/a", "p"])
def test_what_was_removed_is_not_on_the_disk_any_more(home: Path, what: str) -> None:
    Retriever(home / "g.imgret").remove(home / what)
    check_forgotten(home / "g.imgret")
    assert len(rows(home / "g.imgret")) == (6 if what == "p/a" else 0)


def check_forgotten(gallery: Path) -> None:
    """Nothing in a gallery tells of p/a."""
    files = [file for file in gallery.rglob("*") if file.is_file()]
    assert [file for file in files if b"a/00.png" in file.read_bytes()] == []


@pytest.mark.parametrize("moment", QUICK["remove"])
def test_a_remove_that_is_repeated_leaves_nothing_on_the_disk(
    moment: str, home: Path, processes: Zygote
) -> None:
    kill(processes, home, "remove", moment)
    Retriever(home / "g.imgret").remove(home / "p" / "a")
    check_forgotten(home / "g.imgret")
    assert faults(home / "g.imgret") == []


def test_a_remove_also_forgets_what_an_interrupted_reembed_has_embedded(
    home: Path, processes: Zygote
) -> None:
    kill(processes, home, "reembed", f"before {TABLE}.become")
    Retriever(home / "g.imgret").remove(home / "p" / "a")
    check_forgotten(home / "g.imgret")
    assert Retriever(home / "g.imgret").gallery.staging().open_table().count() == 6


# An interrupted reembed


MEANWHILE: dict[str, Callable[[Path], object]] = {
    "nothing": lambda home: None,
    "rows removed": lambda home: Retriever(home / "g.imgret").remove(home / "p" / "a"),
    "file gone": lambda home: (home / "p" / "a" / "02.png").unlink(),
    "file changed": lambda home: picture(90, 32, 24).save(home / "p" / "a" / "02.png"),
    "file changed and indexed": lambda home: (
        picture(90, 32, 24).save(home / "p" / "a" / "02.png"),
        Retriever(home / "g.imgret").index(home / "p", labels="none"),
    ),
    "relabelled": lambda home: Retriever(home / "g.imgret").index(home / "p", labels="folder"),
    "folder renamed": lambda home: (
        (home / "p" / "a").rename(home / "p" / "c"),
        Retriever(home / "g.imgret").index(home / "p"),
    ),
    "indexed anew": lambda home: (
        Retriever(home / "g.imgret").remove(home / "p" / "a"),
        Retriever(home / "g.imgret").index(home / "p" / "a"),
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("meanwhile", MEANWHILE)
def test_an_interrupted_reembed_uses_no_row_that_is_another_now(
    meanwhile: str, before: Path, tmp_path: Path, processes: Zygote
) -> None:
    states = []
    for place, killed in ((tmp_path / "1" / "w", True), (tmp_path / "2" / "w", False)):
        shutil.copytree(before, place)
        if killed:
            kill(processes, place, "reembed", f"before {TABLE}.become")
            assert (place / "g.imgret" / "reembed").is_dir()
        MEANWHILE[meanwhile](place)
        for file in (place / "p").rglob("*.png"):
            age(file)
        Retriever(place / "g.imgret", size=96).index(place / "p" / "b", reembed=True)
        assert faults(place / "g.imgret") == []
        states.append(state(place / "g.imgret"))
    assert states[0] == states[1]


# What is left over


def test_info_and_verify_name_an_interrupted_reembed_and_its_bytes(
    home: Path, processes: Zygote, inline: Command
) -> None:
    kill(processes, home, "reembed", f"before {TABLE}.become")
    left = home / "g.imgret" / "reembed"
    size = sum(file.stat().st_size for file in left.rglob("*") if file.is_file())
    retriever = Retriever(home / "g.imgret")
    assert retriever.info().leftovers == ((left, size),)
    assert retriever.verify().leftovers == ((left, size),)
    for command in ("info", "verify"):
        done = inline(command, "--gallery", home / "g.imgret")
        assert "left over" in done.stdout + done.stderr
        assert "reembed" in done.stdout + done.stderr
    retriever.index(home / "p", labels="none")  # which keeps what can still be used
    assert left.exists()


def test_leftovers_of_kills_are_named_and_then_swept(home: Path, processes: Zygote) -> None:
    kill(processes, home, "refit", "before retrieval.index.files:sha256_of_head")
    kill(processes, home, "refit", "before os:replace")
    retriever = Retriever(home / "g.imgret")
    names = [path.name for path, _ in retriever.info().leftovers]
    assert names
    assert all(name.startswith(".imgret-part-") for name in names)
    retriever.remove(home / "p" / "none")
    assert retriever.info().leftovers == ()
    assert not list((home / "g.imgret").glob(".imgret-part-*"))


# Ctrl-C


@pytest.mark.parametrize(
    "moment",
    [
        f"after {TABLE}.write",
        f"after {TABLE}.update",
        f"after {TABLE}.remove",
        f"before {TABLE}.compact",
        "after lance:LanceDataset.insert",
        "after lance:LanceDataset.delete",
        "after lance.dataset:MergeInsertBuilder.execute",
        "after retrieval.index:Index.save",
    ],
)
def test_an_interrupt_at_a_commit_doubles_no_row(
    moment: str, before: Path, tmp_path: Path, processes: Zygote, calm: dict[str, State]
) -> None:
    place = tmp_path / "w"
    shutil.copytree(before, place)
    changed(place, "index")
    code = f"os.chdir({str(place)!r})\n{COMMANDS['index']}"
    interrupt = "lambda: os.kill(os.getpid(), signal.SIGINT)"
    assert processes.run(f"at({moment!r}, {interrupt})\n{code}") in (0, 130)
    table = Retriever(place / "g.imgret").gallery.open_table()
    assert len(set(table.paths())) == table.count()
    assert processes.run(code) == 0
    assert faults(place / "g.imgret") == []
    assert state(place / "g.imgret") == calm["index"]
