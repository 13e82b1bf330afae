"""deploy/kubernetes as kubectl's own kustomize puts it together."""

import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.dockerfile import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
CLASSES = ("xavier", "orin", "cpu")
SITES = (*(f"overlays/{name}" for name in CLASSES), "example")
ONCE = ("cluster", "monitoring")
NAME = "app.kubernetes.io/name"
DEVICE = "unispect.io/device"

Object = dict[str, Any]


@cache
def built(name: str) -> tuple[Object, ...]:
    """The objects of a folder of deploy/kubernetes."""
    return build(FOLDER / name)


def build(folder: Path) -> tuple[Object, ...]:
    """The objects of a folder; skips the test where there is no kubectl."""
    if (kubectl := shutil.which("kubectl")) is None:
        pytest.skip("no kubectl here, which has kustomize in it")
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def of_kind(objects: tuple[Object, ...], kind: str) -> list[Object]:
    return [one for one in objects if one["kind"] == kind]


def workload(name: str) -> Object:
    """The one stateful set of a site."""
    (only,) = of_kind(built(name), "StatefulSet")
    return only


def pod(name: str) -> Object:
    """The pods' own part of it."""
    return workload(name)["spec"]["template"]["spec"]


def container(name: str) -> Object:
    """The one container of its pods."""
    (only,) = pod(name)["containers"]
    return only


def variables(name: str) -> dict[str, str]:
    """What the container's environment holds, without what comes from secrets."""
    found: dict[str, str] = {}
    for source in container(name)["envFrom"]:
        if "configMapRef" in source:
            (settings,) = [
                one
                for one in of_kind(built(name), "ConfigMap")
                if one["metadata"]["name"] == source["configMapRef"]["name"]
            ]
            found |= settings["data"]
    return found | {one["name"]: one["value"] for one in container(name).get("env", []) if "value" in one}


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    """Whether an equality selector takes something with these labels; an empty one takes all."""
    return selector.items() <= labels.items()
