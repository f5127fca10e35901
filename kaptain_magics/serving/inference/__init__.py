"""The model that is served, whatever the protocol: its state and metadata, calls in batches, and their counters."""
