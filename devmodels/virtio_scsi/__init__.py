"""The virtio SCSI host adapter (VIRTIO 1.4 §5.6): not built yet."""
