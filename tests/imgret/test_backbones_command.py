"""imgret backbones: what can be named, and what is known of it before it is loaded."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from retrieval.backbones import SHORT_NAMES, known_backbones
from retrieval.encoder import list_backbones
from retrieval.encoder.exports import FACTS
from tests.conftest import Command
from tests.samples import command_environment, command_line, save_pictures, save_weights

HERE = ("package", "hub cache", "exported")


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """An empty cache of the hub's."""
    (tmp_path / "hub").mkdir()
    return tmp_path / "hub"


def run(
    folder: Path, hub: Path, *arguments: object, **more: str
) -> subprocess.CompletedProcess[str]:
    """The command as a process, with nothing but what a test put into the caches."""
    own = {"HF_HUB_CACHE": str(hub)} | more
    return subprocess.run(
        command_line("backbones", *arguments), cwd=folder, text=True, capture_output=True,
        env=command_environment(folder / "cache") | own,
    )  # fmt: skip


def rows(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return {row["name"]: row for row in json.loads(done.stdout)}


def test_without_a_word_imgrets_own_and_short_names_are_listed(tmp_path: Path, hub: Path) -> None:
    done = run(tmp_path, hub)
    names, *lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert names == ["name", "short", "width", "input", "parameters", "weights", "licence"]
    assert {line[1]: line[0] for line in lines} == {"mini": "mini"} | SHORT_NAMES
    assert lines[0] == ["mini", "mini", "1,280", "152", "2,223,872", "package", "apache-2.0"]
    resnet = ["resnet50.a1_in1k", "resnet50", "2,048", "224", "23,508,032", "-", "apache-2.0"]
    assert resnet in lines
    more = len(known_backbones()) - len(SHORT_NAMES)
    assert done.stderr.startswith(f"{more:,} more are listed by name (`imgret backbones resnet`)")


def test_a_word_is_looked_for_in_every_name_in_any_case(tmp_path: Path, hub: Path) -> None:
    found = rows(run(tmp_path, hub, "DINOv2", "--format", "json"))
    assert found
    assert all("dinov2" in name for name in found)
    assert found["vit_small_patch14_dinov2.lvd142m"] == {
        "name": "vit_small_patch14_dinov2.lvd142m", "short": None, "width": 384, "input": 518,
        "parameters": 22_056_192, "weights": None, "licence": "apache-2.0",
    }  # fmt: skip
    assert set(rows(run(tmp_path, hub, "efficientnet-b7", "--format", "json"))) == {
        "tf_efficientnet_b7.ns_jft_in1k"
    }
    assert "resnet50.a1_in1k" in rows(run(tmp_path, hub, "timm/resnet50.a1", "--format", "json"))


def test_all_is_all(tmp_path: Path, hub: Path) -> None:
    done = run(tmp_path, hub, "--all")
    assert len(done.stdout.splitlines()) == 1 + 1 + len(known_backbones())
    assert done.stderr == ""


def test_what_is_not_found_exits_with_1_and_what_is_like_it(tmp_path: Path, hub: Path) -> None:
    done = run(tmp_path, hub, "resnt50")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        r"imgret: There is no backbone with 'resnt50' in its name\. Did you mean resnet50.*\?\n",
        done.stderr,
    )
    assert json.loads(run(tmp_path, hub, "resnt50", "--format", "json").stdout) == []
    assert run(tmp_path, hub, "").returncode == 2
    assert "Leave out --all" in run(tmp_path, hub, "resnet", "--all").stderr
    assert "Run `imgret backbones --all`" in run(tmp_path, hub, "zzzzz").stderr
    assert run(tmp_path, hub, "x\x1b[31m").returncode == 1


def test_weights_in_the_cache_of_the_hub_are_told(tmp_path: Path, hub: Path, weights: Path) -> None:
    for repository, file in (("timm/resnet18.a1_in1k", "model.safetensors"),
                             ("timm/resnet34.a1_in1k", "config.json")):  # fmt: skip
        folder = hub / f"models--{repository.replace('/', '--')}"
        (folder / "snapshots" / "abc").mkdir(parents=True)
        shutil.copy(weights / file, folder / "snapshots" / "abc")
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("abc")
    found = rows(run(tmp_path, hub, "--format", "json"))
    assert found["resnet18.a1_in1k"]["weights"] == "hub cache"
    assert "resnet34.a1_in1k" not in found  # its weights are not there


@pytest.mark.long
def test_a_backbone_that_was_exported_is_told(imgret: Command, tmp_path: Path, hub: Path) -> None:
    save_pictures(tmp_path / "pictures")
    mine = save_weights(tmp_path / "mine", seed=0)
    for name in (mine, "random:mobilenetv3_small_050"):
        index = command_line("index", "pictures", "--backbone", name, "--gallery", tmp_path / "g",
                             "--engine", "openvino-fp32", "--reembed")  # fmt: skip
        environment = command_environment(tmp_path / "cache")
        subprocess.run(index, cwd=tmp_path, env=environment, check=True, capture_output=True)
    found = rows(run(tmp_path, hub, "--format", "json"))
    assert found[str(mine)] == {
        "name": str(mine), "short": None, "width": 1024, "input": 64, "parameters": None,
        "weights": "exported", "licence": None,
    }  # fmt: skip
    assert "random:mobilenetv3_small_050" not in found
    (facts,) = (f for f in (tmp_path / "cache").rglob(FACTS) if str(mine) in f.read_text())
    facts.write_text(facts.read_text()[:40])
    assert str(mine) not in rows(run(tmp_path, hub, "--format", "json"))


def test_it_takes_no_network_and_neither_torch_nor_timm(tmp_path: Path, hub: Path) -> None:
    done = run(
        tmp_path, hub, "resnet", PYTHONPROFILEIMPORTTIME="1", HF_ENDPOINT="http://127.0.0.1:9"
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert done.returncode == 0
    assert not {"torch", "timm"} & imported
    assert "retrieval.encoder.catalogue" in imported


@pytest.mark.long
def test_its_names_are_what_index_takes(imgret: Command, tmp_path: Path) -> None:
    save_pictures(tmp_path / "pictures")
    for name in ("resnet50.a1_in1k", "timm/resnet50.a1_in1k"):
        done = imgret("index", "pictures", "--backbone", name)
        assert done.returncode == 2
        assert "The weights of resnet50.a1_in1k are not on this machine" in done.stderr


def test_a_word_is_found_by_the_library_too(cache: Path) -> None:
    listed = list_backbones(cache, "mini")
    assert "mini" in [backbone.name for backbone in listed.backbones]
    assert listed.others == 0
    assert len(list_backbones(cache, every=True).backbones) > len(known_backbones())
    assert {b.weights for b in list_backbones(cache).backbones} <= {*HERE, None}


def test_without_torch_no_other_backbone_is_suggested(
    inline: Command, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("torch", "timm"):
        monkeypatch.setitem(sys.modules, name, None)
    done = inline("backbones", "resnet50")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Any other backbone needs torch, which is not installed. Run `")
    assert "Did you mean" not in done.stderr
    done = inline("index", pictures, "--gallery", "g")
    assert "with torch there are better ones" in done.stderr
    assert "mobilenetv2" not in done.stderr
    done = inline("index", pictures, "--gallery", "g2", "--views", "flip")
    assert done.returncode == 2
    assert (
        "imgret: The backbone mini with other --pool or --views needs torch, which" in done.stderr
    )
