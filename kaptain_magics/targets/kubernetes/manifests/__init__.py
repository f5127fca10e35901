"""Manifests: plain dicts, made by pure functions of the spec."""
