"""Stand-ins for the controllers of Katib and KServe, which cannot run here.

They make the status changes that the real controllers make, in their order, on a real API server: Katib's
``experiment`` and ``trial`` controllers (``pkg/controller.v1beta1``) and its StdOut metrics collector; KServe's
``inferenceservice`` controller as its documents describe its status. Katib's trials are real Jobs of the trial
template. KServe's servers are real pods where the predictor brings its own container.
"""

from __future__ import annotations

import functools
import json
import random
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kaptain_magics.core.names import new_hex
from kaptain_magics.errors import KaptainError
from kaptain_magics.targets.kubernetes.api.client import ApiError, Cluster
from kaptain_magics.targets.kubernetes.api.explain import condition
from tests.parts.cluster.rig import eventually

Thing = dict[str, Any]
CRDS = Path(__file__).parent / "crds"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
COLLECTOR = "metrics-logger-and-collector"
# What Katib's collector does: it finds the script among the pod's processes when it starts, waits for its end, and
# passes the output on; a script that has ended by then has lost its metrics.
_COLLECT = """
import os, sys, time
def command(pid):
    try:
        return open(f"/proc/{pid}/cmdline").read().replace(chr(0), " ")
    except OSError:
        return ""
pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
mains = [pid for pid in pids if "echo completed > /var/log/katib" in command(pid) and pid != os.getpid()]
assert mains, "unable to find main pid"
done, place = False, 0
while True:
    done = not os.path.exists(f"/proc/{mains[0]}")
    if os.path.exists("/var/log/katib/metrics.log"):
        with open("/var/log/katib/metrics.log") as log:
            log.seek(place)
            sys.stdout.write(log.read())
            sys.stdout.flush()
            place = log.tell()
    if done:
        break
    time.sleep(0.1)
if not os.path.exists(f"/var/log/katib/{mains[0]}.pid"):
    print("F1122 14:00:00.000000 1 main.go:421] Failed to wait for worker container: training container is failed")
    sys.exit(255)
"""


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class StandIn(ABC):
    """A loop over one namespace in a thread; used as a context."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> StandIn:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self.stopping.wait(0.1):
            with suppress(KaptainError):  # an object that was deleted or changed in between: the next round sees it
                self.reconcile()

    @abstractmethod
    def reconcile(self) -> None:
        """Make one round."""

    def set_status(self, thing: Thing, status: Thing) -> None:
        name = thing["metadata"]["name"]
        self.cluster.patch(thing["kind"], name, {"status": status}, subresource="status")


def with_condition(thing: Thing, kind: str, reason: str, message: str = "") -> list[Thing]:
    """The conditions with one more that is true; the states before it are true no more, as Katib has it."""
    kept = [c for c in thing.get("status", {}).get("conditions") or () if c["type"] != kind]
    if kind != "Created":
        kept = [{**c, "status": "False"} if c["type"] == "Running" else c for c in kept]
    stamp = now()
    return [
        *kept,
        {
            "type": kind,
            "status": "True",
            "reason": reason,
            "message": message,
            "lastUpdateTime": stamp,
            "lastTransitionTime": stamp,
        },
    ]


class KatibStandIn(StandIn):
    """Katib's controllers with the random algorithm.

    Args:
        cluster: The namespace.
        seed: Of the values that are drawn.
        stop_early: Numbers of trials that early stopping ends while they run.
    """

    def __init__(self, cluster: Cluster, seed: int = 1, stop_early: tuple[int, ...] = ()) -> None:
        super().__init__(cluster)
        self._random = random.Random(seed)
        self._stop_early = stop_early

    def reconcile(self) -> None:
        for experiment in self.cluster.list("Experiment"):
            if condition(experiment, "Succeeded") or condition(experiment, "Failed"):
                continue
            if not experiment.get("status"):
                status = {"startTime": now(), "conditions": with_condition(experiment, "Created", "ExperimentCreated")}
                self.set_status(experiment, status)
                continue
            self._reconcile_experiment(experiment)

    def _reconcile_experiment(self, experiment: Thing) -> None:
        name, spec = experiment["metadata"]["name"], experiment["spec"]
        trials = self.cluster.list("Trial", f"katib.kubeflow.org/experiment={name}")
        for number, trial in enumerate(trials):
            self._reconcile_trial(trial, number, experiment)
        trials = self.cluster.list("Trial", f"katib.kubeflow.org/experiment={name}")
        by_state: dict[str, list[str]] = {}
        for trial in trials:
            kinds = ("Killed", "Failed", "Succeeded", "EarlyStopped", "Running", "MetricsUnavailable")
            state = next((kind for kind in kinds if condition(trial, kind)), "Pending")
            by_state.setdefault(state, []).append(trial["metadata"]["name"])
        active = len(by_state.get("Pending", [])) + len(by_state.get("Running", []))
        failed = len(by_state.get("Failed", [])) + len(by_state.get("MetricsUnavailable", []))
        status: Thing = {"trials": len(trials), "trialsSucceeded": len(by_state.get("Succeeded", []))}
        status |= {"trialsRunning": len(by_state.get("Running", [])), "trialsFailed": len(by_state.get("Failed", []))}
        best = self._best(experiment, trials)
        if best is not None:
            status["currentOptimalTrial"] = {
                "bestTrialName": best["metadata"]["name"],
                "parameterAssignments": best["spec"]["parameterAssignments"],
                "observation": best["status"]["observation"],
            }
        goal = spec["objective"].get("goal")
        value = None if best is None else _objective(best)
        maximize = spec["objective"]["type"] == "maximize"
        if goal is not None and value is not None and (value >= goal if maximize else value <= goal):
            message = "Experiment has succeeded because Objective goal has reached"
            status |= self._ended(experiment, "Succeeded", "ExperimentGoalReached", message)
        elif failed and failed >= spec["maxFailedTrialCount"]:
            message = "Experiment has failed because max failed count has reached"
            status |= self._ended(experiment, "Failed", "ExperimentFailed", message)
        elif len(trials) - active >= spec["maxTrialCount"]:
            message = "Experiment has succeeded because max trial count has reached"
            status |= self._ended(experiment, "Succeeded", "ExperimentMaxTrialsReached", message)
        elif not condition(experiment, "Running"):
            status["conditions"] = with_condition(experiment, "Running", "ExperimentRunning", "Experiment is running")
        if any(experiment["status"].get(key) != text for key, text in status.items()):
            self.set_status(experiment, status)
        if "completionTime" not in status:
            for _ in range(min(spec["parallelTrialCount"] - active, spec["maxTrialCount"] - len(trials))):
                self._new_trial(experiment)

    def _ended(self, experiment: Thing, kind: str, reason: str, message: str) -> Thing:
        return {"conditions": with_condition(experiment, kind, reason, message), "completionTime": now()}

    def _best(self, experiment: Thing, trials: list[Thing]) -> Thing | None:
        done = [trial for trial in trials if _objective(trial) is not None]
        choose = max if experiment["spec"]["objective"]["type"] == "maximize" else min
        return choose(done, key=lambda trial: _objective(trial) or 0.0) if done else None

    def _new_trial(self, experiment: Thing) -> None:
        name = f"{experiment['metadata']['name']}-{new_hex(8)}"
        assigned = [{"name": p["name"], "value": self._draw(p)} for p in experiment["spec"]["parameters"]]
        template = experiment["spec"]["trialTemplate"]
        values = {a["name"]: a["value"] for a in assigned}
        text = json.dumps(template["trialSpec"])
        for parameter in template["trialParameters"]:
            reference = parameter["reference"]
            filled = name if reference == "${trialSpec.Name}" else values[reference]
            text = text.replace(f"${{trialParameters.{parameter['name']}}}", filled)
        assert "${trial" not in text
        run = json.loads(text)
        run["metadata"] = {**run.get("metadata", {}), "name": name, "namespace": self.cluster.namespace}
        self.cluster.create(
            {
                "apiVersion": "kubeflow.org/v1beta1",
                "kind": "Trial",
                "metadata": {
                    "name": name,
                    "namespace": self.cluster.namespace,
                    "labels": {"katib.kubeflow.org/experiment": experiment["metadata"]["name"]},
                    "ownerReferences": [_owner(experiment)],
                },
                "spec": {
                    "objective": experiment["spec"]["objective"],
                    "metricsCollector": experiment["spec"]["metricsCollectorSpec"],
                    "parameterAssignments": assigned,
                    "runSpec": run,
                    "retainRun": template.get("retain", False),
                    "primaryContainerName": template["primaryContainerName"],
                },
            }
        )

    def _draw(self, parameter: Thing) -> str:
        space = parameter["feasibleSpace"]
        if "list" in space:
            return str(self._random.choice(space["list"]))
        if parameter["parameterType"] == "int":
            return str(self._random.randint(int(space["min"]), int(space["max"])))
        return repr(self._random.uniform(float(space["min"]), float(space["max"])))

    def _reconcile_trial(self, trial: Thing, number: int, experiment: Thing) -> None:
        name = trial["metadata"]["name"]
        if any(condition(trial, kind) for kind in ("Succeeded", "Failed", "EarlyStopped", "MetricsUnavailable")):
            return
        if not trial.get("status"):
            self.cluster.create({**self._with_collector(trial), "metadata": self._owned(trial)})
            created = with_condition(trial, "Created", "TrialCreated", "Trial is created")
            self.set_status(trial, {"startTime": now(), "conditions": created})
            return
        job = self.cluster.get(trial["spec"]["runSpec"]["kind"], name)
        if job is None:
            return
        observation = self._observe(trial) if condition(job, "Complete") or condition(job, "Failed") else None
        if condition(job, "Failed"):
            self._end_trial(trial, "Failed", "TrialFailed", "Trial has failed", observation)
        elif condition(job, "Complete"):
            names = [metric["name"] for metric in observation or ()]
            if trial["spec"]["objective"]["objectiveMetricName"] in names:
                self._end_trial(trial, "Succeeded", "TrialSucceeded", "Trial has succeeded", observation)
            else:
                self._end_trial(trial, "MetricsUnavailable", "MetricsUnavailable", "Metrics are not available", None)
        elif number in self._stop_early and (job.get("status") or {}).get("active"):
            found = self._observe(trial)
            if found:
                self.cluster.delete("Job", name)
                self._end_trial(trial, "EarlyStopped", "TrialEarlyStopped", "Trial is early stopped", found)
        elif (job.get("status") or {}).get("active") and not condition(trial, "Running"):
            self.set_status(trial, {"conditions": with_condition(trial, "Running", "TrialRunning", "Trial is running")})

    def _owned(self, trial: Thing) -> Thing:
        return {**trial["spec"]["runSpec"]["metadata"], "ownerReferences": [_owner(trial)]}

    def _with_collector(self, trial: Thing) -> Thing:
        """Do to the job what Katib's webhook does to its pods."""
        run: Thing = json.loads(json.dumps(trial["spec"]["runSpec"]))
        pod = run["spec"]["template"]["spec"]
        (main,) = (c for c in pod["containers"] if c["name"] == trial["spec"]["primaryContainerName"])
        command = " ".join([*main.pop("command"), *main.pop("args", [])])
        redirected = f"{command} 1>/var/log/katib/metrics.log 2>&1 && echo completed > /var/log/katib/$$$$.pid"
        main["command"], main["args"] = ["sh", "-c"], [redirected]
        mount = {"name": "metrics-volume", "mountPath": "/var/log/katib"}
        main["volumeMounts"].append(mount)
        collector = {
            "name": COLLECTOR,
            "image": main["image"],
            "command": ["python3", "-c", _COLLECT, "file-metricscollector"],
            "securityContext": main["securityContext"],
            "volumeMounts": [mount],
        }
        pod["containers"].append(collector)
        pod["volumes"].append({"name": "metrics-volume", "emptyDir": {}})
        pod["shareProcessNamespace"] = True
        return run

    def _end_trial(self, trial: Thing, kind: str, reason: str, message: str, metrics: list[Thing] | None) -> None:
        status: Thing = {"conditions": with_condition(trial, kind, reason, message), "completionTime": now()}
        if metrics:
            status["observation"] = {"metrics": metrics}
        self.set_status(trial, status)

    def _observe(self, trial: Thing) -> list[Thing]:
        """Read the metrics from the script's output, as the StdOut collector does."""
        objective = trial["spec"]["objective"]
        wanted = [objective["objectiveMetricName"], *objective.get("additionalMetricNames", [])]
        found: dict[str, list[str]] = {}
        for pod in self.cluster.list("Pod", f"job-name={trial['metadata']['name']}"):
            where = f"{self.cluster.path('Pod', pod['metadata']['name'])}/log"
            query = {"container": COLLECTOR}
            answer = self.cluster.open("GET", where, query, accept="*/*")
            text = answer.data.decode("utf-8", "replace") if answer.status == 200 else ""
            filters = [re.compile(f) for f in trial["spec"]["metricsCollector"]["source"]["filter"]["metricsFormat"]]
            for match in (m for line in text.split("\n") for f in filters for m in f.finditer(line)):
                if match[1] in wanted:
                    found.setdefault(match[1], []).append(match[2])
        return [
            {"name": name, "min": min(values, key=float), "max": max(values, key=float), "latest": values[-1]}
            for name, values in found.items()
        ]


