# A SCSI disk as the kernel and sg3-utils see it.

. /scripts/scsi-disk.sh

item found found
item first-sector first_sector
item capacity capacity
item msi-x interrupts_come
item sg_inq inquiry
item sg_vpd vpd
item sg_modes modes
item sg_wr_mode modes_changed
item sg_luns luns
item sg_readcap readcap
item sg_opcodes opcodes
item sg_turs ready
item sg_requests requests
item sg_rep_zones zones_refused
item thin thin
item provisioning_mode provisioning_modes
item zeroing_mode zeroing_modes
item cache_type cache_type
item fua fua
item fio-crc32c verified
item sg_logs logs
item sg_unmap unmap
item sg_get_lba_status lba_status
item sg_write_same write_same
item sg_compare_and_write compare_and_write
item sg_verify verify
item sg_xcopy extended_copy
item sg_dd every_size
item sg_raw raw
item sg_sync synchronize
item sg_persist reservations
item sg_start start_stop
item sg_write_buffer buffers
item sg_reset resets
item sg_sanitize sanitize
item sg_format format
item kernel-log clean_log
