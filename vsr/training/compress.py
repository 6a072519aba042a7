"""Make a trained network smaller: fewer channels, trained on; fewer bits; and what that costs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vsr.errors import ConfigError, OutputError
from vsr.models.card import Card, card_path, read_card, write_card
from vsr.models.checkpoint import card_of, card_of_file, file_of, load_upscaler, resolve_spec
from vsr.models.checkpoint import save_checkpoint as save
from vsr.models.cost import count_gmac, count_params
from vsr.models.quantised import is_supported, to_int8
from vsr.models.upscaler import ModelSpec, Upscaler
from vsr.training.clips import Clip, find_clips
from vsr.training.config import TrainConfig
from vsr.training.data import FrameStore
from vsr.training.eval_pairs import degraded_pairs
from vsr.training.evaluate import Stopwatch, score_clip
from vsr.training.export import LICENCE_UNSTATED, export
from vsr.training.loop import Progress, Trainer, run
from vsr.training.scores import Protocol
from vsr.training.slimming import FAMILIES, slim

CPU = torch.device("cpu")
_STEP = 8
"""Channels come in multiples of it: other numbers compute no faster."""
_NUM_CALIBRATED = 4
_LR = 2e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One form of the network, as it was scored."""

    name: str
    psnr_db: float
    """Mean over the test set, on luma."""
    ssim: float
    ms_per_frame: float
    """On one CPU, in the mean over the test set's pictures."""
    size_bytes: int | None
    """Of its file; None where none is written."""
    gmac_180p: float
    params: int

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compressed:
    """What was made, and what it costs beside what it was made of."""

    model: str
    weights: Path
    card: Path
    variants: tuple[Variant, ...]
    """The first is the network that was given."""

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "model": self.model,
            "weights": str(self.weights),
            "card": str(self.card),
            "variants": [variant.describe() for variant in self.variants],
        }


