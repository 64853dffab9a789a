"""Power cuts: a guest works on a disk, the power goes at any moment, and what is left must be legal.

load.py      what the guest does: seeded requests on several queues
ledger.py    what the guest was told, and what each sector may therefore hold: knows nothing of any device
stacks.py    the devices and the stacks of nodes under them
machine.py   a machine that can be looked at between any two steps, and one that starts from what was left
simulate.py  one run: cut, reopen, check
command.py   `guestsim powercut`
"""
