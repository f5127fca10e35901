"""Registries: names of images, logins, and a client of the registry's HTTP API that needs no Docker engine."""
