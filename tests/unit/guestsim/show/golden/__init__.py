"""Listings of a trace as they are to be, by file: the options that make them."""

LISTINGS = {
    "setup": ["--events", "..200", "--kind", "*-write", "--kind", "device", "--kind", "features"],
    "requests": ["--requests"],
    "write": ["--request", "0"],
    "refused": ["--request", "6"],
    "range": ["--request", "5"],
}
