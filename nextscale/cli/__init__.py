"""The commands: parse, call, print. One file a group of commands, imported when it is called."""
