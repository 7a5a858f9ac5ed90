"""Check all that is stored, and repair what can be repaired."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from retrieval.draw import evenly_drawn
from retrieval.errors import GalleryError, ImgretError
from retrieval.gallery import (
    Gallery,
    ImageTable,
    Settings,
    make_distinct,
    open_without_damaged,
    storable,
)
from retrieval.gallery.block import Block, Column
from retrieval.gallery.contents import Contents
from retrieval.gallery.filter import INDEXED
from retrieval.gallery.rows import LABEL_SET
from retrieval.gallery.stored_rows import StoredRow, StoredRows
from retrieval.images import ImageFile
from retrieval.index import GrowingIndex
from retrieval.retriever.current import stamp
from retrieval.retriever.encoders import EncoderChoice
from retrieval.retriever.gone import check_all_there, find_gone
from retrieval.retriever.labels import labels_from
from retrieval.retriever.plan import Plan
from retrieval.retriever.publish import (
    bring_up_index,
    drop_superseded,
    give_up_damaged_versions,
    load_index,
)
from retrieval.retriever.reports import VerifyReport
from retrieval.retriever.tasks import Task, Tasks
from retrieval.retriever.writer import Reading, Writer, run_tasks
from retrieval.text import counted

NAMED_BY: tuple[Column, ...] = ("id", "path", "root", "label", "label_set")
SAMPLED_ROWS = 100
LEAST_SCORE, SCORES_APART = 0.98, 0.01  # of a stored vector with its own; or else below others'
MOST_WRONG = 0.05  # of the sampled rows
TRIES = 5
ROWS_DROPPED = "rows dropped that cannot be read: %s; index their folders"


@dataclass(frozen=True)
class Named:
    """What is known of a row whose data is damaged; root is None where it and the label are not."""

    id: int
    root: str | None
    label: str | None
    label_set: bool = False


@dataclass
class Damage:
    """What is wrong with the rows.

    damaged: by path, rows whose checksum or embedding is wrong. broken: by their number, pieces of
    the table that cannot be read, each with those of its rows, by path, whose names can; lost: the
    number of the others. problems: sentences on everything else. roots: of the rows that are sound.
    """

    damaged: dict[str, Named] = field(default_factory=dict)
    broken: dict[int, dict[str, Named]] = field(default_factory=dict)
    lost: int = 0
    problems: list[str] = field(default_factory=list)
    roots: set[str] = field(default_factory=set)

    def note(self, block: Block, wrong: np.ndarray) -> None:
        """Take down some rows, and which of them are damaged: (n,) bool."""
        self.roots |= set(block.at(np.flatnonzero(~wrong)).roots)
        self.damaged |= _named(block.at(np.flatnonzero(wrong)))

    @property
    def paths(self) -> list[str]:
        """The paths of all damaged rows that have a name."""
        return [*self.damaged, *(path for rows in self.broken.values() for path in rows)]

    def sentences(self) -> list[str]:
        """Describe all of it for a person."""
        said = list(self.problems)
        if self.paths:
            said.append(f"rows that are damaged: {len(self.paths):,}")
        if self.lost:
            said.append(f"rows that cannot be read, nor their names: {self.lost:,}")
        return said


def verify_beside_writers(gallery: Gallery, reading: Reading) -> VerifyReport:
    """Verify what is published, without holding the lock.

    What a writer has stored but not yet published is left out. Where it publishes meanwhile all is
    read again; after TRIES times that is raised as a GalleryError.
    """
    for _ in range(TRIES):
        seen, writes = stamp(gallery), gallery.is_being_written()
        try:
            report = verify(gallery, reading, published=writes)
        except (GalleryError, OSError):
            if stamp(gallery) == seen and gallery.is_being_written() == writes:
                raise
            continue
        if report.ok or (stamp(gallery) == seen and gallery.is_being_written() == writes):
            return report
    raise GalleryError(
        f"{gallery.path} is being written, and changes faster than it can be checked. Run "
        "`imgret verify` again when that is done."
    )


def verify(gallery: Gallery, reading: Reading, *, published: bool = False) -> VerifyReport:
    """Read every row and byte, compare the index with the rows, look for the files.

    published: of the version that is searched, not of the newest.
    """
    settings, problems = _settings(gallery)
    table = gallery.open_table()
    state = gallery.index_state(settings, table)
    if published and state is not None:
        table = gallery.open_table(state.version)
    with table.lease():
        return _verified(gallery, reading, settings, table, problems)


def _verified(
    gallery: Gallery,
    reading: Reading,
    settings: Settings,
    table: ImageTable,
    problems: list[str],
) -> VerifyReport:
    problems = problems + _check_version(table)
    wrong = gallery.published.check(settings.files)
    damage = check_rows(table, reading, _sound_files(gallery, settings, table, wrong))
    problems += [*damage.sentences(), *wrong.values()]
    problems += _check_index(gallery, settings, table)
    missing = [path for path in table.paths() if gallery.is_gone(path)]
    if missing:
        problems.append(f"files that are gone: {len(missing):,}; --repair drops their rows")
    return VerifyReport(
        rows=table.count(),
        problems=tuple(problems),
        missing=tuple(missing),
        damaged=tuple(damage.paths),
        leftovers=tuple(gallery.leftovers()),
    )


def repair(
    gallery: Gallery,
    encoders: EncoderChoice,
    reading: Reading,
    *,
    drop_missing: bool = False,
) -> VerifyReport:
    """Repair what verify() finds, as the one writer; then verify again.

    Damaged rows are embedded again from their files, rows whose files are gone are dropped, what
    is derived is made again. Raises DataError when so many files are gone that a drive may not
    be mounted, unless drop_missing.
    """
    gallery.sweep()
    repaired = [f"written again from its copy: {name}" for name in gallery.restore_copies()]
    table, lost = _opened(gallery)
    if lost:
        repaired.append(ROWS_DROPPED % f"{lost:,}")
    if table.stepped_back is not None:
        repaired.append(f"version {table.version} is the newest now: {table.stepped_back}")
        give_up_damaged_versions(gallery, table)
    settings, problems = _settings(gallery)
    if problems:
        gallery.publish(settings)
        repaired += [f"gallery.toml written again: {problem}" for problem in problems]
    gallery.published.keep_copies(settings.files)
    table.sums = settings.files
    wrong = gallery.published.check(settings.files)
    damage = check_rows(table, reading, _sound_files(gallery, settings, table, wrong))
    again = _Again(gallery, settings, table, encoders, reading)
    repaired += again.pieces(damage)
    make_distinct(table)
    index_problems = _check_index(gallery, settings, table)
    missing = _drop_missing(gallery, table, damage, drop_missing=drop_missing)
    if missing:
        repaired.append(f"rows dropped since their files are gone: {missing:,}")
    repaired += again.rows(damage.damaged, damage.roots)
    files = {file.relative_to(gallery.path).as_posix() for file in table.files()}
    of_table = [problem for name, problem in wrong.items() if name in files]
    if of_table and not damage.paths and not damage.lost:
        table.become(table)  # in new files, from rows whose checksums are right
        repaired += [f"written anew: {problem}" for problem in of_table]
    if wrong or index_problems or missing or damage.sentences():
        bring_up_index(gallery, table, settings.without_index())
    else:
        drop_superseded(gallery, table, settings)
    repaired += [f"index built again: {problem}" for problem in index_problems]
    return replace(verify(gallery, reading), repaired=tuple(repaired), dropped=missing)


def _opened(gallery: Gallery) -> tuple[ImageTable, int]:
    """The table, without pieces whose files are not whole; and how many rows these had."""
    try:
        return gallery.open_table(), 0
    except GalleryError:
        table, lost = open_without_damaged(gallery.table_path)
        table.is_ours |= gallery.trusted
        return table, lost


def _sound_files(
    gallery: Gallery, settings: Settings, table: ImageTable, wrong: Mapping[str, str]
) -> frozenset[Path]:
    """The files that are, to the byte, what this user's own imgret published."""
    names = settings.files if table.is_ours else {}
    return frozenset(gallery.path / name for name in names if name not in wrong)


