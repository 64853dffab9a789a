"""Virtio 1.4: the device core, its rings and its transports."""
