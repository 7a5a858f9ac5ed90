"""Which pieces of the table are rewritten: small ones, and those that lost rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval.gallery.versions import data_files_of
from retrieval.objects import ObjectPath

PIECES_KEPT = 16  # small ones
BYTES_A_PIECE, BYTES_BESIDE = 1 << 28, 300  # of a full piece; of a row beside its embedding
MOST_DELETED = 0.2  # of a piece's rows
ERASED_AT_ONCE = 1 << 24  # bytes of pieces that are written anew at a removal


@dataclass(frozen=True)
class Compaction:
    """Pieces that are written anew as pieces of at most so many rows.

    threshold: share of deleted rows from which a piece is written anew though it is large.
    """

    pieces: list[Any]
    rows: int
    threshold: float

    def files(self, table: Path) -> list[Path]:
        """The files of these pieces."""
        return [file for piece in self.pieces for file in data_files_of(table, piece)]

    def size(self, table: Path) -> int:
        """The bytes of these pieces, which the new ones need beside them."""
        if isinstance(table, ObjectPath):  # as the manifest has them, without asking for each
            known = (data for piece in self.pieces for data in piece.metadata.files)
            return sum(data.file_size_bytes or 0 for data in known)
        return sum(file.stat().st_size for file in self.files(table))

    def run(self, dataset: Any) -> None:
        """Write them anew, in one commit."""
        dataset.optimize.compact_files(
            target_rows_per_fragment=self.rows, materialize_deletions_threshold=self.threshold
        )


def due(dataset: Any, dim: int) -> Compaction | None:
    """Return what merges small pieces once there are many, and pieces that lost many rows."""
    rows = _rows_a_piece(dim)
    pieces = _below(dataset, rows, MOST_DELETED)
    small = sum(piece.physical_rows < rows for piece in pieces)
    if small <= PIECES_KEPT and not any(_share_deleted(p) > MOST_DELETED for p in pieces):
        return None
    return Compaction(pieces, rows, MOST_DELETED)


def complete(dataset: Any, dim: int) -> Compaction | None:
    """Return what merges all small pieces, and all that hold a removed row."""
    rows = _rows_a_piece(dim)
    pieces = _below(dataset, rows, 0.0)
    if len(pieces) > 1 or any(map(_share_deleted, pieces)):
        return Compaction(pieces, rows, 0.0)
    return None


def erasure(dataset: Any, table: Path) -> Compaction | None:
    """Return what rewrites the pieces that hold a removed row, where these are small."""
    holding = [p for p in dataset.get_fragments() if p.metadata.deletion_file]
    if not holding:
        return None
    rows = max(piece.physical_rows for piece in holding)
    found = Compaction(_below(dataset, rows, 0.0), rows, 0.0)
    return found if found.size(table) <= ERASED_AT_ONCE else None


def _rows_a_piece(dim: int) -> int:
    return BYTES_A_PIECE // (2 * dim + BYTES_BESIDE)


def _below(dataset: Any, rows: int, most_deleted: float) -> list[Any]:
    """What Lance writes anew: pieces of fewer rows, and those of which more are deleted."""
    return [
        piece
        for piece in dataset.get_fragments()
        if piece.physical_rows < rows or _share_deleted(piece) > most_deleted
    ]


def _share_deleted(piece: Any) -> float:
    return float(piece.num_deletions) / max(1, piece.physical_rows)
