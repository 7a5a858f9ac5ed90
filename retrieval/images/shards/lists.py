"""Lists of images that lie elsewhere: CSV or Parquet with a column of addresses, or S3 Inventory.

Size and etag of an object are taken from the list where it has them, so that nothing is asked of
the store before the images are read.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from retrieval.errors import DataError
from retrieval.files import modified_ns, read_bounded
from retrieval.images.folders import FoundFile, FoundFolder
from retrieval.images.formats import os_reason
from retrieval.objects import ObjectPath, is_address, place_of

ADDRESS_COLUMNS = ("uri", "url", "path", "file", "file_name", "image")
OTHER_COLUMNS = ("bucket", "key", "size", "etag", "e_tag", "label")
MOST_OF_A_LIST = 1 << 30  # bytes, unpacked; an inventory has many files
MOST_OF_A_MANIFEST = 1 << 24
AT_ONCE_LISTED = 4096  # entries of one folder
INVENTORY = "manifest.json"


def is_list(path: Path) -> bool:
    """Tell whether a file is a list of images, by its name and, of Parquet, by its columns."""
    name = path.name.lower()
    if name.endswith((".csv", ".csv.gz")) or name == INVENTORY:
        return True
    if not name.endswith(".parquet"):
        return False
    from retrieval.images.shards.parquet import image_column, open_parquet

    schema = open_parquet(path).schema_arrow
    return image_column(schema) is None and bool(_columns(schema.names))


def listed_folders(path: Path) -> Iterator[FoundFolder]:
    """Give the files that a list names, those that follow each other in a folder together.

    Raises DataError for a list that cannot be read.
    """
    folder: Path | None = None
    files: list[FoundFile] = []
    for place, size, etag, label in _entries(path):
        if files and (place.parent != folder or len(files) >= AT_ONCE_LISTED):
            yield FoundFolder(files_folder(folder), path, files)
            files = []
        folder = place.parent
        files.append(_found(place, size, etag, label))
    if files:
        yield FoundFolder(files_folder(folder), path, files)


def files_folder(folder: Path | None) -> Path:
    """Return a folder that is known to be there."""
    if folder is None:
        raise ValueError("no folder")
    return folder


def _found(place: Path, size: int | None, etag: str | None, label: str | None) -> FoundFile:
    """One entry; what the list does not tell of it is asked for."""
    if size is not None and etag:
        return FoundFile(place.name, size, 0, None, etag, label)
    try:
        if isinstance(place, ObjectPath):
            facts = place.facts()
            return FoundFile(place.name, facts.size, facts.mtime_ns, None, facts.etag, label)
        status = place.stat()
        return FoundFile(place.name, status.st_size, modified_ns(status), None, None, label)
    except OSError as error:
        return FoundFile(place.name, 0, 0, os_reason(error), None, label)


_Entry = tuple[Path, int | None, str | None, str | None]


def _entries(path: Path) -> Iterator[_Entry]:
    try:
        if path.name.lower() == INVENTORY:
            yield from _inventory(path)
        elif path.name.lower().endswith(".parquet"):
            yield from _rows(path, _parquet_rows(path))
        else:
            yield from _rows(path, _csv_rows(path, None))
    except (OSError, ValueError, csv.Error) as error:
        reason = os_reason(error) if isinstance(error, OSError) else str(error)
        raise DataError(
            f"The list {path} cannot be read ({reason}). Give CSV or Parquet with a column uri, or "
            "the manifest.json of S3 Inventory."
        ) from error


def _rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Iterator[_Entry]:
    for row in rows:
        bucket, key = row.get("bucket"), row.get("key")
        column = next((name for name in ADDRESS_COLUMNS if row.get(name)), None)
        if bucket and key:
            place = place_of(f"s3://{bucket}/{unquote(str(key))}")
        elif column:
            text = str(row[column])
            place = place_of(text) if is_address(text) else path.parent / text
        else:
            raise ValueError("a line names no image")
        size = row.get("size")
        etag = row.get("etag") or row.get("e_tag")
        quoted = f'"{str(etag).strip(chr(34))}"' if etag else None
        label = row.get("label")
        yield (
            place,
            int(size) if size not in (None, "") else None,
            quoted,
            str(label) if label else None,
        )


def _csv_rows(path: Path, columns: list[str] | None) -> Iterator[Mapping[str, Any]]:
    """The lines of a CSV as dicts. columns: their names, where no first line tells them."""
    content = read_bounded(path, MOST_OF_A_LIST, is_named=True)
    if path.name.lower().endswith(".gz"):
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as packed:
            content = packed.read(MOST_OF_A_LIST + 1)
        if len(content) > MOST_OF_A_LIST:
            raise ValueError(f"it is larger than {MOST_OF_A_LIST:,} bytes")
    reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), columns)
    names = [name.strip().lower() for name in reader.fieldnames or ()]
    if not _columns(names):
        raise ValueError("it has no column uri, path, or bucket and key")
    reader.fieldnames = names
    yield from reader


def _parquet_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    from retrieval.images.shards.parquet import open_parquet

    file = open_parquet(path)
    names = {name.lower(): name for name in file.schema_arrow.names}
    wanted = [names[name] for name in (*ADDRESS_COLUMNS, *OTHER_COLUMNS) if name in names]
    for batch in file.iter_batches(columns=wanted):
        for row in batch.to_pylist():
            yield {name.lower(): value for name, value in row.items()}


def _inventory(path: Path) -> Iterator[_Entry]:
    """The objects of all files that a manifest of S3 Inventory names (its format 2016-11-30)."""
    manifest = json.loads(read_bounded(path, MOST_OF_A_MANIFEST, is_named=True))
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), list):
        raise ValueError("it is no manifest of S3 Inventory")
    said = str(manifest.get("destinationBucket", "")).removeprefix("arn:aws:s3:::")
    kind, schema = str(manifest.get("fileFormat", "")).upper(), str(manifest.get("fileSchema", ""))
    columns = [column.strip().lower() for column in schema.split(",")]
    for file in manifest["files"]:
        part = place_of(f"s3://{said}/{file['key']}")
        rows = _parquet_rows(part) if kind == "PARQUET" else _csv_rows(part, columns)
        yield from _rows(part, (row for row in rows if _is_current(row)))


def _is_current(row: Mapping[str, Any]) -> bool:
    latest = str(row.get("islatest", row.get("is_latest", "true"))).lower() != "false"
    gone = str(row.get("isdeletemarker", row.get("is_delete_marker", "false"))).lower() == "true"
    return latest and not gone


def _columns(names: Iterable[str]) -> bool:
    """Whether columns tell where images are."""
    known = {name.lower() for name in names}
    return bool(known & set(ADDRESS_COLUMNS)) or {"bucket", "key"} <= known