def check_rows(table: ImageTable, reading: Reading, sound: Set[Path] = frozenset()) -> Damage:
    """Compare every row with its checksum; narrow what cannot be read down to rows.

    sound: files that are known to be what was written; their embeddings are not read again.
    """
    damage, done = Damage(), 0
    for piece in table.pieces():
        try:
            if set(table.files_of_piece(piece)) <= sound:
                blocks = list(table.blocks_of_piece(piece, "root", "checksum"))
                if not any(block.copied_damaged.any() for block in blocks):
                    damage.roots.update(*(block.roots for block in blocks))
                    done += table.rows_in_piece(piece)
                    continue
            for block in table.blocks_of_piece(piece):
                damage.note(block, block.damaged)
                done += len(block)
                if reading.progress:
                    reading.progress("verifying", done, None)
        except GalleryError:
            damage.broken[piece] = _names_in(table, piece)
            rows = table.rows_in_piece(piece)
            damage.lost += 0 if damage.broken[piece] else rows
    if not damage.broken:
        _check_distinct(table, damage)
    return damage


def _names_in(table: ImageTable, piece: int) -> dict[str, Named]:
    """The rows of a piece that cannot be read whole, as far as their names can."""
    whole = NAMED_BY[:-1] if table.lacks(LABEL_SET) else NAMED_BY
    columns: tuple[tuple[Column, ...], ...] = (whole, ("id", "path"))
    for names in columns:
        with contextlib.suppress(GalleryError):
            found = [_named(block) for block in table.blocks_of_piece(piece, *names)]
            return {path: named for part in found for path, named in part.items()}
    return {}


def _named(block: Block) -> dict[str, Named]:
    return {
        row["path"]: Named(row["id"], row.get("root"), row.get("label"), bool(row.get("label_set")))
        for row in block.as_dicts()
    }


