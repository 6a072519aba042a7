from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from vsr.cli.eval import command
from vsr.cli.eval_tables import score_table
from vsr.errors import ConfigError, OpenError, ShapeError
from vsr.models.catalog import get_spec
from vsr.models.image.classsr import ClassSR
from vsr.models.image.interpolation import Interpolation, imresize
from vsr.models.upscaler import State
from vsr.quality.metrics import round_to_8_bit
from vsr.quality.temporal import Flicker
from vsr.training.clips import find_clips, read_image
from vsr.training.evaluate import evaluate, upscale_clip


def _picture(height: int, width: int, seed: int) -> np.ndarray:
    """Smooth colour with some noise, (H, W, 3) RGB uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 6 + 2, width // 6 + 2, 3)).astype(np.float32)
    smooth = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
    return np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)


def _write(path: Path, rgb: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ok, data = cv2.imencode(".png", rgb[..., ::-1])
    assert ok
    path.write_bytes(data.tobytes())


def _luma(rgb: np.ndarray) -> np.ndarray:
    return np.asarray(rgb.astype(np.float64) @ [65.481, 128.553, 24.966] / 255 + 16)


def _expected_psnr(rgb: np.ndarray, multiple: int, crop: int) -> float:
    """The protocol once more, in numpy."""
    height, width = (side - side % multiple for side in rgb.shape[:2])
    truth = rgb[:height, :width]
    image = torch.from_numpy(truth.copy()).permute(2, 0, 1).double()
    small = imresize(image, scale=1 / 4).round().clamp(0, 255)
    large = imresize(small, scale=4).round().clamp(0, 255).permute(1, 2, 0).numpy()
    error = _luma(large) - _luma(truth)
    error = error[crop : height - crop, crop : width - crop]
    return 10 * math.log10(255**2 / float((error**2).mean()))


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two clips of 5 and 2 frames, 61x50."""
    for clip, num_frames in (("a", 5), ("b", 2)):
        for index in range(num_frames):
            _write(tmp_path / "gt" / clip / f"{index:03}.png", _picture(50, 61, index))
    (tmp_path / "gt" / ".hidden").write_text("x")
    return tmp_path / "gt"


def test_video_protocol(clips: Path) -> None:
    result = evaluate(["bicubic-x4", "lanczos-x4"], clips)
    row = result.rows[0]
    for clip, num_frames in (("a", 5), ("b", 2)):
        expected = [_expected_psnr(_picture(50, 61, i), 12, 0) for i in range(num_frames)]
        assert row.clips[clip].psnr == pytest.approx(np.mean(expected), abs=1e-3)
        assert row.clips[clip].frames == num_frames
    # Over clips, not over frames.
    mean = (row.clips["a"].psnr + row.clips["b"].psnr) / 2
    assert row.psnr == pytest.approx(mean, abs=1e-12)
    assert (row.model, row.params) == ("bicubic-x4", 0)
    assert row.ms_per_frame > 0 and row.gmac == pytest.approx(0.068, abs=0.001)
    assert result.rows[1].psnr != row.psnr
    assert (result.protocol.kind, result.protocol.crop_px) == ("video", 0)


def test_every_scores_a_part_of_the_frames(clips: Path) -> None:
    row = evaluate(["bicubic-x4"], clips, every=2).rows[0]
    expected = [_expected_psnr(_picture(50, 61, i), 12, 0) for i in (0, 2, 4)]
    assert row.clips["a"].psnr == pytest.approx(np.mean(expected), abs=1e-3)
    assert [row.clips[clip].frames for clip in "ab"] == [3, 1]


