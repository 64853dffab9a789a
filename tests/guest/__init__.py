"""A stock Linux kernel in a real QEMU, working on our devices."""
