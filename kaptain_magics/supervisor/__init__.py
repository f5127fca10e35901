"""One process a run: drives the target, writes the events, survives the notebook's kernel."""
