"""What commands that look at films share: videos and sequences of pictures opened alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vsr.frame import ColorSpec, Curve, Frame, VideoInfo
    from vsr.media.stills import PictureSequence
    from vsr.pipeline.declared import Declared


@dataclass(frozen=True, slots=True)
class Reel:
    """A video, a folder of pictures or a pattern of their names, described; not open yet."""

    path: Path
    info: VideoInfo
    sequence: PictureSequence | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    """Of the container."""
    curve: Curve = "none"
    """From its codes to what a display shows."""

    @property
    def began_s(self) -> Fraction | None:
        """Where in its source an excerpt begins, in seconds of the source's clock.

        None: it is no excerpt, or one of several pieces.
        """
        from vsr.pipeline.declared import read_declared

        try:
            ranges = read_declared(self.path, self.tags).ranges
        except ValueError:
            return None
        if len(ranges) != 1:
            return None
        start_s = (self.info.start_pts or 0) * self.info.time_base
        return start_s - ranges[0].at_s + ranges[0].start_s

    @property
    def is_converted(self) -> bool:
        """Whether `frames` gives other samples than the files hold: RGB as displayed."""
        return self.curve != "none"

    def color(self, width: int, height: int) -> ColorSpec:
        """What the codes of `frames` mean; gaps are filled as for a film of that size."""
        from vsr.color import complete
        from vsr.frame import Matrix, Transfer

        color, _ = complete(self.info.color, width, height, self.info.layout)
        if self.is_converted:
            color = replace(color, matrix=Matrix.RGB, transfer=Transfer.SRGB, full_range=True)
        return color

    def frames(
        self, stack: ExitStack, *, start_pts: int | None = None, end_pts: int | None = None
    ) -> Iterator[Frame]:
        """The frames from one timestamp on and before another, read ahead in another thread.

        Args:
            stack: closes what is opened.
            start_pts: first timestamp wanted; from the start if None.
            end_pts: first timestamp not wanted any more; to the end if None.

        Raises:
            MediaError: also while iterating: it cannot be read.
        """
        from vsr.media.reader import FrameReader
        from vsr.media.stills_read import PictureReader
        from vsr.pipeline.planning import decoder_threads
        from vsr.pipeline.stages import iterate_ahead

        threads = decoder_threads(self.info.height)
        read: Iterable[Frame]
        if self.sequence is None:
            film = FrameReader(
                self.path, info=self.info, threads=threads, start_pts=start_pts, end_pts=end_pts
            )
            read = stack.enter_context(film)
        else:
            # Pictures are read one by one: nothing stays open.
            read = PictureReader(
                self.sequence,
                info=self.info,
                threads=threads,
                start_pts=start_pts,
                end_pts=end_pts,
            )
        frames = stack.enter_context(closing(iterate_ahead(read)))
        return map(self._displayed, frames) if self.is_converted else frames

    def _displayed(self, frame: Frame) -> Frame:
        import torch

        from vsr.color import complete, planes_to_rgb
        from vsr.engine.curves import to_display
        from vsr.frame import PlaneLayout

        planes = [torch.from_numpy(plane.copy())[None] for plane in frame.planes]
        info = self.info
        color, _ = complete(info.color, info.width, info.height, frame.layout)
        rgb = to_display(planes_to_rgb(planes, frame.layout, color), self.curve)
        red, green, blue = (plane.numpy() for plane in rgb[0])
        layout = PlaneLayout(bits=32, is_float=True, is_rgb=True)
        return replace(frame, planes=(green, blue, red), layout=layout)


def find_reel(path: Path, *, stream_index: int | None = None) -> Reel:
    """Describe what a path names.

    Args:
        path: of a video, of a folder of pictures, or a pattern of their names.
        stream_index: the video stream; the film as `probe` picks it if None.

    Raises:
        MediaError: it cannot be read.
    """
    from vsr.frame import Transfer
    from vsr.media.probe import probe
    from vsr.media.stills import find_sequence
    from vsr.media.stills_read import probe_sequence, read_still

    sequence = find_sequence(path)
    if sequence is None:
        found = probe(path, stream_index=stream_index)
    else:
        found = probe_sequence(path, sequence)
    curve: Curve = "linear" if found.video.color.transfer is Transfer.LINEAR else "none"
    if sequence is not None and read_still(sequence.path(0)).is_log:
        curve = "density"
    return Reel(path, found.video, sequence, found.metadata, curve)


def find_pair(source: Path, result: Path) -> tuple[Reel, Reel, Declared]:
    """Describe a film and what was made of it, both as displayed by the curves of that run.

    Returns:
        Source, result, and what the result declares to have changed.

    Raises:
        MediaError: one of them cannot be read.
        ValueError: the declaration is not understood.
    """
    from vsr.media.stills import PictureTarget
    from vsr.pipeline.declared import read_declared
    from vsr.pipeline.pictures import Pictures, add_curves

    after = find_reel(result)
    declared = read_declared(result, after.tags)
    before = find_reel(source, stream_index=declared.video_stream)
    target = None
    if after.sequence is not None:
        target = PictureTarget(
            folder=after.sequence.folder,
            names=after.sequence.names,
            first=after.sequence.first,
            follows_pts=before.sequence is not None,
        )
    pictures, _ = add_curves(Pictures(source=before.sequence, target=target), before.info)
    before, after = (
        replace(before, curve=pictures.curve_in),
        replace(after, curve=pictures.curve_out),
    )
    return before, after, declared
