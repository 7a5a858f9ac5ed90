"""Files that are replaced whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

UMASK = os.umask(0o077)  # there is no way to read it but to set it
os.umask(UMASK)


def write_atomically(file: Path, content: bytes) -> None:
    """Replace a file's content so that any crash leaves the old or the new one."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        put(temporary, file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def put(made: Path, file: Path) -> None:
    """Rename a file that was made for its owner alone, and let others read it as the umask does."""
    made.chmod(0o666 & ~UMASK)
    made.replace(file)
