"""Processes of this machine: forked from a warm worker or fresh, watched by a connection, ended with all they started.

Who wants a process uses ``start_process``, which starts one; ``job_process`` is one that runs, ``warm_worker`` finds
or starts the worker that it is forked from, ``idle_workers`` keeps those that wait few, ``protocol`` is what is said.

The worker's side needs the standard library and ``runtime`` only, since the Python that the job needs runs it:
``zygote`` forks, ``forked`` makes a fork look like a process of its own, ``orphans`` ends what a job leaves.
"""
