"""Trackers: followers of a run's events that tell another system of it."""