def test_copies_take_the_neighbours_away(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that averages its frames is blurred by real neighbours and not by copies."""

    class Averaging(Interpolation):
        def upscale(
            self, frames_BTCHW: Tensor, state: State, num_context: int = 0
        ) -> tuple[Tensor, State]:
            mean = frames_BTCHW.mean(dim=1, keepdim=True).expand_as(frames_BTCHW)
            return super().upscale(mean, state, num_context)

    spec = replace(get_spec("bicubic-x4"), chunk=5)
    monkeypatch.setattr("vsr.training.evaluate.resolve_spec", lambda model: spec)
    monkeypatch.setattr("vsr.training.evaluate.load_upscaler", lambda model: Averaging(4))
    copies = evaluate(["bicubic-x4"], clips, neighbours="copies").rows[0].clips["a"].psnr
    real = evaluate(["bicubic-x4"], clips).rows[0].clips["a"].psnr
    monkeypatch.undo()
    alone = evaluate(["bicubic-x4"], clips).rows[0].clips["a"].psnr
    assert copies == pytest.approx(alone, abs=1e-6)
    assert real < alone - 0.5


def test_still_protocol(tmp_path: Path) -> None:
    _write(tmp_path / "one.png", _picture(50, 61, 3))
    result = evaluate(["bicubic-x4"], tmp_path)
    assert (result.protocol.kind, result.protocol.crop_px) == ("image", 4)
    assert result.rows[0].psnr == pytest.approx(_expected_psnr(_picture(50, 61, 3), 4, 4), abs=1e-3)


def test_given_small_pictures_are_used(clips: Path, tmp_path: Path) -> None:
    for clip in find_clips(clips):
        for file in clip.files:
            image = imresize(read_image(file)[:, :48, :60].double(), scale=1 / 4)
            small = (image * 255).round().clamp(0, 255).permute(1, 2, 0).to(torch.uint8).numpy()
            _write(tmp_path / "lr" / clip.name / file.name, small)
    given = evaluate(["bicubic-x4"], clips, lr=tmp_path / "lr")
    made = evaluate(["bicubic-x4"], clips)
    assert given.protocol.degradation == "given"
    assert given.rows[0].clips == made.rows[0].clips
    _write(tmp_path / "lr" / "b" / "000.png", _picture(9, 15, 0))
    with pytest.raises(ShapeError, match="In 'b' 15x9 times 4 is not 61x50"):
        evaluate(["bicubic-x4"], clips, lr=tmp_path / "lr")
    (tmp_path / "lr" / "a" / "004.png").unlink()
    with pytest.raises(ShapeError, match="'a' has not as many small pictures"):
        evaluate(["bicubic-x4"], clips, lr=tmp_path / "lr")


class _Recorder(Interpolation):
    """Writes each frame's index, read off its first pixel, and remembers its calls."""

    def __init__(self) -> None:
        super().__init__(2)
        self.calls: list[tuple[list[int], int, bool]] = []

    def init_state(self, batch: int, height: int, width: int, seed: int = 0) -> State:
        return (torch.zeros(1),)

    def upscale(
        self, frames_BTCHW: Tensor, state: State, num_context: int = 0
    ) -> tuple[Tensor, State]:
        indices = [int(value) for value in frames_BTCHW[0, :, 0, 0, 0]]
        self.calls.append((indices, num_context, bool(state[0] == len(self.calls))))
        result, _ = super().upscale(frames_BTCHW, (), num_context)
        return result, (state[0] + 1,)


@pytest.mark.parametrize(
    ("num_frames", "calls"),
    [
        (1, [([0], 0)]),
        (4, [([0, 1, 2, 3], 1), ([3], 0)]),
        (6, [([0, 1, 2, 3], 1), ([3, 4, 5], 0)]),
        (7, [([0, 1, 2, 3], 1), ([3, 4, 5, 6], 1), ([6], 0)]),
    ],
)
def test_calls_follow_the_spec(num_frames: int, calls: list[tuple[list[int], int]]) -> None:
    model = _Recorder()
    spec = replace(get_spec("bicubic-x2"), chunk=3, context=1)
    frames = [torch.full((3, 4, 4), float(index)) for index in range(num_frames)]
    results = list(upscale_clip(model, spec, frames))
    assert [round(float(result.mean())) for result in results] == list(range(num_frames))
    assert [(items, context) for items, context, _ in model.calls] == calls
    assert all(is_in_order for *_, is_in_order in model.calls)


def test_chunk_overrides_the_spec(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []

    class Counting(Interpolation):
        def upscale(
            self, frames_BTCHW: Tensor, state: State, num_context: int = 0
        ) -> tuple[Tensor, State]:
            lengths.append(frames_BTCHW.shape[1])
            return super().upscale(frames_BTCHW, state, num_context)

    monkeypatch.setattr("vsr.training.evaluate.load_upscaler", lambda model: Counting(4))
    monkeypatch.setattr("vsr.training.evaluate._cost", lambda *arguments: (0.0, 0))
    evaluate(["bicubic-x4"], clips, chunk=3)
    assert lengths == [3, 2, 2]


def test_video_files_are_decoded(tmp_path: Path) -> None:
    pictures = [_picture(50, 61, seed) for seed in range(2)]
    with av.open(str(tmp_path / "clip.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25, width=61, height=50, pix_fmt="bgr0")
        for rgb in pictures:
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="bgr0")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    score = evaluate(["bicubic-x4"], tmp_path).rows[0].clips["clip"]
    expected = np.mean([_expected_psnr(rgb, 12, 0) for rgb in pictures])
    assert score.psnr == pytest.approx(expected, abs=1e-3)
    assert evaluate(["bicubic-x4"], tmp_path / "clip.mkv").rows[0].clips["clip"] == score


def test_bad_requests_end_in_one_sentence(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bicubic-x2 enlarges by 2, not by 4"):
        evaluate(["bicubic-x2"], clips)
    with pytest.raises(ConfigError, match="Unknown degradation 'bx'"):
        evaluate(["bicubic-x4"], clips, degradation="bx")
    with pytest.raises(OpenError, match="There is no folder"):
        evaluate(["bicubic-x4"], tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(OpenError, match="holds no pictures"):
        evaluate(["bicubic-x4"], tmp_path / "empty")
    with pytest.raises(OpenError, match="has nothing called 'a'"):
        evaluate(["bicubic-x4"], clips, lr=clips / "b")
    (clips / "a" / "001.png").write_bytes(b"not a picture")
    with pytest.raises(OpenError, match=r"001\.png is not a picture"):
        evaluate(["bicubic-x4"], clips)
    _write(clips / "still.png", _picture(20, 20, 0))
    with pytest.raises(ConfigError, match="both stills and clips"):
        evaluate(["bicubic-x4"], clips)


def test_command_prints_a_table_and_json(clips: Path, tmp_path: Path) -> None:
    arguments = ["--model", "bicubic-x4", "--model", "lanczos-x4", "--gt", str(clips)]
    arguments += ["--device", "cpu"]
    table = CliRunner().invoke(command, arguments)
    assert table.exit_code == 0, table.output
    psnr = evaluate(["bicubic-x4"], clips).rows[0].psnr
    assert f"| bicubic-x4 | {psnr:.2f} |" in table.stdout
    assert "x4, bi, PSNR and SSIM on Y, crop 0 px, 2 clips" in table.stdout
    file = tmp_path / "scores.json"
    printed = CliRunner().invoke(command, [*arguments, "--json", "--json-file", str(file)])
    document = json.loads(printed.stdout)
    assert document == json.loads(file.read_text(encoding="utf-8"))
    assert set(document) == {"protocol", "machine", "rows"}
    assert set(document["rows"][0]) == {
        *("model", "psnr", "ssim", "flicker", "lpips", "ms_per_frame", "gmac", "params", "clips")
    }
    assert document["rows"][0]["psnr"] == pytest.approx(psnr, abs=1e-9)
    assert document["protocol"]["channel"] == "y"


def test_where_patches_went_is_told(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(4)
    network = ClassSR(scale=4, widths=(3, 4, 5)).eval()
    monkeypatch.setattr("vsr.training.evaluate.load_upscaler", lambda _: network)
    result = evaluate(["classsr-x4"], clips)
    routing = result.rows[0].routing
    assert routing is not None
    assert sum(routing.shares) == pytest.approx(1) and routing.macs_saved < 1
    (row,) = result.describe()["rows"]
    assert row["routing"] == {"shares": routing.shares, "macs_saved": routing.macs_saved}
    told = f"classsr-x4: patches by class, easy first: {routing.shares[0]:.0%}"
    assert told in score_table(result)


def test_flicker_is_scored_between_consecutive_frames(clips: Path) -> None:
    row = evaluate(["bicubic-x4"], clips).rows[0]
    metric = Flicker()
    for index in range(5):
        truth = torch.from_numpy(_picture(50, 61, index)[:48, :60].copy()).permute(2, 0, 1) / 255
        small = imresize(truth, scale=1 / 4).mul(255).round().clamp(0, 255) / 255
        metric.update(round_to_8_bit(imresize(small, scale=4)), truth)
    assert row.clips["a"].flicker == pytest.approx(metric.compute(), rel=1e-3)
    assert row.flicker == pytest.approx((row.clips["a"].flicker + row.clips["b"].flicker) / 2)
    # Frames 2 and 4, each beside the one before it; one pair of clip b is not scored at all.
    some = evaluate(["bicubic-x4"], clips, every=2).rows[0]
    assert some.clips["a"].flicker > 0 and math.isnan(some.clips["b"].flicker)
    assert some.describe()["clips"]["b"]["flicker"] is None
    assert some.flicker == some.clips["a"].flicker


def test_stills_have_no_flicker(clips: Path) -> None:
    row = evaluate(["bicubic-x4"], clips / "a").rows[0]
    assert row.describe()["flicker"] is None


@pytest.mark.parametrize("degradation", ["bd", "bd-corner", "mixed", "archive"])
def test_degradations_repeat_themselves(clips: Path, degradation: str) -> None:
    one, two = (
        evaluate(["bicubic-x4"], clips, degradation=degradation).rows[0].clips for _ in range(2)
    )
    plain = evaluate(["bicubic-x4"], clips).rows[0].clips
    assert one == two
    assert any(one[name].psnr != plain[name].psnr for name in one) or degradation == "mixed"


def test_a_shifted_phase_costs_a_model_that_does_not_know_it(clips: Path) -> None:
    centre, corner = (
        evaluate(["bicubic-x4"], clips, degradation=name).rows[0].psnr
        for name in ("bd", "bd-corner")
    )
    assert corner < centre - 0.5
