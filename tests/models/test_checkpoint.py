from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save as serialize_tensors
from torch import Tensor, nn

from vsr.errors import CheckpointError, UnknownModelError
from vsr.models import catalog
from vsr.models.card import Card, DataSource, Score, card_path, read_card, write_card
from vsr.models.checkpoint import (
    card_of,
    load_upscaler,
    load_weights,
    read_checkpoint,
    resolve_spec,
    save_checkpoint,
)
from vsr.models.cost import count_gmac, count_params
from vsr.models.upscaler import ModelSpec, State


class Tiny(nn.Module):
    """A net small enough to check by hand: 3 -> 3*s*s channels and a shuffle."""

    def __init__(self, scale: int, width: int = 3) -> None:
        super().__init__()
        self.scale = scale
        self.tail = nn.Conv2d(3, width * scale**2, 3, padding=1)

    def init_state(self, batch: int, height: int, width: int, seed: int = 0) -> State:
        return ()

    def upscale(
        self, frames_BTCHW: Tensor, state: State, num_context: int = 0
    ) -> tuple[Tensor, State]:
        kept = frames_BTCHW[:, : frames_BTCHW.shape[1] - num_context]
        wide = self.tail(kept.flatten(0, 1).to(self.tail.weight.dtype))
        shuffled = nn.functional.pixel_shuffle(wide, self.scale).to(frames_BTCHW.dtype)
        return shuffled.view(*kept.shape[:2], *shuffled.shape[1:]), state


