"""The `devmodels` command."""
