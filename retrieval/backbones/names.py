"""A backbone's name -> where it comes from and what it is called there; parsed here, and only here.

A name is read by the first of these lines that fits it. Whether a folder exists decides in the
last line alone, so that a stored name means the same in every working directory.

1. ``mini`` is imgret's own, and a short name (``resnet50``) is timm's, also where a folder is
   called so: ``./mini`` and ``mini/`` are the folder.
2. ``hf-hub:user/model`` or ``hf_hub:user/model``, with ``@revision`` or without, is at the hub.
   ``local-dir:PATH`` is a folder. ``random:NAME`` is timm's network with random weights.
3. ``timm/NAME`` is timm's, as the hub writes it; ``./timm/NAME`` is a folder.
4. What is written as a path is a folder: with a slash or a backslash in it, or ``~`` before it.
5. A name that timm has weights for is timm's, with the tag of the weights or without.
6. Any other is a folder where one of that name exists, else timm's, which may be newer than the
   table of what it knows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from retrieval.backbones.known import alike, known_architectures
from retrieval.errors import BackboneError
from retrieval.files import is_a_file
from retrieval.libraries import is_installed
from retrieval.words import DEFAULT_BACKBONE

SHORT_NAMES = {
    "mobilenetv2": "mobilenetv2_100.ra_in1k",
    "resnet50": "resnet50.a1_in1k",
    "efficientnet-b7": "tf_efficientnet_b7.ns_jft_in1k",
}
MINI = DEFAULT_BACKBONE  # imgret's own, whose weights are in the package
RANDOM, HUB, LOCAL_DIR, TIMM = "random:", "hf-hub:", "local-dir:", "timm/"
LONGEST_NAME = 4096  # characters: of a path on Linux
_TIMM_ID = re.compile(r"\w[\w-]*(\.[\w.-]+)?", re.ASCII)
_PART = r"\w(?:[\w.-]*\w)?"
_HUB_ID = re.compile(rf"(?:{_PART}/)?{_PART}(?:@\w[\w./-]*)?", re.ASCII)

BackboneSource = Literal["mini", "timm", "hub", "folder", "random"]


@dataclass(frozen=True)
class BackboneName:
    """Where a backbone comes from, and what it is called there.

    source: imgret's own ("mini"), "timm", the Hugging Face "hub", a "folder", or timm's network
    with "random" weights. id: timm's name, the hub's "user/model", or the folder's absolute path.

    >>> str(BackboneName("hub", "timm/resnet50.a1_in1k"))
    'hf-hub:timm/resnet50.a1_in1k'
    """

    source: BackboneSource
    id: str

    def __str__(self) -> str:
        """Return the stored text, which parse_name() reads as this record again."""
        if self.source == "timm" and self.architecture not in known_architectures():
            return TIMM + self.id  # or else a folder of that name would hide it
        return {"hub": HUB, "random": RANDOM}.get(self.source, "") + self.id

    @property
    def folder(self) -> Path | None:
        """The folder with the weights of a folder's or the package's backbone; None for others."""
        if self.source == "mini":
            return Path(str(resources.files("retrieval") / MINI))
        return Path(self.id) if self.source == "folder" else None

    @property
    def architecture(self) -> str | None:
        """timm's name of the network, if the name tells it."""
        return self.id.partition(".")[0] if self.source in ("timm", "random") else None

    @property
    def last_part(self) -> str:
        """The end of a path, or else the name: for short titles."""
        return Path(self.id).name


def parse_name(name: str | BackboneName) -> BackboneName:
    """Read a backbone's name; return a record as it is.

    Raises BackboneError for what can be no name.

    >>> parse_name("timm/resnet50.a1_in1k")
    BackboneName(source='timm', id='resnet50.a1_in1k')
    >>> parse_name("resnet50") == parse_name("timm/resnet50.a1_in1k")
    True
    >>> str(parse_name("random:mobilenetv2"))
    'random:mobilenetv2_100'
    """
    if isinstance(name, BackboneName):
        return name
    if not name or len(name) > LONGEST_NAME or "\0" in name:
        raise BackboneError(
            f"{name[:80]!r} is not the name of a backbone. Give a name of 1 to {LONGEST_NAME:,} "
            "characters without NUL, such as those that `imgret backbones` lists."
        )
    if name == MINI:
        return BackboneName("mini", MINI)
    if name in SHORT_NAMES:
        return BackboneName("timm", SHORT_NAMES[name])
    prefix, colon, rest = name.partition(":")
    if colon and prefix.lower() in ("hf-hub", "hf_hub"):
        return _at_the_hub(rest)
    if colon and rest.startswith("//"):
        raise _is_address(name)
    if colon and prefix == "local-dir":
        return _in_a_folder(rest)
    if colon and prefix == "random":
        return _with_random_weights(rest)
    if _TIMM_ID.fullmatch(name.removeprefix(TIMM)) and (
        name.startswith(TIMM) or name.partition(".")[0] in known_architectures()
    ):
        return BackboneName("timm", name.removeprefix(TIMM))
    return _in_a_folder(name) if _is_path(name) else _by_timm(name)


