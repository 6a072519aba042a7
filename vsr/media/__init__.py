"""Files to frames and back: the only room that imports av.

`probe` opens a file safely and says what it holds, `reader` turns its video into `Frame`s with
exact integer timestamps, `filters` wraps FFmpeg's own filters, `encoder` turns frames into closed
segments, and `streams` and `segments` put the result together with all that came with the source.
Nothing here imports torch; planes are numpy arrays.
"""
