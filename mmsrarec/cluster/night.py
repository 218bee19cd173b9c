"""A night on Kubernetes: build_cf as a SparkApplication, then all other stages as a RayJob. The only kubernetes import.

Both are copies of suspended objects, the templates, and named after the night: mmsrarec-20261121. These names are all
that is remembered: to create an object that is there already changes nothing, so whoever launches the same night again
looks on at the first one. In the templates `{night}` stands for the date and `{run}` for the run id.

The launcher is a pod of a CronJob's Job. The night is the date the Job was scheduled for, its objects belong to the Job
and go when it goes, and the pod ends with the exit status of what failed. It creates and reads, and deletes nothing.
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from logging import WARNING
from typing import Any, TypeVar

from kubernetes import client
from kubernetes import config as access
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from mmsrarec import log
from mmsrarec.errors import UNEXPECTED, ConfigError, NightError

SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"
RUN_ID = "mmsrarec/run-id"
POLL_SECONDS = 15.0
PATIENCE_SECONDS = 900.0  # with an API server that does not answer; then the Job starts another launcher
EXIT_STATUS = re.compile(r"exit ?code:? (\d+)", re.IGNORECASE)  # as Ray ("exit code 7") and Spark ("ExitCode: 7") say
ANSWERS = (404, 409)  # statuses of the API that say something about an object
STATUSES = range(2, 20)  # mmsrarec's own, with room for more; k8s/base/nightly.yaml lists them, too
T = TypeVar("T")


@dataclass(frozen=True)
class State:
    """How far an object is, in its operator's word; done is None while it is under way."""

    word: str
    done: bool | None
    message: str = ""


@dataclass(frozen=True)
class Kind:
    """Objects of an operator; `state` reads the status that it writes."""

    kind: str
    group: str
    version: str
    plural: str
    state: Callable[[Mapping[str, Any]], State]


def _spark_state(status: Mapping[str, Any]) -> State:
    found = status.get("applicationState", {})
    word = found.get("state", "")
    return State(word, {"COMPLETED": True, "FAILED": False}.get(word), found.get("errorMessage", ""))


def _ray_state(status: Mapping[str, Any]) -> State:
    word, job = status.get("jobDeploymentStatus", ""), status.get("jobStatus", "")
    # A job that was stopped by hand is Complete, too.
    done = {"Complete": job == "SUCCEEDED", "Failed": False, "ValidationFailed": False}.get(word)
    said = (status.get(name, "") for name in ("reason", "message"))
    return State(f"{word} {job}".strip(), done, ": ".join(filter(None, said)))


SPARK = Kind("SparkApplication", "sparkoperator.k8s.io", "v1beta2", "sparkapplications", _spark_state)
RAY = Kind("RayJob", "ray.io", "v1", "rayjobs", _ray_state)


@dataclass(frozen=True)
class Night:
    """What is launched: for which date, under which run id, and to which Job it belongs."""

    date: str
    run_id: str
    owner: dict[str, Any]
    labels: dict[str, str]


def launch(job: str, namespace: str, template: str, labels: Mapping[str, str]) -> None:
    """Run the night of a Job to its end, with the access of this pod or of KUBECONFIG. Raises NightError."""
    try:
        access.load_config()
    except access.ConfigException as error:
        raise ConfigError(f"no access to a Kubernetes cluster, neither a pod's nor by KUBECONFIG: {error}") from None
    Launcher(client.ApiClient(), namespace, labels).launch(job, template)


