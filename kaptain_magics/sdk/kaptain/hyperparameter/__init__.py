"""Hyperparameters: domains and algorithms."""
