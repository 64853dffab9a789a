"""Fuzzing: targets for devices, rings, transports, protocols and parsers, an engine, and a corpus that is kept.

A target is a function of bytes.  The bytes drive a typed grammar (`choices`, or a Hypothesis strategy's own reading of
them); what must hold is checked by the target itself and by `watch`.  See docs/fuzzing.md.
"""
