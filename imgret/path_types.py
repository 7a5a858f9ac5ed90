"""Paths on the command line, checked before any work is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from retrieval.files import check_can_make, check_folder, is_a_file, is_a_folder
from retrieval.milvus import ServedAddress, is_served
from retrieval.objects import is_address, place_of
from retrieval.text import listed, unwritable


class NamedPath(click.Path):
    """A path that is no address, and not "": an unset variable is not the working directory.

    stores: whether it may be an address in an object store, such as s3://bucket/photos.
    """

    def __init__(self, *args: Any, stores: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stores = stores

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path as click.Path does."""
        if value == "":
            self.fail("The path is empty. Give a path.", param, ctx)
        if is_address(value) and self.stores:
            try:
                return place_of(value)
            except ValueError as error:
                self.fail(f"{error}.", param, ctx)
        if is_address(value):
            self.fail(f"{value} is an address. Give a path on this machine.", param, ctx)
        if not self.dir_okay and is_a_folder(value):
            self.fail(f"{value} is a folder. Name a file.", param, ctx)
        if not self.file_okay and is_a_file(value):
            self.fail(f"{value} is a file. Name a folder.", param, ctx)
        return super().convert(value, param, ctx)


class GalleryPlace(NamedPath):
    """A gallery's folder as a path, or the address where one was published as text."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path or the address. Raises ArgumentError for a wrong address."""
        if is_served(value):
            ServedAddress.parse(value)
            return value
        return super().convert(value, param, ctx)


class FileToWrite(NamedPath):
    """A file that the command writes at its end; whether it can is checked before the work.

    suffixes: those that it may have, in any case; by default any.
    """

    def __init__(self, *suffixes: str) -> None:
        super().__init__(path_type=Path, dir_okay=False)
        self.suffixes = suffixes

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path. Raises WriteError where its folder is not there."""
        file = super().convert(value, param, ctx)
        if self.suffixes and file.suffix.lower() not in self.suffixes:
            known = listed(self.suffixes, "or")
            self.fail(f"{file} has an unknown suffix. Use {known}.", param, ctx)
        try:
            check_folder(file)
        except OSError as error:
            raise unwritable(file, error) from error
        return file


class FolderToWrite(NamedPath):
    """A folder that the command makes at its end, with those above it."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, file_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path. Raises WriteError where it cannot be made."""
        folder = super().convert(value, param, ctx)
        try:
            check_can_make(folder)
        except OSError as error:
            raise unwritable(folder, error) from error
        return folder
