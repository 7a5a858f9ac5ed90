"""Figures, and self-contained HTML pages: matches, duplicates, evaluations, comparisons, maps."""

from retrieval.report.contact_sheet import contact_sheet, write_contact_sheet
from retrieval.report.duplicates import duplicate_sheet, write_duplicate_sheet

__all__ = [
    "contact_sheet",
    "duplicate_sheet",
    "write_contact_sheet",
    "write_duplicate_sheet",
]
