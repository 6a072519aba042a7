"""One shot on one device: chunks of frames in, larger frames out.

`runner` is the way in. Nothing is imported here: torch costs seconds and only a run needs it.
"""
