"""Networks of other people that spandrel knows by the names and shapes of their weights.

spandrel (extra `zoo`) is asked only for what our own key maps do not know. It is given tensors that
were read here, never a file. Only networks that enlarge one picture are taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from vsr.errors import CheckpointError
from vsr.models.cost import count_gmac
from vsr.models.image.per_frame import PerFrame
from vsr.models.upscaler import ModelSpec, Upscaler

HALO_PX = 64
"""Around tiles. How far these networks see is not known, so that tiles are not exact."""


class Zoo(PerFrame):
    """One of spandrel's networks under our contract.

    Args:
        descriptor: spandrel's `ImageModelDescriptor`, which pads a picture to the sizes that the
            network takes, and cuts off again.
    """

    def __init__(self, descriptor: Any) -> None:
        super().__init__(descriptor.scale, "y" if descriptor.input_channels == 1 else "rgb")
        self.tileable = descriptor.tiling.name == "SUPPORTED"
        self.network: nn.Module = descriptor.model
        self._descriptor = descriptor

    @property
    def halo_px(self) -> int:
        """Not known; see `HALO_PX`."""
        return HALO_PX

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> (B, C, s*H, s*W)."""
        result: Tensor = self._descriptor(x_BCHW)
        # It is made in inference mode, where nothing may be done in place with it later.
        return result.clone()


def is_installed() -> bool:
    """Whether spandrel is there to be asked."""
    try:
        return find_spec("spandrel") is not None
    except ValueError:  # it was barred
        return False


def count_gmac_180p(module: nn.Module, spec: ModelSpec) -> float:
    """10^9 multiply-adds for a frame of 320x180, from a smaller one that all windows divide."""
    height, width = 96, 160
    return count_gmac(cast(Upscaler, module), spec, height=height, width=width) * (
        320 * 180 / (height * width)
    )


def recognise(path: Path, tensors: Mapping[str, Tensor]) -> ModelSpec | None:
    """The spec of a network that spandrel knows; None if it does not.

    Args:
        path: for messages.
        tensors: a state dict.

    Raises:
        CheckpointError: spandrel is not installed, or the network does something else.
    """
    try:
        spandrel = import_module("spandrel")
    except ImportError as error:
        raise CheckpointError(
            f"{path} holds the weights of a network that is not known here; its first is "
            f"'{next(iter(tensors))}'",
            hint="many more are known with spandrel: pip install 'vsr[zoo]'",
        ) from error
    found = _describe(spandrel, path, tensors)
    if found is None:
        return None
    name = found.architecture.id
    is_enlarger = getattr(found, "purpose", None) == "SR"
    channels = (found.input_channels, found.output_channels)
    if not is_enlarger or channels not in ((1, 1), (3, 3)):
        raise CheckpointError(
            f"{path} holds a network of {name}, which does not enlarge pictures of grey or RGB",
            hint="only super-resolution networks can be used",
        )

    def build() -> nn.Module:
        again = _describe(spandrel, path, tensors)
        assert again is not None
        return Zoo(again)

    module = Zoo(found)
    needs = found.size_requirements
    return ModelSpec(
        id=f"{name.lower()}-x{found.scale}",
        family=name,
        scale=found.scale,
        kind="image",
        build=build,
        paper=f"{found.architecture.name}, by spandrel",
        weights=name.lower(),
        tileable=module.tileable,
        halo_px=HALO_PX,
        capturable=False,
        bf16=found.supports_bfloat16,
        min_size=max(1, needs.minimum, needs.multiple_of),
    )


def _describe(spandrel: Any, path: Path, tensors: Mapping[str, Tensor]) -> Any:
    """spandrel's description of a network, with these weights; None when it knows none."""
    try:
        # A copy: it may rename entries of what it is given.
        return spandrel.ModelLoader().load_from_state_dict(dict(tensors))
    except spandrel.UnsupportedModelError:
        return None
    except (RuntimeError, KeyError, ValueError, IndexError, AssertionError) as error:
        raise CheckpointError(
            f"{path} could not be made a network by spandrel: {str(error).splitlines()[0]}"
        ) from error
