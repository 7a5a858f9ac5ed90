"""Commands that end in the middle, and what the same command makes of it when it is run again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from retrieval.retriever import Retriever
from tests.retrieval.stored import State, Zygote, age, faults, save_small, state, zygote
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
    f"{TABLE}.drop_old_versions",
    f"{FOLDER}.create",
    f"{FOLDER}.publish",
    f"{FOLDER}.keep_copies",
    f"{FOLDER}.delete",
    "retrieval.index:Index.save",
    "retrieval.retriever.upkeep:_save",
    "retrieval.retriever.reembedding:_still_there",
]
SYSCALLS = ["os:fsync", "os:replace", "os:rename"]
MOMENTS = [f"{when} {point}" for point in [*POINTS, *SYSCALLS] for when in ("before", "after")]
COMMANDS = {
    "first": "Retriever('g.imgret').index('p', batch_size=4)",
    "index": "Retriever('g.imgret').index('p', batch_size=4)",
    "refit": "Retriever('g.imgret').index('p', refit=True, batch_size=4)",
    "reembed": "Retriever('g.imgret', size=96).index('p', reembed=True, batch_size=4)",
    "transform": "Retriever('g.imgret', transform='standard').index('p', batch_size=4)",
    "remove": "Retriever('g.imgret').remove('p/a')",
    "repair": "Retriever('g.imgret').verify(repair=True)",
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
    "remove": [f"after {TABLE}.remove", f"before {TABLE}.drop_old_versions"],
    "repair": [f"after {TABLE}.remove", f"before {TABLE}.drop_old_versions"],
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
    if command in ("refit", "transform", "remove", "reembed"):
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
