"""Jobs on a cluster: created, followed, stopped, cleaned up after."""
