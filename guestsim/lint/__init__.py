"""What the drivers of a trace did against the specification: what devices reported, and what the trace itself shows.

`guestsim.lint.run.lint` gives the findings of a trace's events, session by session.
"""
