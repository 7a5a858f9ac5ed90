"""gallery.toml may come from anybody: each value is checked, and an error names its key."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from retrieval.errors import GalleryError
from retrieval.gallery.settings import (
    BackboneState,
    CalibrationState,
    IndexState,
    PassedOver,
    Settings,
    read_text,
    write_text,
)

BACKBONE = BackboneState(
    name="mini", architecture="mini", weights_sha256="a" * 64, dim=512, size=152,
    mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2), interpolation="bicubic", fit="squash", crop_pct=1.0,
)  # fmt: skip
INDEX = IndexState(
    table="t", version=3, built=2, changed=3, asked="auto", transform="whiten:64", fitted_on=100,
    settings={"kind": "flat", "cells": 0, "recall": 1.0, "mapped": True}, added={"n": 1},
)  # fmt: skip
CALIBRATION = CalibrationState(
    method="m", kind="class", has_answer=(1.0, 2.0, 3.0, 4.0, 5.0), is_right=(1.0, 2.0, 3.0, -4.0),
    least=0.3, prior_known=0.9, queries=10, error=0.02, images=100, labels="folder", next_id=7,
    left=100,
)  # fmt: skip
FULL = Settings(
    backbone=BACKBONE, engine="openvino-bf16", transform="whiten:64", expand="3:1.0", index=INDEX,
    calibration=CALIBRATION, files={"images.lance/x": "b" * 64},
    passed_over=(PassedOver(roots=("a", "b"), kinds={".txt": 2}),),
)  # fmt: skip
SOURCE = Path("gallery.toml")


@pytest.mark.parametrize("settings", [FULL, Settings(backbone=BACKBONE, engine="torch-fp32")])
def test_settings_are_read_as_they_were_written(settings: Settings) -> None:
    assert read_text(write_text(settings), SOURCE) == settings


def put(value: Any, *keys: str) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put(1, "new"), "new: there is no such key"),
        (put(1, "backbone", "new"), "backbone.new: there is no such key"),
        (lambda d: d.pop("engine"), "engine: this key is missing"),
        (lambda d: d["index"].pop("table"), "index.table: this key is missing"),
        (put("x", "backbone"), "backbone: it takes a table, not 'x'"),
        (put(1, "labels"), "labels: it takes text, not 1"),
        (put("fast", "engine"), "engine: it takes 'openvino-bf16' or 'openvino-fp32' or"),
        (put([], "backbone", "fit"), "backbone.fit: it takes 'squash' or 'crop' or 'pad', not []"),
        (put(0, "backbone", "dim"), "backbone.dim: it takes 1 or more, not 0"),
        (put(1 << 17, "backbone", "dim"), "backbone.dim: it takes at most 65536, not 131072"),
        (put("8", "backbone", "dim"), "backbone.dim: it takes a whole number, not '8'"),
        (put(True, "backbone", "dim"), "backbone.dim: it takes a whole number, not True"),
        (put(8.0, "backbone", "dim"), "backbone.dim: it takes a whole number, not 8.0"),
        (put(0.0, "backbone", "crop_pct"), "backbone.crop_pct: it takes a number from 0 to 1 w"),
        (put([0.5, 0.5], "backbone", "mean"), "backbone.mean: it takes 3 values"),
        (put([0.5, 0.5, 99], "backbone", "mean"), "backbone.mean.2: it takes a number from -10"),
        (put([0.5, 0.5, "x"], "backbone", "mean"), "backbone.mean.2: it takes a number, not 'x'"),
        (put("A" * 64, "backbone", "weights_sha256"), "backbone.weights_sha256: it takes text lik"),
        (put("a" * 64 + "\n", "files", "x"), "files.x: it takes text like"),
        (put(1 << 62, "index", "version"), "index.version: it takes at most"),
        (put([], "index", "settings", "kind"), "index.settings.kind: it takes a number, text,"),
        (put(float("nan"), "calibration", "least"), "calibration.least: it takes a number from"),
        (put(float("inf"), "calibration", "error"), "calibration.error: it takes a number from"),
        (put(1.0, "calibration", "prior_known"), "calibration.prior_known: it takes a number fro"),
        (put("a", "passed_over"), "passed_over: it takes a list, not 'a'"),
        (put([{"roots": ["a"], "kinds": {"x": 0}}], "passed_over"), "passed_over.0.kinds.x: it ta"),
        (put([{"roots": "a", "kinds": {}}], "passed_over"), "passed_over.0.roots: it takes a list"),
        (put({str(n): "0" * 64 for n in range(100_001)}, "files"),
         "files: it takes at most 100000 values"),
        (put(10**400, "calibration", "least"), "calibration.least: it takes a number from -1.1 to"),
        (put("x" * 500, "backbone", "std"), f"backbone.std: it takes a list, not '{'x' * 79}...."),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused(change: Callable[[dict[str, Any]], Any], message: str) -> None:
    document = FULL.as_table()
    change(document)
    with pytest.raises(GalleryError, match="^" + re.escape(f"gallery.toml: {message}")) as caught:
        read_text(tomli_w.dumps(document), SOURCE)
    assert "verify --repair" in str(caught.value)


def test_a_number_of_too_many_digits_to_be_shown_is_refused() -> None:
    text = tomli_w.dumps(FULL.as_table()).replace("dim = 512", f"dim = 0x{'f' * 5000}")
    with pytest.raises(GalleryError, match="dim: it takes at most 65536, not what is too long"):
        read_text(text, SOURCE)


def test_a_whole_number_is_a_number() -> None:
    document = FULL.as_table()
    document["backbone"]["mean"] = [0, 1, 0]
    mean = read_text(tomli_w.dumps(document), SOURCE).backbone.mean
    assert mean == (0.0, 1.0, 0.0)
    assert all(type(part) is float for part in mean)


def test_what_could_not_be_read_again_is_not_made() -> None:
    with pytest.raises(ValueError, match="least: it takes a number from"):
        replace(CALIBRATION, least=float("nan"))
