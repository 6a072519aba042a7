"""What is interlaced is found by flags and by content, and made progressive on a stated clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from vsr.config import resolve_config
from vsr.media.fields import FieldReport
from vsr.media.probe import probe
from vsr.pipeline.interlace import decide
from vsr.pipeline.scan import Scan, scan
from vsr.pipeline.upscale import UpscaleResult, upscale

MakeClip = Callable[..., Path]
Draw = Callable[[float], np.ndarray]

NUM_FRAMES = 24


def waves(time: float) -> np.ndarray:
    x, y = np.arange(64) - 4 * time, np.arange(64)[:, None]
    picture = 128 + 100 * np.sin(x / 4.0) * np.cos(y / 9.0)
    return np.asarray(np.rint(picture)).astype(np.uint8)


def bars(time: float) -> np.ndarray:
    """Upright bars that move: the strongest combing there is."""
    x = np.arange(64) - 3 * time
    return np.tile(np.where(x // 8 % 2 < 1, 220, 30).astype(np.uint8), (64, 1))


def still(time: float) -> np.ndarray:
    return waves(0)


def fill(kind: str | None, draw: Draw) -> Callable[[Any, int], None]:
    """Whole pictures, or fields half a frame apart: `tff`, `bff`, or `mixed` for frames 8 to 15."""

    def paint(frame: Any, index: int) -> None:
        picture = draw(index).copy()
        parity = ("tff" if 8 <= index < 16 else None) if kind == "mixed" else kind
        if parity is not None:
            late = 1 if parity == "tff" else 0
            picture[late::2] = draw(index + 0.5)[late::2]
        for number, plane in enumerate(frame.planes):
            rows = np.full((plane.height, plane.line_size), 128, np.uint8)
            if number == 0:
                rows[:, :64] = picture
            plane.update(rows.tobytes())

    return paint


@pytest.fixture
def clip(make_clip: MakeClip, tmp_path: Path) -> Callable[..., Path]:
    def make(kind: str | None, flag: str | None, draw: Draw = waves, **options: Any) -> Path:
        parameters = f"{flag}=1:log-level=none" if flag else "log-level=none"
        wanted: dict[str, Any] = {
            "height": 64,
            "frames": NUM_FRAMES,
            "fill": fill(kind, draw),
            "codec_options": {"x264-params": parameters, "crf": "8"},
            **options,
        }
        return make_clip(tmp_path / f"{kind}-{flag}-{draw.__name__}.mkv", **wanted)

    return make


def scanned(path: Path, deinterlace: Any = "auto") -> Scan:
    return scan(path, probe(path).video, decode_threads=1, deinterlace=deinterlace)


@pytest.mark.parametrize("draw", [waves, bars])
@pytest.mark.parametrize(
    ("kind", "flag", "action", "parity"),
    [
        ("tff", "tff", "bwdif", "tff"),
        ("bff", "bff", "bwdif", "bff"),
        ("bff", "tff", "bwdif", "bff"),
        ("tff", None, "bwdif", "tff"),
        ("bff", None, "bwdif", "bff"),
        (None, "tff", "none", None),
        (None, None, "none", None),
    ],
)
def test_auto(
    clip: Callable[..., Path],
    draw: Draw,
    kind: str | None,
    flag: str | None,
    action: str,
    parity: str | None,
) -> None:
    """Content decides where anything moves: also which field is first, against the flags."""
    found = scanned(clip(kind, flag, draw))
    assert found.interlace.action == action
    assert found.interlace.frames == ()
    if parity is not None:
        assert found.interlace.parity == parity
    assert found.is_as_decoded
    assert bool(found.notes) == (kind is not None or flag is not None)
    if action == "bwdif":
        assert any("bob would keep 50 pictures" in note for note in found.notes)


@pytest.mark.parametrize("flag", ["tff", "bff"])
def test_flags_count_where_nothing_moves(clip: Callable[..., Path], flag: str) -> None:
    found = scanned(clip(None, flag, still))
    assert (found.interlace.action, found.interlace.parity) == ("bwdif", flag)
    assert "only the flags can tell" in found.interlace.reason
    assert scanned(clip(None, None, still)).interlace.action == "none"


def test_a_mixed_film_is_treated_where_it_is_combed(clip: Callable[..., Path]) -> None:
    path = clip("mixed", None, frames=40)
    found = scanned(path)
    assert found.interlace.action == "bwdif"
    (before, _), (during, num), (after, _) = ((v, n) for v, n in found.interlace.frames)
    assert (before, during, after) == (0, 1, 0)
    assert 8 <= num <= 12


def test_telecine_is_named_and_never_undone_unasked(make_clip: MakeClip, tmp_path: Path) -> None:
    def paint(frame: Any, index: int) -> None:
        group, place = divmod(index, 5)
        top, bottom = ((0, 0), (1, 1), (1, 2), (2, 3), (3, 3))[place]
        picture = waves(4 * group + top).copy()
        picture[1::2] = waves(4 * group + bottom)[1::2]
        for number, plane in enumerate(frame.planes):
            rows = np.full((plane.height, plane.line_size), 128, np.uint8)
            if number == 0:
                rows[:, :64] = picture
            plane.update(rows.tobytes())

    path = make_clip(tmp_path / "t.mkv", codec="ffv1", height=64, frames=30, fill=paint)
    found = scanned(path)
    assert found.interlace.action == "bwdif"
    assert any("ivtc" in note for note in found.notes)
    asked = scanned(path, "ivtc")
    assert asked.timeline.num_frames == 24
    assert asked.timeline.pts() == [200 * k for k in range(24)]  # quarters of a millisecond
    assert asked.interlace.time_base_divisor == 4
    # One frame of each five is left out: the one that shows what its neighbour shows.
    assert len({rank // 5 * 5 for rank in asked.sources}) == 6
    result = run(path, deinterlace="ivtc")
    assert result.frames == 24
    assert result.check.ok, result.check.failures
    # Left at 30 a second, two frames of five show a moment of their neighbours.
    result = run(path)
    assert result.frames == 30
    assert result.check.ok, result.check.failures


@pytest.mark.parametrize("asked", ["keep", "off"])
def test_fields_can_be_left_alone(clip: Callable[..., Path], asked: str) -> None:
    found = scanned(clip("tff", "tff"), asked)
    assert found.interlace.action == "none"
    assert bool(found.notes) == (asked == "keep" or found.notes != ())


def test_a_tall_film_is_not_looked_at() -> None:
    info = probe_of(height=2160)
    assert decide("auto", None, info).action == "none"


def probe_of(**changes: Any) -> Any:
    from dataclasses import replace

    from vsr.frame import ColorSpec, PlaneLayout, VideoInfo

    info = VideoInfo(
        stream_index=0, codec="h264", width=64, height=64, pixel_format="yuv420p",
        layout=PlaneLayout(bits=8, log2_chroma_w=1, log2_chroma_h=1), color=ColorSpec(),
        time_base=Fraction(1, 25), frame_rate=Fraction(25), num_frames=24, start_pts=0,
        duration_s=1.0,
    )  # fmt: skip
    return replace(info, **changes)


def report(kinds: str, ratios: Sequence[float | None], flagged: bool) -> FieldReport:
    names = {"t": "tff", "b": "bff", "p": "progressive", "u": "undetermined"}
    return FieldReport(
        kinds=[names[k] for k in kinds], ratios=list(ratios), flagged=[flagged] * len(kinds)
    )


def test_one_witness_is_not_enough() -> None:
    """`idet` calls drawn pictures combed; their rows resemble their neighbours all the same."""
    drawn = report("t" * 20, [0.7] * 20, flagged=False)
    assert decide("auto", drawn, probe_of()).action == "none"
    quiet = report("t" * 20, [None] * 20, flagged=False)
    assert decide("auto", quiet, probe_of()).action == "none"
    alone = report("pppptppppp" * 2, [0.5] * 4 + [3.0] + [0.5] * 9 + [3.0] + [0.5] * 5, False)
    assert decide("auto", alone, probe_of()).action == "none"


@pytest.mark.parametrize(
    ("order", "codec", "height", "parity"),
    [("tt", "h264", 576, "tff"), ("bb", "h264", 576, "bff"), ("unknown", "dvvideo", 576, "bff"),
     ("unknown", "mpeg2video", 1080, "tff")],
)  # fmt: skip
def test_parity_by_header_and_custom(order: str, codec: str, height: int, parity: str) -> None:
    info = probe_of(field_order=order, codec=codec, height=height)
    assert decide("bwdif", None, info).parity == parity


def run(source: Path, **flags: Any) -> UpscaleResult:
    wanted = {"model": "bicubic-x2", "device": "cpu", "codec": "ffv1", "overwrite": True, **flags}
    return upscale(source, source.with_name("out.mkv"), resolve_config(flags=wanted))


def pictures(path: str | Path) -> tuple[list[Fraction], list[np.ndarray]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        assert not any(f.interlaced_frame for f in frames)
        base = Fraction(stream.time_base.numerator, stream.time_base.denominator)  # type: ignore[union-attr]
        times = [f.pts * base for f in frames if f.pts is not None]
        return times, [np.asarray(f.to_ndarray(format="gray"), dtype=float) for f in frames]


def pictures_of(path: Path) -> tuple[list[Fraction], list[np.ndarray]]:
    with av.open(str(path)) as container:
        frames = [f.to_ndarray(format="gray").astype(float) for f in container.decode(video=0)]
    return [], frames


def combs(picture: np.ndarray) -> float:
    """Rows against their neighbours, by rows against those two away."""
    to_others = np.abs(2 * picture[2:-2] - picture[1:-3] - picture[3:-1]).mean()
    to_own = np.abs(2 * picture[2:-2] - picture[:-4] - picture[4:]).mean()
    return float(to_others / to_own)


def combing(picture: np.ndarray) -> float:
    """How rows differ from both neighbours, on the scale of the source's rows."""
    rows = picture[::2] if picture.shape[0] > 100 else picture
    return float(np.abs(2 * rows[1:-1] - rows[:-2] - rows[2:]).mean())


