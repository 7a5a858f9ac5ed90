"""One row per image: what it holds, how it becomes Arrow, and the checksum against bit rot."""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import repeat
from typing import Any

import numpy as np
import pyarrow as pa

from retrieval.errors import GalleryError
from retrieval.images import PictureFacts

INT64 = np.iinfo(np.int64)
FACTS_TYPE = pa.struct(
    [
        pa.field("format", pa.string()),
        pa.field("frames", pa.int32()),
        pa.field("depth", pa.int32()),
        pa.field("alpha", pa.bool_()),
        pa.field("profile", pa.string()),
        pa.field("note", pa.string()),
        pa.field("perceptual", pa.binary()),
    ]
)
SETTINGS_KEY, TABLE = b"imgret.settings", b"imgret.table"  # keys of the schema's metadata
IDS_FROM = b"imgret.ids_from"  # another: what is added to the ids that a version gives
LABEL_SET, ETAG = "label_set", "etag"
ADDED = (LABEL_SET, ETAG)  # columns that tables made before them lack
BESIDE = ("embedding", "checksum", *ADDED)  # no values of a checksum's lower half
DAMAGED_BEFORE = -1  # in the place of a checksum: of a copy whose original did not fit its own


@dataclass(frozen=True)
class Row:
    """One image as it is stored.

    path, root: relative to the folder that holds the gallery where they lie below it.
    size: bytes. mtime_ns: of the file. sha256: of its content, hex; "" where it was not read.
    width, height: upright, in pixels. embedding: (d,) float16, or None with the reason in error.
    facts: what the file tells, where it was decoded. stored_ns: when the file was last read and
    found to be what the row says, of the clock that mtime_ns is held against. label_set: whether a
    user has set the label of this very row. damaged: whether the embedding was copied from a row
    whose checksum it does not fit. etag: of an object in a store.
    """

    id: int
    path: str
    root: str
    size: int
    mtime_ns: int
    sha256: str = ""
    width: int = 0
    height: int = 0
    label: str | None = None
    embedding: np.ndarray | None = None
    error: str | None = None
    facts: PictureFacts | None = None
    stored_ns: int = 0
    label_set: bool = False
    damaged: bool = False
    etag: str | None = None


def schema(dim: int, settings: str, name: str) -> pa.Schema:
    """Return the columns of a table of embeddings of width dim."""
    return pa.schema(
        [
            pa.field("id", pa.int64(), nullable=False),
            pa.field("path", pa.string(), nullable=False),
            pa.field("root", pa.string(), nullable=False),
            pa.field("size", pa.int64(), nullable=False),
            pa.field("mtime_ns", pa.int64(), nullable=False),
            pa.field("sha256", pa.string(), nullable=False),
            pa.field("width", pa.int32(), nullable=False),
            pa.field("height", pa.int32(), nullable=False),
            pa.field("label", pa.string()),
            pa.field("embedding", pa.list_(pa.float16(), dim)),
            pa.field("error", pa.string()),
            pa.field("facts", FACTS_TYPE),
            pa.field("stored_ns", pa.int64(), nullable=False),
            pa.field(ETAG, pa.string()),
            pa.field("checksum", pa.int64(), nullable=False),
            pa.field(LABEL_SET, pa.bool_()),
        ],
        metadata=metadata(settings, name),
    )


def metadata(settings: str, name: str, ids_from: int = 0) -> dict[bytes, bytes]:
    """Return what a table's schema carries beside its columns."""
    first = str(ids_from).encode()
    return {SETTINGS_KEY: settings.encode(), TABLE: name.encode(), IDS_FROM: first}


