"""Trackers: followers of a run's events that log them in another system."""
