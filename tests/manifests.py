"""The manifests of k8s/ as objects, for the tests: the base as its files say, the overlays as kustomize makes them."""

import copy
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).parent.parent
BASE = ROOT / "k8s" / "base"
OVERLAYS = sorted(path.parent.name for path in (ROOT / "k8s" / "overlays").glob("*/kustomization.yaml"))
NAMESPACE = "mmsrarec"
Object = dict[str, Any]


class Pod(NamedTuple):
    """A pod template of a manifest. `component` is its label, by which policies and budgets find it."""

    owner: str
    template: Object

    @property
    def component(self) -> str:
        return self.template["metadata"]["labels"]["app.kubernetes.io/component"]

    @property
    def spec(self) -> Object:
        return self.template["spec"]


def base() -> list[Object]:
    files = [path for path in sorted(BASE.glob("*.yaml")) if path.stem not in ("kustomization", "images")]
    found = [document for path in files for document in yaml.safe_load_all(path.read_text())]
    config = (ROOT / "conf" / "cluster.yaml").read_text()
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mmsrarec-config"}}
    return [*found, {**made, "data": {"cluster.yaml": config}}]


def overlay(name: str) -> list[Object]:
    folder = ROOT / "k8s" / ("base" if name == "base" else f"overlays/{name}")
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    return [found for found in objects if found["kind"] == kind]


def one(objects: list[Object], kind: str, name: str | None = None) -> Object:
    (found,) = [found for found in of_kind(objects, kind) if name in (None, found["metadata"]["name"])]
    return found


def pods(objects: list[Object]) -> Iterator[Pod]:
    """Every pod that the manifests lead to, the autoscaler's container included, which KubeRay adds to the head."""
    launcher = one(objects, "CronJob")["spec"]["jobTemplate"]["spec"]["template"]
    yield Pod("CronJob", launcher)
    spark = one(objects, "SparkApplication")["spec"]
    for role in ("driver", "executor"):
        yield Pod(f"SparkApplication {role}", spark[role]["template"])
    job = one(objects, "RayJob")["spec"]
    yield Pod("RayJob submitter", job["submitterPodTemplate"])
    cluster = job["rayClusterSpec"]
    head = copy.deepcopy(cluster["headGroupSpec"]["template"])
    if options := cluster.get("autoscalerOptions"):
        image = head["spec"]["containers"][0]["image"]
        given = {key: options[key] for key in ("resources", "securityContext", "volumeMounts")}
        head["spec"]["containers"].append({"name": "autoscaler", "image": image, **given})
    yield Pod("RayJob head", head)
    for group in cluster["workerGroupSpecs"]:
        yield Pod(f"RayJob {group['groupName']}", group["template"])


def launch_command(objects: list[Object]) -> list[str]:
    (launcher,) = [pod for pod in pods(objects) if pod.component == "launcher"]
    return launcher.spec["containers"][0]["command"]
