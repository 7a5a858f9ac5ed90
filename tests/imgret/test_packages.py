"""Packages of imgret that are not, or not only, its own are told before anything goes wrong."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from imgret.packages import check_files, check_packages
from tests.conftest import ROOT

PACKAGES = ("classify", "imgret", "retrieval")


def install(site: Path, distribution: str, files: Mapping[str, bytes]) -> None:
    """Write the files of a distribution and their record, as pip does; over what is there."""
    record = []
    for name, content in files.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_bytes(content)
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record.append(f"{name},sha256={digest},{len(content)}")
    own = f"{distribution}.dist-info/RECORD"
    (site / own).parent.mkdir()
    (site / own).write_text("\n".join([*record, f"{own},,", ""]))


@pytest.fixture
def ours() -> dict[str, bytes]:
    """The files of imgret's packages."""
    return {
        file.relative_to(ROOT).as_posix(): file.read_bytes()
        for package in PACKAGES
        for file in sorted((ROOT / package).rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    }


@pytest.fixture
def site(tmp_path: Path, ours: dict[str, bytes]) -> Path:
    """A folder of installed distributions with imgret in it."""
    install(tmp_path / "site", "imgret-0.1.0", ours)
    return tmp_path / "site"


def version(site: Path) -> subprocess.CompletedProcess[str]:
    """`imgret --version` of what is installed there."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return subprocess.run(
        [sys.executable, "-m", "imgret", "--version"], cwd=site.parent, text=True,
        env=kept | {"PYTHONPATH": str(site)}, capture_output=True,
    )  # fmt: skip


def test_imgret_alone_is_fine_also_with_bytecode_and_others_beside_it(site: Path) -> None:
    install(site, "scenes-1.0", {"scenes/__init__.py": b"", "retrievals.py": b""})
    done = version(site)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "imgret, version 0.1.0\n"
    check_files(site)


def test_a_distribution_that_overwrites_our_init_is_named(site: Path) -> None:
    install(site, "classify-2.1", {"classify/__init__.py": b"def classify(): ...\n"})
    done = version(site)
    assert done.returncode == 2
    assert "classify 2.1, another distribution, has put files into" in done.stderr
    assert f"{site}/classify/__init__.py" in done.stderr
    assert "Uninstall it and install imgret again" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_distribution_whose_files_lie_beside_ours_is_named(site: Path) -> None:
    install(site, "retrieval-0.3", {"retrieval/bm25.py": b"", "retrieval/deep/er.py": b""})
    with pytest.raises(ImportError, match=r"^retrieval 0\.3, another .*retrieval/bm25\.py"):
        check_files(site)


def test_a_file_that_a_user_changed_or_added_is_nobodys(site: Path) -> None:
    (site / "retrieval" / "mine.py").write_text("print(1)\n")
    with (site / "classify" / "run.py").open("a") as file:
        file.write("# tried something\n")
    install(site, "classifier-1.0", {"classifier/__init__.py": b"", "classify.py": b""})
    check_files(site)


def test_the_light_distribution_may_lie_beside_the_whole_of_the_same_files(
    site: Path, ours: dict[str, bytes]
) -> None:
    install(site, "imgret_light-0.1.0", ours)
    check_files(site)


def test_the_light_distribution_of_other_files_is_told(site: Path, ours: dict[str, bytes]) -> None:
    install(site, "imgret_light-0.2.0", ours | {"imgret/cli.py": b"changed"})
    with pytest.raises(ImportError, match=r"imgret 0\.1\.0 and imgret-light 0\.2\.0 are both"):
        check_files(site)


def test_a_checkout_has_no_record_and_is_fine(tmp_path: Path, ours: dict[str, bytes]) -> None:
    install(tmp_path / "site", "imgret-0.1.0", ours)
    shutil.rmtree(tmp_path / "site" / "imgret-0.1.0.dist-info")
    install(tmp_path / "site", "classify-2.1", {"classify/__init__.py": b"other"})
    check_files(tmp_path / "site")
    check_packages()


def test_a_folder_of_the_users_in_the_place_of_a_package_is_named(site: Path) -> None:
    (site.parent / "classify").mkdir()
    (site.parent / "classify" / "__init__.py").write_text("")
    done = version(site)
    assert done.returncode == 2
    assert f"Python finds {site.parent}/classify in its place" in done.stderr
