"""Text of others: names made visible, and what libraries say as one sentence for a person.

A file name, a label and a library's message are data. They may hold an escape sequence that a
terminal obeys, a newline that forges a line, or a mark that turns the text after it around.
"""

from __future__ import annotations

import errno
import re
import unicodedata
from collections.abc import Sequence

from retrieval.errors import WriteError

LONGEST_LINE = 300  # of what a library said, characters
NOT_THERE = "does not exist"  # the reason of a file that is not there

_HIDDEN = (
    "\x00-\x1f\x7f-\x9f"  # C0, DEL, C1
    "\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e0fff"  # tags
    "\ud800-\udfff"  # bytes of a name that are no UTF-8
)
HIDDEN = re.compile(f"[{_HIDDEN}]")
"""What must not reach a terminal or a line of text as it is: controls of C0 and C1, what turns the
direction of text or shows nothing, and surrogates. The joiners of scripts and emoji stay."""

_SHORT = {"\n": r"\n", "\t": r"\t", "\r": r"\r"}
_SOURCE = r"[^\s,;'\"()]*\.(?:rs|cpp|cc|cxx|cu|hpp|hh|h|c|py)"
_PLACES = (
    re.compile(rf"(?:,\s*|\bat\s+|\bfrom\s+|\bin\s+)?{_SOURCE}(?::\d+)+:?"),  # file.rs:1:2
    re.compile(r"\s*\(?[^\s,;'\"()]*(?:site-packages|dist-packages|/\.cargo/)[^\s,;'\"()]*\)?:?"),
)
_FAISS = re.compile(r"Error in .*? at \S+:\d+: (?:Error: '.*?' failed:?\s*)?", re.DOTALL)
_CHECK = re.compile(
    r"Check '.*?' failed(?: at)?|Exception (?:from|in)|\[[\w ]*ERROR\s*\]|Error: '.*'"
)
_SIGNATURE = re.compile(r"(?:\b[\w:<>,*&~ ]*)?\b\w+::[\w:~<>]+\([^)]*\)(?: const)?:?")
_OS_ERROR = re.compile(r"os error (\d+)|Os \{ code: (\d+)|\[Errno (\d+)\]")
_FULL = re.compile(r"no space left|os error 28\b|StorageFull|disk quota", re.IGNORECASE)
_REMEDIES = {
    errno.ENOSPC: "Free some space and run the same command again.",
    errno.EDQUOT: "Free some space and run the same command again.",
    errno.EFBIG: "Name a place on a file system that takes files of this size.",
    errno.EACCES: "Get the right to write there, or name another place.",
    errno.EPERM: "Get the right to write there, or name another place.",
    errno.EROFS: "Get the right to write there, or name another place.",
    errno.ENOENT: "Create its folder first, or name another place.",
    errno.ENOTDIR: "Create its folder first, or name another place.",
    errno.EBUSY: "Close the program that has it open, and run the same command again.",
    errno.ENAMETOOLONG: "Give a shorter name.",
    errno.EISDIR: "Name a file, not a folder.",
}
_OTHERWISE = "Check the disk, or name another place."
_OTHERWISE_IN_A_STORE = "Check the address and the network, and run the same command again."


MOST_PARTS = 64  # of a key in TOML, with dots in between
_NESTED = re.compile(
    r"(?<![\w-])"
    r"""(?:(?:[\w-]++|"(?:\\.|[^"\\\n]){0,256}+"|'[^'\n]{0,256}+')[ \t]*+\.[ \t]*+)"""
    rf"{{{MOST_PARTS}}}"
)


_ADVICE = {  # by words of a reason
    NOT_THERE: "Check its spelling.",
    "--max-pixels": "Raise that, or give a smaller image.",
    "Permission denied": "Get the right to read it.",
    "truncated": "Copy it here again, or give another image.",
}


def advised(reason: str) -> str:
    """Add what to do to the reason of an image that somebody named; behind a semicolon it is said.

    >>> advised("nothere.jpg: does not exist"), advised("a.jpg: empty file")
    ('nothere.jpg: does not exist. Check its spelling.', 'a.jpg: empty file. Give another image.')
    """
    said = reason.rpartition(": ")[2]  # behind the path
    if reason.endswith("."):
        return reason
    if "; " in said:
        return f"{reason}."
    advice = (advice for words, advice in _ADVICE.items() if words in said)
    return f"{reason}. {next(advice, 'Give another image.')}"


def composed(name: str) -> str:
    """Compose a name as Unicode does (NFC), so that equal names are one; macOS decomposes names.

    >>> composed("Cafe\\u0301") == "Caf\\u00e9"
    True
    """
    return unicodedata.normalize("NFC", name)


def visible(text: object) -> str:
    r"""Return a text on one line, with HIDDEN characters written as Python writes them.

    A backslash stays as it is: who needs the exact name takes JSON, or paths that end in NUL.

    >>> print(visible("a\x1b[31m\nb"), visible("Zoë 日本"))
    a\x1b[31m\nb Zoë 日本
    """
    return HIDDEN.sub(lambda found: _SHORT.get(found[0]) or _escaped(found[0]), str(text))


def check_nesting(toml: str) -> None:
    """Raise ValueError for a key of more than MOST_PARTS parts: reading one takes their square.

    >>> check_nesting('a.b = "..."')
    """
    if _NESTED.search(toml):
        raise ValueError(f"a key has more than {MOST_PARTS} parts")


def counted(n: int, one: str, several: str = "") -> str:
    """Return a number with its noun. several: where that is not `one` with an s.

    >>> counted(1, "image"), counted(1200, "image"), counted(0, "query", "queries")
    ('1 image', '1,200 images', '0 queries')
    """
    return f"{n:,} {one if n == 1 else several or one + 's'}"


def listed(items: Sequence[str], word: str) -> str:
    """Join items as a sentence does, with a word before the last.

    >>> listed(["a", "b", "c"], "or"), listed(["a"], "or")
    ('a, b or c', 'a')
    """
    *others, last = items
    return f"{', '.join(others)} {word} {last}" if others else last


def one_sentence(error: BaseException) -> str:
    """Return what an error says, without places in source files and C++ signatures.

    >>> one_sentence(OSError("LanceError(IO): no such file, /root/.cargo/x/src/local.rs:123:45"))
    'LanceError(IO): no such file'
    """
    if isinstance(error, OSError) and error.strerror:
        return str(error.strerror)
    said = _FAISS.sub("", str(error))
    for line in said.splitlines():
        for pattern in (_CHECK, *_PLACES, _SIGNATURE):
            line = pattern.sub("", line)
        line = " ".join(line.split()).strip(" ,:;.-")
        if re.search(r"\w{2}", line):
            return line[:LONGEST_LINE]
    return type(error).__name__


def unwritable(place: object, error: BaseException) -> WriteError:
    """Make the error for something that cannot be written: what, why, and what to do."""
    return WriteError(f"{place} cannot be written ({one_sentence(error)}). {remedy(error)}")


def remedy(error: BaseException) -> str:
    """Say what to do if something cannot be written, in one sentence."""
    if _FULL.search(str(error)):
        return _REMEDIES[errno.ENOSPC]
    number = getattr(error, "errno", None)
    if number is None and (found := _OS_ERROR.search(str(error))):
        number = int(next(filter(None, found.groups())))
    of_store = "://" in str(getattr(error, "filename", None) or "")
    return _REMEDIES.get(number or 0, _OTHERWISE_IN_A_STORE if of_store else _OTHERWISE)


def _escaped(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
