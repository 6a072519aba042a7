"""Dolby Vision: what of it can be read."""

from __future__ import annotations

from vsr.errors import UnsupportedVideoError
from vsr.frame import Matrix, VideoInfo

_TAGS = frozenset({"dvh1", "dvhe", "dva1", "dvav", "dav1"})
_SIDE_DATA = frozenset({"DOVI_RPU_BUFFER", "DOVI_METADATA"})


def is_dolby_vision(info: VideoInfo) -> bool:
    """By the codec's tag in the container, or by the metadata on the first picture."""
    return info.codec_tag in _TAGS or not _SIDE_DATA.isdisjoint(info.side_data_kinds)


def refuse_dolby_vision(info: VideoInfo) -> None:
    """Refuse the kinds whose pictures mean nothing without Dolby's own mapping.

    Profile 5 codes IPT, and its bitstream therefore names no matrix, or ICtCp. Profiles 7 and 8
    have a base layer that is HDR10, HLG or BT.709 and says so: that one is enlarged.

    Raises:
        UnsupportedVideoError: profile 5.
    """
    if is_dolby_vision(info) and info.color.matrix in (Matrix.UNSPECIFIED, Matrix.ICTCP):
        raise UnsupportedVideoError(
            "The video is Dolby Vision profile 5, whose colours only Dolby's own mapping can read.",
            hint="convert it to HDR10 first",
        )
