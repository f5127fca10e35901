"""``Model``: its properties and state, what can be planned with it, and what a served one does."""

from __future__ import annotations

import reprlib
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from kaptain_magics.core.domains import Value
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.names import check_model_id, endpoint_name
from kaptain_magics.core.scripts import Script
from kaptain_magics.core.specs import ImageSpec
from kaptain_magics.errors import (
    InvalidPropertyError,
    MetricsTypeError,
    ModelError,
    NotFoundError,
    ServingError,
    UndefinedPropertyError,
)
from kaptain_magics.model.context import Context
from kaptain_magics.model.deployment import plan_deployment
from kaptain_magics.model.endpoint import Endpoint, open_endpoint
from kaptain_magics.model.meta import ModelMeta, ModelName
from kaptain_magics.model.plan import DeploymentPlan, StudyPlan, TrainingPlan
from kaptain_magics.model.requests import DeploymentRequest, TrainingRequest, TuningRequest
from kaptain_magics.model.training import plan_training
from kaptain_magics.model.tuning import plan_tuning
from kaptain_magics.state import ModelRecord, Revision
from kaptain_magics.supervisor.serving_files import find_serving_files

if TYPE_CHECKING:
    from kaptain_magics.model.history import RunTable

METRICS_TYPES = ("training", "testing", "validation", "production")


class Configuration(Protocol):
    """Credentials and places that a model may be given; ``contract.config.Config`` is one."""

    base_dir: str

    def workspace(self) -> Context:
        """Return the stores and targets under them."""
        ...


