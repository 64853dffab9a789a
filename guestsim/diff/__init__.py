"""The same accesses on our device and on a live QEMU's, and everything that the guest can see compared.

access.py    one access, and files of them
sides.py     the two machines
play.py      a sequence on both, compared at its quiescent points
masks.py     what is not compared, and why
profiles.py  by what our side goes
known.py     differences that are known: what, by which clause, who is right
shrink.py    the shortest sequence that still shows a difference
grammar/     what random sequences are made of
device.py    a device that can be compared; virtio_devices.py, ata_devices.py: those that there are
arena.py     the part of guest memory that is compared
run.py       many sequences; the report
scripts.py   a script on both; script_judge.py says what differences are, script_memory.py those of memory
both.py      both machines as a script's target; memories.py their memory, offered.py what its guest has offered
lasting.py   whether something that differs lasts
"""
