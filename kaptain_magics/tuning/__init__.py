"""Search of hyperparameters: the algorithms, and the loop that drives any target's jobs with them."""
