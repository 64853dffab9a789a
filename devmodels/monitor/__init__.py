"""The monitor: how a running daemon is asked and told things, in the words of QEMU's QMP."""