def compress(
    model: str,
    gt: Path,
    folder: Path,
    *,
    store: FrameStore | None = None,
    less_macs: float = 0.4,
    minutes: float = 20.0,
    int8: bool = False,
    steps: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Compressed:
    """Slim a network, train it on, score it in several number formats, and write it with a card.

    Args:
        model: id of the catalogue, or a weight file.
        gt: stills or clips to score on.
        folder: where the result is written, and checkpoints of the training.
        store: what to train on; None only where nothing is left out.
        less_macs: share of the multiply-adds to be saved, at least; 0 leaves out nothing.
        minutes: of training.
        int8: write the weights with eight bits.
        steps: of training, in place of minutes.
        progress: called after every step.
        tell: called with what begins.

    Raises:
        ConfigError: the network cannot be slimmed, or not so far; or there is nothing to train on.
        ModelError: it cannot be loaded.
        OpenError: there is nothing to score on.
        OutputError: the result cannot be written.
    """
    spec = resolve_spec(model)
    network = cast(nn.Module, load_upscaler(model))
    bench = _Bench(spec, find_clips(gt))
    tell(f"scoring {spec.id}")
    variants = list(bench.formats(spec.id, network, _size(model)))
    name = f"{spec.id}-slim" if less_macs else f"{spec.id}-int8"
    path = folder / f"{name}.safetensors"
    params = dict(spec.params)
    card = card_of(spec) if file_of(model) is None else card_of_file(Path(model))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if less_macs:
            if store is None:
                raise ConfigError("what is slimmed has to be trained on", hint="use --data")
            params, slimmed = _slimmed(spec, network, less_macs)
            variants.append(bench.row(f"{name}, not yet trained", slimmed, None))
            tell(f"training {name} of {params['num_channels']} channels")
            network, card = _trained(
                name, spec, params, slimmed, store, folder, minutes, steps, progress
            )
        else:
            int8 = True
        if int8:
            tell(f"writing {path} with eight bits")
            card_path(path).unlink(missing_ok=True)  # of the weights as they were
            sha256 = save(path, network, spec_id=spec.id, params=params, int8=True)
            network = cast(nn.Module, load_upscaler(path))
        else:
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        tell(f"scoring {name}")
        variants += bench.formats(name, network, path.stat().st_size)
        write_card(card_path(path), _card(name if less_macs else spec.id, sha256, card, variants))
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error
    return Compressed(model=spec.id, weights=path, card=card_path(path), variants=tuple(variants))


class _Bench:
    """Scores networks of one scale on one set, on the CPU."""

    def __init__(self, spec: ModelSpec, clips: Sequence[Clip]) -> None:
        self._spec, self._clips = spec, clips
        is_video = clips[0].is_video
        self._protocol = Protocol(
            kind="video" if is_video else "image",
            scale=spec.scale,
            degradation="bi",
            channel="y",
            crop_px=0 if is_video else spec.scale,
            every=1,
            neighbours="real",
            dtype="float32",
        )

    def formats(self, name: str, network: nn.Module, size_bytes: int | None) -> list[Variant]:
        """A network in every number format that this machine has."""
        rows = [
            self.row(f"{name}, float32", network, size_bytes),
            self.row(f"{name}, bfloat16", deepcopy(network).to(torch.bfloat16), size_bytes),
        ]
        if is_supported() and self._spec.kind == "image":
            eight = to_int8(network.float(), self._call, self._pictures())
            rows.append(self.row(f"{name}, int8", eight, None, like=rows[0]))
        return rows

    def row(
        self,
        name: str,
        network: nn.Module,
        size_bytes: int | None,
        *,
        like: Variant | None = None,
    ) -> Variant:
        """Score one; its cost is that of `like`, if there is one."""
        model, stopwatch = cast(Upscaler, network.eval()), Stopwatch(CPU)
        scores = [
            score_clip(model, self._spec, clip, None, self._protocol, stopwatch)
            for clip in self._clips
        ]
        return Variant(
            name=name,
            psnr_db=sum(score.psnr for score in scores) / len(scores),
            ssim=sum(score.ssim for score in scores) / len(scores),
            ms_per_frame=stopwatch.ms_per_frame,
            size_bytes=size_bytes,
            gmac_180p=_gmac(network, self._spec) if like is None else like.gmac_180p,
            params=count_params(network) if like is None else like.params,
        )

    def _pictures(self) -> list[Tensor]:
        """Small pictures on which ranges are measured: of the set, and no more than a few."""
        scale = self._spec.scale
        return [
            small
            for clip in self._clips[:_NUM_CALIBRATED]
            for _, small in islice(degraded_pairs(clip, scale, scale, "bi"), 1)
        ]

    def _call(self, network: nn.Module, small_3HW: Tensor) -> object:
        model = cast(Upscaler, network)
        return model.upscale(small_3HW[None, None], model.init_state(1, *small_3HW.shape[-2:]))


def _gmac(network: nn.Module, spec: ModelSpec) -> float:
    return count_gmac(cast(Upscaler, deepcopy(network).float().to("meta")), spec)


def _slimmed(
    spec: ModelSpec, network: nn.Module, less_macs: float
) -> tuple[dict[str, Any], nn.Module]:
    """The widest network that saves enough, with the weights that it keeps.

    Raises:
        ConfigError: no width does, or the family is not known for it.
    """
    if spec.family not in FAMILIES:
        slim(spec.family, {}, 2, 1)  # says so
    tensors = network.state_dict()
    first = next(tensor for tensor in tensors.values() if tensor.ndim == 4)
    num_channels, whole = len(first), _gmac(network, spec)
    for kept in range((num_channels - 1) // _STEP * _STEP, 0, -_STEP):
        params = {**spec.params, "num_channels": kept}
        made = spec.build(**params)
        if _gmac(made, spec) <= (1 - less_macs) * whole:
            made.load_state_dict(slim(spec.family, tensors, num_channels, kept))
            return params, made.eval()
    raise ConfigError(
        f"no width of {spec.id} saves {less_macs:.0%} of its multiply-adds",
        hint="ask for less",
    )


def _trained(
    name: str,
    spec: ModelSpec,
    params: dict[str, Any],
    slimmed: nn.Module,
    store: FrameStore,
    folder: Path,
    minutes: float,
    steps: int | None,
    progress: Callable[[Progress], None] | None,
) -> tuple[nn.Module, Card]:
    """Train on from what was kept; the mean weights, and the card of the run."""
    begun = folder / f"{name}.begun.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in slimmed.state_dict().items()}, begun)
    config = TrainConfig.model_validate(
        {
            "model": {
                "id": name,
                "family": spec.family,
                "params": {key: value for key, value in params.items() if key != "scale"},
            },
            "data": {
                "scale": spec.scale,
                "crop_px": 24,
                "num_frames": (1,),
                "batch": 8,
                "photo_share": 0.7,
            },
            "loss": {"pixel": "l1"},
            "optimizer": {"lr": _LR},
            "schedule": {"minutes": minutes, "steps": steps},
            "init": {"weights": str(begun)},
        }
    )
    trainer = Trainer(config, store, folder, CPU)
    made = export(run(trainer, progress=progress), trainer, store)
    begun.unlink()
    # As it is read again: stored weights have fewer digits.
    return cast(nn.Module, load_upscaler(made.weights)), read_card(made.card)


def _size(model: str) -> int | None:
    from vsr.models.catalog import get_spec, weights_path

    path = file_of(model) or weights_path(get_spec(model))
    return None if path is None else path.stat().st_size


def _card(model_id: str, sha256: str, card: Card | None, variants: Sequence[Variant]) -> Card:
    """The card of the result: what it was made of, size, speed and scores before and after."""
    before, after = variants[0], variants[-1]
    for variant in variants:
        if variant.name.endswith("float32"):
            after = variant
    facts = {} if card is None else dict(card.trained_with)
    facts |= {"compressed_from": before.name.removesuffix(", float32")}
    for word, variant in (("before", before), ("after", after)):
        facts |= {
            f"psnr_db_{word}": round(variant.psnr_db, 3),
            f"ms_per_frame_{word}": round(variant.ms_per_frame, 1),
            f"size_bytes_{word}": variant.size_bytes or 0,
            f"gmac_180p_{word}": round(variant.gmac_180p, 3),
        }
    return Card(
        id=model_id,
        sha256=sha256,
        licence=LICENCE_UNSTATED if card is None else card.licence,
        degradation="bi" if card is None else card.degradation,
        num_params=after.params,
        gmac_180p=round(after.gmac_180p, 4),
        trained_with=facts,
        data=() if card is None else card.data,
    )
