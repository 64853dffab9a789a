"""Scripts: a machine, its drives and devices, what a guest does with them, and what must come of it.

`guestsim.script.load` reads them (YAML, or Python), `guestsim.script.run` performs them; docs/scripts.md is the
reference.
"""
