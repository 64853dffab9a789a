"""The AHCI 1.3.1 host bus adapter: not built yet."""
