"""To import imgret changes nothing in the process that does: who embeds it keeps its settings."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import ROOT

PACKAGES = ("retrieval", "classify", "imgret")
PROBE = """
import atexit, contextlib, gc, importlib, json, locale, logging, os, pkgutil, random
import resource, signal, sys, threading, warnings

PACKAGES, others = ("retrieval", "classify", "imgret"), json.loads(sys.argv[1])
looked_up, opened = [], []

def hook(event, arguments):
    if event == "ctypes.dlsym":
        looked_up.append(str(arguments[1]))
    elif event in ("socket.connect", "socket.bind", "subprocess.Popen", "os.system", "os.fork"):
        opened.append(event)

def mask():
    found = os.umask(0)
    os.umask(found)
    return found

def state():
    import matplotlib, numpy, timm, torch
    from PIL import Image, ImageFile
    return {
        "umask": mask(),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "limits": [resource.getrlimit(getattr(resource, name))
                   for name in dir(resource) if name.startswith("RLIMIT_")],
        "locale": locale.setlocale(locale.LC_ALL),
        "signals": [str(signal.getsignal(n)) for n in sorted(signal.valid_signals())],
        "warnings": [str(f) for f in warnings.filters] + [str(warnings.showwarning)],
        "logging": [logging.root.level, str(logging.root.handlers), str(logging.root.filters),
                    logging.root.manager.disable, str(logging.getLoggerClass())],
        "interpreter": [sys.path, str(sys.meta_path), str(sys.path_hooks), str(sys.excepthook),
                        str(sys.unraisablehook), str(sys.displayhook), sys.getrecursionlimit(),
                        sys.getswitchinterval(), str(threading.excepthook), str(sys.stdout)],
        "at exit": atexit._ncallbacks(),
        "collector": [gc.isenabled(), *gc.get_threshold()],
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "random": [hash(random.getstate()), numpy.random.get_state()[1].tolist(),
                   hash(torch.get_rng_state().numpy().tobytes())],
        "numpy": [str(numpy.geterr()), str(numpy.get_printoptions())],
        "torch": [torch.get_num_threads(), torch.get_num_interop_threads(),
                  str(torch.get_default_dtype()), torch.is_grad_enabled(),
                  torch.are_deterministic_algorithms_enabled(),
                  torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark],
        "matplotlib": ["matplotlib.pyplot" in sys.modules,
                       sorted(map(str, dict.items(matplotlib.rcParams)))],
        "timm": timm.list_models(),
        "pillow": [Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, ImageFile.MAXBLOCK,
                   sorted(Image.OPEN), sorted(Image.SAVE), sorted(Image.EXTENSION),
                   Image._initialized],
    }

for name in others:
    with contextlib.suppress(ImportError):  # torch writes one on the way and deletes its file
        importlib.import_module(name)
before = state() if others else None
known = set(sys.modules)
sys.addaudithook(hook)
for package in PACKAGES:
    for found in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        importlib.import_module(found.name)
added = {
    name: getattr(getattr(module, "__spec__", None), "name", None)
    for name, module in list(sys.modules.items())
    if name not in known
}
from PIL import Image
print(json.dumps({
    "before": before, "after": state() if others else None, "added": added,
    "looked up": looked_up, "opened": opened,
    "openers": sorted({opener[0].__module__ for opener in Image.OPEN.values()}),
}))
"""


def probed(others: list[str]) -> dict[str, Any]:
    """Import all of ours, after the modules of others, in a process of its own."""
    command = [sys.executable, "-c", PROBE, json.dumps(others)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    """All of ours, imported first of all."""
    return probed([])


@pytest.fixture(scope="module")
def behind(alone: dict[str, Any]) -> dict[str, Any]:
    """All of ours, imported after what they import of others, whose doing is theirs."""
    ours = tuple(f"{name}." for name in PACKAGES)
    named = [name for name, spec in alone["added"].items() if spec == name]
    return probed([n for n in named if n not in PACKAGES and not n.startswith(ours)])


@pytest.mark.parametrize(
    "what",
    ["umask", "environment", "folder", "limits", "locale", "signals", "warnings", "logging",
     "interpreter", "at exit", "collector", "threads", "random", "numpy", "torch", "matplotlib",
     "pillow"],
)  # fmt: skip
def test_an_import_changes_nothing_of_the_process(behind: dict[str, Any], what: str) -> None:
    assert behind["before"][what] == behind["after"][what]


def test_an_import_puts_nothing_in_the_place_of_another_module(behind: dict[str, Any]) -> None:
    """No stand-in, no second name, and nothing that was not asked for by its own name."""
    assert {n: spec for n, spec in behind["added"].items() if spec != n} == {}
    assert {n for n in behind["added"] if n.partition(".")[0] not in PACKAGES} == set()


def test_an_import_does_not_tune_malloc_nor_reach_out(behind: dict[str, Any]) -> None:
    assert "mallopt" not in behind["looked up"]
    assert behind["opened"] == []


def test_an_import_registers_no_decoder_with_pillow(alone: dict[str, Any]) -> None:
    """Pillow's own are those that matplotlib imports."""
    assert {name for name in alone["openers"] if not name.startswith("PIL.")} == set()


def test_an_import_registers_one_network_with_timm(behind: dict[str, Any]) -> None:
    """timm knows no other way in; it is done by classify.models.classifier alone."""
    before, after = (set(behind[when]["timm"]) for when in ("before", "after"))
    assert after - before == {"imgret_classifier"}
    assert before <= after


def test_an_import_of_the_main_module_runs_nothing() -> None:
    command = [sys.executable, "-c", "import imgret.__main__", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
