"""The command: flags, the choice of a runtime, and how each of the three is started. Only the command imports it."""
