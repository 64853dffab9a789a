"""Looking into a trace: its events in words, its requests, and other programs' pictures of it."""
