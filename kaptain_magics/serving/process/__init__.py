"""The server's processes.

``options`` is what they are told, ``artifact`` verifies a model's files before they are loaded, ``server`` is one
process from its start to its end, ``workers`` are several on one port.
"""
