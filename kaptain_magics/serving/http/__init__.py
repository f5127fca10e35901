"""HTTP/1.1: from a listening socket to an answer, so that a swap of servers loses no request.

``accepting`` takes connections, ``connections`` and ``http_requests`` parse them (``httptools``) and answer in order,
``http_server`` keeps them together and drains or releases them, ``app`` has the routes, ``auth`` and ``origin`` say who
may ask, ``budget`` bounds the memory of large requests. ``successor`` is the server that has the requests next;
``http1`` reads and writes heads for the router and for it.
"""
