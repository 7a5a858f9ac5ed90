"""The files of examples/ are what their tools read."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import ROOT

CLUSTER = ROOT / "examples" / "cluster"
MANIFESTS = sorted((CLUSTER / "kubernetes").glob("*.yaml"))


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.name)
def test_kubernetes_takes_the_manifests(file: Path) -> None:
    yaml, validate = pytest.importorskip("yaml"), pytest.importorskip("kubernetes_validate")
    documents = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
    assert documents
    for document in documents:
        validate.validate(document, validate.latest_version(), strict=True)  # raises


def test_yaml_is_clean() -> None:
    pytest.importorskip("yamllint")
    rules = (
        "{extends: default, rules: {line-length: {max: 160}, document-start: disable, "
        "comments: {min-spaces-from-content: 1}, braces: {max-spaces-inside: 1}}}"
    )
    done = subprocess.run(
        [sys.executable, "-m", "yamllint", "-d", rules, str(CLUSTER)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_has_all_that_it_is_said_to_have() -> None:
    dockerfile = (CLUSTER / "Dockerfile").read_text(encoding="utf-8")
    asked = re.search(r"/src/(packaging/light)\[([a-z,]+)\]", dockerfile)
    assert asked is not None
    light = tomllib.loads((ROOT / asked[1] / "pyproject.toml").read_text(encoding="utf-8"))
    extras = light["project"]["optional-dependencies"]
    assert set(asked[2].split(",")) <= set(extras)
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert extras["cluster"] == whole["project"]["optional-dependencies"]["cluster"]
    sent = (CLUSTER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert sent[0] == "*"  # and not .git and environments
    assert {"!packaging/light", "!retrieval"} <= set(sent)


def test_the_compose_file_starts_commands_that_there_are() -> None:
    yaml = pytest.importorskip("yaml")
    compose = yaml.safe_load((CLUSTER / "compose.yaml").read_text(encoding="utf-8"))
    services = compose["services"]
    assert set(services) == {"store", "bucket", "ray-head", "ray-worker", "milvus", "imgret"}
    for service in services.values():
        needed = service.get("depends_on", [])
        assert set(needed) <= set(services)
        if "build" in service:
            assert (CLUSTER / service["build"]["context"]).resolve() == ROOT
            assert (ROOT / service["build"]["dockerfile"]).is_file()
