"""The vendor SDK's contract: its calls, console output, providers, ``kaptain.utils`` and JSON, over our own model.

Nothing here is needed by the magics; only the package ``kaptain`` and ``Model``'s blocking calls are built on it.
"""
