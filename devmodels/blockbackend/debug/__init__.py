"""What `blkdebug` is made of: the events that nodes tell of, rules, configuration files, break points."""
