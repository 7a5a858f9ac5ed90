"""The command as a process of its own, which starts and ends without needless work."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
from collections.abc import Iterator
from typing import NoReturn

BLAS_SPINS = "OPENBLAS_THREAD_TIMEOUT", "16"  # 2**16 cycles, where its default is 2**26
LEFT_OUT = "openvino.tools.ovc"  # what converts networks, a part that OpenVINO can do without


def run_command() -> NoReturn:
    """Run main(); then leave to the system what Python and C++ would free object by object.

    That freeing takes a sixth of the time of a query. Everything else that ends a process in order
    is done: threads are waited for, what libraries have registered for the end is called, streams
    are flushed. In Python's development mode (-X dev) nothing is left out.
    """
    codes: list[int] = []
    _start_lean()
    if not sys.flags.dev_mode:
        atexit.register(_leave, codes)  # before any library does, and so called after theirs
    from imgret.cli import main

    try:
        main()
    except SystemExit as end:
        if isinstance(end.code, int):
            codes.append(end.code)
        raise


def _start_lean() -> None:
    """Keep libraries from work that no command wants; none of them is imported yet.

    The threads of numpy's BLAS spin for a while when they are started, and after each product,
    which takes a tenth of the time of a query. What others have set is left as it is. OpenVINO is
    imported without what converts networks, which imports a lot, until something is converted
    (retrieval.encoder.openvino_cpu.converter). An import of imgret does neither: who shares its
    process may want both.
    """
    os.environ.setdefault(*BLAS_SPINS)
    sys.modules.setdefault(LEFT_OUT, None)  # type: ignore[arg-type]


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Look for no garbage while modules are imported, and never again among what they hold.

    They stay to the end, and going through them takes a twentieth of the time of a query.
    """
    if not gc.isenabled() or gc.get_freeze_count():
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def _leave(codes: list[int]) -> None:
    """End the process at once with the code that main() ended with, if it came so far."""
    if codes:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # closed, or nobody reads any more
                stream.flush()
        os._exit(codes[0])
