"""The night's launcher without a cluster: copies of templates, and what the operators' words mean.

That it launches for real is in test_k8s_server.py.
"""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from manifests import base, one

from mmsrarec.cluster import night
from mmsrarec.cluster.night import RAY, SPARK, Night, of_night
from mmsrarec.errors import GateError, NightError, ProcessDiedError

PROGRAM = Path(sys.executable).parent / "mmsrarec"
OWNER = {"apiVersion": "batch/v1", "kind": "Job", "name": "mmsrarec-night-29392380", "uid": "abc123"}
TONIGHT = Night("2026-11-21", "20261121T010000-abc123", OWNER, {"queue": "mine"})


@pytest.mark.parametrize("kind", ["RayJob", "SparkApplication"])
def test_a_copy_is_the_template_awake_and_of_its_night(kind: str) -> None:
    template = one(base(), kind)
    template["metadata"] |= {
        "uid": "1",
        "finalizers": ["ray.io/rayjob-finalizer"],
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "ray.io/kept": "yes"},
    }
    made = of_night(template, "mmsrarec-20261121", TONIGHT)
    assert made["metadata"] == {
        "name": "mmsrarec-20261121",
        "annotations": {"ray.io/kept": "yes"},
        "labels": {"queue": "mine", night.RUN_ID: "20261121T010000-abc123"},
        "ownerReferences": [OWNER],
    }
    assert made["spec"].keys() == template["spec"].keys() - {"suspend"}
    text, before = str(made["spec"]), str(template["spec"])
    assert "{night}" in before and "{run}" in before
    filled = before.replace("'suspend': True, ", "").replace("{night}", "2026-11-21")
    assert text == filled.replace("{run}", "20261121T010000-abc123")


@pytest.mark.parametrize(
    ("kind", "status", "done"),
    [
        (SPARK, {}, None),
        (SPARK, {"applicationState": {"state": "SUBMISSION_FAILED"}}, None),
        (SPARK, {"applicationState": {"state": "PENDING_RERUN"}}, None),
        (SPARK, {"applicationState": {"state": "SUCCEEDING"}}, None),
        (SPARK, {"applicationState": {"state": "COMPLETED"}}, True),
        (SPARK, {"applicationState": {"state": "FAILED"}}, False),
        (RAY, {}, None),
        (RAY, {"jobDeploymentStatus": "Initializing"}, None),
        (RAY, {"jobDeploymentStatus": "Retrying", "jobStatus": "FAILED"}, None),
        (RAY, {"jobDeploymentStatus": "Suspended"}, None),
        (RAY, {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}, True),
        (RAY, {"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED"}, False),
        (RAY, {"jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded"}, False),
        (RAY, {"jobDeploymentStatus": "ValidationFailed"}, False),
    ],
)
def test_words_of_the_operators(kind: night.Kind, status: dict, done: bool | None) -> None:
    assert kind.state(status).done is done


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ("Job entrypoint command failed with exit code 5, last available logs: …", GateError.exit_status),
        ("driver container failed with ExitCode: 2, Reason: Error", 2),
        ("driver container failed with ExitCode: 137, Reason: OOMKilled", ProcessDiedError.exit_status),
        ("Job entrypoint command failed with exit code 1. No logs available.", ProcessDiedError.exit_status),
        ("DeadlineExceeded", ProcessDiedError.exit_status),
        ("", ProcessDiedError.exit_status),
    ],
)
def test_the_exit_status_is_that_of_the_part_that_failed(message: str, status: int) -> None:
    error = night._failure(RAY, "mmsrarec-20261121", "mmsrarec", night.State("Failed", False, message))
    assert error.exit_status == status
    assert "kubectl -n mmsrarec delete rayjobs mmsrarec-20261121" in str(error)


def test_ray_says_an_exit_status_in_the_words_that_are_looked_for() -> None:
    import ray

    source = Path(ray.__file__).parent / "dashboard" / "modules" / "job" / "job_supervisor.py"
    assert "failed with exit code {return_code}" in source.read_text()


def test_without_a_cluster_the_launcher_says_so(tmp_path: Path) -> None:
    command = [str(PROGRAM), "night", "--job", "night", "--namespace", "mmsrarec"]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "no access to a Kubernetes cluster" in done.stderr, done.stderr


def test_an_api_that_does_not_answer_is_asked_again_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    from kubernetes import client

    monkeypatch.setattr(night, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(night, "PATIENCE_SECONDS", 0.5)
    nobody = client.Configuration(host="http://127.0.0.1:9")
    nobody.retries = False
    started = time.monotonic()
    with pytest.raises(NightError, match="does not answer") as error:
        night.Launcher(client.ApiClient(nobody), "mmsrarec", {}).launch("night", "mmsrarec")
    assert error.value.exit_status == 1, "not one of those that end the Job"
    assert 0.5 <= time.monotonic() - started < 30