class Launcher:
    """The night of a Job in its namespace. `labels` go on both objects: the queue of Kueue, for instance."""

    def __init__(self, api: client.ApiClient, namespace: str, labels: Mapping[str, str]):
        self._objects, self._jobs = client.CustomObjectsApi(api), client.BatchV1Api(api)
        self._namespace, self._labels = namespace, dict(labels)

    def launch(self, job: str, template: str) -> None:
        """Run the night of a Job to its end. Raises NightError where it fails."""
        night = self._night(job)
        name = f"{template}-{night.date.replace('-', '')}"
        with log.context(run_id=night.run_id):
            for kind in (SPARK, RAY):
                self._create(kind, name, night, self._get(kind, template))
                self._wait(kind, name)

    def _night(self, job: str) -> Night:
        """Everything follows from the Job, so that a pod that takes over from another one finds the same night."""
        found = self._persist(lambda: self._jobs.read_namespaced_job(job, self._namespace))
        about = found.metadata
        assert about is not None and about.uid is not None  # whatever the API server has, it has given these
        planned = (about.annotations or {}).get(SCHEDULED)
        at = datetime.fromisoformat(planned) if planned else about.creation_timestamp
        assert at is not None
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": about.uid}
        run_id = f"{at:%Y%m%dT%H%M%S}-{about.uid[:6]}"
        return Night(at.date().isoformat(), run_id, owner, self._labels)

    def _create(self, kind: Kind, name: str, night: Night, template: dict[str, Any]) -> None:
        body = of_night(template, name, night)
        try:
            place = kind.group, kind.version, self._namespace, kind.plural
            self._persist(lambda: self._objects.create_namespaced_custom_object(*place, body))
            log.say(f"{kind.kind} {name}: created for the night of {night.date}", "night_created", object=name)
        except ApiException as error:
            if error.status != 409:
                raise
            first = self._get(kind, name)["metadata"].get("labels", {}).get(RUN_ID)
            said = f"{kind.kind} {name}: is there already, of run {first}; this night is not started a second time"
            log.say(said, "night_exists", WARNING, object=name, first_run_id=first)

    def _wait(self, kind: Kind, name: str) -> None:
        word = None
        while True:
            state = kind.state(self._get(kind, name).get("status", {}))
            if state.word != word:
                word = state.word
                said = f"{kind.kind} {name}: {word or 'waits for its operator'}"
                log.say(said, "night_state", object=name, state=word)
            if state.done:
                return
            if state.done is False:
                raise _failure(kind, name, self._namespace, state)
            time.sleep(POLL_SECONDS)

    def _get(self, kind: Kind, name: str) -> dict[str, Any]:
        place = kind.group, kind.version, self._namespace, kind.plural, name
        try:
            found = self._persist(lambda: self._objects.get_namespaced_custom_object(*place))
        except ApiException as error:
            if error.status != 404:
                raise
            raise NightError(
                f"{kind.kind} {name}: not in namespace {self._namespace} (any more); apply the manifests if it is a "
                "template, launch the night again if someone has deleted it",
                8,
            ) from None
        assert isinstance(found, dict)
        return found

    def _persist(self, ask: Callable[[], T]) -> T:
        """An API server that is away for a while costs time, not the night."""
        patience = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return ask()
            except (ApiException, HTTPError) as error:
                status = getattr(error, "status", None) or 503
                if status in ANSWERS:
                    raise
                if status < 500 and status != 429:
                    raise NightError(f"the Kubernetes API refuses: {_said(error)}", 2) from None
                if time.monotonic() > patience:
                    raise NightError(f"the Kubernetes API does not answer: {_said(error)}", UNEXPECTED) from None
                log.say(f"the Kubernetes API does not answer, asking again: {_said(error)}", "api_away", WARNING)
                time.sleep(POLL_SECONDS)


def _said(error: Exception) -> str:
    """An ApiException by its own account is a page of headers."""
    if isinstance(error, ApiException):
        return f"{error.status} {error.reason} {' '.join(str(error.body or '').split())[:500]}".strip()
    return str(error)


def of_night(template: dict[str, Any], name: str, night: Night) -> dict[str, Any]:
    """The night's copy of a template."""
    annotations = template["metadata"].get("annotations", {})
    metadata = {
        "name": name,
        "annotations": {key: value for key, value in annotations.items() if not key.startswith("kubectl.")},
        "labels": {**template["metadata"].get("labels", {}), **night.labels, RUN_ID: night.run_id},
        "ownerReferences": [night.owner],
    }
    spec = {key: value for key, value in template["spec"].items() if key != "suspend"}
    filled = _filled(spec, {"{night}": night.date, "{run}": night.run_id})
    return {"apiVersion": template["apiVersion"], "kind": template["kind"], "metadata": metadata, "spec": filled}


def _filled(value: Any, words: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, words) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, words) for item in value]
    if isinstance(value, str):
        for word, text in words.items():
            value = value.replace(word, text)
    return value


def _failure(kind: Kind, name: str, namespace: str, state: State) -> NightError:
    """With the exit status that mmsrarec had; where the operator does not know it, a process was lost: 10."""
    found = EXIT_STATUS.search(state.message)
    status = int(found[1]) if found and int(found[1]) in STATUSES else 10
    return NightError(
        f"{kind.kind} {name}: {state.word}: {' '.join(state.message.split())[:500] or 'no reason given'}. Mend the "
        f"cause, then give the night another try: kubectl -n {namespace} delete {kind.plural} {name}, and kubectl "
        f"-n {namespace} create job --from=cronjob/NAME of the launcher",
        status,
    )
