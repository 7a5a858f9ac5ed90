"""Packages that read more formats, and that need not be there."""

from importlib.util import find_spec


def is_installed(package: str) -> bool:
    """Whether a package can be imported; imports nothing."""
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False
