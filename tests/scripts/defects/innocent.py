"""Drivers that do nothing out of the ordinary: to them a device with one of the defects is as good as any.

A defect by which these fail would be no defect that hostile guests alone can see: any script would see it.
"""

from __future__ import annotations

_DISK = """
drives:
  - {driver: file, node-name: d0, size: 1M, content: {pattern: 1}}
"""
_DRIVE = """
drives:
  - {driver: file, node-name: d0, size: 64k, read-only: true, content: {pattern: 5}}
"""
_ATA = """
steps:
  - ata-probe: {}
    expect: {found: [ata]}
  - ata: {command: write-dma, lba: 8, count: 2, data: {pattern: 7}}
  - ata: {command: read-dma, lba: 8, count: 4}
    expect: {data: [{at: 0, length: 1024, pattern: 7}, {at: 1024, length: 1024, pattern: 1}]}
"""
_PACKET = """
steps:
  - ata-probe: {}
    expect: {found: [atapi]}
  - packet: {cdb: test-unit-ready}
    expect: {registers: {sense-key: 6}}
  - packet: {cdb: inquiry allocation=36}
  - packet: {cdb: read-10 lba=1 blocks=2 block=2048, dma: true}
    expect: {data: {pattern: 5}}
"""

INNOCENT = (
    f"""name: a virtio-blk disk
devices:
  - {{driver: virtio-blk-pci, drive: d0}}
{_DISK}
steps:
  - probe
  - write: {{at: 4k, length: 4k, pattern: 7}}
  - read: {{at: 0, length: 12k}}
    expect: {{data: [{{at: 0, length: 4k, pattern: 1}}, {{at: 4k, length: 4k, pattern: 7}}]}}
  - flush
""",
    f"""name: a disk of virtio-scsi
devices:
  - {{driver: virtio-scsi-pci, id: scsi0}}
  - {{driver: scsi-hd, bus: scsi0.0, drive: d0}}
{_DISK}
steps:
  - probe
  - scsi: {{cdb: test-unit-ready}}
    expect: {{status: CHECK_CONDITION}}
  - scsi: {{cdb: inquiry allocation=36}}
  - scsi: {{cdb: write-10 lba=8 blocks=2, data: {{pattern: 7}}}}
  - scsi: {{cdb: read-10 lba=8 blocks=4}}
    expect: {{data: [{{at: 0, length: 1024, pattern: 7}}, {{at: 1024, length: 1024, pattern: 1}}]}}
""",
    *(
        f"""name: {name}
devices:
  - {{driver: {host}, id: ata0}}
  - {{driver: {unit}, bus: ata0.0, drive: d0}}
{rest}"""
        for name, host, unit, rest in (
            ("a disk of AHCI", "ich9-ahci", "ide-hd", _DISK + _ATA),
            ("a disk of IDE", "piix3-ide", "ide-hd", _DISK + _ATA),
            ("a drive of AHCI", "ich9-ahci", "ide-cd", _DRIVE + _PACKET),
            ("a drive of IDE", "piix3-ide", "ide-cd", _DRIVE + _PACKET),
        )
    ),
)
