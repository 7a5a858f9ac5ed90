"""What a folder of labelled images is: which of its folders are splits, which are classes."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from classify.words import ClassFolders
from retrieval.errors import DataError
from retrieval.images import find_images, subfolders
from retrieval.text import composed

Split = Literal["train", "validation", "test"]

_SPLITS: dict[str, Split] = {
    **dict.fromkeys(("train", "training", "trainval", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "minival"), "validation"),
    **dict.fromkeys(("dev", "devel", "development"), "validation"),
    **dict.fromkeys(("test", "testing", "testdev", "tst", "holdout", "held", "heldout"), "test"),
}
_EVALUATION = ("eval", "evaluation")  # for choosing, unless another folder is
_EXTRAS = re.compile(  # other pictures of the classes of splits, for other purposes
    r"(?<![a-z])(query|queries|gallery|extra|pred(ict(ion)?)?|unlabell?ed|samples?|demo)s?(?![a-z])",
    re.IGNORECASE,
)
_WORDS, _RUNS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+"), re.compile(r"[A-Za-z]+")
_SUFFIX = re.compile(r"(?<=.)(sets?|data|images?|imgs?|split|folder|dir)$")
NAMES_SHOWN = 4
MOST_NAMED = 4  # one in so many classes may be named as a split; where more are, they may be splits
NOT_SPLITS = "folders with the names of splits and no classes in them"


@dataclass(frozen=True)
class Layout:
    """Folders of class folders. validation, test: None where there are none. notes: what was
    taken for what, and what is not used, in sentences."""

    train: Path
    validation: Path | None = None
    test: Path | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Shape:
    """Whether a folder holds images directly, and which of its subfolders hold some."""

    direct: bool
    below: tuple[str, ...]


def split_of(name: str) -> Split | Literal["evaluation"] | None:
    """Return the split that a folder's name means, in any case, with prefixes or suffixes.

    >>> split_of("seg_train"), split_of("Testing"), split_of("VAL2017"), split_of("trainset")
    ('train', 'test', 'validation', 'train')
    >>> split_of("latest"), split_of("TESTing"), split_of("hold_out")
    (None, 'test', 'test')
    """
    words = _WORDS.findall(name)
    pairs = [first + second for first, second in itertools.pairwise(words)]
    for word in map(str.lower, [*words, *_RUNS.findall(name), *pairs]):
        stem = _SUFFIX.sub("", word)
        if stem in _EVALUATION:
            return "evaluation"
        if stem in _SPLITS:
            return _SPLITS[stem]
    return None


def find_layout(folder: Path, how: ClassFolders = "auto") -> Layout:
    """Find the splits of a folder, or the folder itself as the one to train on.

    A split is a folder of class folders; a folder of that name which holds images is a class.
    Raises DataError, with what was seen, where "auto" cannot tell. Otherwise all folders hold
    classes there.
    """
    shapes = _shapes(folder)
    empty = [name for name in _empty_in(folder, shapes) if split_of(name)]
    around = None if empty else _around_it_all(shapes, may_hold_images=how == "auto")
    if around:
        return find_layout(folder / around, how)
    found = _splits_in(shapes)
    trains = [name for name, split in found.items() if split == "train"]
    if not trains:
        if found and any(split_of(name) == "train" for name in empty):
            raise DataError(
                f"{folder} has no images to train on: there is none in {_listed(empty)}. Put class "
                "folders with images there."
            )
        if how == "auto":
            return Layout(folder, notes=_classes_named_as_splits(folder, shapes))
        return Layout(folder)
    unused = [name for name in shapes if name not in found]
    of_split = {split: name for name, split in found.items()}
    if len(found) > len(of_split):
        raise _several(folder, found)
    if len(found) == 1 and _may_be_classes([shapes[n] for n in unused if not split_of(n)]):
        if how == "auto":
            raise _unclear(folder, shapes, "folders of several kinds")
        note = f"{trains[0]}/ is not taken as a split: folders beside it hold classes too."
        return Layout(folder, notes=(note,))
    if how == "auto" and _of_the_same(shapes, found, unused):
        raise _unclear(folder, shapes, "folders of several kinds")
    notes = [_taken(of_split)] if len(found) > 1 or trains[0] != "train" else []
    notes += [f"{folder / name} is not used: {_why_unused(shapes[name])}" for name in unused]
    notes += [f"{folder / name} is not used: it holds no images." for name in empty]
    inside = {split: _innermost(folder / name) for split, name in of_split.items()}
    if how == "auto":
        notes += _check_inside(inside)
    paths = {split: path for split, (path, _) in inside.items()}
    return Layout(paths["train"], paths.get("validation"), paths.get("test"), tuple(notes))


def find_tested(folder: Path, classes: Sequence[str]) -> Path:
    """Find the folder of class folders to test on: the split of that kind, or the folder itself.

    classes: those of the model. Raises DataError where there are other splits only, or several to
    test on.
    """
    shapes = _shapes(folder)
    named = {part for name in classes for part in (name, name.partition("/")[0])}
    if any(composed(name) in named and not split_of(name) for name in shapes):
        return folder
    if around := _around_it_all(shapes, may_hold_images=True):
        return find_tested(folder / around, classes)
    found = _splits_in(shapes)
    tests = [name for name, split in found.items() if split == "test"]
    if len(tests) == 1:
        return find_tested(folder / tests[0], classes)
    if tests:
        raise _several(folder, found)
    if len(found) > 1:
        raise DataError(
            f"{folder} has {_listed(list(found))}, but no images to test on. Give one of these."
        )
    return folder


def class_folders(folder: Path, how: ClassFolders = "auto") -> dict[str, list[Path]]:
    """Return the names of classes, sorted, with the folders of each; equal Unicode is one.

    With "deepest" the folders at the top, below which each folder that holds images is a class.
    Raises DataError, with what was seen, where "auto" cannot tell.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder. Give one with a subfolder of images per class.")
    if how == "auto":
        _check_plain(folder, _shapes(folder))
    named: dict[str, list[Path]] = {}
    for path in subfolders(folder):
        named.setdefault(composed(path.name), []).append(path)
    return dict(sorted(named.items()))


