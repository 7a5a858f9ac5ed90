"""A gallery that is published in Milvus: searched there, encoded and described by its folder."""

from __future__ import annotations

from dataclasses import replace
from typing import TypedDict

from retrieval.arguments import one_of, whole
from retrieval.errors import ArgumentError, GalleryEmptyError, GalleryError
from retrieval.files import delete
from retrieval.gallery import Gallery, ImageTable, Settings
from retrieval.gallery.filter import INDEXED
from retrieval.gallery.lock import locked
from retrieval.milvus import (
    MilvusNeighbours,
    MilvusServer,
    Publication,
    Published,
    PublishedRows,
    PublishOptions,
    SearchedCollection,
    ServedAddress,
    StoredTransform,
    publish_rows,
    read_published,
)
from retrieval.milvus.transform import FOLDER
from retrieval.objects import place_of
from retrieval.progress import Progress
from retrieval.retriever import current
from retrieval.retriever.reports import ServedInfo
from retrieval.retriever.row_vectors import RowVectors
from retrieval.retriever.snapshot import Snapshot
from retrieval.words import SERVED_KINDS, ServedKind

MOST_SHARDS, MOST_REPLICAS = 64, 64


class PublishAsked(TypedDict, total=False):
    """How Retriever.publish() publishes.

    kind: of the index, "hnsw", "ivf_sq8" or "diskann", at first chosen by the number of images.
    shards: that share the writing, at first one for 25 million images. replicas: copies in
    memory that share the searches, at first 1. What is not given stays as it was published.
    replace: whether another gallery's rows may be replaced.
    """

    kind: ServedKind | None
    shards: int | None
    replicas: int | None
    replace: bool


def publish_options(asked: PublishAsked) -> PublishOptions:
    """Check how a gallery is to be published. Raises ArgumentError, and TypeError for a name."""
    if unknown := next((name for name in asked if name not in PublishAsked.__annotations__), None):
        raise TypeError(f"Retriever.publish() has no argument {unknown!r}.")
    options = PublishOptions(**asked)
    if options.kind is not None:
        one_of("kind", options.kind, SERVED_KINDS)
    if options.shards is not None:
        whole("shards", options.shards, most=MOST_SHARDS)
    if options.replicas is not None:
        whole("replicas", options.replicas, most=MOST_REPLICAS)
    return options


class ServedState:
    """What an address leads to, opened with its gallery."""

    def __init__(self, address: ServedAddress, gallery: Gallery) -> None:
        self.server = MilvusServer(address)
        self.gallery = gallery

    def stamp(self) -> object:
        """Return a stamp that changes whenever something is published. Raises ServerError."""
        return self.server.collection(self.server.address.name), current.stamp(self.gallery)

    def open(self) -> Snapshot:
        """Open what is published. Raises GalleryError where it does not fit the gallery."""
        server, gallery = self.server, self.gallery
        there = server.collection(server.address.name)
        said = read_published(server, there)
        if there is None or said is None:
            raise GalleryError(
                f"{server.address} is not published. Run `imgret publish {server.address} "
                f"--gallery {gallery.path}`."
            )
        settings, table = gallery.settings(), _table(gallery, said)
        _check(server.address, said, settings, table)
        transform = _transform(server.address, said, gallery)
        collection = SearchedCollection(server, there.name, said)
        neighbours = MilvusNeighbours(collection, transform)
        row_vectors = RowVectors(gallery.path, table, transform.apply)
        return Snapshot(
            gallery,
            table,
            neighbours,
            _as_published(settings, said),
            row_vectors,
            published=f"-{said.written}",
        )


