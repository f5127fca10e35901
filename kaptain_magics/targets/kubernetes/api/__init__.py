"""The API server of a cluster: requests, watches, logs, streams to pods, and what its texts mean."""
