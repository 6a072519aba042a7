"""The command line: one click command per file, and the only place that prints or draws a bar.

`main` holds the group; each other module exports its click command as `command` and imports what
is heavy inside the function that needs it, so that `vsr --help` is instant.
"""