def to_arrow(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    """Convert rows to a table of the schema, each with its checksum.

    That of a damaged row is DAMAGED_BEFORE, so that a copy hides nothing.
    """
    dim = schema.field("embedding").type.list_size
    empty = np.zeros(dim, np.float16)
    stacked = np.stack([empty if r.embedding is None else r.embedding for r in rows])
    missing = pa.array([r.embedding is None for r in rows])
    values = pa.array(stacked.astype(np.float16, copy=False).ravel())
    columns: dict[str, pa.Array] = {}
    for field in schema:
        if field.name == "embedding":
            columns[field.name] = pa.FixedSizeListArray.from_arrays(values, dim, mask=missing)
        elif field.name == "facts":
            facts = [None if r.facts is None else asdict(r.facts) for r in rows]
            columns[field.name] = pa.array(facts, FACTS_TYPE)
        elif field.name != "checksum":
            held = [storable(getattr(r, field.name)) for r in rows]
            columns[field.name] = pa.array(held, field.type)
    wrong = np.array([r.damaged for r in rows], bool)
    columns["checksum"] = pa.array(np.where(wrong, DAMAGED_BEFORE, checksums(pa.table(columns))))
    return pa.table(columns, schema=schema)


def storable(value: Any) -> Any:
    """A value as a column holds it: text that is no Unicode is spelled out, such as \\xff, and a
    whole number is at most what 64 bits hold, as for the broken time stamp of a NAS.

    >>> storable(15_032_385_535 * 10**9)
    9223372036854775807
    """
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if isinstance(value, int):
        return min(max(value, int(INT64.min)), int(INT64.max))
    return value


def spelled_back(text: str) -> str:
    """Return a file name that storable() may have spelled out, as the file system has it."""
    name = os.fsencode(text)
    return os.fsdecode(re.sub(rb"\\x[89a-f][0-9a-f]", lambda x: bytes([int(x[0][2:], 16)]), name))


def checksums(rows: pa.Table | pa.RecordBatch) -> np.ndarray:
    """The (n,) int64 of rows with all columns: CRC-32 of the embedding above, of the rest below.

    So the columns beside the embedding can be changed, and summed again, without reading it.
    """
    return _joined(_crcs_of_embeddings(rows["embedding"]), crcs_of_facts(rows))


def crcs_of_facts(rows: pa.Table | pa.RecordBatch) -> np.ndarray:
    """The (n,) int64 CRC-32 of all columns but the embedding, as JSON in the order of names.

    What added columns say is a value more where they say something, so that the sums of rows from
    before them stay.
    """
    names = sorted(set(rows.schema.names) - set(BESIDE))
    columns = [_plain(rows[name]) for name in names]
    added = [
        rows[name].to_pylist() if name in rows.schema.names else repeat(None, len(columns[0]))
        for name in ADDED
    ]
    sums = [
        zlib.crc32(_as_json([*values, *_said(said)]))
        for values, said in zip(zip(*columns, strict=True), zip(*added, strict=True), strict=True)
    ]
    return np.array(sums, np.int64).reshape(-1)


def _said(added: Sequence[Any]) -> list[str]:
    """What the added columns of a row say: the name of a mark, or the text."""
    pairs = zip(ADDED, added, strict=True)
    return [name if value is True else value for name, value in pairs if value]


def with_facts_changed(before: pa.Table, after: pa.Table) -> np.ndarray:
    """The (n,) int64 checksums of rows whose columns beside the embedding were changed.

    before: with their stored checksums, and with embeddings where these are copied, too. Where one
    does not fit, the new one is DAMAGED_BEFORE.
    """
    stored = before["checksum"].to_numpy()
    high = stored >> 32 & 0xFFFFFFFF
    fits = crcs_of_facts(before) == stored & 0xFFFFFFFF
    if "embedding" in before.column_names:
        fits &= _crcs_of_embeddings(before["embedding"]) == high
    return np.where(fits, _joined(high, crcs_of_facts(after)), DAMAGED_BEFORE)


def facts_of(value: dict[str, Any] | None) -> PictureFacts | None:
    """Read what to_arrow() stored of a picture's facts."""
    if value is None:
        return None
    known = {field.name for field in fields(PictureFacts)}
    return PictureFacts(**{k: v for k, v in value.items() if k in known and v is not None})


def row_of(values: dict[str, Any]) -> Row:
    """Make a Row of what a table gives as a dict."""
    names = {field.name for field in fields(Row)} - {"embedding", "facts", *ADDED, "damaged"}
    vector = values["embedding"]
    embedding = None if vector is None else np.asarray(vector, np.float16)
    return Row(
        **{name: values[name] for name in names},
        embedding=embedding,
        facts=facts_of(values["facts"]),
        label_set=bool(values.get(LABEL_SET)),
        etag=values.get(ETAG),
        damaged=not embedding_fits(embedding, values["checksum"]),
    )


def embedding_fits(embedding: np.ndarray | None, checksum: int) -> bool:
    """Tell whether an embedding is the one that a stored checksum was made of."""
    crc = 0 if embedding is None else zlib.crc32(embedding.tobytes())
    return crc == checksum >> 32 & 0xFFFFFFFF


def as_matrix(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Turn a column of embeddings into an (n, d) float16 array. Raises GalleryError for a null."""
    if column.null_count:
        raise GalleryError(
            "A row of the gallery has neither an embedding nor an error. Run `imgret verify "
            "--repair`, which embeds its image again."
        )
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    values = column.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(column), column.type.list_size)


def _joined(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    return (high.astype(np.uint64) << np.uint64(32) | low.astype(np.uint64)).view(np.int64)


def _crcs_of_embeddings(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """CRC-32 of each embedding; 0 where there is none."""
    crcs = np.zeros(len(column), np.int64)
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    start = 0
    for chunk in chunks:
        there = np.flatnonzero(chunk.is_valid().to_numpy(zero_copy_only=False))
        matrix = as_matrix(chunk.drop_null()) if len(there) else ()
        crcs[start + there] = [zlib.crc32(vector) for vector in matrix]
        start += len(chunk)
    return crcs


def _plain(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    values: list[Any] = column.to_pylist()
    if column.type == FACTS_TYPE:
        return [
            value and {k: v.hex() if isinstance(v, bytes) else v for k, v in value.items()}
            for value in values
        ]
    return values


def _as_json(values: Iterable[Any]) -> bytes:
    return json.dumps(list(values), separators=(",", ":"), sort_keys=True).encode()
