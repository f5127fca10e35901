"""``Model`` as the SDK's contract has it: calls that wait, and log what happens in the contract's words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from kaptain_magics.core.domains import AnyDomain
from kaptain_magics.core.names import did_you_mean
from kaptain_magics.core.resources import Resources
from kaptain_magics.core.specs import ClusterOptions, JobSpec
from kaptain_magics.core.states import Direction
from kaptain_magics.errors import ModelError, ObjectiveError
from kaptain_magics.model import model
from kaptain_magics.model.context import Context
from kaptain_magics.model.contract.config import Config
from kaptain_magics.model.contract.console import deploy_and_log, follow_and_log
from kaptain_magics.model.requests import DeploymentRequest, TrainingRequest, TuningRequest
from kaptain_magics.model.runs import Deployment, TrainingRun
from kaptain_magics.model.study import Study


class Model(model.Model):
    """A model that can be trained, tuned, deployed and queried.

    Its calls wait and log what happens; the ``plan_…`` methods that it inherits return at once.
    """

    def build(self, verbose: bool | None = None) -> bool:
        """Build and push the model's image unless one with the same content is there.

        Raises:
            ImageError: It cannot be built or pushed.
        """
        from kaptain_magics.model.contract.image_builder import build_image

        job = self.plan_training().spec
        assert isinstance(job, JobSpec)
        return build_image(job, self.workspace.settings, verbose)

    def train(
        self,
        hyperparameters: Mapping[str, Any],
        args: Mapping[str, Any] | None = None,
        gpus: int | None = None,
        cpu: str | float | None = None,
        memory: str | None = None,
        resources: Resources | None = None,
        workers: int = 2,
        verbose: bool | None = None,
        ttl_seconds_after_finished: int | None = None,
        force_cleanup: bool | None = None,
        timeout: float | None = None,
    ) -> TrainingRun:
        """Train the model, wait and show the log.

        Args:
            hyperparameters: Values by command-line flag (``--gamma``) or name.
            args: Further command-line arguments by flag.
            gpus: GPUs of each worker.
            cpu: Cores of each worker (request and limit).
            memory: Memory of each worker (request and limit).
            resources: Requests and limits apart; not beside ``cpu``, ``memory``, ``gpus``.
            workers: Workers of a distributed training; only PyTorch, TensorFlow and MXNet have several.
            verbose: Show the job's own log; ``envs.VERBOSE`` when not given.
            ttl_seconds_after_finished: Seconds after which a cluster removes the job.
            force_cleanup: Remove the finished job at once.
            timeout: Seconds to wait.

        Returns:
            The run, which is true in a condition.

        Raises:
            RunFailedError: It failed or was stopped.
        """
        request = TrainingRequest(
            parameters=hyperparameters,
            args=_flags(args),
            resources=_resources(cpu, memory, gpus, resources),
            workers=self._workers(workers),
            timeout=timeout,
            cluster=_cluster(ttl_seconds_after_finished, force_cleanup),
        )
        return follow_and_log(self.plan_training(request).start(), verbose)

    def tune(
        self,
        hyperparameters: Mapping[str, AnyDomain],
        objectives: Sequence[str],
        objective_goal: float | None = None,
        objective_type: str | None = None,
        workers: int = 2,
        gpus: int | None = None,
        cpu: str | float | None = None,
        memory: str | None = None,
        resources: Resources | None = None,
        trials: int = 16,
        parallel_trials: int = 2,
        failed_trials: int = 4,
        algorithm: str = "random",
        algorithm_setting: Mapping[str, Any] | None = None,
        args: Mapping[str, Any] | None = None,
        verbose: bool | None = None,
        delete_experiment: bool | None = None,
        ttl_seconds_after_finished: int | None = None,
        timeout: float | None = None,
    ) -> Study:
        """Search the hyperparameters, wait and show the progress; see ``train``.

        Args:
            hyperparameters: Domains by command-line flag (``--gamma``) or name.
            objectives: Metrics, as ``loss`` or ``loss:min``; the first one decides, the others are reported.
            objective_goal: Value of the first one that ends the study.
            objective_type: ``maximize`` or ``minimize`` the first one; taken from its name when not given, so that a
                loss is never maximized by default.
            workers: Workers of each trial.
            gpus: GPUs of each worker.
            cpu: Cores of each worker.
            memory: Memory of each worker.
            resources: Requests and limits apart.
            trials: Trials at most.
            parallel_trials: Trials at a time.
            failed_trials: Failed trials that end the study.
            algorithm: Katib's name of the algorithm.
            algorithm_setting: Its settings.
            args: Further command-line arguments by flag.
            verbose: Show more; ``envs.VERBOSE`` when not given.
            delete_experiment: Remove the Katib Experiment afterwards.
            ttl_seconds_after_finished: Seconds after which a cluster removes the jobs.
            timeout: Seconds to wait.

        Returns:
            The study, which is true in a condition.

        Raises:
            RunFailedError: It failed or was stopped.
        """
        request = TuningRequest(
            job=TrainingRequest(
                args=_flags(args),
                resources=_resources(cpu, memory, gpus, resources),
                workers=self._workers(workers),
                timeout=timeout,
                cluster=_cluster(ttl_seconds_after_finished, None, delete_experiment),
            ),
            domains=hyperparameters,
            objectives=objectives,
            goal=objective_goal,
            direction=None if objective_type is None else _direction(objective_type),
            trials=trials,
            parallel=parallel_trials,
            failed_trials=failed_trials,
            algorithm=str(algorithm),
            algorithm_settings={k: str(v) for k, v in (algorithm_setting or {}).items()},
        )
        return follow_and_log(self.plan_tuning(request).start(), verbose)

    def deploy(
        self,
        model_uri: str | None = None,
        autoscale: int = 2,
        gpus: int | None = None,
        cpu: str | float | None = None,
        memory: str | None = None,
        resources: Resources | None = None,
        replace: bool = False,
        transformer: Any = None,
        **kwargs: Any,
    ) -> Deployment:
        """Serve the model, wait until it answers and show the address.

        Without ``model_uri`` or ``revision`` the better of the newest tuned and the newest trained revision is served
        where both report the study's objective, else the newest; the log says which one, and over which.

        Args:
            model_uri: Another saved model.
            autoscale: Requests in flight that one replica should have.
            gpus: GPUs of each replica.
            cpu: Cores of each replica.
            memory: Memory of each replica.
            resources: Requests and limits apart.
            replace: Swap an endpoint that is there already.
            transformer: KServe transformer.
            **kwargs: Further fields of ``DeploymentRequest``, such as ``revision``.

        Returns:
            The deployment, which is true in a condition.

        Raises:
            ModelError: There is nothing to deploy, or no such revision.
            ServingError: An endpoint is there and ``replace`` is not set, or the deployment failed; what was
                there before still serves.
        """
        request = DeploymentRequest(
            model_uri=model_uri or "",
            autoscale=autoscale,
            resources=_resources(cpu, memory, gpus, resources),
            replace=replace,
            transformer=transformer.as_dict() if transformer is not None else {},
            **{"protocol": str(self.serving_config.get("protocol_version", "v1")), **kwargs},
        )
        return deploy_and_log(lambda: self.plan_deployment(request))

    def deploy_canary(self, canary_traffic_percentage: int, model_uri: str | None = None, **kwargs: Any) -> None:
        """Serve the newest revision beside the deployed one, or change the canary's share.

        Args:
            canary_traffic_percentage: Percent of the requests for the canary.
            model_uri: Another saved model.
            **kwargs: Further fields of ``DeploymentRequest``.

        Raises:
            ServingError: Nothing is deployed yet.
        """
        endpoint = self._endpoint()
        if len(endpoint.status().traffic) > 1 and not model_uri:
            endpoint.set_canary(canary_traffic_percentage)
            return
        options = {"protocol": endpoint.status().protocol, "model_uri": model_uri or "", "replace": True, **kwargs}
        request = DeploymentRequest(canary_percent=canary_traffic_percentage, **options)
        deploy_and_log(lambda: self.plan_deployment(request))

    def save_as_json(self, path: str = "", overwrite: bool = False) -> None:
        """Save the properties in the object store.

        Args:
            path: URI of the file; ``<base>/<id>/model.json`` when not given.
            overwrite: Replace a file that is there.

        Raises:
            ModelExistsError: A file is there.
        """
        from kaptain_magics.model.contract.model_json import save

        save(self.workspace, self.id, dataclasses.asdict(self.meta()), path, overwrite)

    @classmethod
    def load_from_json(cls, model_uri: str, config: Config | None = None) -> Model:
        """Return the model whose properties were saved.

        Args:
            model_uri: URI of the file, or of the model's folder.
            config: Credentials; found in the usual places when not given.
        """
        from kaptain_magics.model.contract.model_json import load

        workspace = config.workspace() if config is not None else Context()
        return cls(**load(workspace, model_uri), config=config, workspace=workspace)

    def _workers(self, workers: int) -> int:
        several = self.framework is not None and self.framework.distributed
        return workers if several or workers < 1 else 1


def _flags(args: Mapping[str, Any] | Sequence[str] | None) -> tuple[str, ...]:
    if isinstance(args, Mapping):
        return tuple(str(word) for pair in args.items() for word in pair)
    return tuple(str(word) for word in args or ())


def _resources(cpu: str | float | None, memory: str | None, gpus: int | None, resources: Resources | None) -> Resources:
    if resources is None:
        return Resources.simple(cpu, memory, gpus)
    if cpu is not None or memory is not None or gpus is not None:
        raise ModelError("resources and cpu, memory or gpus exclude each other", "give one or the other")
    return resources


def _direction(name: str) -> Direction:
    try:
        return Direction(name)
    except ValueError:
        hint = did_you_mean(name, list(Direction)) or "write maximize or minimize"
        raise ObjectiveError(f"unknown objective type {name!r}", hint) from None


def _cluster(ttl: int | None, cleanup: bool | None, delete: bool | None = None) -> ClusterOptions:
    from kaptain_magics.model.contract import envs

    return ClusterOptions(
        ttl_seconds_after_finished=envs.KAPTAIN_SDK_TTL_SECONDS_AFTER_FINISHED if ttl is None else ttl,
        force_cleanup=bool(envs.KAPTAIN_SDK_FORCE_CLEANUP if cleanup is None else cleanup),
        delete_experiment=bool(envs.KAPTAIN_SDK_DELETE_EXPERIMENT if delete is None else delete),
    )
