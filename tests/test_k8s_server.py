"""The manifests before a real Kubernetes API server, the one that KUBECONFIG names: `make test-k8s`.

Everything happens in a namespace of the test's own, which is deleted. A night is launched only where there are no nodes
(an API server without a cluster), since the operators would really run it; the test is the operators there.
"""

import copy
import json
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from kubernetes import client, config, dynamic
from kubernetes.client.exceptions import ApiException
from manifests import NAMESPACE, OVERLAYS, Object, of_kind, one, overlay, pods

from mmsrarec.cluster import night
from mmsrarec.errors import NightError

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.skipif(not os.environ.get("KUBECONFIG"), reason="KUBECONFIG names no cluster to ask"),
    pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not on PATH: overlays cannot be made"),
]
PLACE = f"mmsrarec-test-{secrets.token_hex(3)}"
REAL = (
    "Namespace",
    "PriorityClass",
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "ConfigMap",
    "RayJob",
    "SparkApplication",
)
SECONDS = 60.0


def moved(objects: list[Object]) -> list[Object]:
    """The same in the test's namespace."""
    objects = json.loads(json.dumps(objects).replace(f'"namespace": "{NAMESPACE}"', f'"namespace": "{PLACE}"'))
    one(objects, "Namespace")["metadata"]["name"] = PLACE
    return objects


class Server:
    """Server-side apply by hand, so that nothing is between the manifest and the server's word."""

    def __init__(self, api: client.ApiClient):
        self.api, self._dynamic = api, dynamic.DynamicClient(api)

    def apply(self, found: Object, dry_run: bool = True) -> Object:
        query = {"fieldManager": "mmsrarec-test", "force": "true"} | ({"dryRun": "All"} if dry_run else {})
        return self._send("patch", found, found["metadata"]["name"], query)

    def create(self, found: Object, dry_run: bool = False) -> Object:
        return self._send("post", found, None, {"dryRun": "All"} if dry_run else {})

    def _send(self, method: str, found: Object, name: str | None, query: dict[str, str]) -> Object:
        resource = self._dynamic.resources.get(api_version=found["apiVersion"], kind=found["kind"])
        path = resource.path(name=name, namespace=found.get("metadata", {}).get("namespace"))
        form = "application/apply-patch+yaml" if method == "patch" else "application/json"
        query = [*query.items(), ("fieldValidation", "Strict")]
        return self._dynamic.request(method, path, body=found, content_type=form, query_params=query).to_dict()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """The production overlay without its CronJob, for real, in the test's namespace."""
    config.load_kube_config()
    server = Server(client.ApiClient())
    objects = moved(overlay("production"))
    before = {found.metadata.name for found in client.SchedulingV1Api(server.api).list_priority_class().items}
    made = [found for kind in REAL for found in of_kind(objects, kind) if found["metadata"]["name"] not in before]
    for found in made:
        server.apply(found, dry_run=False)
    try:
        yield server
    finally:
        client.CoreV1Api(server.api).delete_namespace(PLACE)
        for found in of_kind(made, "PriorityClass"):
            client.SchedulingV1Api(server.api).delete_priority_class(found["metadata"]["name"])


@pytest.mark.parametrize("name", ["base", *OVERLAYS])
def test_every_manifest_is_taken_as_it_is(server: Server, name: str) -> None:
    objects = moved(overlay(name))
    assert len(objects) > 20
    for found in objects:
        taken = server.apply(found)
        assert taken["metadata"]["name"] == found["metadata"]["name"]


@pytest.mark.parametrize("name", ["base", *OVERLAYS])
def test_the_copies_of_a_night_are_taken_too(server: Server, name: str) -> None:
    objects = moved(overlay(name))
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "night", "uid": "abc123"}
    tonight = night.Night("2031-01-21", "20310121T010000-abc123", owner, {"kueue.x-k8s.io/queue-name": "mmsrarec"})
    for kind in ("RayJob", "SparkApplication"):
        made = night.of_night(one(objects, kind), "mmsrarec-20310121", tonight)
        assert "{" not in json.dumps(
            server.apply({**made, "metadata": made["metadata"] | {"namespace": PLACE}})["spec"].get("entrypoint", "")
        )


@pytest.mark.parametrize("name", ["base", *OVERLAYS])
def test_every_pod_is_let_into_a_restricted_namespace(server: Server, name: str) -> None:
    for pod in pods(moved(overlay(name))):
        taken = server.create(as_pod(pod.template), dry_run=True)
        assert taken["spec"]["serviceAccountName"] == pod.spec["serviceAccountName"]
        assert taken["spec"]["priority"] in (100000, 10000), "the server knows the class"


