"""The Open Inference Protocol as JSON and bytes: V2 and V1 requests read, answers written, errors, OpenAPI.

``datatypes``, ``shapes``, ``tensors`` and ``binary`` turn values on the wire into arrays and back, for the server and
for its clients; ``large`` reads large JSON in pieces; ``limits`` has the bounds that all of it keeps. Nothing here does
input or output, or knows a model.
"""
