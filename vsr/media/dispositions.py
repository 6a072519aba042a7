"""Dispositions: what each container can say a stream is for."""

from __future__ import annotations

from vsr.media.probe import StreamInfo

_MATROSKA = frozenset(
    {"default", "dub", "original", "comment", "forced", "hearing_impaired", "visual_impaired"}
)
_MP4 = frozenset(
    {
        *("default", "dub", "comment", "forced", "hearing_impaired", "visual_impaired"),
        *("captions", "descriptions"),
    }
)
_MOV = frozenset({"default"})
_OF_COVERS = frozenset({"attached_pic", "timed_thumbnails", "still_image", "default"})
"""How a picture that is no film is marked; its place in the result says the same."""


def held_dispositions(kind: str, container: str) -> frozenset[str]:
    """Dispositions that a stream of this kind keeps in a container, as FFmpeg writes and reads it.

    Args:
        kind: `video`, `audio` or `subtitle`.
        container: `mkv`, `mp4` or `mov`.
    """
    if container == "mkv":
        return _MATROSKA | {"descriptions"} if kind == "subtitle" else _MATROSKA
    return {"mp4": _MP4, "mov": _MOV}.get(container, frozenset())


def lost_dispositions(stream: StreamInfo, container: str) -> list[str]:
    """Dispositions of a stream that the container cannot hold, sorted."""
    if stream.kind not in ("video", "audio", "subtitle"):
        return []
    lost = stream.disposition - held_dispositions(stream.kind, container)
    return sorted(lost - _OF_COVERS if stream.is_cover_art else lost)