def folders_without_images(folder: Path, how: ClassFolders = "auto") -> list[str]:
    """Name the folders that would be classes of a folder if they held an image, sorted."""
    named = class_folders(folder, "folder")
    empty = [name for name, paths in named.items() if next(find_images(paths), None) is None]
    if how == "deepest":
        walked = {folder.resolve()}  # links may lead around
        for name in named.keys() - empty:
            for path in named[name]:
                empty += [composed(f"{name}/{below}") for below in _empty_below(path, walked)]
    return sorted(empty)


def _empty_below(folder: Path, walked: set[Path]) -> list[str]:
    """Name what holds no image below a folder that holds some; of one in another the outer one."""
    if folder.resolve() in walked:
        return []
    walked.add(folder.resolve())
    empty = _empty_in(folder, _shapes(folder))
    for path in subfolders(folder):
        if path.name not in empty:
            empty += [f"{path.name}/{below}" for below in _empty_below(path, walked)]
    return empty


def _may_be_classes(shapes: Sequence[_Shape]) -> bool:
    """Tell whether folders beside a split may be classes, and not only one of other pictures."""
    return any(shape.below for shape in shapes) or sum(shape.direct for shape in shapes) > 1


def _of_the_same(
    shapes: Mapping[str, _Shape], found: Mapping[str, Split], unused: Sequence[str]
) -> bool:
    """Tell whether folders beside splits hold folders of the same names, so that all are classes.

    What is named as other pictures of these classes (query/) is no class.
    """
    inside = {below for name in found for below in shapes[name].below}
    return any(
        inside & set(shapes[name].below) and not _EXTRAS.search(name) and not split_of(name)
        for name in unused
    )


def _why_unused(shape: _Shape) -> str:
    if shape.below:
        return "its name is not that of a split. Rename it train/, val/ or test/ if it is one."
    return "it holds no class folders."


def _check_inside(
    inside: Mapping[Split, tuple[Path, Mapping[str, _Shape]]],
) -> tuple[str, ...]:
    """Raise DataError where a folder of class folders has a split among them, of the same classes.

    The only split is looked at as a folder without any. Returns what is to be said.
    """
    if len(inside) == 1:
        return _classes_named_as_splits(*inside["train"])
    for folder, shapes in inside.values():
        for name, shape in shapes.items():
            if split_of(name) and len(set(shape.below) & (shapes.keys() - {name})) > 1:
                raise _unclear(folder, shapes, "folders of several kinds")
    return ()


def _classes_named_as_splits(folder: Path, shapes: Mapping[str, _Shape]) -> tuple[str, ...]:
    """Say which classes have the name of a split, where that is plain from many others.

    Raises DataError where few others are, or where there is a split to hold out beside classes.
    """
    named = [name for name in shapes if split_of(name)]
    notes: tuple[str, ...] = ()
    if len({split_of(name) for name in named}) > 1 and any(shapes[name].direct for name in named):
        if MOST_NAMED * len(named) >= len(shapes):
            raise _unclear(folder, shapes, NOT_SPLITS)
        notes = (f"{_listed(named)} are classes, as the other folders of {folder} are.",)
    found = _splits_in(shapes)
    if found and "train" not in found.values() and len(found) < len(shapes):
        raise _unclear(folder, shapes, "folders of several kinds")
    return notes


