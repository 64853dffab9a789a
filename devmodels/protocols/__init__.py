"""Messages of the protocols we speak: layouts and names, no behaviour."""
