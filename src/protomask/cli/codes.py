"""Exit codes of every command."""

DONE, FAILED, BAD_USAGE = 0, 1, 2
"""The work is done; it failed, with a message on the error stream; the arguments are wrong."""
