"""Many videos: a tree of films becomes the same tree, larger, over as many runs as it takes.

`manifest` remembers every clip in SQLite, and `opening` sees to it that one process writes it.
`walk`, `naming` and `scan` bring it up to date with the tree, as `settings` has it; `forecast`
guesses time and disk. `local` runs `work` in watched `processes`, one clip each; `fixity` leaves
digests, `marking` is for people, `status` says how far all of it is. Depends on `pipeline`.
"""
