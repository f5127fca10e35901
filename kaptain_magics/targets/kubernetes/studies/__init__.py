"""Studies that Katib runs."""
