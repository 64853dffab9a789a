"""Block drivers, one in each file."""