SPEC = ModelSpec(
    id="tiny-x2",
    family="tiny",
    scale=2,
    kind="image",
    build=Tiny,
    params={"scale": 2},
    weights="tiny-x2",
)


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A catalogue with one more model, and a folder of weights of its own."""
    monkeypatch.setattr(catalog, "_BY_ID", {**catalog._BY_ID, SPEC.id: SPEC})
    monkeypatch.setattr(catalog, "WEIGHTS_FOLDER", tmp_path)
    return tmp_path


def _ship(folder: Path) -> Tiny:
    torch.manual_seed(1)
    net = Tiny(2)
    weights = folder / "tiny-x2.safetensors"
    digest = save_checkpoint(
        weights, net, spec_id="tiny-x2", params={"scale": 2}, extra={"steps": 7}
    )
    write_card(card_path(weights), _card(digest))
    return net


def _card(digest: str) -> Card:
    return Card(
        id="tiny-x2",
        sha256=digest,
        licence="Apache-2.0",
        degradation="bi",
        num_params=336,
        gmac_180p=0.0187,
        trained_with={"steps": 7, "hours": 0.5, "device": 'a "quoted" name', "ema": True},
        data=(DataSource(origin="Bäume (c) Somebody", licence="CC-BY-3.0"),),
        scores={"set14-y-x4-bi": Score(psnr_db=27.5, ssim=0.75), "a.b": Score(psnr_db=1.0)},
    )


def test_round_trip_by_id(shelf: Path) -> None:
    net = _ship(shelf)
    loaded: Any = load_upscaler("tiny-x2")
    assert not loaded.training
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == torch.float32 and not tensor.requires_grad
        assert torch.equal(tensor, net.state_dict()[name].half().float())
    assert load_upscaler("tiny-x2", dtype=torch.bfloat16).tail.weight.dtype == torch.bfloat16  # type: ignore[attr-defined]
    card = card_of(SPEC)
    assert card is not None and card.num_params == 336


def test_file_is_half_size_tagged_and_deterministic(tmp_path: Path) -> None:
    net = Tiny(2)
    first = save_checkpoint(tmp_path / "a.safetensors", net, spec_id="tiny-x2", params={"scale": 2})
    again = save_checkpoint(tmp_path / "b.safetensors", net, spec_id="tiny-x2", params={"scale": 2})
    data = (tmp_path / "a.safetensors").read_bytes()
    assert first == again == hashlib.sha256(data).hexdigest()
    assert len(data) < 2 * count_params(net) + 500
    read = read_checkpoint(tmp_path / "a.safetensors")
    assert (read.model_id, read.params, read.training) == ("tiny-x2", {"scale": 2}, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_file_of_other_parameters_builds_its_own_network(shelf: Path) -> None:
    path = shelf / "mine.safetensors"
    save_checkpoint(path, Tiny(3), spec_id="tiny-x2", params={"scale": 3})
    assert load_upscaler(path).scale == load_upscaler(str(path)).scale == 3
    assert resolve_spec(path).params == {"scale": 3}
    save_checkpoint(path, Tiny(3), spec_id="tiny-x2", params={"depth": 3})
    with pytest.raises(CheckpointError, match="do not make a tiny network"):
        load_upscaler(path)
    save_checkpoint(path, Tiny(3), spec_id="nobody-x2", params={"scale": 3})
    with pytest.raises(UnknownModelError):
        load_upscaler(path)


def _without_bias(path: Path) -> None:
    net = Tiny(2)
    net.tail.bias = None
    save_checkpoint(path, net, spec_id="tiny-x2", params={"scale": 2})


def _with_more(path: Path) -> None:
    net = Tiny(2)
    net.register_buffer("extra", torch.zeros(1))
    save_checkpoint(path, net, spec_id="tiny-x2", params={"scale": 2})


def _wide(path: Path) -> None:
    save_checkpoint(path, Tiny(2, width=4), spec_id="tiny-x2", params={"scale": 2})


def _truncated(path: Path) -> None:
    save_checkpoint(path, Tiny(2), spec_id="tiny-x2", params={"scale": 2})
    path.write_bytes(path.read_bytes()[:-10])


def _not_a_number(path: Path) -> None:
    weight = torch.full((1,), float("nan"))
    path.write_bytes(serialize_tensors({"tail.weight": weight}, metadata=_header()))


def _header() -> dict[str, str]:
    return {"vsr": '{"format": 1, "model": "tiny-x2", "params": {"scale": 2}, "training": {}}'}


def _anonymous(path: Path) -> None:
    path.write_bytes(serialize_tensors({"tail.weight": torch.zeros(1)}))


def _later_format(path: Path) -> None:
    header = {"vsr": _header()["vsr"].replace('"format": 1', '"format": 2')}
    path.write_bytes(serialize_tensors({"tail.weight": torch.zeros(1)}, metadata=header))


class _Bomb:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return pytest.fail, ("a pickle was executed",)


def _pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(_Bomb()))


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (_without_bias, r"lack tail\.bias"),
        (_with_more, "hold the unexpected extra"),
        (_wide, r"wrongly shaped .*\(16, 3, 3, 3\) instead of \(12, 3, 3, 3\) and 1 more"),
        (_truncated, "is truncated or not a safetensors file"),
        (_not_a_number, r"'tail\.weight' .* is not a finite number"),
        (_anonymous, "not known here"),
        (_later_format, "does not say which model"),
        (_pickled, "is truncated or not a safetensors file"),
        (lambda path: None, "cannot be read: No such file"),
    ],
)
def test_bad_files_end_in_one_sentence(
    shelf: Path, write: Callable[[Path], None], sentence: str
) -> None:
    path = shelf / "bad.safetensors"
    write(path)
    with pytest.raises(CheckpointError, match=sentence) as caught:
        load_upscaler(path)
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)


def test_failed_load_changes_nothing(shelf: Path) -> None:
    path = shelf / "bad.safetensors"
    _wide(path)
    net = Tiny(2)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(CheckpointError):
        load_weights(net, read_checkpoint(path))
    assert all(torch.equal(net.state_dict()[name], before[name]) for name in before)


def test_digest_card_and_weights_must_agree(shelf: Path) -> None:
    with pytest.raises(CheckpointError, match="tiny-x2 are not installed"):
        load_upscaler("tiny-x2")
    assert card_of(SPEC) is None
    _ship(shelf)
    weights, card = shelf / "tiny-x2.safetensors", shelf / "tiny-x2.toml"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="have the SHA-256"):
        load_upscaler("tiny-x2")
    with pytest.raises(CheckpointError, match="have the SHA-256"):
        load_upscaler(weights)
    weights.write_bytes(good)
    card.unlink()
    with pytest.raises(CheckpointError, match=r"card .*tiny-x2\.toml cannot be read"):
        load_upscaler("tiny-x2")
    digest = save_checkpoint(weights, Tiny(2), spec_id="other-x2", params={"scale": 2})
    write_card(card, _card(digest))
    with pytest.raises(CheckpointError, match="are of other-x2, not of tiny-x2"):
        load_upscaler("tiny-x2")


def test_weights_too_large_for_float16_are_not_written(tmp_path: Path) -> None:
    net = Tiny(2)
    nn.init.constant_(net.tail.weight, 1e6)
    with pytest.raises(CheckpointError, match=r"'tail\.weight' is not finite in float16"):
        save_checkpoint(tmp_path / "x.safetensors", net, spec_id="tiny-x2", params={"scale": 2})
    assert not list(tmp_path.iterdir())


def test_card_round_trip_and_validation(tmp_path: Path) -> None:
    path = tmp_path / "tiny-x2.toml"
    card = _card("0" * 64)
    write_card(path, card)
    assert read_card(path) == card
    text = path.read_text(encoding="utf-8")
    for old, new, sentence in (
        ('id = "tiny-x2"', "", "wrong at 'id'"),
        ('id = "tiny-x2"', 'id = "tiny-x2"\ncolour = 1', "wrong at 'colour'"),
        ("0" * 64, "xyz", "wrong at 'sha256'"),
        ("psnr_db = 1.0", "psnr_db = 'high'", r"wrong at 'scores\.a\.b\.psnr_db'"),
        ('id = "tiny-x2"', "id =", "is not valid TOML"),
    ):
        path.write_text(text.replace(old, new), encoding="utf-8")
        with pytest.raises(CheckpointError, match=sentence):
            read_card(path)


def test_cost_of_a_known_network() -> None:
    net = Tiny(2)
    assert count_params(net) == 3 * 12 * 9 + 12
    # 27 multiply-adds for each of 12 channels of 320x180 pixels.
    assert count_gmac(net, SPEC) == pytest.approx(27 * 12 * 320 * 180 / 1e9)
    ahead = replace(SPEC, chunk=4, context=2)
    assert count_gmac(net, ahead) == pytest.approx(27 * 12 * 320 * 180 / 1e9)


def test_every_shipped_file_has_a_true_card() -> None:
    for spec in catalog.list_models():
        if spec.weights is None or not catalog.is_shipped(spec):
            continue
        card = card_of(spec)
        assert card is not None
        module: Any = load_upscaler(spec.id)
        assert card.num_params == count_params(module)
