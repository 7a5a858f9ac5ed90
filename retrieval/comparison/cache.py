"""An Evaluation as JSON, and back."""

from __future__ import annotations

import dataclasses
import json
import logging
import types
import typing
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.evaluation import Evaluation
from retrieval.files import make_folder, read_bounded, write_atomically
from retrieval.text import one_sentence

MAX_RESULT_BYTES = 1 << 28
NOT_KEPT = "%s cannot be written (%s), so the same experiment is measured again next time."

_log = logging.getLogger("imgret")


def store_evaluation(file: Path, evaluation: Evaluation) -> None:
    """Write an evaluation, atomically; where that fails, a line in the log says so."""
    text = json.dumps(dataclasses.asdict(evaluation), default=_plain)
    try:
        make_folder(file.parent)
        write_atomically(file, text.encode(errors="surrogateescape"))
    except OSError as error:
        _log.warning(NOT_KEPT, file, one_sentence(error))


def load_evaluation(file: Path) -> Evaluation | None:
    """Read what store_evaluation() wrote; None if there is nothing usable."""
    try:
        content = json.loads(read_bounded(file, MAX_RESULT_BYTES))
        evaluation: Evaluation = _made(Evaluation, content)
        return evaluation
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else str(value)


def _made(kind: Any, data: Any) -> Any:
    """Convert data to a type: dataclasses, tuples of one type, arrays, paths, plain values."""
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return typing.cast(Any, kind)(**{key: _made(hints[key], data[key]) for key in hints})
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        inner = next(a for a in arguments if a is not type(None))
        return None if data is None else _made(inner, data)
    if origin is tuple:
        return tuple(_made(arguments[0], item) for item in data)
    if origin is typing.Literal:
        return arguments[arguments.index(data)]
    if kind is np.ndarray:
        return np.array(data)
    return kind(data)
