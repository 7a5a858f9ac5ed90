"""Datasets in Parquet as Hugging Face writes them: a column of images, and maybe one of labels.

An image is a struct of `bytes` and `path` (huggingface.co/docs/datasets, Image feature). A label is
text, or a number whose name stands in the file's metadata (ClassLabel).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from retrieval.errors import ImageError
from retrieval.images.shards.table import MemberPlace, ShardTable
from retrieval.objects import ObjectPath
from retrieval.text import one_sentence

IMAGE_COLUMNS, LABEL_COLUMNS = (
    ("image", "img", "jpg", "png", "picture"),
    ("label", "labels", "class"),
)
MOST_ROWS = 50_000_000
NO_PARQUET = "it is no Parquet that can be read"
GROUPS_KEPT = 2
MOST_OF_A_GROUP = 1 << 31  # bytes
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a file of Parquet. Raises ImageError for what is none, and OSError."""
    source: Any = path.seekable() if isinstance(path, ObjectPath) else path
    with _damage_as_image_errors():
        return pq.ParquetFile(source)


def readable_batches(file: pq.ParquetFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Give some columns of a file, a part at a time. Raises ImageError for a damaged one."""
    with _damage_as_image_errors():
        yield from file.iter_batches(columns=columns)


@contextlib.contextmanager
def _damage_as_image_errors() -> Iterator[None]:
    """Turn what Arrow and Parquet say of a file into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:  # of the system; Arrow's have no number
            raise
        raise ImageError(f"{NO_PARQUET} ({one_sentence(error)})") from error
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise ImageError(f"{NO_PARQUET} ({one_sentence(error)})") from error


def image_column(schema: pa.Schema) -> str | None:
    """Return the name of the column of images: a struct of bytes and path, or plain bytes."""
    structs = [f.name for f in schema if _has_bytes(f.type)]
    plain = [
        f.name for f in schema
        if (pa.types.is_binary(f.type) or pa.types.is_large_binary(f.type))
        and f.name in IMAGE_COLUMNS
    ]  # fmt: skip
    found = [*structs, *plain]
    return next((name for name in IMAGE_COLUMNS if name in found), found[0] if found else None)


def text_columns(schema: pa.Schema) -> list[str]:
    """Return the names of the columns that hold text."""
    return [f.name for f in schema if _is_text(f.type) or pa.types.is_dictionary(f.type)]


def read_dataset_table(path: Path) -> ShardTable:
    """List the images of a dataset without reading them. Raises ImageError, OSError."""
    file = open_parquet(path)
    schema = file.schema_arrow
    column = image_column(schema)
    if column is None:
        raise ImageError("it has no column of images; give a column image of bytes and path")
    if file.metadata.num_rows > MOST_ROWS:
        raise ImageError(f"it holds more than {MOST_ROWS:,} rows; split it")
    labelled = next((name for name in LABEL_COLUMNS if name in schema.names), None)
    names = _class_names(schema, labelled)
    places: dict[str, MemberPlace] = {}
    labels: dict[str, str | None] = {}
    has_path = _is_text(_field(schema.field(column).type, "path"))
    wanted = [*([f"{column}.path"] if has_path else []), *([labelled] if labelled else [])]
    if not wanted:
        rows = [f"{row:09}" for row in range(file.metadata.num_rows)]
        return ShardTable(
            {name: MemberPlace(row, -1) for row, name in enumerate(rows)}, dict.fromkeys(rows)
        )
    row = 0
    for batch in readable_batches(file, wanted):
        with _damage_as_image_errors():
            given = _paths(batch, column) if has_path else [None] * len(batch)
            told = batch[labelled].to_pylist() if labelled else [None] * len(batch)
        for path_inside, label in zip(given, told, strict=True):
            name = f"{row:09}{_suffix(path_inside)}"
            places[name] = MemberPlace(row, -1)
            labels[name] = _label(label, names)
            row += 1
    return ShardTable(places, labels)


def read_row(path: Path, stamp: str, row: int) -> bytes:
    """Read the image of a row. stamp: tells this content of the file from others.

    Raises ImageError, OSError.
    """
    starts, _ = _groups_of(str(path), stamp, path)
    group = max(n for n, start in enumerate(starts) if start <= row)
    value = _group(str(path), stamp, path, group)[row - starts[group]].as_py()
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes):
        raise ImageError("its row holds no bytes; the image lies elsewhere")
    return content


@lru_cache(maxsize=64)
def _groups_of(_: str, __: str, path: Path) -> tuple[list[int], str]:
    file = open_parquet(path)
    starts, row = [], 0
    for group in range(file.num_row_groups):
        starts.append(row)
        row += file.metadata.row_group(group).num_rows
    return starts, str(image_column(file.schema_arrow))


@lru_cache(maxsize=GROUPS_KEPT)
def _group(name: str, stamp: str, path: Path, group: int) -> pa.ChunkedArray:
    """The images of a row group, which those who read the rows in order ask for again and again."""
    file, column = open_parquet(path), _groups_of(name, stamp, path)[1]
    if file.metadata.row_group(group).total_byte_size > MOST_OF_A_GROUP:
        raise ImageError("a row group of its file has more than 2 GB; write it with smaller ones")
    with _damage_as_image_errors():
        return file.read_row_group(group, columns=[column])[column]


def _has_bytes(kind: pa.DataType) -> bool:
    held = _field(kind, "bytes")
    return held is not None and (pa.types.is_binary(held) or pa.types.is_large_binary(held))


def _is_text(kind: pa.DataType | None) -> bool:
    return kind is not None and (pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _field(kind: pa.DataType, name: str) -> pa.DataType | None:
    """The type of a field of a struct; None where it has none of that name."""
    if not pa.types.is_struct(kind):
        return None
    return next((f.type for f in map(kind.field, range(kind.num_fields)) if f.name == name), None)


def _paths(batch: pa.RecordBatch, column: str) -> list[str | None]:
    field = batch[column]
    found: list[str | None] = field.field("path").to_pylist()
    return found


def _suffix(path: str | None) -> str:
    suffix = PurePosixPath(path).suffix.lower() if path else ""
    return suffix if suffix in PICTURE_SUFFIXES else ""


def _class_names(schema: pa.Schema, column: str | None) -> list[str]:
    """The names of a ClassLabel, from what `datasets` writes into the file."""
    try:
        told = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = told["info"]["features"][column]["names"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
    return [str(name) for name in names] if isinstance(names, list) else []


def _label(value: Any, names: list[str]) -> str | None:
    if value is None:
        return None
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return str(value)[:1000] if isinstance(value, str | int) else None
