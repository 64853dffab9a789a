"""PIIX IDE channels with ATA disks and ATAPI drives: not built yet."""
