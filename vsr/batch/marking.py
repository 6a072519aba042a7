"""What a person decides of clips: to try them again, or to put them aside."""

from __future__ import annotations

from collections.abc import Sequence

from vsr.batch.manifest import Clip, Manifest
from vsr.errors import ConfigError


def retry(manifest: Manifest, paths: Sequence[str]) -> tuple[int, int]:
    """Let quarantined and failed clips wait again, with all their tries.

    Args:
        manifest: of the batch.
        paths: of the clips, relative to their tree; none for all.

    Returns:
        How many wait again, and how many cannot since they are no files that could be opened.

    Raises:
        ConfigError: a path is not in the manifest.
    """
    num_retried = num_left = 0
    with manifest.together():
        for clip in _named(manifest, paths):
            if clip.state not in ("quarantined", "failed"):
                continue
            if clip.output is None:
                num_left += 1
                continue
            num_retried += 1
            manifest.move(
                clip.id, "waiting", "to be tried again", error=None, exit_code=None, attempts=0
            )
    return num_retried, num_left


def quarantine(manifest: Manifest, paths: Sequence[str]) -> int:
    """Put clips aside that are not done; how many.

    Raises:
        ConfigError: a path is not in the manifest.
    """
    chosen = [clip for clip in _named(manifest, paths) if clip.state not in ("done", "quarantined")]
    with manifest.together():
        for clip in chosen:
            manifest.move(clip.id, "quarantined", error="put aside by hand")
    return len(chosen)


def _named(manifest: Manifest, paths: Sequence[str]) -> list[Clip]:
    clips = manifest.clips()
    if not paths:
        return clips
    known = {clip.path: clip for clip in clips}
    for path in paths:
        if path not in known:
            raise ConfigError(
                f"no clip of the batch in {manifest.out} is called {path!r}",
                hint="name it as `vsr batch status` does",
            )
    return [known[path] for path in paths]
