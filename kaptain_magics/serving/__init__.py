"""The model server: the Open Inference Protocol over HTTP and gRPC, the loaders of the frameworks, and what asks it.

``python -m kaptain_magics.serving`` starts one. From the top: ``process`` and ``router`` (the two programs), ``grpc``,
``http`` (how requests come), ``inference`` and ``loaders`` (the model), ``protocol`` (what is on the wire); ``client``
runs in the notebook. ``signature`` has the types that all of them share, ``control`` is how an endpoint's processes
talk to each other.
"""
