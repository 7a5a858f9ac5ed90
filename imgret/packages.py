"""Whether imgret's packages are its own; others have folders and distributions of these names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import util
from pathlib import Path

PACKAGES = ("classify", "imgret", "retrieval")
DISTRIBUTIONS = ("imgret", "imgret_light")  # as the folders of their metadata are called
RECORD = "RECORD"  # what an installer says of the files that it wrote: path,hash,bytes


def check_packages(home: Path | None = None) -> None:
    """Raise ImportError when one of imgret's packages is not, or not only, its own.

    Either Python finds a folder of the user's in its place, or a distribution by others has put
    its files into it. home: the folder of our packages; by default of the imgret that runs.
    """
    home = home or Path(__file__).resolve().parent.parent
    for name in PACKAGES:
        spec = util.find_spec(name)
        places = [Path(p).resolve() for p in (spec and spec.submodule_search_locations) or []]
        if home / name not in places:
            where = places[0] if places else (spec and spec.origin) or "nothing"
            raise ImportError(
                f"imgret needs its own package {name!r}, but Python finds {where} in its place. "
                "Rename that folder or file, or start Python from another folder."
            )
    check_files(home)


def check_files(home: Path) -> None:
    """Raise ImportError when another distribution's files lie in our packages below home.

    A checkout has no record of its files, so nothing is told of it. A file that a user changed by
    hand is no other distribution's.
    """
    ours = [folder for name in DISTRIBUTIONS for folder in home.glob(f"{name}-*.dist-info")]
    recorded = [dict(_recorded(folder)) for folder in ours]
    if len(recorded) > 1 and any(record != recorded[0] for record in recorded):
        raise ImportError(
            f"{_named(ours[0])} and {_named(ours[1])} are both installed in {home} and share their "
            "files, which differ. Uninstall both, then install the one that you want."
        )
    if recorded:
        strange = list(_strange(home, recorded[0]))
        for folder in home.glob("*.dist-info") if strange else ():
            if folder not in ours and (theirs := dict(_recorded(folder)).keys() & strange):
                raise ImportError(
                    f"{_named(folder)}, another distribution, has put files into imgret's packages "
                    f"({home / min(theirs)}). Uninstall it and install imgret again, or install "
                    "imgret into an environment of its own."
                )


def _recorded(distribution: Path) -> Iterator[tuple[str, str]]:
    """Files of a distribution that lie in our packages, with their hash and bytes."""
    try:
        text = (distribution / RECORD).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return
    for line in text.splitlines():
        if line.startswith(tuple(f"{name}/" for name in PACKAGES)):
            path, _, facts = line.partition(",")
            yield path, facts


def _strange(home: Path, recorded: dict[str, str]) -> Iterator[str]:
    """Files below our packages that are not recorded, or have another size."""
    todo = list(PACKAGES)
    while todo:  # strings, not paths: each start of the command passes here
        folder = todo.pop()
        with os.scandir(home / folder) as entries:
            for entry in entries:
                key = f"{folder}/{entry.name}"
                if not entry.is_dir(follow_symlinks=False):
                    size = entry.stat(follow_symlinks=False).st_size
                    if recorded.get(key, "").rpartition(",")[2] != str(size):
                        yield key
                elif entry.name != "__pycache__":
                    todo.append(key)


def _named(distribution: Path) -> str:
    """Return the name and the version, as pip writes them."""
    name, _, version = distribution.name.removesuffix(".dist-info").partition("-")
    return f"{name.replace('_', '-')} {version}"
