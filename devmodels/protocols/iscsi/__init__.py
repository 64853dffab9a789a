"""iSCSI, RFC 7143: what both ends of a connection share, and no behaviour of either.

`pdu` has the PDUs, `text` the form of key=value text, `keys` every key with its rule of negotiation, `chap` and
`digest` what is computed.
"""
