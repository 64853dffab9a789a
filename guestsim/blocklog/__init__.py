"""Block I/O in logs: fio's iolog, blkparse's text, qemu-io's commands, and our own traces.

A log is a stream of events (`events`), read and written a line at a time; each format is one module, `formats` knows
them all.
"""
