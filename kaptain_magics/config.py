"""Settings: ``%config KaptainMagics.…`` over ``KAPTAIN_*`` environment over ``kaptain.toml`` over defaults.

Every setting is a plain text, number or flag and none is a secret: credentials stay in the environment or in their own
files and are read by the process that needs them. A setting with a password in it is refused; that of a tracking URI
may stand in the environment (``KAPTAIN_TRACKING_URI``), where it stays: the setting is the URI without it.

``%load_ext`` reads the class for its traits: what only loading settings needs is imported there.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from kaptain_magics.errors import ConfigError
from kaptain_magics.runtime.text_values import is_true

FILE = "kaptain.toml"
_PASSWORDS = {  # a setting's name: where its password belongs
    "tracking_uri": "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment for a server; for a "
    "database set the whole URI there as KAPTAIN_TRACKING_URI, and clear the setting",
    "s3_endpoint": "put it into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment",
    "": "settings are written to each run's record: take the login out of the address",
}
_RETIRED = ("log_lines",)  # settings of older versions, which records of runs and files may still have
_TYPES: dict[str, type] = {"str": str, "float": float, "bool": bool}  # by the annotation's text
_PATHS = ("home", "cache", "docker_config", "registry_certificate")
_SQLITE = r"(sqlite(?:\+\w+)?:///)(?!:memory:|file:)([^?]+)(.*)"
_NO_PATHS = ("databricks", "databricks-uc", "uc")  # what MLflow reads as the name of a service


def _default_home() -> str:
    return str(Path.home() / ".kaptain")


def _default_cache() -> str:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return str(Path(base) / "kaptain")


class Settings:
    """All settings with their defaults; the traits of ``%config KaptainMagics`` and their help are made from these.

    Attributes:
        target: Where things run: ``local``, ``docker``, ``kubernetes``, or a target of another distribution.
        home: The state folder; notebooks and terminals must share it.
        cache: Folder for what can be made again (environments, downloads).
        storage_uri: Folder of the object store that holds the models; empty means ``<home>/storage/models``.
        s3_endpoint: Address of the S3 server, for ``s3://`` URIs; empty means the environment's, else AWS.
        s3_region: Region of the S3 server.
        aws_profile: Profile in ``~/.aws/credentials``.
        base_image: Image that runs the work in Docker and on Kubernetes.
        docker_host: Address of the Docker engine; empty means the environment's.
        kubeconfig: Path of the kubeconfig; empty means the usual places.
        context: Context in the kubeconfig.
        namespace: Namespace on the cluster; empty means the context's.
        service_account: Service account of pods.
        image_pull_secrets: Names of Secrets in the namespace that pull images, commas between.
        run_as_user: Numeric user of containers on a cluster; anything but a number leaves it to the cluster.
        cluster_tuner: What runs studies on a cluster: ``auto`` (Katib where it is there), ``katib`` or ``jobs``.
        cluster_serving: What serves on a cluster: ``auto`` (KServe where it is there), ``kserve`` or ``plain``.
        kserve_mode: KServe's mode, ``serverless`` or ``raw``; empty takes serverless where Knative is there.
        pending_timeout: Seconds that something may keep a pod on a cluster from starting before it is given up.
        docker_config: Docker's ``config.json`` with the logins of registries, or its folder; empty: the usual place.
        registry: The private registry, ``host[:port]``, that ``registry_certificate`` belongs to; empty: every one.
        registry_certificate: File with the certificate (PEM) of the registry's authority.
        insecure_registries: Registries (``host[:port]``, commas between) that may be used without encryption, and
            so get logins in clear; those on this machine always may.
        image_builder: What builds images: ``engine`` (Docker), ``none`` (no engine needed), empty for what is there.
        image_platform: Platform of images, such as ``linux/arm64``; empty means Linux on this machine's processor.
        warm: Whether jobs fork from a warm worker where that is safe.
        prewarm: Whether workers are readied for the first run while the notebook is idle.
        isolated: Whether scripts have nothing of what lies beside the notebook but what ``--files`` names.
        sent_limit: How much of what was sent to ended runs (``--send``) is kept, such as ``2G``; what the last run of a
            model was sent is kept in any case.
        on_interrupt: What interrupting a waiting cell does: ``stop`` or ``detach``.
        tracking_uri: MLflow tracking URI without its password; empty logs nothing. A relative SQLite database or folder
            lies beside the ``kaptain.toml`` that names it, else in the working folder.

    Values that are given by name stand above these. No dataclass: to build one of this size takes 0.9 ms of the 5
    that ``%load_ext`` took with it.
    """

    target: str = "local"
    home: str = ""  # stands for ~/.kaptain
    cache: str = ""  # stands for ~/.cache/kaptain
    storage_uri: str = ""
    s3_endpoint: str = ""
    s3_region: str = ""
    aws_profile: str = ""
    base_image: str = ""
    docker_host: str = ""
    kubeconfig: str = ""
    context: str = ""
    namespace: str = ""
    service_account: str = ""
    image_pull_secrets: str = ""
    run_as_user: str = "1000"
    cluster_tuner: str = "auto"
    cluster_serving: str = "auto"
    kserve_mode: str = ""
    pending_timeout: float = 300.0
    docker_config: str = ""
    registry: str = ""
    registry_certificate: str = ""
    insecure_registries: str = ""
    image_builder: str = ""
    image_platform: str = ""
    warm: bool = True
    prewarm: bool = True
    isolated: bool = False
    sent_limit: str = "2G"
    on_interrupt: str = "stop"
    tracking_uri: str = ""

    def __init__(self, **values: Any) -> None:
        from kaptain_magics.core.secrets import holds_password

        if unknown := values.keys() - set(self.names()):
            raise TypeError(f"unknown settings: {', '.join(sorted(unknown))}")
        vars(self).update({name: values.get(name, getattr(type(self), name)) for name in self.names()})
        vars(self).update(home=self.home or _default_home(), cache=self.cache or _default_cache())
        if self.on_interrupt not in ("stop", "detach"):
            raise ConfigError(f"on_interrupt {self.on_interrupt!r} is unknown", "write stop or detach")
        if self.image_builder not in ("", "engine", "none"):
            raise ConfigError(
                f"image_builder {self.image_builder!r} is unknown", "write engine or none, or leave it out"
            )
        if self.image_platform and not re.fullmatch(r"[a-z0-9]+/[a-z0-9]+(/[a-z0-9]+)?", self.image_platform):
            raise ConfigError(f"{self.image_platform!r} is not a valid image_platform", "write for example linux/amd64")
        for name in self.names():
            if holds_password(str(getattr(self, name))):
                raise ConfigError(f"the setting {name} holds a password", _PASSWORDS.get(name, _PASSWORDS[""]))
        for name in (*_PATHS, "tracking_uri"):
            vars(self)[name] = _absolute(name, getattr(self, name), Path.cwd())

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"settings do not change; make others to set {name}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Settings) and vars(self) == vars(other)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of all settings."""
        return tuple(cls.__annotations__)

    @classmethod
    def types(cls) -> dict[str, type]:
        """Return the type of each setting, by name: what ``%config`` and the environment may set it to."""
        return {name: _TYPES[annotation] for name, annotation in cls.__annotations__.items()}

    @classmethod
    def help(cls) -> dict[str, str]:
        """Return what each setting is about, by name: its line in this class's docstring."""
        text = re.sub(r"\n {8,}", " ", inspect.getdoc(cls) or "")
        return dict(re.findall(r"^ {4}(\w+): (.*)$", text.replace("``", ""), re.MULTILINE))

    @classmethod
    def load(cls, overrides: Mapping[str, Any] | None = None) -> Settings:
        """Gather the settings in force.

        Args:
            overrides: Values that stand above all others, by name; empty texts and ``None`` do not count.

        Raises:
            ConfigError: A setting is unknown or has a value of the wrong type.
        """
        import msgspec

        from kaptain_magics.core.names import did_you_mean
        from kaptain_magics.core.secrets import without_login

        names = cls.names()
        values: dict[str, Any] = dict(_from_file())
        for name in names:
            text = os.environ.get(f"KAPTAIN_{name.upper()}")
            if text:
                values[name] = without_login(text) if name == "tracking_uri" else text
        if "MLFLOW_TRACKING_URI" in os.environ:
            values.setdefault("tracking_uri", without_login(os.environ["MLFLOW_TRACKING_URI"]))
        values |= {k: v for k, v in (overrides or {}).items() if v not in (None, "")}
        values = {name: value for name, value in values.items() if name not in _RETIRED}
        for name in values:
            if name not in names:
                hint = did_you_mean(name, names) or "one of " + ", ".join(names)
                raise ConfigError(f"unknown setting {name!r}", hint)
        for name in ("warm", "prewarm", "isolated"):
            if isinstance(values.get(name), str):
                values[name] = is_true(values[name])
        types = cls.types()
        for name, value in values.items():
            try:
                values[name] = msgspec.convert(value, types[name], strict=False)
            except msgspec.ValidationError as error:
                raise ConfigError(f"invalid setting {name}: {error}", "see %config KaptainMagics") from error
        return cls(**values)

    @property
    def models_uri(self) -> str:
        """The folder of the object store under which every model has its own."""
        return (self.storage_uri or f"{Path(self.home).as_uri()}/storage/models").rstrip("/")

    def whole_tracking_uri(self) -> str:
        """Return the tracking URI with its password (a secret!), where the environment has it."""
        from kaptain_magics.core.secrets import without_login

        candidates = (os.environ.get(name, "") for name in ("KAPTAIN_TRACKING_URI", "MLFLOW_TRACKING_URI"))
        return next((uri for uri in candidates if uri and without_login(uri) == self.tracking_uri), self.tracking_uri)

    def as_texts(self) -> dict[str, str]:
        """Return the settings by name as texts, for a run's record."""
        return {name: str(getattr(self, name)) for name in self.names()}