class Model:
    """A model that can be trained, tuned, deployed and queried.

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
        config: Configuration | None = None,
        serving_config: Mapping[str, str] | None = None,
        *,
        workspace: Context | None = None,
    ) -> None:
        try:
            check_model_id(id if isinstance(id, str) else "")
        except ValueError as error:
            raise InvalidPropertyError(f"{reprlib.repr(id)} is not a valid model id", str(error)) from None
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
    def model_name(self) -> ModelName:
        """The properties that a run's record keeps of the model."""
        return ModelName(self.id, self.name, self.description, self.version)

    # ---- plans: runs that are not started yet -----------------------------------------------------------------------

    def plan_training(self, request: TrainingRequest = TrainingRequest()) -> TrainingPlan:  # noqa: B008 - frozen
        """Return the plan of a training run; what the request lacks is taken from the model.

        Raises:
            KaptainError: Something that was asked for cannot be.
        """
        request = self._complete(request)
        if request.script is None:
            raise UndefinedPropertyError("the model has no script", "set main_file, or write %%kaptain_train in a cell")
        return plan_training(self.workspace, self.model_name, request)

    def plan_tuning(self, request: TuningRequest) -> StudyPlan:
        """Return the plan of a study; what the request lacks is taken from the model, then from its last run.

        Raises:
            KaptainError: Something that was asked for cannot be.
        """
        request = msgspec.structs.replace(request, job=self._complete(request.job))
        return plan_tuning(self.workspace, self.model_name, request)

    def plan_deployment(self, request: DeploymentRequest = DeploymentRequest()) -> DeploymentPlan:  # noqa: B008 - frozen
        """Return the plan of a deployment; what the request lacks is taken from the model.

        Raises:
            ModelError: There is nothing to deploy, or no such revision.
            ServingError: An endpoint is there already and ``replace`` was not asked for, or it listens elsewhere.
        """
        config = dict(request.serving_config or self.serving_config)
        completed = msgspec.structs.replace(
            request,
            framework=request.framework or self.framework,
            protocol=request.protocol or str(config.get("protocol_version", "v2")),
            requirements=request.requirements or self._serving_requirements(config),
            serving_config=find_serving_files(config, self._path, self.extra_files),
            image=self._with_base(request.image),
        )
        return plan_deployment(self.workspace, self.id, completed)

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

    # ---- verbs -----------------------------------------------------------------------------------------------------

    def promote_canary(self) -> None:
        """Give the canary all requests.

        Raises:
            ServingError: There is no canary.
        """
        self._endpoint().promote()

    def rollback_canary(self) -> None:
        """Remove the canary.

        Raises:
            ServingError: There is no canary.
        """
        self._endpoint().rollback()

    def undeploy(self) -> None:
        """Remove the endpoint and its canary.

        Raises:
            ServingError: The model is not deployed.
        """
        self._endpoint().undeploy()

    def predict(self, data: Any, **options: Any) -> Any:
        """Ask the deployed model; see ``Endpoint.predict``."""
        return self._endpoint().predict(data, **options)

    def load(self, revision: str = "") -> Any:
        """Return the saved model as its library's own object, such as the fitted estimator.

        Its files are compared with their sha256 first. Libraries of other versions than those that saved it are warned
        of.

        Args:
            revision: A revision's id or its beginning; else the one that a deployment would take.

        Raises:
            ModelError: There is no such revision.
            IntegrityError: A file is not the one that was saved.
            ServingError: It cannot be loaded here.
        """
        import warnings

        from kaptain_magics.model.loading import load

        loaded = load(self.workspace, self.id, revision)
        for line in loaded.differences:
            warnings.warn(f"{self.id} was {line}", stacklevel=2)
        return loaded.model

    def runs(self, condition: str = "", last: int | None = None, by: str = "") -> RunTable:
        """Return the model's trainings and studies beside each other; see ``model.history.history``."""
        from kaptain_magics.model.history import history

        return history(self.workspace, self.id, condition, last, by)

    def log_data(
        self,
        name: str,
        uri: str,
        description: str | None = None,
        features: Sequence[str] | None = None,
        version: str | None = None,
    ) -> None:
        """Note a data set that the model was made from."""
        self._log("data", name=name, uri=uri, description=description, features=features, version=version)

    def log_metrics(self, metrics: Mapping[str, float], metrics_type: str, uri: str | None = None) -> None:
        """Note metrics of the model.

        Raises:
            MetricsTypeError: ``metrics_type`` is not training, testing, validation or production.
        """
        if metrics_type not in METRICS_TYPES:
            raise MetricsTypeError(f"unknown metrics type {metrics_type!r}", "one of " + ", ".join(METRICS_TYPES))
        self._log("metrics", type=metrics_type, uri=uri, **{k: float(v) for k, v in metrics.items()})

    # ---- helpers ---------------------------------------------------------------------------------------------------

    def _last_revision(self) -> Revision | None:
        try:
            revisions = self.workspace.registry.model(self.id).revisions
        except NotFoundError:
            return None
        return revisions[-1] if revisions else None

    def _path(self, name: str) -> Path:
        base = Path(self.config.base_dir) if self.config is not None else Path.cwd()
        return base / Path(name).expanduser()

    def _main_script(self) -> Script | None:
        from kaptain_magics.script import capture

        if not self.main_file:
            return None
        path = self._path(self.main_file)
        try:
            source = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"{self.main_file} cannot be read: {error}", "check the model's main_file") from error
        return capture(source, name=path.name, folders=(path.parent, Path.cwd()))

    def _complete(self, request: TrainingRequest) -> TrainingRequest:
        """Fill what is asked of a job up with the model's own properties."""
        from kaptain_magics.script import read_requirements

        requirements = request.requirements
        if not requirements and self.requirements:
            requirements = tuple(read_requirements(str(self._path(self.requirements))))
        image = request.image if request.image != ImageSpec() else ImageSpec(image_name=self._image_name())
        return msgspec.structs.replace(
            request,
            script=request.script or self._main_script(),
            files=request.files or self._files_beside(),
            requirements=requirements,
            framework=request.framework or self.framework,
            image=self._with_base(image),
        )

    def _files_beside(self) -> tuple[str, ...]:
        """Return the extra files without the script itself, which may be among them."""
        script = self._path(self.main_file).resolve() if self.main_file else None
        paths = [self._path(file) for file in self.extra_files]
        return tuple(str(path) for path in paths if path.resolve() != script)

    def _with_base(self, image: ImageSpec) -> ImageSpec:
        base = image.base_image or self.base_image or self.workspace.settings.base_image
        return msgspec.structs.replace(image, base_image=base)

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

    def _endpoint(self) -> Endpoint:
        try:
            return open_endpoint(self.workspace, endpoint_name(self.id))
        except NotFoundError:
            raise ServingError(f"{self.id} is not deployed", f"deploy it first: %kaptain_deploy {self.id}") from None

    def _log(self, what: str, **facts: Any) -> None:
        entry = {"kind": what, **{k: str(v) for k, v in facts.items() if v is not None}}

        def add(record: ModelRecord) -> ModelRecord:
            return msgspec.structs.replace(record, log=(*record.log, entry))

        self.workspace.registry.change_model(self.id, add)
