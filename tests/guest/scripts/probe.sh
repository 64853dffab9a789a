# Does a guest boot at all? No disk.
item probe uname -r
