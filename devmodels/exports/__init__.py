"""Exports: our devices offered to other programs."""
