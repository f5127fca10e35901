"""Specs: everything a target needs to know, written down before anything starts.

A spec holds no secret: credentials are resolved by the process that needs them (``config``), from the environment or
files.
"""

from __future__ import annotations

import contextlib
import itertools
import posixpath
import sys
from typing import Any

import msgspec

from kaptain_magics.core.command_line import option_words, override_word, split_words
from kaptain_magics.core.domains import AnyDomain, Value
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.objectives import Objective, infer
from kaptain_magics.core.resources import Resources
from kaptain_magics.core.scripts import Binding, Capture, Input, InputRole, Script
from kaptain_magics.core.states import Direction
from kaptain_magics.runtime.text_values import is_true


def _folders_above(path: str) -> set[str]:
    parts = path.split("/")[:-1]
    return set(itertools.accumulate(parts, posixpath.join))


class ImageSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which container image runs the work; ignored by the local target.

    Attributes:
        base_image: The image that holds Python and, ideally, the framework.
        image_name: Repository[:tag] to build and push to; empty mounts the script over ``base_image`` instead.
    """

    base_image: str = ""
    image_name: str = ""


class ClusterOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Options that only a cluster has; a run on another target says that they are ignored.

    Attributes:
        ttl_seconds_after_finished: Seconds after which the cluster removes the finished job.
        force_cleanup: Remove the finished job at once.
        delete_experiment: Remove the Katib Experiment after tuning.
        service_account: Service account of the pods.
        image_pull_secrets: Names of further pull secrets.
    """

    ttl_seconds_after_finished: int | None = None
    force_cleanup: bool = False
    delete_experiment: bool = False
    service_account: str = ""
    image_pull_secrets: tuple[str, ...] = ()


class JobOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The options of a job as they are requested: requests have these fields, and a job's spec takes them over.

    Attributes:
        args: Further command-line arguments, as they are.
        files: Absolute paths of files and folders that the script finds beside itself.
        isolated: Whether the script has nothing of what lies beside the notebook but those.
        requirements: Lines of a pip requirements file.
        resources: What each worker may use.
        workers: How many workers; 1 except for distributed training.
        timeout: Seconds after which the job is stopped and counts as failed; ``None`` for no limit.
        capture: What to take from the script's variables.
        image: The container image.
        cluster: Options of clusters.
    """

    args: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    isolated: bool = False
    requirements: tuple[str, ...] = ()
    resources: Resources = Resources()
    workers: int = 1
    timeout: float | None = None
    capture: Capture = Capture()
    image: ImageSpec = ImageSpec()
    cluster: ClusterOptions = ClusterOptions()


class JobSpec(JobOptions, frozen=True, kw_only=True, omit_defaults=True):
    """One execution of a script: a training run, or one trial of a study.

    Attributes:
        name: The job's name, a DNS label such as ``mnist-job-17921389``.
        run_id: The run that it belongs to.
        model_id: The model's id, such as ``dev/mnist``.
        script: The script.
        framework: The model's framework; also the container's name.
        phase: ``train`` or ``tune``; the script sees it as ``MODEL_LIFECYCLE_PHASE``.
        trial: The trial's number when the job is a trial.
        parallel: Trials of its study at a time; on one machine they share its cores.
        folder: Folder of this job on the machine of the supervisor: holds its log, channel and working directory. It is
            there when the job is submitted.
        parameters: Hyperparameters under the names that the user gave (``gamma`` or ``--gamma``).
        bindings: How the script takes each of them, by the same names; ``OPTION`` where absent.
        env: Further environment variables whose values stand in the line; they are written down, but never shown.
        env_names: Further environment variables whose values the process that starts the job has in its own
            environment; they are never written down.
        upload_uri: Folder in the object store for the model (``TRAINED_MODEL_UPLOAD_PATH``).
        metric_names: Names watched for in lines of metrics on standard output; empty watches for all.
        inputs: What the script uses beside the notebook.
        place: Folder below the working folder in which the script stands and runs, such as ``notebooks`` where it reads
            ``../data``; empty for the working folder itself.
    """

    name: str
    run_id: str
    model_id: str
    script: Script
    framework: ModelFramework
    phase: str = "train"
    trial: int | None = None
    parallel: int = 1
    folder: str = ""
    parameters: dict[str, Value] = {}
    bindings: dict[str, Binding] = {}
    env: dict[str, str] = {}
    env_names: tuple[str, ...] = ()
    upload_uri: str = ""
    metric_names: tuple[str, ...] = ()
    inputs: tuple[Input, ...] = ()
    place: str = ""

    def __repr__(self) -> str:  # without the values of its variables
        return f"JobSpec(name={self.name!r}, run_id={self.run_id!r}, model_id={self.model_id!r})"

    @property
    def script_path(self) -> str:
        """Path of the script below the working folder."""
        return posixpath.join(self.place, self.script.name)

    @property
    def extra_files(self) -> tuple[str, ...]:
        """The files and folders that lie beside the script without being at their place already as its inputs."""
        sources = {i.source for i in self.inputs}
        return tuple(path for path in self.files if path not in sources)

    @property
    def placed(self) -> dict[str, str]:
        """Sources of the files and folders that another machine needs, by their paths below the working folder."""
        sent = {i.path: i.source for i in self.inputs if i.role is not InputRole.FOLDER}
        sent = {path: source for path, source in sent.items() if not sent.keys() & _folders_above(path)}
        return sent | {posixpath.join(self.place, posixpath.basename(path)): path for path in self.extra_files}

    @property
    def layout(self) -> dict[str, Any]:
        """What the launcher needs to know: the script's folders, and whether it is a cell."""
        folders = [i.path for i in self.inputs if i.role is InputRole.FOLDER]
        layout = {"place": self.place, "folders": folders, "cell": self.script.cell}
        return {name: value for name, value in layout.items() if value}

    @property
    def argv(self) -> tuple[str, ...]:
        """The script's command line: words by their place, options of the hyperparameters, then the further arguments.

        A subcommand among the arguments stands before its own options.
        """
        before: list[str] = []
        after: list[str] = []
        for name, value in sorted(self.parameters.items(), key=lambda item: self.position(item[0]) or sys.maxsize):
            (after if self.script.follows_args(name) else before).extend(self.words(name, value))
        return (*before, *self.args, *after)

    def position(self, name: str) -> int:
        """Return a hyperparameter's place on the command line, from 1; 0 where it has none."""
        parameter = self.script.parameter(name) if self.bindings.get(name) is Binding.POSITION else None
        return 0 if parameter is None else parameter.position

    @property
    def settings(self) -> dict[str, float]:
        """The numbers that the script is given or has by name: to print one of them is to report no metric.

        Empty where metrics are watched for by name.
        """
        if self.metric_names:
            return {}
        texts = {p.name: p.default for p in self.script.parameters if "." not in p.name}
        texts |= {name: str(value) for name, value in self.parameters.items()}
        numbers: dict[str, float] = {}
        for name, text in texts.items():
            with contextlib.suppress(ValueError):
                numbers[name.lstrip("-").rpartition(".")[2].replace("-", "_")] = float(text)
        return numbers

    @property
    def assignments(self) -> dict[str, Value]:
        """The hyperparameters that replace a plain value in the code."""
        return {k: v for k, v in self.parameters.items() if self.bindings.get(k) is Binding.ASSIGNMENT}

    def words(self, name: str, value: Value) -> tuple[str, ...]:
        """Return what a hyperparameter of this value puts on the command line.

        ``None`` has no word there: an option whose default it is stays away.
        """
        parameter = self.script.parameter(name)
        flag, text = name if name.startswith("-") else f"--{name}", str(value)
        if text == "None" and parameter is not None and parameter.default in ("", "None") and not parameter.position:
            return ()
        yes = is_true(text)
        match self.bindings.get(name, Binding.OPTION):
            case Binding.SWITCH if yes:
                return (flag,)
            case Binding.SWITCH | Binding.NEGATED:
                return () if yes or parameter is None or not parameter.off else (parameter.off,)
            case Binding.COUNT:
                return (flag,) * (int(text) if text.isdecimal() else yes)
            case Binding.TRUTH:
                return (flag, "true" if yes else "")
            case Binding.WORDS:
                words = split_words(text)
                return (flag, *words) if len(words) != 1 else option_words(flag, *words)
            case Binding.OPTION:
                return option_words(flag, text)
            case Binding.POSITION:
                return (text,)
            case Binding.OVERRIDE:
                return (override_word(name, text),)
        return ()


class StudyOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The options of a search as they are requested; see ``JobOptions``.

    Attributes:
        goal: The study ends when the first objective reaches it.
        trials: Trials at most.
        parallel: Trials at a time.
        failed_trials: Failed trials that end the study as failed.
        algorithm: Katib's name of the algorithm.
        algorithm_settings: Katib's settings of the algorithm.
        early_stopping: Name of the early-stopping rule, empty for none.
        early_stopping_settings: Its settings.
        seed: Seed of the algorithm; ``None`` draws one.
        tuner: What runs the study: ``jobs`` (the loop of this package over the target's jobs), the name of the target's
            own tuner, such as ``katib``, or ``auto`` (the target's own where it is there); empty for the setting's.
        pareto: Whether all objectives are optimized together, instead of the first alone.
    """

    goal: float | None = None
    trials: int = 16
    parallel: int = 2
    failed_trials: int = 4
    algorithm: str = "random"
    algorithm_settings: dict[str, str] = {}
    early_stopping: str = ""
    early_stopping_settings: dict[str, str] = {}
    seed: int | None = None
    pareto: bool = False
    tuner: str = ""


class StudySpec(StudyOptions, frozen=True, kw_only=True, omit_defaults=True):
    """A search of hyperparameters.

    Attributes:
        name: The study's name, a DNS label such as ``mnist-tune-0174088b``.
        run_id: The run that it is.
        model_id: The model's id.
        job: The template of every trial; the study adds name, folder, parameters and upload URI.
        domains: What to search, under the names that the user gave.
        objectives: Metrics to follow; the first one decides, unless ``pareto`` is set.
        direction: Whether the first objective is to grow or to shrink.
        directions: The same of the objectives behind the first, by name; without ``pareto`` those are only reported.
        timeout: Seconds after which the study ends with what it has; ``None`` for no limit.
        resume: Run id of the study that this one goes on with, empty for none.
    """

    name: str
    run_id: str
    model_id: str
    job: JobSpec
    domains: dict[str, AnyDomain]
    objectives: tuple[str, ...]
    direction: Direction = Direction.MAXIMIZE
    directions: dict[str, Direction] = {}
    timeout: float | None = None
    resume: str = ""

    @property
    def directed(self) -> tuple[Objective, ...]:
        """The objectives with their directions."""
        first, *others = self.objectives
        return (Objective(first, self.direction), *(Objective(n, self.directions.get(n) or infer(n)) for n in others))

    @property
    def deciding(self) -> tuple[Objective, ...]:
        """The objectives that decide: all of them with ``pareto``, else the first."""
        return self.directed if self.pareto else self.directed[:1]


class EndpointOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The options of a served model as they are requested; see ``JobOptions``.

    Attributes:
        protocol: ``v2`` or ``v1``: which URL is announced; a server answers both.
        resources: What each replica may use.
        requirements: Lines of a pip requirements file for the server.
        serving_config: The model server's options of the contract (``model_file``, ``signature``, ...).
        host: Address to listen on; beyond 127.0.0.1 a token is due.
        token: Whether requests need a token on 127.0.0.1 too.
        port: Port to listen on; 0 takes a free one.
        workers: Server processes of one replica.
        autoscale: Requests in flight that one replica should have, for targets that scale.
        min_replicas: Replicas at least.
        max_replicas: Replicas at most; ``None`` leaves it to the target.
        canary_percent: Percent of requests for this revision beside the one that is deployed; ``None`` replaces it.
        replace: Whether an existing endpoint may be replaced.
        timeout: Seconds to wait for readiness.
        transformer: KServe transformer as in the contract (``image_name``, ``args``, ``volumes``, ``env_from``).
        image: The container image.
        cluster: Options of clusters.
    """

    protocol: str = "v2"
    resources: Resources = Resources()
    requirements: tuple[str, ...] = ()
    serving_config: dict[str, str] = {}
    host: str = "127.0.0.1"
    token: bool = False
    port: int = 0
    workers: int = 1
    autoscale: int = 2
    min_replicas: int = 1
    max_replicas: int | None = None
    canary_percent: int | None = None
    replace: bool = False
    timeout: float = 300.0
    transformer: dict[str, object] = {}
    image: ImageSpec = ImageSpec()
    cluster: ClusterOptions = ClusterOptions()


class EndpointSpec(EndpointOptions, frozen=True, kw_only=True, omit_defaults=True):
    """A served model.

    Attributes:
        name: The endpoint's name, a DNS label such as ``dev-mnist``; also the model's name in the protocol.
        run_id: The run that deploys it.
        model_id: The model's id.
        revision: The revision that it serves: 32 hexadecimal digits of the artifact's folder.
        artifact_uri: Folder in the object store that holds what is served.
        files: sha256 (hex) of every file in it, checked before loading; empty when unknown.
        framework: Decides the loader.
        env: Further environment variables; as a job's.
        env_names: As a job's.
    """

    name: str
    run_id: str
    model_id: str
    revision: str
    artifact_uri: str
    framework: ModelFramework
    files: dict[str, str] = {}
    env: dict[str, str] = {}
    env_names: tuple[str, ...] = ()

    def __repr__(self) -> str:  # without the values of its variables
        return f"EndpointSpec(name={self.name!r}, run_id={self.run_id!r}, model_id={self.model_id!r})"
