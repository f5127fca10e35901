"""Switches that may be set at any time: this name is the module that everything reads them from."""

import sys

from kaptain_magics.model.contract import envs

sys.modules[__name__] = envs
