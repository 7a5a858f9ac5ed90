"""What a filter costs a query, and whether it still finds the nearest, in a large index."""

from __future__ import annotations

import time

import faiss
import numpy as np

from benchmarks.galleries import gallery_of, photograph
from benchmarks.table import Table
from benchmarks.vectors import batches, expanded, fitted, held_out, nearest, real_embeddings
from retrieval.gallery import Filter, Gallery
from retrieval.index import GrowingIndex, Index
from retrieval.index.cells import SAME_SCORE
from retrieval.index.gathered import QUERIES_BEFORE
from retrieval.metrics import neighbour_recall
from retrieval.retriever.publish import load_index

ROWS, QUICK = 1_000_000, 5_000
QUERIES, K, ROUNDS = 100, 10, 21
CLUSTERS = 300
SHARES = (0.01, 0.1, 0.5)


def measure(*, quick: bool) -> list[Table]:
    """One row a filter, in one process, one thread and one query at a time."""
    n = QUICK if quick else ROWS
    table = Table(
        "Filters",
        f"The {K} nearest among those of {n:,} vectors (as in Searching) that pass, for {QUERIES} "
        f"queries that are held out. By `chance` vectors pass by lot; by `cluster` whole ones of "
        f"{CLUSTERS} k-means clusters do. `CPU` has milliseconds of one thread a query, once it "
        "was asked for all of them before. `early` has those of each of the first "
        f"{QUERIES_BEFORE + 1}, with gathering what passes. `first` has those of making the filter "
        "known. Recall is against all vectors that pass.",
        ["passes", "by", "CPU", "times unfiltered", "recall", f"{K} found", "first", "early"],
    )
    queries, x = held_out(expanded(real_embeddings(quick=quick), n + QUERIES), QUERIES)
    index = GrowingIndex(Index.build(fitted(x), lambda: batches(x), n))
    vectors = np.concatenate([index.transform(part).astype(np.float16) for _, part in batches(x)])
    asked = index.transform(queries)
    means = faiss.Kmeans(vectors.shape[1], CLUSTERS, niter=8, spherical=True, seed=1)
    means.train(vectors[:: max(1, n // 20_000)].astype(np.float32))
    clusters = np.concatenate(
        [means.index.search(index.transform(part), 1)[1][:, 0] for _, part in batches(x)]
    )
    alone = _row(table, index, vectors, asked, np.ones(n, bool), ("all", ""), None)
    for share in SHARES:
        for by, passes in _masks(clusters, share).items():
            _row(table, index, vectors, asked, passes, (f"{share:.0%}", by), alone)
    return [table, _whole_searches(quick=quick), _without_near(quick=quick)]


def _whole_searches(*, quick: bool) -> Table:
    """What a filter adds to a search by photograph."""
    from imgret import Retriever

    n = 20_000 if quick else ROWS
    table = Table(
        "Filtered searches",
        f"One photograph, searched for with `Retriever.search(photo, k={K}, where=...)` in the "
        f"gallery of {n:,} rows of `benchmarks growth`, encoding included. `CPU` is that of a "
        f"search in one thread: the median of {ROUNDS} in turns with searches without a filter, "
        "after the first. Hashes pass by chance, labels by what is alike.",
        ["where", "CPU", "times unfiltered", f"{K} found", "first"],
    )
    folder = gallery_of(n, quick=quick)
    retriever, photo = Retriever(folder / ".imgret"), photograph(folder)

    def search(where: str | None) -> tuple[float, int]:
        start = time.process_time()
        found = retriever.search(photo, k=K, where=where)
        return 1e3 * (time.process_time() - start), len(found)

    classes = n // 100
    for where in (
        *(f"sha256 < '{round(256 * share):02x}'" for share in SHARES),
        *(f"label < 'class-{round(classes * share):06}'" for share in SHARES),
    ):
        search(None)
        first, count = search(where)
        for _ in range(QUERIES_BEFORE):
            search(where)
        taken = np.median([[search(where)[0], search(None)[0]] for _ in range(ROUNDS)], axis=0)
        table.add(f"`{where}`", f"{taken[0]:.1f} ms", f"{taken[0] / taken[1]:.2f}",
                  "yes" if count == K else "no", f"{first:.0f} ms")  # fmt: skip
    return table


def _without_near(*, quick: bool) -> Table:
    """Queries whose near neighbours do not pass."""
    n = 20_000 if quick else ROWS
    count = min(QUERIES, n // 1_000)  # of the last tenth of the classes
    table = Table(
        "Queries without near neighbours",
        f"The {K} nearest of one image each of {count} of the {n // 100:,} classes of that "
        "gallery, of which none passes: only other classes do. Recall is against all vectors that "
        "pass. `CPU` has milliseconds of one thread a query, encoding left out.",
        ["passes", "recall", "CPU"],
    )
    gallery = Gallery(gallery_of(n, quick=quick) / ".imgret")
    state = gallery.settings().index
    assert state is not None
    index, rows = load_index(gallery, state), gallery.open_table(state.version)
    classes = [rows.ids(Filter.of(f"label = 'class-{c:06}'")) for c in range(n // 100)]
    last = len(classes) * 9 // 10
    chosen = np.random.default_rng(0).choice(np.arange(last, len(classes)), count, replace=False)
    asked = index.vectors(np.array([classes[c][0] for c in chosen]))
    parts = [(ids, asked @ vectors.T) for ids, vectors in index.main.stored.batches()]
    ids, scores = np.concatenate([i for i, _ in parts]), np.hstack([s for _, s in parts])
    class_of = np.full(ids.max() + 1, len(classes))  # the photograph's is the last
    for c, own in enumerate(classes):
        class_of[own] = c
    of = class_of[ids]
    for share in (1.0, 0.9, 0.5, 0.1):
        found, taken = [], 0.0
        for row, c in enumerate(chosen.tolist()):
            passes = (of < share * len(classes)) & (of != c)
            allowed = index.allow(ids[passes])
            start = time.thread_time()
            near, _ = index.search_vectors(asked[[row]], K, allowed=allowed)
            taken += 1e3 * (time.thread_time() - start) / len(asked)
            least = np.partition(scores[row, passes], -K)[-K]
            found.append((near[0] >= least - SAME_SCORE).mean())
        name = "all but its class" if share == 1 else f"{share:.0%}, by class"
        table.add(name, f"{np.mean(found):.4f}", f"{taken:.1f} ms")
    return table


def _masks(clusters: np.ndarray, share: float) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    order = random.permutation(CLUSTERS)
    sizes = np.bincount(clusters, minlength=CLUSTERS)[order].cumsum()
    chosen = order[: int(np.searchsorted(sizes, share * len(clusters))) + 1]
    by_lot = random.random(len(clusters)) < share
    return {"chance": by_lot, "cluster": np.isin(clusters, chosen)}


def _row(
    table: Table, index: GrowingIndex, vectors: np.ndarray, asked: np.ndarray, passes: np.ndarray,
    name: tuple[str, str], unfiltered: float | None,
) -> float:  # fmt: skip
    """Add a row; return its milliseconds a query."""
    start = time.thread_time()
    allowed = None if unfiltered is None else index.allow(np.flatnonzero(passes))
    first = 1e3 * (time.thread_time() - start)
    start, before = time.thread_time(), asked[: QUERIES_BEFORE + 1]
    for query in before:
        index.search_vectors(query[None], K, allowed=allowed)
    early = 1e3 * (time.thread_time() - start) / len(before)
    for query in asked:  # warm, as each filter finds the index that the one before has read
        index.search_vectors(query[None], K, allowed=allowed)
    start = time.thread_time()
    found = [index.search_vectors(query[None], K, allowed=allowed)[1][0] for query in asked]
    taken = 1e3 * (time.thread_time() - start) / len(asked)
    true = nearest(vectors, asked, K, passes)
    recall = neighbour_recall(np.array(found), true)
    all_found = bool((np.array(found) >= 0).all())
    table.add(*name, f"{taken:.2f} ms", f"{taken / (unfiltered or taken):.1f}", f"{recall:.4f}",
              "yes" if all_found else "no", f"{first:.0f} ms", f"{early:.2f} ms")  # fmt: skip
    return taken
