"""Providers of credentials, each in the module that the SDK has it in; ``kaptain.config`` has them all."""
