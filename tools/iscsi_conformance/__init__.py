"""libiscsi's conformance suite on our iSCSI export and on `tgtd`, side by side."""
