"""The manifests: what no API server says, since the operators' code, or the other manifests, decide it.

What a server does say is in test_k8s_server.py.
"""

import re
import shutil
import tomllib
from pathlib import Path

import pytest
from manifests import OVERLAYS, ROOT, Object, base, launch_command, of_kind, one, overlay, pods

from mmsrarec import errors
from mmsrarec.cluster.night import STATUSES
from mmsrarec.config import Config, load
from mmsrarec.pipeline import STAGES

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


@pytest.fixture(scope="module", params=["base", *OVERLAYS])
def objects(request: pytest.FixtureRequest) -> list[Object]:
    if request.param == "base":
        return base()
    return made(request.param)


def made(name: str) -> list[Object]:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not on PATH: overlays cannot be made")
    return overlay(name)


@pytest.fixture
def ray(objects: list[Object]) -> Object:
    return one(objects, "RayJob")["spec"]


@pytest.fixture
def spark(objects: list[Object]) -> Object:
    return one(objects, "SparkApplication")["spec"]


@pytest.fixture
def config(objects: list[Object], tmp_path) -> Config:
    path = tmp_path / "cluster.yaml"
    path.write_text(one(objects, "ConfigMap", "mmsrarec-config")["data"]["cluster.yaml"])
    return load(path, ["run.date=2026-11-21", "run.id=20261121T010000-abc123"])


def pinned(name: str) -> str:
    (found,) = [text for text in PROJECT["dependencies"] if re.match(rf"{name}(\[.*\])?==", text)]
    return found.split("==")[1]


def test_kustomize_makes_of_the_base_what_its_files_say() -> None:
    by_kustomize, by_hand = (
        {(o["kind"], o["metadata"]["name"]): o.get("spec") for o in found} for found in (made("base"), base())
    )
    assert by_kustomize == by_hand


def test_templates_rest_and_their_copies_have_names_that_the_operators_take(objects, ray, spark) -> None:
    names = {one(objects, kind)["metadata"]["name"] for kind in ("RayJob", "SparkApplication")}
    assert len(names) == 1, "one name for both: the night's"
    assert ray["suspend"] and spark["suspend"]
    name = f"{names.pop()}-20261121"
    assert len(name) <= 47 and DNS_1035.fullmatch(name), "KubeRay: a RayJob's name"
    assert len(f"{name}-driver") <= 63
    assert len(one(objects, "CronJob")["metadata"]["name"]) <= 52


def test_kuberay_accepts_the_job(ray) -> None:
    """utils/validation.go of KubeRay 1.7."""
    assert ray["shutdownAfterJobFinishes"], "else it may neither be suspended nor have a time to live"
    assert ray["ttlSecondsAfterFinished"] > 0 and "deletionStrategy" not in ray and "clusterSelector" not in ray
    assert ray["backoffLimit"] >= 1 and ray["activeDeadlineSeconds"] > 0 and ray["preRunningDeadlineSeconds"] > 0
    assert ray["submissionMode"] == "K8sJobMode", "SidecarMode takes no submitter, InteractiveMode no retries"
    assert "command" not in ray["submitterPodTemplate"]["spec"]["containers"][0], "KubeRay gives it"
    for group in (ray["rayClusterSpec"]["headGroupSpec"], *ray["rayClusterSpec"]["workerGroupSpecs"]):
        assert "labels" not in group["rayStartParams"] and not ("resources" in group and group["rayStartParams"])
        assert group["template"]["spec"].get("restartPolicy") in (None, "Never"), "autoscaler v2 asks for that"
        assert not group.get("suspend")
        names = {variable["name"] for variable in group["template"]["spec"]["containers"][0]["env"]}
        assert not names & {"RAY_enable_autoscaler_v2", "RAY_REDIS_ADDRESS", "REDIS_USERNAME", "RAY_ADDRESS"}


