"""Studies that Katib runs: the Experiment that is made of a study, and the events that are read from it."""
