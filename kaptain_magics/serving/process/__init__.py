"""The server's processes.

``launch_options`` is what they are started with, ``artifact`` verifies a model's files before they are loaded,
``server`` is one process from its start to its end, ``workers`` are several on one port.
"""
