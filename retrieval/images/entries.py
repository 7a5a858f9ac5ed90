"""What lies in a folder of an object store, with the methods of os.DirEntry."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from retrieval.objects import ObjectFacts, ObjectPath


@dataclass(frozen=True)
class ObjectEntry:
    """An object, or a folder (facts is None); etag: what its store tells it by."""

    folder: ObjectPath
    name: str
    facts: ObjectFacts | None

    @property
    def path(self) -> str:
        """The address."""
        return str(self.folder / self.name)

    @property
    def etag(self) -> str | None:
        """What the store tells its content by."""
        return self.facts.etag if self.facts else None

    def is_dir(self) -> bool:
        """Whether this is a folder."""
        return self.facts is None

    def is_file(self) -> bool:
        """Whether this is an object."""
        return self.facts is not None

    def is_symlink(self) -> bool:
        """Return False."""
        return False

    def stat(self) -> os.stat_result:
        """Return size and time, without asking the store."""
        return (self.facts or ObjectFacts(self.name, 0, 0, "")).as_status(
            stat.S_IFREG if self.facts else stat.S_IFDIR, self.path
        )


def object_entries(folder: ObjectPath) -> list[ObjectEntry]:
    """List a folder of a store, sorted by name. Raises OSError."""
    objects, folders = folder.listed()
    entries = [ObjectEntry(folder, each.name, each) for each in objects]
    entries += [ObjectEntry(folder, name, None) for name in folders]
    return sorted(entries, key=lambda entry: entry.name)
