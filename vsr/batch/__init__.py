"""Many videos: a tree of films becomes the same tree, larger, over as many runs as it takes.

`manifest` remembers every clip in SQLite, and `opening` sees to it that one process writes it.
`walk`, `naming` and `scan` bring it up to date with the tree, as `settings` has it; `forecast`
guesses time and disk. `rules` give some clips other settings, `storage` fetches and sends those of
an object store. `running` hands out `work` by a `policy`, one clip each, to an `executor`: watched
`processes` or, by `ray_tasks`, a Ray cluster, where `parting` has long clips made by several
workers. `fixity` leaves digests, `marking` is for people, `status` says how far all of it is,
`summary` and `page` how well. Depends on `pipeline`.
"""