def _objective(trial: Thing) -> float | None:
    wanted = trial["spec"]["objective"]["objectiveMetricName"]
    for metric in (trial.get("status", {}).get("observation") or {}).get("metrics") or ():
        if metric["name"] == wanted:
            return float(metric["latest"])
    return None


def _owner(thing: Thing) -> Thing:
    about = thing["metadata"]
    return {
        "apiVersion": thing["apiVersion"],
        "kind": thing["kind"],
        "name": about["name"],
        "uid": about["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


class KServeStandIn(StandIn):
    """KServe's controller in serverless mode.

    A predictor with its own container runs as a pod, with the model brought by ``fetch`` in the place of KServe's
    storage initializer; others are ready without one.

    Args:
        cluster: The namespace.
        fail: Message of a model that cannot be loaded; empty for those that can.
    """

    def __init__(self, cluster: Cluster, fail: str = "") -> None:
        super().__init__(cluster)
        self.fail = fail
        self._revisions: dict[str, list[tuple[int, Thing]]] = {}

    def reconcile(self) -> None:
        services = self.cluster.list("InferenceService")
        for service in services:
            self._reconcile_service(service)
        gone = set(self._revisions) - {service["metadata"]["uid"] for service in services}
        for uid in gone:
            self._revisions.pop(uid)

    def _reconcile_service(self, service: Thing) -> None:
        about, predictor = service["metadata"], service["spec"]["predictor"]
        revisions = self._revisions.setdefault(about["uid"], [])
        plain = {key: value for key, value in predictor.items() if key != "canaryTrafficPercent"}
        if not revisions or revisions[-1][1] != plain:
            revisions.append((about["generation"], plain))
            self.set_status(service, self._status(service, ready=False))
            if "containers" in predictor:
                self._pod(service, len(revisions))
            return
        status = service.get("status") or {}
        if self.fail:
            if status.get("modelStatus", {}).get("transitionStatus") != "BlockedByFailedLoad":
                self.set_status(service, self._status(service, ready=False))
            return
        ready = "containers" not in predictor or self._pod_ready(service, len(revisions))
        wanted = self._status(service, ready)
        if any(status.get(key) != value for key, value in wanted.items() if key != "conditions") or (
            bool(condition(service, "Ready")) != ready
        ):
            self.set_status(service, wanted)
        if ready and "canaryTrafficPercent" not in predictor:
            for number in range(1, len(revisions)):
                self.cluster.delete("Pod", f"{about['name']}-predictor-{number:05d}")

    def _status(self, service: Thing, ready: bool) -> Thing:
        about, predictor = service["metadata"], service["spec"]["predictor"]
        revisions = self._revisions[about["uid"]]
        latest = f"{about['name']}-predictor-{len(revisions):05d}"
        component: Thing = {"latestCreatedRevision": latest}
        if len(revisions) > 1 or ready:
            component["latestReadyRevision"] = (
                latest if ready else f"{about['name']}-predictor-{len(revisions) - 1:05d}"
            )
        percent = int(predictor.get("canaryTrafficPercent", 100))
        if ready or len(revisions) > 1:
            component["traffic"] = [{"revisionName": latest, "latestRevision": True, "percent": percent}]
            if percent < 100:
                before = f"{about['name']}-predictor-{len(revisions) - 1:05d}"
                component["traffic"].append({"revisionName": before, "percent": 100 - percent, "tag": "prev"})
        inside = f"http://{about['name']}.{about['namespace']}.svc.cluster.local"
        word = "True" if ready else "Unknown"
        kinds = ("IngressReady", "PredictorConfigurationReady", "PredictorReady", "PredictorRouteReady", "Ready")
        status: Thing = {
            "observedGeneration": about["generation"],
            "components": {"predictor": component},
            "conditions": [{"type": kind, "status": word, "lastTransitionTime": now()} for kind in kinds],
        }
        if ready:
            status |= {"url": f"http://{about['name']}.{about['namespace']}.example.com", "address": {"url": inside}}
            states = {"activeModelState": "Loaded", "targetModelState": "Loaded"}
            status["modelStatus"] = {"transitionStatus": "UpToDate", "states": states}
        elif self.fail:
            failure = {"reason": "ModelLoadFailed", "message": self.fail, "time": now()}
            states = {"activeModelState": "", "targetModelState": "FailedToLoad"}
            status["modelStatus"] = {
                "transitionStatus": "BlockedByFailedLoad",
                "lastFailureInfo": failure,
                "states": states,
            }
        return status

    def _pod(self, service: Thing, number: int) -> None:
        about, predictor = service["metadata"], service["spec"]["predictor"]
        container = json.loads(json.dumps(predictor["containers"][0]))
        env = {one["name"]: one["value"] for one in container["env"] if "value" in one}
        model = {"name": "model", "mountPath": "/mnt/models"}
        fetch = {
            **{key: container[key] for key in ("image", "workingDir", "securityContext")},
            "name": "storage-initializer",
            "command": [*container["command"], "fetch"],
            "env": [
                {"name": "KAPTAIN_ARTIFACT", "value": env["STORAGE_URI"]},
                {"name": "HOME", "value": "/mnt/models"},
            ],
            "envFrom": [{"secretRef": {"name": f"{about['name']}-secret"}}],
            "volumeMounts": [*container["volumeMounts"], model],
        }
        container["volumeMounts"].append({**model, "readOnly": True})
        name = f"{about['name']}-predictor-{number:05d}"
        self.cluster.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": name,
                    "namespace": about["namespace"],
                    "labels": {
                        **about["labels"],
                        "serving.kserve.io/inferenceservice": about["name"],
                        "serving.knative.dev/revision": name,
                        "component": "predictor",
                    },
                    "ownerReferences": [_owner(service)],
                },
                "spec": {
                    "containers": [container],
                    "initContainers": [fetch],
                    "volumes": [*predictor["volumes"], {"name": "model", "emptyDir": {}}],
                    "securityContext": {"runAsUser": 1000, "fsGroup": 1000},
                    "terminationGracePeriodSeconds": 5,
                },
            }
        )

    def _pod_ready(self, service: Thing, number: int) -> bool:
        pod = self.cluster.get("Pod", f"{service['metadata']['name']}-predictor-{number:05d}")
        return pod is not None and condition(pod, "Ready") is not None