def _check_plain(folder: Path, shapes: Mapping[str, _Shape]) -> None:
    without = [name for name, shape in shapes.items() if not shape.direct]
    common = Counter(composed(name).lower() for s in shapes.values() for name in set(s.below))
    most = max(common.values(), default=0)
    if 2 * len(without) > len(shapes):
        raise _unclear(folder, shapes, "folders that hold no image themselves")
    if most > 1 and 2 * most > len(shapes):
        raise _unclear(folder, shapes, "folders that hold folders of the same names")
    if len(shapes) > 1 and all(split_of(name) for name in shapes):
        raise _unclear(folder, shapes, NOT_SPLITS)


def _unclear(folder: Path, shapes: Mapping[str, _Shape], what: str) -> DataError:
    return DataError(
        f"{folder} has {what}, so it is unclear which of them are classes: {_described(shapes)}. "
        "Give a folder with one subfolder of images per class, or with train/, val/ and test/ that "
        "have such subfolders. Or give --classes folder (each subfolder is a class, with all below "
        "it) or --classes deepest (each folder with images is a class, such as animals/cat)."
    )


def _several(folder: Path, found: Mapping[str, Split]) -> DataError:
    count = Counter(found.values())
    split, names = next((s, [n for n in found if found[n] == s]) for s in count if count[s] > 1)
    verb = {"train": "train on", "validation": "validate with", "test": "test on"}[split]
    return DataError(
        f"{folder} has several folders to {verb}: {_listed(names)}. Leave one of them there, "
        "with all images of that kind."
    )


def _listed(names: Sequence[str]) -> str:
    *some, last = (f"{name}/" for name in names)
    return f"{', '.join(some)} and {last}" if some else last


def _described(shapes: Mapping[str, _Shape]) -> str:
    """Describe some of the folders: those with the names of splits first."""
    lines = []
    for name, shape in sorted(shapes.items(), key=lambda item: not split_of(item[0]))[:NAMES_SHOWN]:
        inside = ["images"] * shape.direct
        inside += [f"{below}/" for below in shape.below[:NAMES_SHOWN]]
        inside += ["..."] * (len(shape.below) > NAMES_SHOWN)
        lines.append(f"{name}/ ({', '.join(inside)})")
    more = len(shapes) - len(lines)
    return ", ".join(lines) + f" and {more} more" * (more > 0)


def _splits_in(shapes: Mapping[str, _Shape]) -> dict[str, Split]:
    """Find folders of class folders that are named as splits; images beside the classes or not."""
    called = {name: split_of(name) for name, shape in shapes.items() if shape.below}
    shared = Counter(below for name in called if called[name] for below in shapes[name].below)
    named = {
        name: split
        for name, split in called.items()
        if not shapes[name].direct or sum(shared[below] > 1 for below in shapes[name].below) > 1
    }
    chosen_by = "validation" not in named.values()
    found: dict[str, Split] = {}
    for name, split in named.items():
        if split == "evaluation":
            found[name] = "validation" if chosen_by else "test"
        elif split is not None:
            found[name] = split
    return found


def _taken(of_split: Mapping[Split, str]) -> str:
    words: dict[Split, str] = {
        "train": "to train on",
        "validation": "to validate with",
        "test": "to test on",
    }
    parts = [f"{of_split[split]}/ is {word}" for split, word in words.items() if split in of_split]
    return f"{', '.join(parts)}."


def _innermost(folder: Path) -> tuple[Path, dict[str, _Shape]]:
    """Return the folder of class folders inside of a split's folder, and what it holds."""
    shapes = _shapes(folder)
    around = _around_it_all(shapes, may_hold_images=False)
    return _innermost(folder / around) if around else (folder, shapes)


def _around_it_all(shapes: Mapping[str, _Shape], *, may_hold_images: bool) -> str | None:
    """Name the only folder, where it holds folders instead of images.

    may_hold_images: a split of several classes is taken, too, though images lie beside these.
    """
    if len(shapes) != 1:
        return None
    (name, only), *_ = shapes.items()
    is_split = may_hold_images and len(only.below) > 1 and split_of(name) is not None
    return name if only.below and (is_split or not only.direct) else None


def _empty_in(folder: Path, shapes: Mapping[str, _Shape]) -> list[str]:
    """Name the subfolders that hold no image."""
    return [path.name for path in subfolders(folder) if path.name not in shapes]


def _shapes(folder: Path) -> dict[str, _Shape]:
    """Return the subfolders that hold images, directly or below, sorted by name."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder. Give one with a subfolder of images per class.")
    shapes = {}
    for path in subfolders(folder):
        first = next(find_images([path]), None)
        if first is not None:
            below = tuple(f.name for f in subfolders(path) if next(find_images([f]), None))
            shapes[path.name] = _Shape(first.path.parent == path, below)
    return shapes
