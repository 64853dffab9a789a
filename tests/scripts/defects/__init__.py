"""Defects that are put into our devices, one at a time, and the hostile scripts that must not pass then.

A table of this folder has a row for each: its causes (those of docs/hostile-guests.md), what it is, the text of one
module or of several that is replaced, and the scripts.  Nothing of the tree is touched: `python -m
tests.scripts.defects NAME` is a process of its own, to whose import system the module is another one.
"""
