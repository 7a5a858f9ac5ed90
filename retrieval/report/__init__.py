"""Self-contained HTML pages: contact sheets."""

from retrieval.report.contact_sheet import contact_sheet, write_contact_sheet

__all__ = ["contact_sheet", "write_contact_sheet"]
