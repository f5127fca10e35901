"""Handlers of TorchServe: what turns requests into tensors and a module's answer into the response.

``image_classifier`` and ``text_classifier``-like results need no file: the built-in ``image_classifier`` is here. Any
other handler is a Python file with a class that has ``preprocess``, ``inference`` or ``postprocess`` (and perhaps
``initialize(context)``), or with a function ``handle(data, context)``. ``data`` is a list with ``{"data": row}`` for
every row; the result is a list with an entry for every row.
"""
