"""The SDK's exceptions: other names of the classes in ``kaptain_magics.errors``."""

from kaptain_magics.errors import (
    AlgorithmError,
    DeploymentFailedError,
    FrameworkError,
    ImageError,
    InvalidPropertyError,
    KaptainError,
    MetricsTypeError,
    ModelError,
    ModelExistsError,
    RunFailedError,
    ServingError,
    UndefinedPropertyError,
    WorkloadError,
)

InvalidModelProperty = InvalidPropertyError
UndefinedModelProperty = UndefinedPropertyError
UnsupportedAlgorithmException = AlgorithmError
UnsupportedModelDeploymentException = FrameworkError
UnsupportedModelFrameworkException = FrameworkError
UnsupportedMetricsTypeException = MetricsTypeError
ModelDeploymentException = ServingError
ModelValidationException = ModelError
ModelAlreadyExistsException = ModelExistsError
ImageBuildException = ImageError
WorkloadDeploymentError = WorkloadError

__all__ = [
    "DeploymentFailedError",
    "ImageBuildException",
    "InvalidModelProperty",
    "KaptainError",
    "ModelAlreadyExistsException",
    "ModelDeploymentException",
    "ModelValidationException",
    "RunFailedError",
    "UndefinedModelProperty",
    "UnsupportedAlgorithmException",
    "UnsupportedMetricsTypeException",
    "UnsupportedModelDeploymentException",
    "UnsupportedModelFrameworkException",
    "WorkloadDeploymentError",
]
