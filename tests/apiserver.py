"""The API server that KUBECONFIG names, for `make test-k8s`; what is really made has a namespace of the test's own."""

import json
import os
import secrets
import shutil
from collections.abc import Iterator

import pytest
from kubernetes import client, config, dynamic
from manifests import NAMESPACE, Object, of_kind, one, overlay

MARKS = [
    pytest.mark.kubernetes,
    pytest.mark.skipif(not os.environ.get("KUBECONFIG"), reason="KUBECONFIG names no cluster to ask"),
    pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not on PATH: overlays cannot be made"),
]
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


def moved(objects: list[Object], place: str) -> list[Object]:
    """The same in another namespace."""
    objects = json.loads(json.dumps(objects).replace(f'"namespace": "{NAMESPACE}"', f'"namespace": "{place}"'))
    one(objects, "Namespace")["metadata"]["name"] = place
    return objects


class Server:
    """Server-side apply by hand, so that nothing is between the manifest and the server's word."""

    def __init__(self, api: client.ApiClient):
        self.api, self._dynamic = api, dynamic.DynamicClient(api)
        self.place = f"mmsrarec-test-{secrets.token_hex(3)}"

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


@pytest.fixture(scope="module", name="server")
def _server() -> Iterator[Server]:
    """The production overlay without its CronJob, for real, in the test's namespace."""
    config.load_kube_config()
    server = Server(client.ApiClient())
    objects = moved(overlay("production"), server.place)
    before = {found.metadata.name for found in client.SchedulingV1Api(server.api).list_priority_class().items}
    made = [found for kind in REAL for found in of_kind(objects, kind) if found["metadata"]["name"] not in before]
    for found in made:
        server.apply(found, dry_run=False)
    try:
        yield server
    finally:
        client.CoreV1Api(server.api).delete_namespace(server.place)
        for found in of_kind(made, "PriorityClass"):
            client.SchedulingV1Api(server.api).delete_priority_class(found["metadata"]["name"])
