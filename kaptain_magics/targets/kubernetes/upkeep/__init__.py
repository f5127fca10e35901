"""Whether a cluster can be used, and what was left on it."""
