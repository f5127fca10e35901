"""Processes of this machine: forked from a warm worker or fresh, watched by a connection, ended with all they started.

Who wants a process: ``start_process`` starts one, ``job_process`` is one that runs, ``warm_worker`` finds or starts the
worker that it is forked from, ``idle_workers`` keeps those that wait few, ``protocol`` is what is said to a worker.

The worker, which the Python of the job runs, so that it needs the standard library and ``runtime`` only: ``zygote``
forks, ``preload`` imports ahead, ``forked`` makes a fork look like a process of its own, ``interpreter_exit`` ends it
as Python would, ``environment_mark`` and ``orphans`` find and end what it leaves, ``memory`` tells an idle worker to
give way.
"""
