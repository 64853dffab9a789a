"""A whole virtio device in a machine, under a driver that is mostly right, and what must hold whatever it does."""