def as_pod(template: Object) -> Object:
    """As a controller makes it of its template."""
    metadata = {"generateName": "pod-", "namespace": PLACE, "labels": template["metadata"]["labels"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


LAPSES: dict[str, Callable[[Object], object]] = {
    "runAsNonRoot": lambda spec: spec["securityContext"].pop("runAsNonRoot"),
    "seccompProfile": lambda spec: spec["securityContext"].pop("seccompProfile"),
    "capabilities": lambda spec: spec["containers"][0]["securityContext"].pop("capabilities"),
    "allowPrivilegeEscalation": lambda spec: spec["containers"][0]["securityContext"].pop("allowPrivilegeEscalation"),
    "hostNetwork": lambda spec: spec.update(hostNetwork=True),
    "hostPath": lambda spec: spec["volumes"].append({"name": "host", "hostPath": {"path": "/"}}),
}


@pytest.mark.parametrize("lapse", LAPSES)
def test_a_pod_that_lacks_one_of_these_is_kept_out(server: Server, lapse: str) -> None:
    for pod in pods(overlay("base")):
        template = copy.deepcopy(pod.template)
        LAPSES[lapse](template["spec"])
        with pytest.raises(ApiException) as refused:
            server.create(as_pod(template), dry_run=True)
        assert refused.value.status == 403 and lapse in refused.value.body, pod.owner


TYPOS: dict[str, tuple[str, Callable[[Object], object]]] = {
    "backofLimit": ("RayJob", lambda spec: spec.update(backofLimit=2)),
    "maxReplica": ("RayJob", lambda spec: spec["rayClusterSpec"]["workerGroupSpecs"][0].update(maxReplica=2)),
    "readOnlyRootFileSystem": (
        "RayJob",
        lambda spec: spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0].update(
            securityContext={"readOnlyRootFileSystem": True}
        ),
    ),
    "onFailureRetry": ("SparkApplication", lambda spec: spec["restartPolicy"].update(onFailureRetry=2)),
    "memroy": ("SparkApplication", lambda spec: spec["driver"].update(memroy="2g")),
    "startingDeadline": ("CronJob", lambda spec: spec.update(startingDeadline=60)),
    "minAvailabel": ("PodDisruptionBudget", lambda spec: spec.update(minAvailabel=1)),
    "egres": ("NetworkPolicy", lambda spec: spec.update(egres=[])),
}


@pytest.mark.parametrize("typo", TYPOS)
def test_a_typo_is_caught(server: Server, typo: str) -> None:
    kind, make = TYPOS[typo]
    found = of_kind(moved(overlay("base")), kind)[0]
    server.apply(found)
    make(found["spec"])
    with pytest.raises(ApiException) as refused:
        server.apply(found)
    assert refused.value.status in (400, 500) and typo in refused.value.body


def test_values_that_a_definition_forbids_are_caught(server: Server) -> None:
    found = one(moved(overlay("base")), "RayJob")
    found["spec"]["rayClusterSpec"]["autoscalerOptions"]["version"] = "v3"
    with pytest.raises(ApiException, match="Unsupported value"):
        server.apply(found)


VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
RESOURCES = (
    *(f"/{name}" for name in ("pods", "pods/exec", "pods/log", "secrets", "configmaps", "services", "events")),
    *(f"/{name}" for name in ("persistentvolumeclaims", "serviceaccounts", "serviceaccounts/token", "nodes")),
    *("batch/jobs", "batch/cronjobs", "apps/deployments", "networking.k8s.io/networkpolicies"),
    *("ray.io/rayjobs", "ray.io/rayjobs/status", "ray.io/rayclusters"),
    *("sparkoperator.k8s.io/sparkapplications", "sparkoperator.k8s.io/sparkapplications/status"),
    *("rbac.authorization.k8s.io/roles", "rbac.authorization.k8s.io/rolebindings"),
)
RIGHTS = {
    "mmsrarec-launcher": {
        "batch/jobs": {"get"},
        "ray.io/rayjobs": {"get", "create"},
        "sparkoperator.k8s.io/sparkapplications": {"get", "create"},
    },
    "mmsrarec-spark-driver": {
        "/pods": {"get", "list", "watch", "create", "patch", "delete", "deletecollection"},
        "/configmaps": {"create", "list", "delete", "deletecollection"},
    },
    "mmsrarec-ray-head": {},
    "mmsrarec-worker": {},
}


@pytest.mark.parametrize("account", RIGHTS)
def test_an_account_may_what_it_must_and_nothing_else(server: Server, account: str) -> None:
    allowed = {}
    for resource in RESOURCES:
        may = {verb for verb in VERBS if asked(server, account, PLACE, resource, verb)}
        if may:
            allowed[resource] = may
    assert allowed == RIGHTS[account]
    for resource, verbs in RIGHTS[account].items():
        assert not [verb for verb in verbs if asked(server, account, "default", resource, verb)], (
            "in its namespace only"
        )


def asked(server: Server, account: str, namespace: str, resource: str, verb: str) -> bool:
    group, _, name = resource.partition("/")
    name, _, part = name.partition("/")
    attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": name, "subresource": part}
    spec = {"user": f"system:serviceaccount:{PLACE}:{account}", "resourceAttributes": attributes}
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    return server.create(body)["status"]["allowed"]


class Launch(threading.Thread):
    """`mmsrarec night` of a Job, with the rights of the launcher's account and no others."""

    def __init__(self, job: str):
        super().__init__(daemon=True)
        api = client.ApiClient()
        api.set_default_header("Impersonate-User", f"system:serviceaccount:{PLACE}:mmsrarec-launcher")
        api.set_default_header("Impersonate-Group", "system:serviceaccounts")
        self._launcher, self._job, self.error = night.Launcher(api, PLACE, {"queue": "mine"}), job, None
        self.start()

    def run(self) -> None:
        try:
            self._launcher.launch(self._job, "mmsrarec")
        except Exception as error:
            self.error = error


class Operators:
    """What the operators do to an object, by its status."""

    def __init__(self, api: client.ApiClient):
        self._objects = client.CustomObjectsApi(api)

    def find(self, kind: night.Kind, name: str) -> Object | None:
        try:
            return self._objects.get_namespaced_custom_object(kind.group, kind.version, PLACE, kind.plural, name)
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
        place = kind.group, kind.version, PLACE, kind.plural, name
        self._objects.patch_namespaced_custom_object_status(*place, {"status": status})

    def say_spark(self, name: str, state: str, message: str = "") -> None:
        found = {"applicationState": {"state": state, "errorMessage": message}, "driverInfo": {}}
        self.say(night.SPARK, name, **found)


@pytest.fixture
def operators(server: Server, monkeypatch: pytest.MonkeyPatch) -> Operators:
    if client.CoreV1Api(server.api).list_node(limit=1).items:
        pytest.skip("this cluster has nodes: its operators would really run a night")
    monkeypatch.setattr(night, "POLL_SECONDS", 0.05)
    return Operators(server.api)


def scheduled(server: Server, name: str, at: str) -> str:
    """A Job as the CronJob controller makes it; suspended, since its pod is the test."""
    spec = one(overlay("production"), "CronJob")["spec"]["jobTemplate"]["spec"]
    metadata = client.V1ObjectMeta(name=name, annotations={night.SCHEDULED: at} if at else {})
    job = client.V1Job(metadata=metadata, spec={**spec, "suspend": True})
    return client.BatchV1Api(server.api).create_namespaced_job(PLACE, job).metadata.uid


def ended(launch: Launch) -> Exception | None:
    launch.join(SECONDS)
    assert not launch.is_alive()
    return launch.error


def test_a_night_is_spark_then_ray_and_is_not_started_twice(server: Server, operators: Operators) -> None:
    uid = scheduled(server, "night-1", "2031-01-21T01:00:00Z")
    first = Launch("night-1")
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
    others = [Launch("night-1"), Launch("night-1-again")]
    operators.say(night.RAY, name, jobDeploymentStatus="Running", jobStatus="RUNNING")
    time.sleep(0.5)
    assert all(launch.is_alive() for launch in (first, *others))
    operators.say(night.RAY, name, jobDeploymentStatus="Complete", jobStatus="SUCCEEDED")
    assert [ended(launch) for launch in (first, *others)] == [None, None, None]
    assert operators.find(night.RAY, name)["metadata"]["uid"] == asked_for["metadata"]["uid"]
    assert operators.find(night.SPARK, name)["metadata"]["uid"] == built["metadata"]["uid"]


def test_ray_does_not_start_where_spark_failed(server: Server, operators: Operators) -> None:
    scheduled(server, "night-2", "2031-01-22T02:30:00+01:00")
    launch = Launch("night-2")
    operators.wait(night.SPARK, "mmsrarec-20310122")
    operators.say_spark("mmsrarec-20310122", "FAILED", "driver container failed with ExitCode: 3, Reason: Error")
    error = ended(launch)
    assert isinstance(error, NightError) and error.exit_status == 3
    assert "delete sparkapplications mmsrarec-20310122" in str(error)
    assert operators.find(night.RAY, "mmsrarec-20310122") is None


def test_what_ray_ended_with_is_what_the_launcher_ends_with(server: Server, operators: Operators) -> None:
    scheduled(server, "night-3", "2031-01-23T01:00:00Z")
    launch = Launch("night-3")
    operators.wait(night.SPARK, "mmsrarec-20310123")
    operators.say_spark("mmsrarec-20310123", "COMPLETED")
    operators.wait(night.RAY, "mmsrarec-20310123")
    message = "Job entrypoint command failed with exit code 5, last available logs (truncated to 20,000 chars): gate"
    operators.say(night.RAY, "mmsrarec-20310123", jobDeploymentStatus="Failed", jobStatus="FAILED", message=message)
    error = ended(launch)
    assert isinstance(error, NightError) and error.exit_status == 5 and "gate" in str(error)


def test_a_job_that_was_made_by_hand_is_the_night_of_its_day(server: Server, operators: Operators) -> None:
    scheduled(server, "by-hand", "")
    launch = Launch("by-hand")
    name = f"mmsrarec-{datetime.now(UTC):%Y%m%d}"
    operators.wait(night.SPARK, name)
    client.CustomObjectsApi(server.api).delete_namespaced_custom_object(
        night.SPARK.group, night.SPARK.version, PLACE, night.SPARK.plural, name
    )
    error = ended(launch)
    assert isinstance(error, NightError) and "deleted" in str(error)
