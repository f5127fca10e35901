"""Names as the cluster has them."""

from kaptain_magics.core.names import sanitize


def sanitize_string(text: str) -> str:
    """Return the name that an endpoint of that model has: ``dev/mnist`` is ``dev-mnist``."""
    return sanitize(text)


__all__ = ["sanitize_string"]
