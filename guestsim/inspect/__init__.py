"""Virtqueues in a guest's memory, looked at from outside: what is in flight, and what is broken.

The memory is a core (`guestsim.inspect.core`) or anything else of bytes.  Nothing here knows a device or a driver: the
state is read from the rings alone, which is what makes it evidence when one of the two is wrong.
"""