def _check_distinct(table: ImageTable, damage: Damage) -> None:
    try:
        rows = table.block("id", "path")
    except GalleryError as error:
        damage.problems.append(str(error))
        return
    names: tuple[Column, ...] = ("id", "path")
    for name in names:
        if rows.count_distinct(name) != len(rows):
            damage.problems.append(f"some rows have the same {name}")


def _settings(gallery: Gallery) -> tuple[Settings, list[str]]:
    """The gallery's settings, and what is wrong with gallery.toml."""
    try:
        settings, problem = gallery.settings(), gallery.check_settings()
    except GalleryError as error:
        return gallery.settings_in_table(), [str(error)]
    if problem:
        return settings.without_derived(), [problem]
    return settings, []


def _check_version(table: ImageTable) -> list[str]:
    if table.stepped_back is None:
        return []
    return [f"the newest version of the rows cannot be read ({table.stepped_back})"]


def _check_index(gallery: Gallery, settings: Settings, table: ImageTable) -> list[str]:
    state, usable = gallery.index_state(settings, table), table.count(INDEXED)
    if state is None:
        return ["there is no index"] if usable else []
    if state.version != table.version:
        return [f"the index is of version {state.version}, the table of {table.version}"]
    try:
        index = load_index(gallery, state)
        index.check_content(gallery.local_index_files_of(state))
        stored = table.ids(INDEXED)
        if not np.array_equal(np.sort(index.ids), np.sort(stored)):
            return [f"the index holds {counted(index.ntotal, 'image')}, the table {usable:,}"]
        chosen = np.sort(stored)[evenly_drawn(len(stored), SAMPLED_ROWS)]
        for ids, embeddings in table.embeddings(chosen):
            x = index.transform(embeddings.astype(np.float32))
            if not _holds(index, ids, x, augmented=state.augment != "none"):
                return ["the vectors of the index are not those of the table"]
    except GalleryError as error:
        return [str(error)]
    return []


def _holds(index: GrowingIndex, ids: np.ndarray, x: np.ndarray, *, augmented: bool) -> bool:
    """Tell whether an index holds these transformed embeddings of (n,) ids, (n, d) float32.

    augmented: it holds means of neighbours instead. One of them is nearer to its own image than
    half of those of others, whatever the weights are.
    """
    scores = x @ index.vectors(ids).T
    least = np.median(scores, axis=1) - SCORES_APART if augmented else LEAST_SCORE
    wrong = np.diag(scores) < least
    not_zero = np.linalg.norm(x, axis=1) > 0
    return float((wrong & not_zero).mean()) <= MOST_WRONG


def _drop_missing(
    gallery: Gallery, table: ImageTable, damage: Damage, *, drop_missing: bool
) -> int:
    """Drop the rows whose files are gone; a path that a damaged row gives is no file either."""
    rows = StoredRows.read(table)
    gone = find_gone(gallery, rows)
    sound = {path: row for path, row in gone.items() if path not in damage.damaged}
    if not drop_missing:
        check_all_there(gallery, rows, gone, sound)
    table.remove([row.id for row in gone.values()])
    for path in gone:
        damage.damaged.pop(path, None)
    return len(gone)


@dataclass(frozen=True)
class _Again:
    """Embeds files of damaged rows again."""

    gallery: Gallery
    settings: Settings
    table: ImageTable
    encoders: EncoderChoice
    reading: Reading

    def pieces(self, damage: Damage) -> list[str]:
        """Write the rows of broken pieces anew, then drop the pieces; what was done, in words."""
        said = []
        for piece, rows in damage.broken.items():
            said += self.rows(rows, damage.roots, anew=True)
            self.table.drop_piece(piece)
        if damage.lost:
            said.append(ROWS_DROPPED % f"{damage.lost:,}")
        return said

    def rows(self, rows: dict[str, Named], sound: set[str], *, anew: bool = False) -> list[str]:
        """Put new rows in the place of these, or anew beside them; what was done, in words.

        sound: the roots of rows that are not damaged.
        """
        tasks = Tasks()
        roots_above = self.gallery.roots_above(sound)
        label_of = None
        with contextlib.suppress(ImgretError):  # such as of a file that is gone
            label_of = labels_from(self.settings.labels)
        for path, row in rows.items():
            if self.gallery.is_gone(path):
                continue
            place, root = self.gallery.full(path), row.root
            roots = roots_above(path) or [path.rpartition("/")[0] or path]
            if root is None or root not in roots:
                root = roots[0]
            label = row.label
            if label_of and not row.label_set:
                label = storable(label_of(place))
            before = StoredRow(row.id, root, 0, 0, label, stored_ns=0, usable=False)
            file = ImageFile(place, self.gallery.full(root), 0, 0)
            tasks.append(Task(file, path, root, label, None if anew else before, row.label_set))
        if not tasks:
            return []
        self.gallery.check_followable(self.table)
        writer = Writer.begin(self.table, Contents.none())
        encoder = self.encoders.of(self.settings, ours=self.table.is_ours)
        run_tasks(Plan(tasks=tasks), writer, encoder, self.reading)
        return [f"rows embedded again: {len(tasks):,}"]
