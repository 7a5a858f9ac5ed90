"""One run of publish: a collection of Milvus becomes what a gallery holds.

A collection is of one gallery and one transform; the address is an alias that leads to it. What is
gone is deleted, what is new or changed is written, and then the collection says which version it
holds. A run says first that it has begun: where it was killed, the next one asks the server what it
holds. Another transform makes a new collection; the alias switches once that is whole.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace

import numpy as np

from retrieval.errors import GalleryChangedError, GalleryError
from retrieval.milvus.changes import RowChanges, RowSums, changes_between
from retrieval.milvus.collection import HALF_WRITTEN, PROPERTY, Collection, Published
from retrieval.milvus.effort import held_out_of, known_neighbours, learn_served_effort
from retrieval.milvus.kinds import INDEXES, efforts, served_kind_for
from retrieval.milvus.neighbours import SearchedCollection
from retrieval.milvus.rows import PublishedRows
from retrieval.milvus.server import MilvusServer
from retrieval.plain import Plain
from retrieval.progress import Progress
from retrieval.sorted_ids import ids_without
from retrieval.words import ServedKind

EFFORT_KEPT = 2  # times the effort that was learnt
TUNED_ANEW = 0.1  # of the rows changed since the effort was learnt
LEAST_TUNED = 500  # rows; fewer are compared exactly, as Milvus builds no index of them
ROWS_A_SHARD = 25_000_000
DIGITS = 12  # of a collection's own name


@dataclass(frozen=True)
class Publication(Plain):
    """What one call of publish() did.

    address: what leads to the collection. version: of the rows. images: how many it holds; added,
    changed, removed: in this call. kind, effort, recall: of its index, recall@10 against exact
    search. anew: whether it is a new collection. seconds: of the whole call.
    """

    address: str
    collection: str
    version: int
    images: int
    added: int
    changed: int
    removed: int
    kind: ServedKind
    effort: int
    recall: float
    anew: bool
    seconds: float


@dataclass(frozen=True)
class PublishOptions:
    """How a gallery is published. kind, shards: by default as they are, at first by its size.

    replicas: by default as many as there are, at first one.
    replace: whether what another gallery published there may be replaced.
    """

    kind: ServedKind | None = None
    replicas: int | None = None
    shards: int | None = None
    replace: bool = False


def publish_rows(
    server: MilvusServer,
    rows: PublishedRows,
    options: PublishOptions,
    progress: Progress | None = None,
) -> Publication:
    """Bring what an address leads to in step with rows. Raises GalleryError and ServerError.

    Where another gallery was published there meanwhile, this one is refused as it is afterwards.
    """
    try:
        return _published(server, rows, options, progress)
    except GalleryChangedError:  # another has the name by now, and has dropped what was written
        _still_free(server, rows, options)
        raise


def _published(
    server: MilvusServer,
    rows: PublishedRows,
    options: PublishOptions,
    progress: Progress | None,
) -> Publication:
    begun = time.monotonic()
    alias = server.address.name
    there = server.collection(alias)
    known = read_published(server, there)
    _check_origin(server, known, there, rows, options)
    wanted = rows.sums()
    n = len(wanted)
    kind, shards = _kind_and_shards(known, there, rows, options, n)
    replicas = options.replicas or (server.replicas(there.name) if there else 0) or 1
    name = _name(alias, rows, kind, shards)
    if known is None or there is None or there.name != name:
        there, known = server.collection(name), None
    fresh = known is None
    if there is None:
        server.create(name, rows.transform.d_out, shards)
    server.build(name, kind, n)  # a killed run may have created the collection alone
    if there is not None:
        server.load(name, replicas)
    done = changes_between(_held(server, name, there, known, rows), wanted)
    said = _said(rows, wanted, kind, known, len(done))
    last = _written_last(server, name, rows, wanted, done, said, fresh=fresh)
    _change(server, name, rows, done, last, progress)
    if fresh:
        server.settle(name, progress)
        server.load(name, replicas, anew=there is not None)
    if len(last) or (fresh and n < LEAST_TUNED):
        said = _tuned(server, name, rows, wanted, last, said, progress)
    made = name if fresh else ""
    if fresh or len(done) or known != said or (there and there.unfinished):
        _still_free(server, rows, options, made)
        said = _finished(server, name, rows, wanted, last, said)
    if fresh:
        server.switch(name, _still_free(server, rows, options, made))
    _drop_others(server, name, unfinished=fresh)
    return Publication(
        str(server.address), name, said.version, said.rows, len(done.new),
        len(done.written) - len(done.new), len(done.gone), kind, said.effort, said.recall, fresh,
        time.monotonic() - begun,
    )  # fmt: skip


def _written_last(
    server: MilvusServer,
    name: str,
    rows: PublishedRows,
    wanted: RowSums,
    done: RowChanges,
    said: Published,
    *,
    fresh: bool,
) -> np.ndarray:
    """The ids of rows that the effort is learnt by, where it is to be: they are not there yet."""
    if not fresh and said.since <= TUNED_ANEW * said.tuned:
        return done.new[:0]
    last = held_out_of(done.new, len(wanted))
    if fresh and not len(last) and len(wanted) >= LEAST_TUNED:  # a killed run had sent all of them
        last = held_out_of(wanted.ids, len(wanted))
        server.say(name, {HALF_WRITTEN: f"version {rows.table.version}"})
        server.delete(name, last)
    return last


def _finished(
    server: MilvusServer,
    name: str,
    rows: PublishedRows,
    wanted: RowSums,
    last: np.ndarray,
    said: Published,
) -> Published:
    """Write what is left, and have the collection say what it holds."""
    for batch in rows.batches(last) if len(last) else ():
        server.write(name, batch)
    if len(wanted):  # what holds no row has never held one
        said = replace(said, written=_stamp(server, name, rows, wanted.ids[0]))
    server.say(name, {PROPERTY: said.as_text(), HALF_WRITTEN: ""})
    return said


def read_published(server: MilvusServer, there: Collection | None) -> Published | None:
    """Read what the collection of an address says; None where there is none.

    Raises GalleryError for one that imgret did not publish.
    """
    if there is None:
        return None
    if not there.published:
        raise GalleryError(
            f"{server.address} leads to {there.name}, which imgret did not publish. Choose another "
            "name."
        )
    return Published.read_text(there.published, server.address)


def _is_of(known: Published, rows: PublishedRows) -> bool:
    return (known.table, known.transform) == (rows.table.name, rows.transform.sha256)


def _check_origin(
    server: MilvusServer,
    known: Published | None,
    there: Collection | None,
    rows: PublishedRows,
    options: PublishOptions,
) -> None:
    """Raise GalleryError where another gallery is published there.

    One that was embedded anew is another table in the same place.
    """
    if known is None or there is None or options.replace:
        return
    place = str(rows.gallery.path)
    if known.table != rows.table.name and known.gallery != place:
        raise GalleryError(
            f"{server.address} holds the gallery {known.gallery}, not {place}. Choose another "
            "name, or give --replace."
        )


def _still_free(
    server: MilvusServer, rows: PublishedRows, options: PublishOptions, made: str = ""
) -> Collection | None:
    """Return what the address leads to now. Raises GalleryError as _check_origin() does.

    made: a collection that is of no use then, and is dropped.
    """
    there = server.collection(server.address.name)
    try:
        _check_origin(server, read_published(server, there), there, rows, options)
    except GalleryError:
        if made:
            server.drop(made)
        raise
    return there


def _name(alias: str, rows: PublishedRows, kind: ServedKind, shards: int) -> str:
    """The name of a collection, which tells it from others of an address."""
    of = f"{rows.identity} {kind} {shards}"
    return f"{alias}_{hashlib.sha256(of.encode()).hexdigest()[:DIGITS]}"


def _kind_and_shards(
    known: Published | None,
    there: Collection | None,
    rows: PublishedRows,
    options: PublishOptions,
    n: int,
) -> tuple[ServedKind, int]:
    """Take what is asked for, then what is published: a number of shards is costly to change.

    Where all is sent anyway, what was chosen by size is chosen again.
    """
    kind, shards = served_kind_for(n), _shards_for(n)
    if known and there:
        same = _is_of(known, rows)
        kind = known.kind if same or known.kind != served_kind_for(known.rows) else kind
        shards = there.shards if same or there.shards != _shards_for(known.rows) else shards
    return options.kind or kind, options.shards or shards


def _shards_for(n: int) -> int:
    return n // ROWS_A_SHARD + 1


def _change(
    server: MilvusServer,
    name: str,
    rows: PublishedRows,
    changes: RowChanges,
    last: np.ndarray,
    progress: Progress | None,
) -> None:
    """Delete and write what differs, and say so before; last: ids that are written later."""
    if not len(changes):
        return
    server.say(name, {HALF_WRITTEN: f"version {rows.table.version}"})
    done, total = len(changes.gone), len(changes)
    if done:
        server.delete(name, changes.gone)
    now = ids_without(changes.written, last)
    for batch in rows.batches(now) if len(now) else ():
        if progress:
            progress("publishing", done, total)
        server.write(name, batch)
        done += len(batch)
    if progress:
        progress("publishing", total, total)


def _stamp(server: MilvusServer, name: str, rows: PublishedRows, id_: int) -> int:
    """Write a row again, for a time stamp that is later than all others."""
    return server.write(name, next(rows.batches(np.array([id_], np.int64))))


def _held(
    server: MilvusServer,
    name: str,
    there: Collection | None,
    known: Published | None,
    rows: PublishedRows,
) -> RowSums:
    """The rows that a collection holds: those of the version that it names, else asked for."""
    if there is None:
        return RowSums.of(np.empty(0, np.int64), np.empty(0, np.int64))
    if known is not None and not there.unfinished:
        before = rows.sums_at(known.version)
        same = before is not None and before.sha256 == known.held
        if before is not None and same and server.count(name) == len(before):
            return before
    return RowSums.of(*server.held(name))


def _said(
    rows: PublishedRows, wanted: RowSums, kind: ServedKind, known: Published | None, changed: int
) -> Published:
    """What a collection says once it is in step; the effort as it was."""
    return Published(
        table=rows.table.name,
        gallery=str(rows.gallery.path),
        version=rows.table.version,
        rows=len(wanted),
        held=wanted.sha256,
        weights=rows.weights,
        transform=rows.transform.sha256,
        spec=rows.spec,
        fitted_on=rows.fitted_on,
        d_in=rows.transform.d_in,
        d_out=rows.transform.d_out,
        kind=kind,
        effort=known.effort if known else 1,
        recall=known.recall if known else 0,
        tuned=known.tuned if known else 0,
        since=(known.since if known else 0) + changed,
        written=known.written if known else 1,
    )


def _tuned(
    server: MilvusServer,
    name: str,
    rows: PublishedRows,
    wanted: RowSums,
    last: np.ndarray,
    said: Published,
    progress: Progress | None,
) -> Published:
    """Learn the effort by rows that are not there yet; of few rows the least one does.

    Twice as much is kept: a server merges its pieces later, and in a larger one as much effort
    finds less. It never falls: what is new is compared exactly until it is in an index.
    """
    if not len(last):
        least = next(efforts(said.kind, said.rows))
        return replace(said, effort=least, recall=1.0, tuned=said.rows, since=0)
    if progress:
        progress("tuning", 0, None)
    there = ids_without(wanted.ids, last)
    now = replace(said, written=_stamp(server, name, rows, there[0]))
    learnt = learn_served_effort(
        SearchedCollection(server, name, now), known_neighbours(rows, last)
    )
    effort = max(min(EFFORT_KEPT * learnt.effort, INDEXES[said.kind].most), said.effort)
    return replace(said, effort=effort, recall=learnt.recall, tuned=said.rows, since=0)


def _drop_others(server: MilvusServer, name: str, *, unfinished: bool) -> None:
    """Delete what earlier transforms left: who switched the alias may have been killed before.

    unfinished: also what was interrupted, or is being written to replace this.
    """
    alias = server.address.name
    for other in server.collections():
        digits = other.removeprefix(f"{alias}_")
        if other == name or len(other) != len(alias) + 1 + DIGITS or digits == other:
            continue
        there = server.collection(other)
        if there is None or not (there.published or there.unfinished):
            continue
        if unfinished or not there.unfinished:
            server.drop(other)
