"""Between a model trained to be right and its child that invents detail.

Network interpolation of ESRGAN (Wang et al., 2018, arXiv 1809.00219, section 3.4): every weight is
(1 - a) of the parent's plus a of the child's. Both have one shape, and the child's training began
with the parent's weights, so that the networks between them are networks too.
"""

from __future__ import annotations

from typing import cast

import torch

from vsr.errors import CheckpointError
from vsr.models.checkpoint import load_upscaler
from vsr.models.upscaler import Upscaler


def load_blend(
    parent: str,
    child: str,
    detail: float,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Upscaler:
    """Load two models of the catalogue and mix their weights, in float32.

    Args:
        parent: id of the model trained to be right.
        child: id of the one that invents detail.
        detail: a in [0, 1]; 0 gives the parent's weights, 1 the child's, both exactly.
        device: where it shall run.
        dtype: of its weights.

    Raises:
        ModelError: as `load_upscaler`.
        CheckpointError: the two are not of one shape.
    """
    assert 0 <= detail <= 1, detail
    ends = [cast(torch.nn.Module, load_upscaler(name)) for name in (parent, child)]
    start, end = (module.state_dict() for module in ends)
    shapes = [{name: tensor.shape for name, tensor in state.items()} for state in (start, end)]
    if shapes[0] != shapes[1]:
        raise CheckpointError(f"{child} and {parent} are not of one shape and cannot be mixed")
    for name, tensor in end.items():
        if tensor.is_floating_point():
            tensor.copy_(start[name] * (1 - detail) + tensor * detail)
    mixed = ends[1].to(device=device, dtype=dtype)
    return cast(Upscaler, mixed.eval())
