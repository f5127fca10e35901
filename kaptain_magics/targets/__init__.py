"""Where things run: one folder a target, all behind the protocols of ``base``."""
