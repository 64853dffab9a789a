"""Benchmarks: our back ends beside `qemu-storage-daemon`'s, and the time a fresh machine needs to start."""
