"""Processes of this machine: forked from a warm worker or fresh, watched by a connection, ended with all they started.

The caller's side: ``start_process`` starts one, ``job_process`` is one that runs, ``warm_worker`` finds or starts the
worker that it is forked from, ``idle_workers`` keeps those that wait few, ``protocol`` is what a worker is sent.

The worker, which the Python of the job runs, so that it needs the standard library and ``runtime`` only: ``zygote``
forks, ``preload`` imports ahead, ``forked`` makes a fork look like a process of its own, ``interpreter_exit`` ends it
as Python would, ``environment_mark`` and ``orphans`` find and end what it leaves, ``memory`` makes an idle worker
give way.
"""