def test_only_spot_nodes_work_and_from_none(objects, ray) -> None:
    cluster = ray["rayClusterSpec"]
    head, (workers,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert cluster["rayVersion"] == pinned("ray")
    if cluster["enableInTreeAutoscaling"]:
        assert cluster["autoscalerOptions"]["version"] == "v2"
        assert workers["replicas"] == workers["minReplicas"] == 0 < workers["maxReplicas"]
    else:  # for Kueue, which admits a fixed size, of at most seven groups beside the head
        assert workers["replicas"] == workers["minReplicas"] == workers["maxReplicas"]
        assert "autoscalerOptions" not in cluster and len(cluster["workerGroupSpecs"]) <= 7
    (steady,), *others = [placed(pod.spec) for pod in pods(objects) if pod.component in LASTING]
    assert others == 3 * [[steady]] and {rule["operator"] for rule in steady["matchExpressions"]} == {"NotIn"}
    if "affinity" in workers["template"]["spec"]:
        assert workers["labels"]["ray.io/market-type"] == "spot"
        spot = [rule for term in placed(workers["template"]["spec"]) for rule in term["matchExpressions"]]
        assert [{**rule, "operator": "NotIn"} for rule in spot] == steady["matchExpressions"]


LASTING = ("launcher", "ray-submitter", "ray-head", "spark-driver")


def placed(spec: Object) -> list[Object]:
    return spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]


def test_spark_is_tried_again_and_does_not_run_for_ever(spark) -> None:
    assert spark["sparkVersion"] == pinned("pyspark")
    assert (spark["type"], spark["mode"], spark["pythonVersion"]) == ("Python", "cluster", "3")
    assert spark["restartPolicy"]["type"] == "OnFailure" and spark["restartPolicy"]["onFailureRetries"] >= 1
    assert spark["driver"]["template"]["spec"]["activeDeadlineSeconds"] > 0
    for role in ("driver", "executor"):
        (container,) = spark[role]["template"]["spec"]["containers"]
        assert container["name"] == f"spark-kubernetes-{role}", "by this name Spark finds its own in the template"
        assert container["image"] == spark["image"]
        assert spark[role]["serviceAccount"] == spark[role]["template"]["spec"]["serviceAccountName"]


def test_a_night_is_over_before_the_next_and_remembered_as_long_as_it_could_be_replayed(objects, ray, spark) -> None:
    nightly = one(objects, "CronJob")["spec"]
    job = nightly["jobTemplate"]["spec"]
    assert nightly["concurrencyPolicy"] == "Forbid" and nightly["startingDeadlineSeconds"] >= 600
    work = ray["activeDeadlineSeconds"] + spark["driver"]["template"]["spec"]["activeDeadlineSeconds"]
    assert work <= job["activeDeadlineSeconds"] < 24 * 3600
    kept = 24 * 3600 * min(nightly["successfulJobsHistoryLimit"], nightly["failedJobsHistoryLimit"])
    replay = nightly["startingDeadlineSeconds"] + job["activeDeadlineSeconds"]
    assert replay < spark["timeToLiveSeconds"] <= kept
    assert "ttlSecondsAfterFinished" not in job, "with the Job the night's objects would go"


def test_exit_statuses_decide_whether_a_launcher_is_tried_again(objects) -> None:
    job = one(objects, "CronJob")["spec"]["jobTemplate"]["spec"]
    (policy,) = [rule for rule in job["podFailurePolicy"]["rules"] if rule["action"] == "FailJob"]
    known = {kind.exit_status for kind in (errors.UserError, *errors.UserError.__subclasses__())}
    assert known <= set(policy["onExitCodes"]["values"]) == set(STATUSES), "all others are a launcher's own"
    (ignored,) = [rule for rule in job["podFailurePolicy"]["rules"] if rule["action"] == "Ignore"]
    assert ignored["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    template = job["template"]["spec"]
    assert template["restartPolicy"] == "Never", "a failure policy asks for that"
    assert policy["onExitCodes"]["containerName"] == template["containers"][0]["name"]


def test_every_container_is_confined_and_has_its_share(objects, spark) -> None:
    for pod in pods(objects):
        assert pod.spec["securityContext"]["runAsNonRoot"] and pod.spec["securityContext"]["runAsUser"] > 0
        assert pod.spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod.spec["enableServiceLinks"] is False
        writable = {volume["name"] for volume in pod.spec["volumes"] if "emptyDir" in volume}
        for container in pod.spec["containers"]:
            where = f"{pod.owner}: {container['name']}"
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"], where
            assert context["capabilities"] == {"drop": ["ALL"]}, where
            mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            assert mounts["/tmp"] in writable, where
            place = {variable["name"]: variable.get("value") for variable in container.get("env", [])}.get(
                "HOME", "/tmp"
            )
            assert mounts[place] in writable and mounts[container.get("workingDir", "/tmp")] in writable, where
            if not pod.owner.startswith("Spark"):  # there it is the application that says
                assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), where
                assert "memory" in container["resources"]["limits"], where
    assert all({"cores", "memory"} <= spark[role].keys() for role in ("driver", "executor"))