def test_the_result_has_no_combs(clip: Callable[..., Path]) -> None:
    woven, whole = clip("tff", "tff", bars), clip(None, None, bars)
    result = run(woven)
    assert result.check.ok, result.check.failures
    assert result.interlace["action"] == "bwdif"
    assert any("made progressive" in entry.get("note", "") for entry in result.plan)
    times, made = pictures(result.result)
    assert times == [Fraction(k, 25) for k in range(NUM_FRAMES)]
    usual = np.mean([combing(p) for p in pictures(run(whole).result)[1]])
    assert np.mean([combing(p) for p in made[2:-2]]) < usual + 2
    kept = pictures(run(woven, deinterlace="off").result)[1]
    assert np.mean([combing(p) for p in kept[2:-2]]) > usual + 20


def test_bob_keeps_every_moment(clip: Callable[..., Path]) -> None:
    result = run(clip("tff", "tff", waves, sar=Fraction(16, 15)), deinterlace="bob")
    assert result.check.ok, result.check.failures
    times, _ = pictures(result.result)
    assert times == [Fraction(k, 50) for k in range(2 * NUM_FRAMES)]
    assert probe(Path(result.result)).video.sample_aspect_ratio == Fraction(16, 15)


def test_two_runs_give_the_same_bytes(clip: Callable[..., Path]) -> None:
    path = clip("bff", "bff")
    first = run(path)
    assert run(path).digests == first.digests


def test_real_interlaced_files(media_dir: Path, tmp_path: Path) -> None:
    for name, sar in (
        ("interlaced_dv_ntsc.mov", Fraction(10, 11)),
        ("interlaced_xdcam_1080i50.mov", Fraction(4, 3)),
    ):
        found = scanned(media_dir / name)
        assert found.interlace.action == "bwdif"
        flags = {"model": "bicubic-x2", "device": "cpu", "encoder_preset": "ultrafast"}
        result = upscale(media_dir / name, tmp_path / f"{name}.mkv", resolve_config(flags=flags))
        assert result.check.ok, result.check.failures
        assert probe(Path(result.result)).video.sample_aspect_ratio == sar
        # At the level of a progressive film: rows are nearer to their neighbours than to those two
        # away, and where they are not, it is because the source's picture has such lines.
        _, made = pictures(result.result)
        _, before = pictures_of(media_dir / name)
        assert combs(made[12]) < max(0.6, 1.05 * combs(before[12]))
