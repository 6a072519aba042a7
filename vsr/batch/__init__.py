"""Many videos: the manifest, the worker, the local and the Ray executor.

Depends on `pipeline` and `quality`.
"""
