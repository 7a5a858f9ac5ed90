"""The words of a recipe that the command line uses too, defined once and without an import."""

from __future__ import annotations

from typing import Literal

NamedClassFolders = Literal["folder", "deepest"]
ClassFolders = Literal["auto", NamedClassFolders]
"""Which folders are classes: each subfolder, if it is plain that they are; each subfolder, with all
that lies below it; or each folder that holds images, under its path."""
