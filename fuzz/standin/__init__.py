"""The stand-in machine and all that is said to it: requests, command lines, monitors' commands, state that comes."""
