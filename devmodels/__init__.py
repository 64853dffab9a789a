"""devmodels: register-accurate emulated guest storage devices over one shared block layer."""

__version__ = "0.1.0"
