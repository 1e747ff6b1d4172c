"""The bodies of the commands, the same from Python and from the command line."""
