"""A stand-in for QEMU under its qtest clients: PC boards with our devices, driven over a socket in place of a CPU.

The program is `devmodels-system-x86_64`; docs/qtest.md says what it offers.
"""
