"""``TorchServingArtifactBuilder``: writes what TorchServe is configured with."""

from kaptain_magics.model.contract.torch_serving import TorchServingArtifactBuilder

__all__ = ["TorchServingArtifactBuilder"]