@contextmanager
def definitions(cluster: Cluster, file: str) -> Iterator[None]:
    """Have the definitions of a file in ``crds`` served; those that are new, and all their objects, go afterwards."""
    import yaml

    new: set[str] = set()
    for definition in yaml.safe_load_all((CRDS / file).read_text("utf-8")):
        try:
            cluster.request("POST", DEFINITIONS, None, definition)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
        else:
            new.add(definition["metadata"]["name"])
        eventually(functools.partial(_served, cluster, definition["spec"]))
    yield
    for name in new:
        with suppress(ApiError):
            cluster.request("DELETE", f"{DEFINITIONS}/{name}")
    eventually(lambda: not new & {d["metadata"]["name"] for d in cluster.request("GET", DEFINITIONS)["items"]})


def _served(cluster: Cluster, spec: Thing) -> bool:
    group_version = f"{spec['group']}/{spec['versions'][0]['name']}"
    groups = cluster.request("GET", "/apis")["groups"]
    if group_version not in [version["groupVersion"] for group in groups for version in group["versions"]]:
        return False
    try:
        resources = cluster.request("GET", f"/apis/{group_version}")["resources"]
    except ApiError:
        return False
    return spec["names"]["plural"] in [resource["name"] for resource in resources]


class TrainingStandIn(StandIn):
    """The operators of PyTorchJob, TFJob and TrainJob: they make the workers' pods and say when the first one ended."""

    def reconcile(self) -> None:
        for kind, field in (("PyTorchJob", "pytorchReplicaSpecs"), ("TFJob", "tfReplicaSpecs")):
            for job in self.cluster.list(kind):
                replicas = job["spec"][field]
                workers = [
                    (role.lower(), number, spec["template"])
                    for role, spec in replicas.items()
                    for number in range(spec["replicas"])
                ]
                world = {"WORLD_SIZE": str(len(workers)), "MASTER_ADDR": f"{job['metadata']['name']}-master-0"}
                self._run_job(job, workers, world, "Succeeded")
        for job in self.cluster.list("TrainJob"):
            spec, (manager,) = job["spec"], job["spec"]["runtimePatches"]
            (replicated,) = manager["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
            patch = replicated["template"]["spec"]["template"]
            (node,) = patch["spec"]["containers"]
            container = {**node, **{key: spec["trainer"][key] for key in ("image", "command", "env")}}
            template = {"metadata": patch["metadata"], "spec": {**patch["spec"], "containers": [container]}}
            count = spec["trainer"]["numNodes"]
            self._run_job(job, [("node", n, template) for n in range(count)], {"PET_NNODES": str(count)}, "Complete")

    def _run_job(self, job: Thing, workers: list[tuple[str, int, Thing]], world: dict[str, str], done: str) -> None:
        if any(condition(job, kind) for kind in (done, "Failed")):
            return
        name = job["metadata"]["name"]
        there = {pod["metadata"]["name"]: pod for pod in self.cluster.list("Pod", f"kaptain-magics/job={name}")}
        for rank, (role, number, template) in enumerate(workers):
            if f"{name}-{role}-{number}" not in there:
                self._pod(job, role, number, template, {**world, "RANK": str(rank)})
        phases = {pod.get("status", {}).get("phase") for pod in there.values()}
        if "Failed" in phases:
            self.set_status(job, {"conditions": with_condition(job, "Failed", "JobFailed", "a worker failed")})
        elif len(there) == len(workers) and phases == {"Succeeded"}:
            self.set_status(job, {"conditions": with_condition(job, done, "JobSucceeded", "all workers succeeded")})

    def _pod(self, job: Thing, role: str, number: int, template: Thing, env: dict[str, str]) -> None:
        made = json.loads(json.dumps(template))
        made["spec"]["restartPolicy"] = "Never"
        made["spec"]["containers"][0]["env"] += [{"name": k, "value": v} for k, v in env.items()]
        labels = made["metadata"]["labels"] | {"training.kubeflow.org/replica-type": role}
        about = {
            "name": f"{job['metadata']['name']}-{role}-{number}",
            "labels": labels,
            "ownerReferences": [_owner(job)],
        }
        annotations = {"batch.kubernetes.io/job-completion-index": str(number)} if role == "node" else {}
        about["annotations"] = made["metadata"].get("annotations", {}) | annotations
        self.cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": made["spec"]})
