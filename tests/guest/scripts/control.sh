# The harness tried out: a result of each kind, then a kernel that dies before the script's end.
loud_failure() { echo "first words"; echo "last words"; false; echo "never reached"; }

item good read_disk 0 4096 4096
item bad loud_failure
item unequal is "the sum" 4 5
echo c >/proc/sysrq-trigger
item late true
