"""The manifests before a real Kubernetes API server, the one that KUBECONFIG names: `make test-k8s`."""

import copy
import json
from collections.abc import Callable

import pytest
from apiserver import MARKS, Server, _server, moved  # noqa: F401
from kubernetes.client.exceptions import ApiException
from manifests import OVERLAYS, Object, of_kind, one, overlay, pods

from mmsrarec.cluster import night

pytestmark = MARKS


@pytest.mark.parametrize("name", ["base", *OVERLAYS])
def test_every_manifest_is_taken_as_it_is(server: Server, name: str) -> None:
    objects = moved(overlay(name), server.place)
    assert len(objects) > 20
    for found in objects:
        taken = server.apply(found)
        assert taken["metadata"]["name"] == found["metadata"]["name"]


@pytest.mark.parametrize("name", ["base", *OVERLAYS])
def test_the_copies_of_a_night_are_taken_too(server: Server, name: str) -> None:
    objects = moved(overlay(name), server.place)
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "night", "uid": "abc123"}
    tonight = night.Night("2031-01-21", "20310121T010000-abc123", owner, {"kueue.x-k8s.io/queue-name": "mmsrarec"})
    for kind in ("RayJob", "SparkApplication"):
        made = night.of_night(one(objects, kind), "mmsrarec-20310121", tonight)
        made["metadata"]["namespace"] = server.place
        taken = json.dumps(server.create(made, dry_run=True)["spec"])
        assert "run.date=2031-01-21" in taken and "{night}" not in taken and "{run}" not in taken


@pytest.mark.parametrize("name", ["base", *OVERLAYS])
def test_every_pod_is_let_into_a_restricted_namespace(server: Server, name: str) -> None:
    for pod in pods(moved(overlay(name), server.place)):
        taken = server.create(as_pod(pod.template, server.place), dry_run=True)
        assert taken["spec"]["serviceAccountName"] == pod.spec["serviceAccountName"]
        assert taken["spec"]["priority"] in (100000, 10000), "the server knows the class"


def as_pod(template: Object, place: str) -> Object:
    """As a controller makes it of its template."""
    metadata = {"generateName": "pod-", "namespace": place, "labels": template["metadata"]["labels"]}
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
            server.create(as_pod(template, server.place), dry_run=True)
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
    found = of_kind(moved(overlay("base"), server.place), kind)[0]
    server.apply(found)
    make(found["spec"])
    with pytest.raises(ApiException) as refused:
        server.apply(found)
    assert refused.value.status in (400, 500) and typo in refused.value.body


def test_values_that_a_definition_forbids_are_caught(server: Server) -> None:
    found = one(moved(overlay("base"), server.place), "RayJob")
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
        may = {verb for verb in VERBS if asked(server, account, server.place, resource, verb)}
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
    spec = {"user": f"system:serviceaccount:{server.place}:{account}", "resourceAttributes": attributes}
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    return server.create(body)["status"]["allowed"]