def test_what_is_named_is_there(objects) -> None:
    names = {kind: {found["metadata"]["name"] for found in of_kind(objects, kind)} for kind in KINDS}
    for pod in pods(objects):
        assert pod.spec["serviceAccountName"] in names["ServiceAccount"], pod.owner
        assert pod.spec["priorityClassName"] in names["PriorityClass"], pod.owner
        for volume in pod.spec["volumes"]:
            assert "configMap" not in volume or volume["configMap"]["name"] in names["ConfigMap"]
    for binding in of_kind(objects, "RoleBinding"):
        assert binding["roleRef"]["name"] in names["Role"]
        assert {subject["name"] for subject in binding["subjects"]} <= names["ServiceAccount"]


KINDS = ("ServiceAccount", "PriorityClass", "ConfigMap", "Role")
HIDDEN = re.compile(r"KEY|SECRET|TOKEN|PASSWORD", re.IGNORECASE)


def test_secrets_are_references_and_go_to_those_who_need_them(objects) -> None:
    assert not of_kind(objects, "Secret")
    holders = {}
    for pod in pods(objects):
        for container in pod.spec["containers"]:
            for variable in container.get("env", []):
                assert not (HIDDEN.search(variable["name"]) and "value" in variable), variable["name"]
                if secret := variable.get("valueFrom", {}).get("secretKeyRef"):
                    holders.setdefault(secret["name"], set()).add(pod.component)
            for source in container.get("envFrom", []):
                holders.setdefault(source["secretRef"]["name"], set()).add(pod.component)
    assert holders.pop("mmsrarec-s3") == {"ray-head", "ray-worker", "spark-driver", "spark-executor"}
    assert holders == {"mmsrarec-milvus": {"ray-head"}}


def test_only_pods_that_speak_with_kubernetes_have_a_token(objects) -> None:
    accounts = {found["metadata"]["name"]: found for found in of_kind(objects, "ServiceAccount")}
    with_token = {
        pod.component
        for pod in pods(objects)
        if pod.spec.get(
            "automountServiceAccountToken", accounts[pod.spec["serviceAccountName"]]["automountServiceAccountToken"]
        )
    }
    assert with_token == {"launcher", "ray-head", "spark-driver"}
    api = one(objects, "NetworkPolicy", "kubernetes")["spec"]["podSelector"]["matchExpressions"]
    assert set(api[0]["values"]) == with_token


def test_the_network_is_closed_but_for_what_is_listed(objects) -> None:
    closed = one(objects, "NetworkPolicy", "deny-all")["spec"]
    assert closed == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    components = {pod.component for pod in pods(objects)}
    named = set()
    for policy in of_kind(objects, "NetworkPolicy"):
        for selector in found_selectors(policy["spec"]):
            named |= set(selector.get("matchLabels", {}).get("app.kubernetes.io/component", "").split())
            for rule in selector.get("matchExpressions", []):
                named |= set(rule["values"])
        for rule in policy["spec"].get("egress", []):
            for peer in rule["to"]:
                if block := peer.get("ipBlock"):
                    assert rule["ports"], "an open address has named ports"
                    assert set(block["except"]) & {"169.254.0.0/16", "fd00:ec2::254/128"}, "instance metadata is barred"
    assert named == components, "each kind of pod has its rules, and no rule a pod that is not there"
    dashboard = one(objects, "NetworkPolicy", "ray-dashboard")["spec"]["ingress"]
    assert [rule["ports"] for rule in dashboard] == [[{"protocol": "TCP", "port": 8265}]]


