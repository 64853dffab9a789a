"""Drivers as an operating system would write them: they know registers, rings and memory, never a device's code."""