def publish_gallery(
    gallery: Gallery, place: str, options: PublishOptions, progress: Progress | None
) -> Publication:
    """Publish the newest state of a gallery at an address. Raises GalleryError, ServerError.

    Only one process at a time publishes a gallery.
    """
    address = ServedAddress.parse(place)
    if address.gallery is not None and place_of(address.gallery).absolute() != gallery.path:
        raise ArgumentError(
            f"The address names the gallery {address.gallery}, not {gallery.path}. Leave one out."
        )
    folder = gallery.path / FOLDER
    gallery.check_exists()
    if folder.is_symlink():  # a stranger's
        delete(folder)
    with locked(folder, wait=1):
        server = MilvusServer(address)
        try:
            table, faiss, settings = current.open_indexed(gallery)
        except GalleryEmptyError:
            emptied = _emptied_rows(gallery, server)
            if emptied is None:
                raise
            return publish_rows(server, emptied, options, progress)
        with table.lease():
            state = settings.index
            transform = StoredTransform.of(faiss.main)
            transform.save(gallery.path)
            rows = PublishedRows(
                gallery, table, transform,
                spec=state.transform if state else settings.transform,
                fitted_on=state.fitted_on if state else 0,
                weights=settings.backbone.weights_sha256,
                augmented=faiss if (state or settings).augment != "none" else None,
            )  # fmt: skip
            return publish_rows(server, rows, options, progress)


def _emptied_rows(gallery: Gallery, server: MilvusServer) -> PublishedRows | None:
    """No rows, where the gallery has none any more but has published some; else None.

    No transform can be fitted to them, so they have that which leaves embeddings as they are.
    """
    said = read_published(server, server.collection(server.address.name))
    settings, table = gallery.settings(), gallery.open_table()
    if said is None or not _is_of(said, table) or table.count(INDEXED):
        return None
    transform = StoredTransform(table.dim)
    transform.save(gallery.path)
    return PublishedRows(
        gallery, table, transform, spec="none", fitted_on=0,
        weights=settings.backbone.weights_sha256,
    )  # fmt: skip


def describe_served(address: ServedAddress, gallery: Gallery) -> ServedInfo | None:
    """Say what is published at an address; None for nothing. Raises ServerError, GalleryError."""
    server = MilvusServer(address)
    said = read_published(server, server.collection(address.name))
    if said is None:
        return None
    table = gallery.open_table()
    _check_origin(address, said, table)
    return ServedInfo(
        address=str(address),
        version=said.version,
        images=said.rows,
        kind=said.kind,
        effort=said.effort,
        recall=said.recall,
        transform=said.spec,
        current=(said.table, said.version) == (table.name, table.version),
    )


def _table(gallery: Gallery, said: Published) -> ImageTable:
    """The rows of the version that is published, or the newest where those are gone."""
    newest = gallery.open_table()
    if newest.version == said.version:
        return newest
    try:
        older = gallery.open_table(said.version)
    except GalleryError:
        return newest
    older.is_ours = newest.is_ours
    return older


def _check(address: ServedAddress, said: Published, settings: Settings, table: ImageTable) -> None:
    """Raise GalleryError where what is published does not fit the gallery."""
    _check_origin(address, said, table)
    path = table.path.parent
    again = f"`imgret publish {address} --gallery {path}`"
    if said.table != table.name or said.weights != settings.backbone.weights_sha256:
        raise GalleryError(f"{path} was embedded anew since {address} was published. Run {again}.")
    if said.version > table.version:
        raise GalleryError(
            f"{address} was published from version {said.version} of {path}, which has only "
            f"{table.version}. Run {again}."
        )


def _check_origin(address: ServedAddress, said: Published, table: ImageTable) -> None:
    """Raise GalleryError where another gallery is published."""
    if not _is_of(said, table):
        path = table.path.parent
        raise GalleryError(
            f"{address} was published from {said.gallery}, not from {path}. Name that gallery "
            f"after ?gallery=, or run `imgret publish {address} --gallery {path} --replace`."
        )


def _is_of(said: Published, table: ImageTable) -> bool:
    """Whether a gallery is published; one that was embedded anew is another table there."""
    return said.table == table.name or said.gallery == str(table.path.parent)


def _transform(address: ServedAddress, said: Published, gallery: Gallery) -> StoredTransform:
    """The transform that is published. Raises GalleryError where the gallery has it no more."""
    found = StoredTransform.load(gallery.path, said.transform, said.d_in, said.d_out)
    if found is None:
        raise GalleryError(
            f"{address} was published with the transform {said.spec}, which {gallery.path} does "
            f"not hold any more. Run `imgret publish {address} --gallery {gallery.path}`."
        )
    return found


def _as_published(settings: Settings, said: Published) -> Settings:
    """Settings with the transform that is published; then a calibration of another says nothing."""
    if settings.index is None:
        return settings
    state = replace(settings.index, transform=said.spec, fitted_on=said.fitted_on)
    return replace(settings, index=state)