def is_known(name: BackboneName) -> bool:
    """Whether there may be such a backbone: all but a timm name of neither the table nor timm."""
    if name.source != "timm" or name.architecture in known_architectures():
        return True
    if not is_installed("timm"):
        return False
    import timm

    return bool(timm.is_model(name.architecture))


def check_unambiguous(name: str) -> None:
    """Raise BackboneError if timm has a network of this name and a folder here has weights."""
    known = parse_name(name)
    if known.source != "timm" or name.startswith(TIMM):
        return
    try:
        is_folder = (Path(name) / "config.json").is_file()
    except OSError:  # longer than a name of a folder can be
        return
    if is_folder:
        raise BackboneError(
            f"{name} is both a timm network and a folder of weights here. Give ./{name} for the "
            f"folder, or {TIMM}{known.id} for the network."
        )


def hub_name(repository: str) -> str:
    """Return the name of a backbone at the hub, or "" for what can be no "user/model"."""
    can_be = _HUB_ID.fullmatch(repository) and ".." not in repository
    return HUB + repository if can_be else ""


def _is_address(name: str) -> BackboneError:
    host, _, path = name.partition("://")[2].rstrip("/").partition("/")
    meant = hub_name(path) if host in ("huggingface.co", "hf.co") else ""
    return BackboneError(
        f"{name[:80]!r} is an address, from which no backbone is loaded. "
        + (f"Did you mean {meant}?" if meant else f"Give a folder, or {HUB}user/model.")
    )


def _at_the_hub(repository: str) -> BackboneName:
    if not hub_name(repository):
        raise BackboneError(
            f"{repository[:80]!r} cannot be a repository on the Hugging Face hub. "
            "Give hf-hub:user/model, with or without @revision at its end."
        )
    return BackboneName("hub", repository)


def _with_random_weights(name: str) -> BackboneName:
    architecture = SHORT_NAMES.get(name, name).removeprefix(TIMM).partition(".")[0]
    if not _TIMM_ID.fullmatch(architecture):
        raise BackboneError(
            f"{RANDOM}{name[:80]} does not name a timm network. Give one, such as {RANDOM}resnet50."
        )
    return BackboneName("random", architecture)


def _in_a_folder(path: str) -> BackboneName:
    try:
        folder = str(Path(path).expanduser().resolve())
        folder.encode()
    except (OSError, RuntimeError, ValueError) as error:  # no such user, a loop, no UTF-8
        raise BackboneError(
            f"The backbone folder {path[:LONGEST_NAME]} cannot be found, or its path is not UTF-8. "
            "Give another path."
        ) from error
    return BackboneName("folder", folder)


def _by_timm(name: str) -> BackboneName:
    if _TIMM_ID.fullmatch(name):
        return BackboneName("timm", name)
    raise unknown(name)


def _is_path(name: str) -> bool:
    if "/" in name or "\\" in name or name.startswith("~") or name in (".", ".."):
        return True
    try:
        return Path(name).is_dir()
    except OSError:  # longer than a name of a folder can be
        return False


def unknown(name: str) -> BackboneError:
    """Make the error for an unknown backbone; it suggests similar names."""
    if is_a_file(name):
        return BackboneError(f"{name} is a file. Give its folder.")
    if name == MINI:  # of timm's, that is
        return BackboneError(f"timm has no network {MINI!r}. Give {MINI} for imgret's own encoder.")
    near = ", ".join(alike(name, *SHORT_NAMES, MINI))
    return BackboneError(
        f"There is no backbone named {name[:80]!r}. "
        + (
            f"Did you mean {near}?"
            if near
            else "Give a name that `imgret backbones` lists, or a folder."
        )
    )
