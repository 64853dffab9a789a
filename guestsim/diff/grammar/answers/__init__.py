"""Tables of what ours and QEMU's devices answer to commands where that is not the same, or an error."""
