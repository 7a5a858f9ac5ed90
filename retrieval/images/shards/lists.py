"""Lists of images that lie elsewhere: CSV or Parquet with a column of addresses, or S3 Inventory.

Size and etag of an object are taken from the list where it has them, so that nothing is asked of
the store before the images are read.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

from retrieval.errors import DataError, ImageError
from retrieval.files import modified_ns, read_bounded
from retrieval.images.folders import ASKED_AHEAD, ASKED_AT_ONCE, FoundFile, FoundFolder
from retrieval.images.formats import has_image_suffix, os_reason
from retrieval.objects import MOST_OF_A_SIZE, ObjectPath, is_address, place_of
from retrieval.threads import map_ahead

ADDRESS_COLUMNS = ("uri", "url", "path", "file", "file_name", "image")
OTHER_COLUMNS = ("bucket", "key", "size", "etag", "e_tag", "label")
MOST_OF_A_LIST = 1 << 30  # bytes, unpacked; an inventory has many files
MOST_OF_A_MANIFEST = 1 << 24
MOST_OF_AN_ADDRESS, MOST_OF_AN_ETAG, MOST_OF_A_GIVEN_LABEL = 4096, 256, 1000  # characters
MOST_BAD_ROWS = 1000  # of one file
AT_ONCE_LISTED = 4096  # entries of one folder
INVENTORY = "manifest.json"


def is_list(path: Path) -> bool:
    """Tell whether a file is a list of images, by its name and, of Parquet, by its columns."""
    name = path.name.lower()
    if name.endswith((".csv", ".csv.gz")) or name == INVENTORY:
        return True
    if not name.endswith(".parquet"):
        return False
    from retrieval.images.shards.parquet import image_column, open_parquet, text_columns

    schema = open_parquet(path).schema_arrow
    return image_column(schema) is None and _columns(text_columns(schema))


def listed_folders(path: Path) -> Iterator[FoundFolder]:
    """Give the files that a list names, those that follow each other in a folder together.

    A row that names no image comes with its reason, after all others. Raises DataError for a list
    that cannot be read, or that names nothing.
    """
    folder: Path | None = None
    files: list[FoundFile] = []
    asked = map_ahead(
        _asked, _entries(path), late=_unanswered, workers=ASKED_AT_ONCE, ahead=ASKED_AHEAD,
        name="imgret-list",
    )  # fmt: skip
    for place, file in asked:
        if folder is not None and (place != folder or len(files) >= AT_ONCE_LISTED):
            yield FoundFolder(folder, path, files)
            files = []
        folder = place
        files.append(file)
    if folder is not None:
        yield FoundFolder(folder, path, files)


_Entry = tuple[Path, FoundFile]  # a folder, and a name in it
NOT_ASKED = -2  # the size of what the list does not tell, and the store has to be asked


def _asked(entry: _Entry) -> _Entry:
    """Complete an entry: what the list does not tell of it is asked for."""
    folder, file = entry
    if file.size != NOT_ASKED:
        return entry
    place = folder / file.name
    try:
        if isinstance(place, ObjectPath):
            facts = place.facts()
            return folder, file._replace(size=facts.size, mtime_ns=facts.mtime_ns, etag=facts.etag)
        status = place.stat()
        return folder, file._replace(size=status.st_size, mtime_ns=modified_ns(status))
    except OSError as error:
        return folder, file._replace(size=0, error=os_reason(error))


def _unanswered(entry: _Entry) -> _Entry:
    folder, file = entry
    return folder, file._replace(size=0, error="its store does not answer")


def _entries(path: Path) -> Iterator[_Entry]:
    try:
        if path.name.lower() == INVENTORY:
            yield from _inventory(path)
        elif path.name.lower().endswith(".parquet"):
            yield from _rows(path, _parquet_rows(path))
        else:
            yield from _rows(path, _csv_rows(path, None))
    except (OSError, ValueError, ImageError, csv.Error, RecursionError) as error:
        reason = os_reason(error) if isinstance(error, OSError) else str(error)
        raise DataError(
            f"The list {path} cannot be read ({reason}). Give CSV or Parquet with a column uri, or "
            "the manifest.json of S3 Inventory."
        ) from error


def _rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Iterator[_Entry]:
    """The files that rows name, then the rows that name none. Raises ValueError for only such."""
    bad: list[FoundFile] = []
    names_some = False
    for number, row in enumerate(rows, 1):
        try:
            entry = _entry(path.parent, row)
        except ValueError as error:
            bad.append(FoundFile(f"row {number}", 0, 0, str(error)))
            if len(bad) > MOST_BAD_ROWS:
                raise
        else:
            names_some = True
            yield entry
    if bad and not names_some:
        raise ValueError(bad[0].error)
    yield from ((path, file) for file in bad)


def _entry(folder: Path, row: Mapping[str, Any]) -> _Entry:
    """What a row names. Raises ValueError, with a reason, where that is no image."""
    place = _place(folder, row)
    size, etag, label = row.get("size"), row.get("etag") or row.get("e_tag"), row.get("label")
    told = _size(size) if etag and size not in (None, "") else None
    return place.parent, FoundFile(
        place.name,
        NOT_ASKED if told is None else told,
        0,
        None,
        None if told is None else f'"{str(etag).strip(chr(34))[:MOST_OF_AN_ETAG]}"',
        str(label)[:MOST_OF_A_GIVEN_LABEL] if label and isinstance(label, str | int) else None,
    )


def _place(folder: Path, row: Mapping[str, Any]) -> Path:
    """Where the image of a row is. folder: that of the list."""
    bucket, key = row.get("bucket"), row.get("key")
    text = next((row[name] for name in ADDRESS_COLUMNS if row.get(name)), None)
    if bucket and key:
        text = f"s3://{bucket}/{key}"
    if not isinstance(text, str) or not text.strip():
        raise ValueError("it names no image")
    if len(text) > MOST_OF_AN_ADDRESS:
        raise ValueError(f"its address has more than {MOST_OF_AN_ADDRESS:,} characters")
    if isinstance(folder, ObjectPath) and not is_address(text):
        text = f"{folder}/{text}"
    place = place_of(text) if is_address(text) else folder / text
    if "\0" in str(place) or place.name in ("", ".."):
        raise ValueError("it names no image")
    if isinstance(place, ObjectPath):
        if str(place) != text:
            raise ValueError(f"{text} has an empty part, or ends in a slash; rename it")
    elif isinstance(folder, ObjectPath):
        raise ValueError("a list in a store names files of this machine; copy the list to it")
    return place


def _size(value: Any) -> int:
    try:
        size = int(value)
    except (TypeError, ValueError):
        size = -1
    if not 0 <= size <= MOST_OF_A_SIZE:
        raise ValueError("its size is no number of bytes")
    return size


def _csv_rows(path: Path, columns: list[str] | None) -> Iterator[Mapping[str, Any]]:
    """The lines of a CSV as dicts. columns: their names, where no first line tells them."""
    content = read_bounded(path, MOST_OF_A_LIST, is_named=True)
    if path.name.lower().endswith(".gz"):
        content = _unpacked(content)
    reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), columns)
    names = [name.strip().lower() for name in reader.fieldnames or ()]
    if not _columns(names):
        raise ValueError("it has no column uri, path, or bucket and key")
    reader.fieldnames = names
    yield from reader


def _unpacked(content: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as packed:
            found = packed.read(MOST_OF_A_LIST + 1)
    except (EOFError, zlib.error) as error:  # which are neither OSError nor ValueError
        raise ValueError("it is damaged or truncated") from error
    if len(found) > MOST_OF_A_LIST:
        raise ValueError(f"it is larger than {MOST_OF_A_LIST:,} bytes")
    return found


def _parquet_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    from retrieval.images.shards.parquet import open_parquet, readable_batches

    file = open_parquet(path)
    names = {name.lower(): name for name in file.schema_arrow.names}
    wanted = [names[name] for name in (*ADDRESS_COLUMNS, *OTHER_COLUMNS) if name in names]
    for batch in readable_batches(file, wanted):
        for row in batch.to_pylist():
            yield {name.lower(): value for name, value in row.items()}


def _inventory(path: Path) -> Iterator[_Entry]:
    """The images of all files that a manifest of S3 Inventory names (its format 2016-11-30).

    An inventory lists all that a bucket holds; what has no image's suffix is left out.
    """
    manifest = json.loads(read_bounded(path, MOST_OF_A_MANIFEST, is_named=True))
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, list) or not all(isinstance(file, dict) for file in files):
        raise ValueError("it is no manifest of S3 Inventory")
    said = str(manifest.get("destinationBucket", "")).removeprefix("arn:aws:s3:::")
    kind, schema = str(manifest.get("fileFormat", "")).upper(), str(manifest.get("fileSchema", ""))
    if kind not in ("CSV", "PARQUET"):
        raise ValueError("its files are neither CSV nor Parquet")
    columns = [column.strip().lower() for column in schema.split(",")]
    for file in files:
        part = place_of(f"s3://{said}/{file.get('key')}")
        rows = _parquet_rows(part) if kind == "PARQUET" else map(_decoded, _csv_rows(part, columns))
        yield from _rows(part, (row for row in rows if _is_current_image(row)))


def _decoded(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A line of an inventory in CSV, whose keys are encoded as forms of the web are."""
    return {**row, "key": unquote_plus(str(row.get("key") or ""))}


def _is_current_image(row: Mapping[str, Any]) -> bool:
    latest = str(row.get("islatest", row.get("is_latest", "true"))).lower() != "false"
    gone = str(row.get("isdeletemarker", row.get("is_delete_marker", "false"))).lower() == "true"
    return latest and not gone and has_image_suffix(str(row.get("key")))


def _columns(names: Iterable[str]) -> bool:
    """Whether columns tell where images are."""
    known = {name.lower() for name in names}
    return bool(known & set(ADDRESS_COLUMNS)) or {"bucket", "key"} <= known
