"""Tensors to tensors: the networks, the list of them, and how their weights are read.

No media, no threads, no files but checkpoints. `upscaler` is the contract, `catalog` the list,
`checkpoint` reads and writes weights. Importing this package imports nothing heavy.
"""
