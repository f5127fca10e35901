"""Images without a Docker engine: layers of our own on top of a base image's, straight into the registry.

Used where no engine answers (a notebook inside a cluster, a laptop without Docker) or where the setting
``image_builder`` is ``none``. It runs nothing: requirements come as wheels, so what has only a source distribution, a
``RUN`` line of a Dockerfile, and base images with layers in zstd need an engine.
"""
