"""The BasicVSR family's blocks once more, in plain numpy loops, from the papers and their files.

Slow, straightforward, and with nothing in common with the networks they are compared with. Pictures
are (C, H, W) float64; `weights` are the tensors of one file under BasicSR's names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = Mapping[str, Array]

MEAN = np.array((0.485, 0.456, 0.406))[:, None, None]
STD = np.array((0.229, 0.224, 0.225))[:, None, None]


def conv(x: Array, weights: Weights, name: str) -> Array:
    """A convolution with zeros around, of any odd size."""
    kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    radius = kernel.shape[-1] // 2
    _, height, width = x.shape
    padded = np.pad(x, ((0, 0), (radius, radius), (radius, radius)))
    result = np.broadcast_to(bias[:, None, None], (len(bias), height, width)).copy()
    for row in range(kernel.shape[2]):
        for column in range(kernel.shape[3]):
            window = padded[:, row : row + height, column : column + width]
            result += np.tensordot(kernel[:, :, row, column], window, axes=1)
    return result


def leaky(x: Array) -> Array:
    return np.maximum(x, 0.1 * x)


def trunk(x: Array, weights: Weights, name: str) -> Array:
    """Convolution, leaky ReLU, and as many residual blocks as the weights have."""
    x = leaky(conv(x, weights, f"{name}.main.0"))
    block = 0
    while f"{name}.main.2.{block}.conv1.weight" in weights:
        inner = np.maximum(conv(x, weights, f"{name}.main.2.{block}.conv1"), 0)
        x = x + conv(inner, weights, f"{name}.main.2.{block}.conv2")
        block += 1
    return x


def sample(x: Array, row: float, column: float, outside: str) -> Array:
    """(C,) at a place between the samples; beyond them, zeros or the border."""
    _, height, width = x.shape
    if outside == "border":
        row, column = min(max(row, 0.0), height - 1.0), min(max(column, 0.0), width - 1.0)
    top, left = int(np.floor(row)), int(np.floor(column))
    result = np.zeros(len(x))
    for y in (top, top + 1):
        for at in (left, left + 1):
            if 0 <= y < height and 0 <= at < width:
                result += (1 - abs(row - y)) * (1 - abs(column - at)) * x[:, y, at]
    return result


def warp(x: Array, flow: Array, outside: str = "zeros") -> Array:
    """out(p) = x(p + flow(p)), flow = (dx, dy)."""
    result = np.empty_like(x)
    for y in range(x.shape[1]):
        for column in range(x.shape[2]):
            dx, dy = flow[:, y, column]
            result[:, y, column] = sample(x, y + dy, column + dx, outside)
    return result


def resize(x: Array, height: int, width: int, *, corners: bool = False) -> Array:
    """Bilinear; the outermost samples, or their outer edges, stay where they are."""
    for axis, size in ((1, height), (2, width)):
        old = x.shape[axis]
        if corners:
            places = np.arange(size) * ((old - 1) / (size - 1) if size > 1 else 0.0)
        else:
            places = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, None)
        low = np.minimum(np.floor(places).astype(int), old - 1)
        high = np.minimum(low + 1, old - 1)
        share = (places - low).reshape((-1, 1) if axis == 1 else (-1,))
        x = np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share
    return x


def spynet(ref: Array, other: Array, weights: Weights) -> Array:
    """Flow from `ref` to `other` by six levels, at sizes that are multiples of 32."""
    _, height, width = ref.shape
    tall, wide = -(-height // 32) * 32, -(-width // 32) * 32
    pyramid = [tuple((resize(x, tall, wide) - MEAN) / STD for x in (ref, other))]
    for _ in range(5):
        pyramid.append(
            tuple(
                0.25 * (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2])
                for x in pyramid[-1]
            )
        )
    flow = np.zeros((2, tall // 32, wide // 32))
    for level, (ref_l, other_l) in enumerate(reversed(pyramid)):
        if level > 0:
            flow = 2 * resize(flow, *ref_l.shape[1:], corners=True)
        x = np.concatenate((ref_l, warp(other_l, flow, "border"), flow))
        for layer in (0, 2, 4, 6, 8):
            x = conv(x, weights, f"spynet.basic_module.{level}.basic_module.{layer}")
            x = np.maximum(x, 0) if layer < 8 else x
        flow = flow + x
    flow = resize(flow, height, width)
    return np.stack((flow[0] * width / wide, flow[1] * height / tall))


def shuffle(x: Array) -> Array:
    """Four channels become 2x2 samples."""
    channels, height, width = x.shape
    result = np.empty((channels // 4, 2 * height, 2 * width))
    for row in (0, 1):
        for column in (0, 1):
            result[:, row::2, column::2] = x[2 * row + column :: 4]
    return result


def tail(frame: Array, feature: Array, weights: Weights) -> Array:
    """Features to the picture on top of the bilinearly enlarged frame."""
    x = leaky(shuffle(conv(feature, weights, "upconv1")))
    x = leaky(shuffle(conv(x, weights, "upconv2")))
    x = conv(leaky(conv(x, weights, "conv_hr")), weights, "conv_last")
    return x + resize(frame, 4 * frame.shape[1], 4 * frame.shape[2])


def basicvsr(frames: Sequence[Array], weights: Weights) -> list[Array]:
    """A whole film."""
    num_channels = len(weights["fusion.bias"])
    zeros = np.zeros((num_channels, *frames[0].shape[1:]))
    backward: dict[int, Array] = {}
    state = zeros
    for t in reversed(range(len(frames))):
        if t < len(frames) - 1:
            state = warp(state, spynet(frames[t], frames[t + 1], weights))
        state = trunk(np.concatenate((frames[t], state)), weights, "backward_trunk")
        backward[t] = state
    results = []
    state = zeros
    for t, frame in enumerate(frames):
        if t > 0:
            state = warp(state, spynet(frame, frames[t - 1], weights))
        state = trunk(np.concatenate((frame, state)), weights, "forward_trunk")
        fused = leaky(conv(np.concatenate((backward[t], state)), weights, "fusion"))
        results.append(tail(frame, fused, weights))
    return results


def realbasicvsr(frames: Sequence[Array], weights: Weights, threshold: float) -> list[Array]:
    """Clean up to three times, then BasicVSR."""
    frames = list(frames)
    for _ in range(3):
        found = [
            conv(trunk(frame, weights, "image_cleaning.0"), weights, "image_cleaning.1")
            for frame in frames
        ]
        frames = [frame + residual for frame, residual in zip(frames, found, strict=True)]
        if np.mean(np.abs(np.stack(found))) < threshold:
            break
    inner = {
        name.removeprefix("basicvsr."): value
        for name, value in weights.items()
        if name.startswith("basicvsr.")
    }
    return basicvsr(frames, inner)


def deform_conv(x: Array, offset: Array, mask: Array, kernel: Array, bias: Array) -> Array:
    """Modulated deformable 3x3 convolution, sample by sample."""
    channels, height, width = x.shape
    num_groups = len(mask) // 9
    size = channels // num_groups
    result = np.broadcast_to(bias[:, None, None], (len(bias), height, width)).copy()
    for group in range(num_groups):
        part = x[group * size : (group + 1) * size]
        for tap in range(9):
            taps = kernel[:, group * size : (group + 1) * size, tap // 3, tap % 3]
            at = group * 9 + tap
            for y in range(height):
                for column in range(width):
                    row = y + tap // 3 - 1 + offset[2 * at, y, column]
                    place = column + tap % 3 - 1 + offset[2 * at + 1, y, column]
                    found = sample(part, row, place, "zeros") * mask[at, y, column]
                    result[:, y, column] += taps @ found
    return result


def alignment(
    features: Sequence[Array],
    conditions: Sequence[Array],
    flows: Sequence[Array],
    weights: Weights,
    name: str,
) -> Array:
    """Second-order flow-guided alignment.

    Args:
        features: of the last frame and of the one before it, as they are.
        conditions: the first warped, the current frame's, the second warped.
        flows: from the current frame to each of the two.
        weights: of the file.
        name: of the alignment in it.
    """
    x = np.concatenate((*conditions, *flows))
    for layer in (0, 2, 4):
        x = leaky(conv(x, weights, f"{name}.conv_offset.{layer}"))
    x = conv(x, weights, f"{name}.conv_offset.6")
    num_pairs = len(x) // 3
    offset = 10 * np.tanh(x[: 2 * num_pairs])
    for index in range(num_pairs):
        # The first half of the groups holds the last frame's features.
        dx, dy = flows[0] if index < num_pairs // 2 else flows[1]
        offset[2 * index] += dy
        offset[2 * index + 1] += dx
    mask = 1 / (1 + np.exp(-x[2 * num_pairs :]))
    kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return deform_conv(np.concatenate(features), offset, mask, kernel, bias)


def basicvsrpp(frames: Sequence[Array], weights: Weights) -> list[Array]:
    """A whole film, four times through it."""
    length = len(frames)
    made: list[list[Array]] = [[trunk(frame, weights, "feat_extract")] for frame in frames]
    zeros = np.zeros_like(made[0][0])
    flows = {
        (a, b): spynet(frames[a], frames[b], weights)
        for a in range(length)
        for b in (a - 1, a + 1)
        if 0 <= b < length
    }
    for name in ("backward_1", "forward_1", "backward_2", "forward_2"):
        order = list(range(length))[:: -1 if name.startswith("backward") else 1]
        found: dict[int, Array] = {}
        for step, t in enumerate(order):
            state = zeros
            if step > 0:
                last = order[step - 1]
                flow_1 = flows[t, last]
                second, flow_2, second_warped = zeros, np.zeros_like(flow_1), zeros
                if step > 1:
                    second = found[order[step - 2]]
                    flow_2 = flow_1 + warp(flows[last, order[step - 2]], flow_1)
                    second_warped = warp(second, flow_2)
                state = alignment(
                    (found[last], second),
                    (warp(found[last], flow_1), made[t][0], second_warped),
                    (flow_1, flow_2),
                    weights,
                    f"deform_align.{name}",
                )
            given = np.concatenate((*made[t], state))
            found[t] = state + trunk(given, weights, f"backbone.{name}")
        for t in range(length):
            made[t].append(found[t])
    return [
        tail(frame, trunk(np.concatenate(parts), weights, "reconstruction"), weights)
        for frame, parts in zip(frames, made, strict=True)
    ]
