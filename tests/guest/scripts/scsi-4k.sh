# What depends on the size of a block.

. /scripts/scsi-disk.sh

item found found
item first-sector first_sector
item capacity capacity
item sg_readcap readcap
item thin thin
item fio-crc32c verified
item sg_unmap unmap
item sg_get_lba_status lba_status
item sg_write_same write_same
item sg_compare_and_write compare_and_write
item sg_verify verify
item sg_xcopy extended_copy
item sg_sanitize sanitize
item sg_format format
item kernel-log clean_log
