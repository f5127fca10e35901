"""What a model is, and the plans of what can be done with it."""

from __future__ import annotations

import reprlib
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import msgspec

from kaptain_magics.core.domains import AnyDomain, Value
from kaptain_magics.core.events import Noted
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.names import check_model_id, endpoint_name, new_hex, new_run_id
from kaptain_magics.core.resources import Resources
from kaptain_magics.core.specs import ClusterOptions, EndpointSpec, ImageSpec, Script
from kaptain_magics.core.states import Direction
from kaptain_magics.errors import (
    InvalidPropertyError,
    ModelError,
    NotFoundError,
    ServingError,
    UndefinedPropertyError,
)
from kaptain_magics.model import choosing, planning
from kaptain_magics.model.context import Context
from kaptain_magics.model.contract.config import Config
from kaptain_magics.model.inherited import inherited
from kaptain_magics.model.meta import ModelMeta
from kaptain_magics.model.plan import DeploymentPlan, StudyPlan, TrainingPlan
from kaptain_magics.model.planning import JobOptions
from kaptain_magics.model.running import check_token, in_the_way, listening_address, running_endpoint
from kaptain_magics.state import Revision
from kaptain_magics.supervisor.serving_files import find_serving_files


class Plannable:
    """A model that can be trained, tuned, deployed and asked.

    Args:
        id: Unique id; begin it with the stage, as in ``dev/mnist``.
        name: Short name; jobs are named after it.
        description: What it is about.
        version: The model's own version.
        framework: Its library.
        framework_version: The library's version, for people.
        main_file: The training script.
        image_name: Repository[:tag] of the image to build and push, on Docker and Kubernetes.
        base_image: The image to build upon, or to run as it is.
        extra_files: Files and folders that the script finds beside itself.
        requirements: Path of a pip requirements file.
        labels: Texts for people who filter models.
        config: Credentials and places of the contract; found in the usual places when not given.
        serving_config: Options of the model server (``protocol_version``, ``requirements_file``, ...).
        workspace: Where runs are kept; of the settings in force when not given.

    Raises:
        InvalidPropertyError: A property is blank.
    """

    def __init__(
        self,
        id: str,  # noqa: A002 - the contract's name
        name: str = "",
        description: str = "",
        version: str = "",
        framework: ModelFramework | None = None,
        framework_version: str = "",
        main_file: str = "",
        image_name: str = "",
        base_image: str = "",
        extra_files: Sequence[str] | None = None,
        requirements: str | None = None,
        labels: Sequence[str] | None = None,
        config: Config | None = None,
        serving_config: Mapping[str, str] | None = None,
        *,
        workspace: Context | None = None,
    ) -> None:
        try:
            check_model_id(id if isinstance(id, str) else "")
        except ValueError as error:
            raise InvalidPropertyError(f"{reprlib.repr(id)} is no model id", str(error)) from None
        for what, value in (("name", name), ("main_file", main_file), ("base_image", base_image)):
            if value is None or (value and not str(value).strip()):
                raise InvalidPropertyError(f"the model's {what} is blank", f"give {what}=... a text, or leave it out")
        self.id = id
        self.name = name or id
        self.description, self.version, self.framework_version = description, version, framework_version
        self.framework = ModelFramework.of(framework) if framework is not None else None
        self.main_file = main_file
        self.image_name, self.base_image = image_name, base_image
        self.extra_files, self.requirements = list(extra_files or ()), requirements
        self.labels = list(labels or ())
        self.config = config
        self.serving_config: Mapping[str, str] = serving_config or {}
        self.revision = uuid.uuid4().hex
        if config is not None and workspace is None:
            workspace = config.workspace()
        self.workspace = workspace or Context()

    @property
    def _about(self) -> dict[str, str]:
        return {"name": self.name, "description": self.description, "version": self.version}

    # ---- plans: what the magics start --------------------------------------------------------------------------

    def plan_training(
        self,
        script: Script | None = None,
        *,
        parameters: Mapping[str, Value] | None = None,
        sent: Mapping[str, Any] | None = None,
        **options: Unpack[JobOptions],
    ) -> TrainingPlan:
        """Return the plan of a training run.

        Args:
            script: The script; the model's ``main_file`` when not given.
            parameters: Hyperparameters by name.
            sent: Values that the script finds as globals.
            **options: See ``JobOptions``.

        Raises:
            KaptainError: Something that was asked for cannot be.
        """
        script = script or self._main_script()
        job = planning.build_job(
            self.workspace, self.id, self.name, script, parameters or {}, "train", self._complete(options)
        )
        return TrainingPlan(self.workspace, job, sent, self._about)

    def plan_tuning(
        self,
        script: Script | None = None,
        *,
        domains: Mapping[str, AnyDomain] | None = None,
        objectives: Sequence[str] = (),
        parameters: Mapping[str, Value] | None = None,
        sent: Mapping[str, Any] | None = None,
        goal: float | None = None,
        direction: Direction | None = None,
        trials: int | None = None,
        parallel: int | None = None,
        failed_trials: int | None = None,
        algorithm: str = "random",
        algorithm_settings: Mapping[str, str] | None = None,
        early_stopping: str = "",
        early_stopping_settings: Mapping[str, str] | None = None,
        seed: int | None = None,
        resume: bool = False,
        **options: Unpack[JobOptions],
    ) -> StudyPlan:
        """Return the plan of a study.

        Args:
            script: The script; the model's ``main_file``, else the script that it was trained with last.
            domains: What to search, by name.
            objectives: Metrics to follow, as ``loss``, ``loss:min`` or ``loss:max``; the first one decides, the others
                are reported.
            parameters: Further hyperparameters with fixed values.
            sent: Values that the script finds as globals.
            goal: Value of the first objective that ends the study.
            direction: Whether it is to grow or to shrink; taken from its name when not given.
            trials: Trials at most; 16 when not given.
            parallel: Trials at a time; 2 when not given.
            failed_trials: So many failed trials end the study; 4 when not given.
            algorithm: Katib's name of the algorithm.
            algorithm_settings: Its settings.
            early_stopping: Name of the early-stopping rule.
            early_stopping_settings: Its settings.
            seed: Seed of the algorithm.
            resume: Go on with the model's last study; only counts, goal and timeout may be other than before.
            **options: See ``JobOptions``.

        Raises:
            KaptainError: Something that was asked for cannot be.
        """
        from kaptain_magics.tuning.checks import Tuner, fit_grid

        if resume:
            wanted = {"goal": goal, "trials": trials, "parallel": parallel, "failed_trials": failed_trials}
            changes = {k: v for k, v in {**wanted, "timeout": options.get("timeout")}.items() if v is not None}
            return planning.resume_plan(self.workspace, self.id, changes)
        domains, fixed = dict(domains or {}), dict(parameters or {})
        before = None
        if script is None and self.main_file:
            script = self._main_script()
        elif script is None:
            before = planning.last_script(self.workspace, self.id)
            script = before.script
        completed = self._complete(options)
        notes: Sequence[Noted] = ()
        if before is not None:
            asked, completed = completed, planning.filled_up(completed, before)
            sent = sent or planning.sent_values(self.workspace, before)
            taken, lines = planning.values_taken_over(self.workspace, before, {*domains, *fixed})
            notes = [*inherited(asked, completed, before, {}), *(Noted(text=line) for line in lines)]
            fixed = taken | fixed
        job = planning.build_job(
            self.workspace, self.id, self.name, script, {**fixed, **dict.fromkeys(domains, "")}, "tune", completed
        )
        spec = planning.build_study(
            job,
            self.name,
            domains,
            objectives,
            goal=goal,
            direction=direction,
            trials=16 if trials is None else trials,
            parallel=2 if parallel is None else parallel,
            failed_trials=4 if failed_trials is None else failed_trials,
            algorithm=algorithm,
            algorithm_settings=algorithm_settings,
            early_stopping=early_stopping,
            early_stopping_settings=early_stopping_settings,
            seed=seed,
            tuner=Tuner.of(self.workspace.settings.target, self.workspace.settings.cluster_tuner),
        )
        spec, said = fit_grid(spec)
        return StudyPlan(self.workspace, spec, sent, self._about, [*notes, *filter(None, [said])])

    def plan_deployment(
        self,
        *,
        model_uri: str = "",
        revision: str = "",
        trust: bool = False,
        protocol: str = "",
        resources: Resources | None = None,
        requirements: Sequence[str] = (),
        serving_config: Mapping[str, str] | None = None,
        replace: bool = False,
        workers: int = 1,
        autoscale: int = 2,
        min_replicas: int = 1,
        max_replicas: int | None = None,
        canary_percent: int | None = None,
        host: str = "",
        port: int = 0,
        token: bool = False,
        env: Mapping[str, str | None] | None = None,
        timeout: float = 300.0,
        transformer: Mapping[str, object] | None = None,
        image: ImageSpec | None = None,
        cluster: ClusterOptions | None = None,
    ) -> DeploymentPlan:
        """Return the plan of a deployment; see ``EndpointSpec`` and ``choose_revision`` for the options.

        ``revision`` is an id or its beginning, ``model_uri`` another saved model; without either
        ``choosing.choose_revision`` chooses.

        Raises:
            ModelError: There is nothing to deploy, or no such revision.
            ServingError: An endpoint is there already and ``replace`` was not asked for, or it listens elsewhere.
        """
        name = endpoint_name(self.id)
        if canary_percent is not None and not 0 < canary_percent < 100:
            raise ServingError(f"a canary gets 1 to 99 percent, not {canary_percent}", "write for example 30")
        canary = canary_percent is not None
        choice = choosing.choose_revision(self.workspace, self.id, model_uri, revision, canary, trust)
        chosen = choice.revision
        running = running_endpoint(self.workspace, self.id)
        if running is not None and not replace and not canary and in_the_way(self.workspace, name):
            hint = "add --replace (replace=True) to swap it without a refused request"
            raise ServingError(f"{name} is deployed already", hint)
        check_token(self.workspace, token)
        config = dict(serving_config if serving_config is not None else self.serving_config)
        spec = EndpointSpec(
            name=name,
            run_id=new_run_id(),
            model_id=self.id,
            revision=new_hex(32),
            artifact_uri=chosen.uri,
            files=chosen.files,
            framework=self.framework or ModelFramework.of(chosen.framework or "sklearn"),
            protocol=protocol or str(config.get("protocol_version", "v2")),
            resources=resources or Resources(),
            requirements=planning.without_secrets(requirements or self._serving_requirements(config))
            or planning.training_requirements(self.workspace, chosen),
            serving_config=find_serving_files(config, self._path, self.extra_files),
            env=planning.literal(env or {}),
            env_names=planning.passed_on(env or {}),
            host=listening_address(name, host, running, canary),
            token=token,
            port=port,
            workers=workers,
            autoscale=autoscale,
            min_replicas=min_replicas,
            max_replicas=max_replicas,
            canary_percent=canary_percent,
            replace=replace,
            timeout=timeout,
            transformer=dict(transformer or {}),
            image=image or ImageSpec(base_image=self.base_image or self.workspace.settings.base_image),
            cluster=cluster or ClusterOptions(),
        )
        return DeploymentPlan(self.workspace, spec, notes=choice.notes)

    # ---- what is known -----------------------------------------------------------------------------------------

    @property
    def hyperparameters(self) -> dict[str, Value] | None:
        """After training the values given, after tuning the recommended ones; ``None`` before."""
        last = self._last_revision()
        return dict(last.hyperparameters) if last is not None else None

    @property
    def metrics(self) -> dict[str, dict[str, float]] | None:
        """``min``, ``max`` and ``latest`` of every metric of the newest revision; ``None`` before training."""
        last = self._last_revision()
        return {k: msgspec.to_builtins(v) for k, v in last.metrics.items()} if last is not None else None

    @property
    def state(self) -> str:
        """``untrained``, ``trained``, ``tuned`` or ``deployed``."""
        try:
            self.workspace.registry.endpoint(endpoint_name(self.id))
        except NotFoundError:
            last = self._last_revision()
            return last.stage if last is not None else "untrained"
        return "deployed"

    def meta(self) -> ModelMeta:
        """Return a snapshot of all properties."""
        last = self._last_revision()
        return ModelMeta(
            id=self.id,
            name=self.name,
            description=self.description,
            version=self.version,
            framework=self.framework,
            framework_version=self.framework_version,
            main_file=self.main_file,
            image_name=self.image_name,
            base_image=self.base_image,
            extra_files=tuple(self.extra_files),
            requirements=self.requirements,
            labels=tuple(self.labels),
            serving_config=dict(self.serving_config),
            revision=last.revision if last is not None else self.revision,
            state=self.state,
        )

    def __repr__(self) -> str:
        return f"Model {self.id}: {self.state}"

    # ---- helpers -----------------------------------------------------------------------------------------------

    def _last_revision(self) -> Revision | None:
        try:
            revisions = self.workspace.registry.model(self.id).revisions
        except NotFoundError:
            return None
        return revisions[-1] if revisions else None

    def _path(self, name: str) -> Path:
        base = Path(self.config.base_dir) if self.config is not None else Path.cwd()
        return base / Path(name).expanduser()

    def _main_script(self) -> Script:
        from kaptain_magics.script import capture

        if not self.main_file:
            raise UndefinedPropertyError("the model has no script", "set main_file, or write %%kaptain_train in a cell")
        path = self._path(self.main_file)
        try:
            source = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"{self.main_file} cannot be read: {error}", "check the model's main_file") from error
        return capture(source, name=path.name)

    def _complete(self, options: JobOptions) -> JobOptions:
        """Fill the options of a job up with the model's own properties."""
        from kaptain_magics.script import read_requirements

        full: JobOptions = {**options}
        if not full.get("files"):
            full["files"] = [str(self._path(f)) for f in self.extra_files]
        if not full.get("requirements") and self.requirements:
            full["requirements"] = read_requirements(str(self._path(self.requirements)))
        if not full.get("framework"):
            full["framework"] = self.framework
        if not full.get("image"):
            base = self.base_image or self.workspace.settings.base_image
            full["image"] = ImageSpec(base_image=base, image_name=self._image_name())
        return full

    def _image_name(self) -> str:
        """Return the image's name; without a tag it gets one of id, framework and framework version."""
        if not self.image_name:
            return ""
        from kaptain_magics.images.registry.reference import with_tag

        return with_tag(self.image_name, self.id, str(self.framework or ""), self.framework_version)

    def _serving_requirements(self, config: Mapping[str, str]) -> tuple[str, ...]:
        from kaptain_magics.script import read_requirements

        path = config.get("requirements_file") or self.requirements
        return tuple(read_requirements(str(self._path(path)))) if path else ()