def found_selectors(value: object) -> list[Object]:
    if isinstance(value, dict):
        own = [value["podSelector"]] if "podSelector" in value else []
        return own + [selector for item in value.values() for selector in found_selectors(item)]
    return [selector for item in value for selector in found_selectors(item)] if isinstance(value, list) else []


def test_budgets_are_such_as_hold_for_pods_of_custom_resources(objects) -> None:
    budgets = [budget["spec"] for budget in of_kind(objects, "PodDisruptionBudget")]
    assert all(budget.keys() == {"minAvailable", "selector"} and budget["minAvailable"] == 1 for budget in budgets)
    guarded = [budget["selector"]["matchLabels"]["app.kubernetes.io/component"] for budget in budgets]
    assert sorted(guarded) == ["ray-head", "spark-driver"]
    important = one(objects, "PriorityClass", "mmsrarec-night")["value"]
    assert important > one(objects, "PriorityClass", "mmsrarec-worker")["value"]
    assert {pod.component for pod in pods(objects) if pod.spec["priorityClassName"] == "mmsrarec-night"} == set(LASTING)


def test_the_commands_are_those_of_this_program(objects, ray, spark, config) -> None:
    words = ray["entrypoint"].split()
    assert words[:3] == ["mmsrarec", "run", "/etc/mmsrarec/cluster.yaml"]
    first = words[words.index("--from") + 1]
    assert list(STAGES)[:2] == ["build_cf", first], "Spark does the first stage, Ray all others"
    given = {word for word in words if "=" in word}
    assert given == {"run.date={night}", "run.id={run}"}
    assert {f"--set={setting}" for setting in given} < set(spark["arguments"])
    assert spark["mainApplicationFile"].removeprefix("local:///opt/mmsrarec/") == "jobs/build_cf.py"
    assert config.run.run_date == "2026-11-21" and config.run.id == "20261121T010000-abc123"
    assert config.run.wait > config.run.lease, "the next try outwaits the lock of a lost one"
    assert launch_command(objects)[:2] == ["mmsrarec", "night"]


def test_the_engines_that_are_asked_for_have_room(ray, config) -> None:
    (workers,) = ray["rayClusterSpec"]["workerGroupSpecs"]
    engine, share = config.engine, workers["template"]["spec"]["containers"][0]["resources"]
    gpus = int(share["limits"].get("nvidia.com/gpu", 0))
    assert bool(gpus) == bool(engine.num_gpus)
    assert engine.tensor_parallel_size <= max(gpus, 1), "an engine stays on one node"
    assert engine.most_replicas * engine.num_gpus <= workers["maxReplicas"] * gpus
    assert engine.most_replicas <= workers["maxReplicas"] * int(share["requests"]["cpu"]), "an engine takes one CPU"
    assert config.lake.root.startswith("s3://") and config.index.uri, "no file of one pod is another's"


def test_kueue_queues_the_copies_and_never_a_template() -> None:
    objects = made("kueue")
    assert "--label=kueue.x-k8s.io/queue-name=mmsrarec" in launch_command(objects)
    labels = [one(objects, kind)["metadata"]["labels"] for kind in ("RayJob", "SparkApplication")]
    assert not [key for found in labels for key in found if key.startswith("kueue")]


@pytest.mark.parametrize("path", sorted((ROOT / "k8s" / "images").glob("*.Dockerfile")), ids=lambda path: path.name)
def test_images_are_pinned_and_not_roots(path: Path) -> None:
    text = path.read_text()
    for image in re.findall(r"^FROM (\S+)", text, re.MULTILINE):
        assert re.search(r":\d+\.\d+\.\d+", image), f"{image}: a version"
    image, users = f"mmsrarec-{path.stem}", re.findall(r"^USER (\d+):", text, re.MULTILINE)
    its = [pod.spec for pod in pods(base()) if pod.spec["containers"][0]["image"] == image]
    assert {str(spec["securityContext"]["runAsUser"]) for spec in its} == {users[-1]} != {"0"}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    assert all((ROOT / name).exists() for names in copied for name in names.split())
    assert set(re.findall(r"\.\[\$\{ENGINE\},(\w+)\]", text)) <= PROJECT["optional-dependencies"].keys()