def _from_file() -> dict[str, Any]:
    """Read ``kaptain.toml`` of the working folder or the nearest folder above it."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        path = folder / FILE
        if path.is_file():
            import tomllib

            try:
                data = tomllib.loads(path.read_text("utf-8"))
            except (OSError, tomllib.TOMLDecodeError) as error:
                raise ConfigError(f"{path} cannot be read: {error}", "fix the file or remove it") from error
            values = dict(data.get("kaptain", data))
            for name in (*_PATHS, "tracking_uri"):
                if isinstance(values.get(name), str):
                    values[name] = _absolute(name, values[name], folder)
            return values
    return {}


def _absolute(name: str, value: str, folder: Path) -> str:
    """Return a setting that names a path, relative to a folder, as an absolute one; others stay as they are."""
    if name != "tracking_uri":
        return os.path.abspath(folder / Path(value).expanduser()) if value else ""
    database = re.fullmatch(_SQLITE, value)
    if database is not None:
        return f"{database[1]}{os.path.abspath(folder / Path(database[2]).expanduser())}{database[3]}"
    scheme, colon, rest = value.partition(":")
    if scheme == "file" and rest and not rest.startswith("/"):
        return Path(os.path.abspath(folder / rest)).as_uri()
    if not value or colon or value in _NO_PATHS:
        return value
    return os.path.abspath(folder / Path(value).expanduser())
