"""Whole runs of `guestsim diff --random`: their record, and its page."""
