"""Nights launched on a real API server by `mmsrarec night`, with the rights of the launcher's account: `make test-k8s`.

Only where there are no nodes, since the operators would really run a night; the test is the operators here.
"""

import threading
import time
from datetime import UTC, datetime

import pytest
from apiserver import MARKS, Server, _server  # noqa: F401
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from manifests import Object, one, overlay

from mmsrarec.cluster import night
from mmsrarec.errors import NightError

pytestmark = MARKS
SECONDS = 60.0


class Launch(threading.Thread):
    """`mmsrarec night` of a Job, with the rights of the launcher's account and no others."""

    def __init__(self, server: Server, job: str):
        super().__init__(daemon=True)
        api = client.ApiClient()
        api.set_default_header("Impersonate-User", f"system:serviceaccount:{server.place}:mmsrarec-launcher")
        api.set_default_header("Impersonate-Group", "system:serviceaccounts")
        self._launcher, self._job, self.error = night.Launcher(api, server.place, {"queue": "mine"}), job, None
        self.start()

    def run(self) -> None:
        try:
            self._launcher.launch(self._job, "mmsrarec")
        except Exception as error:
            self.error = error


class Operators:
    """What the operators do to an object, by its status."""

    def __init__(self, server: Server):
        self._objects, self._place = client.CustomObjectsApi(server.api), server.place

    def find(self, kind: night.Kind, name: str) -> Object | None:
        try:
            return self._objects.get_namespaced_custom_object(kind.group, kind.version, self._place, kind.plural, name)
        except ApiException as error:
            assert error.status == 404
            return None

    def wait(self, kind: night.Kind, name: str) -> Object:
        deadline = time.monotonic() + SECONDS
        while not (found := self.find(kind, name)):
            assert time.monotonic() < deadline, f"{kind.kind} {name} does not come"
            time.sleep(0.05)
        return found

    def say(self, kind: night.Kind, name: str, **status: object) -> None:
        place = kind.group, kind.version, self._place, kind.plural, name
        self._objects.patch_namespaced_custom_object_status(*place, {"status": status})

    def say_spark(self, name: str, state: str, message: str = "") -> None:
        found = {"applicationState": {"state": state, "errorMessage": message}, "driverInfo": {}}
        self.say(night.SPARK, name, **found)


@pytest.fixture
def operators(server: Server, monkeypatch: pytest.MonkeyPatch) -> Operators:
    if client.CoreV1Api(server.api).list_node(limit=1).items:
        pytest.skip("this cluster has nodes: its operators would really run a night")
    monkeypatch.setattr(night, "POLL_SECONDS", 0.05)
    return Operators(server)


def scheduled(server: Server, name: str, at: str) -> str:
    """A Job as the CronJob controller makes it; suspended, since its pod is the test."""
    spec = one(overlay("production"), "CronJob")["spec"]["jobTemplate"]["spec"]
    metadata = client.V1ObjectMeta(name=name, annotations={night.SCHEDULED: at} if at else {})
    job = client.V1Job(metadata=metadata, spec={**spec, "suspend": True})
    return client.BatchV1Api(server.api).create_namespaced_job(server.place, job).metadata.uid


def ended(launch: Launch) -> Exception | None:
    launch.join(SECONDS)
    assert not launch.is_alive()
    return launch.error


def test_a_night_is_spark_then_ray_and_is_not_started_twice(server: Server, operators: Operators) -> None:
    uid = scheduled(server, "night-1", "2031-01-21T01:00:00Z")
    first = Launch(server, "night-1")
    name = "mmsrarec-20310121"
    built = operators.wait(night.SPARK, name)
    run_id = f"20310121T010000-{uid[:6]}"
    assert "--set=run.date=2031-01-21" in built["spec"]["arguments"]
    assert f"--set=run.id={run_id}" in built["spec"]["arguments"]
    for state in ("SUBMITTED", "RUNNING", "SUCCEEDING"):
        operators.say_spark(name, state)
        time.sleep(0.3)
        assert operators.find(night.RAY, name) is None, f"build_cf is {state}"
    operators.say_spark(name, "COMPLETED")
    asked_for = operators.wait(night.RAY, name)
    assert f"--set run.date=2031-01-21 --set run.id={run_id}" in asked_for["spec"]["entrypoint"]
    for found in (built, asked_for):
        assert "suspend" not in found["spec"]
        assert found["metadata"]["labels"] | {night.RUN_ID: run_id, "queue": "mine"} == found["metadata"]["labels"]
        assert [owner["uid"] for owner in found["metadata"]["ownerReferences"]] == [uid]

    # The launcher's pod is replaced, and the night is scheduled once more: both look on.
    scheduled(server, "night-1-again", "2031-01-21T01:00:00Z")
    others = [Launch(server, "night-1"), Launch(server, "night-1-again")]
    operators.say(night.RAY, name, jobDeploymentStatus="Running", jobStatus="RUNNING")
    time.sleep(0.5)
    assert all(launch.is_alive() for launch in (first, *others))
    operators.say(night.RAY, name, jobDeploymentStatus="Complete", jobStatus="SUCCEEDED")
    assert [ended(launch) for launch in (first, *others)] == [None, None, None]
    assert operators.find(night.RAY, name)["metadata"]["uid"] == asked_for["metadata"]["uid"]
    assert operators.find(night.SPARK, name)["metadata"]["uid"] == built["metadata"]["uid"]


def test_ray_does_not_start_where_spark_failed(server: Server, operators: Operators) -> None:
    scheduled(server, "night-2", "2031-01-22T02:30:00+01:00")
    launch = Launch(server, "night-2")
    operators.wait(night.SPARK, "mmsrarec-20310122")
    operators.say_spark("mmsrarec-20310122", "FAILED", "driver container failed with ExitCode: 3, Reason: Error")
    error = ended(launch)
    assert isinstance(error, NightError) and error.exit_status == 3
    assert "delete sparkapplications mmsrarec-20310122" in str(error)
    assert operators.find(night.RAY, "mmsrarec-20310122") is None


def test_what_ray_ended_with_is_what_the_launcher_ends_with(server: Server, operators: Operators) -> None:
    scheduled(server, "night-3", "2031-01-23T01:00:00Z")
    launch = Launch(server, "night-3")
    operators.wait(night.SPARK, "mmsrarec-20310123")
    operators.say_spark("mmsrarec-20310123", "COMPLETED")
    operators.wait(night.RAY, "mmsrarec-20310123")
    message = "Job entrypoint command failed with exit code 5, last available logs (truncated to 20,000 chars): gate"
    operators.say(night.RAY, "mmsrarec-20310123", jobDeploymentStatus="Failed", jobStatus="FAILED", message=message)
    error = ended(launch)
    assert isinstance(error, NightError) and error.exit_status == 5 and "gate" in str(error)


def test_a_job_that_was_made_by_hand_is_the_night_of_its_day(server: Server, operators: Operators) -> None:
    scheduled(server, "by-hand", "")
    launch = Launch(server, "by-hand")
    name = f"mmsrarec-{datetime.now(UTC):%Y%m%d}"
    operators.wait(night.SPARK, name)
    client.CustomObjectsApi(server.api).delete_namespaced_custom_object(
        night.SPARK.group, night.SPARK.version, server.place, night.SPARK.plural, name
    )
    error = ended(launch)
    assert isinstance(error, NightError) and "deleted" in str(error)
