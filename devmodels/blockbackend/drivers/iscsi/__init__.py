"""`iscsi`: a logical unit of an iSCSI target as a disk (RFC 7143, SBC-4; options as QEMU's driver of that name).

    node      block requests as SCSI commands, errors as errnos
    unit      what the logical unit is: INQUIRY, vital product data, capacity, mode pages
    commands  CDBs; sense: sense data; execution, retrying: what is tried again
    session   commands kept over connections that come and go; silence: whether the target is still there
    connection  one connection in full feature phase: PDUs in; sending: PDUs out
    task      one SCSI command on its way
    login, negotiation, authentication  the login, without a socket
    transport   where sockets come from

No library does this: libiscsi's one binding on the registry is a single release of 2020, and is called synchronously.
"""
