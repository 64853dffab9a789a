# Reads, then writes of which the host lets none through: it stops the guest in the middle of them.
LOAD="--filename=$DISK --direct=1 --bs=4k --numjobs=2 --ioengine=libaio --iodepth=16 --iodepth_batch_submit=16 --size=32M"
read_some() { fio --name=reads --rw=randread --number_ios=1000 $LOAD; }

item reads read_some
fio --name=writes --rw=randwrite $LOAD
