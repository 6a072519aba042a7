"""Planes of code values <-> RGB tensors, and the rules for what a file does not say.

Pure functions of tensors: any device, no state, no random numbers, no wait for the device. RGB here
is R'G'B' as coded: the transfer curve and the primaries are neither undone nor changed. Nothing is
clamped between planes and RGB, so that codes outside the nominal range (super-whites, footroom)
survive the way through a model; only the codes written at the end are clamped to the sample's bits.

Conversion follows ITU-R BT.601, BT.709, BT.2020 and ISO/IEC 23091-2 (H.273) equations 20 to 40:
luma weights Kr, Kg, Kb; Cb = (B - Y) / (2 (1 - Kb)); Cr = (R - Y) / (2 (1 - Kr)); and YCgCo, of
which Cg and Co are coded as Cb and Cr are. The way to the chroma grid and back is in `chroma`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from vsr.chroma import chroma_location, downsample_plane, upsample_plane
from vsr.errors import ShapeError, UnsupportedVideoError
from vsr.frame import ChromaLocation, ColorSpec, Matrix, PlaneLayout, Primaries, Transfer

_LUMA_WEIGHTS = {
    Matrix.BT709: (0.2126, 0.0722),
    Matrix.FCC: (0.30, 0.11),
    Matrix.BT470BG: (0.299, 0.114),
    Matrix.SMPTE170M: (0.299, 0.114),
    Matrix.SMPTE240M: (0.212, 0.087),
    Matrix.BT2020_NCL: (0.2627, 0.0593),
}
"""(Kr, Kb) of each matrix; Kg is the rest to 1."""

_BY_MATRIX = {
    Matrix.RGB: (Primaries.BT709, Transfer.SRGB),
    Matrix.BT709: (Primaries.BT709, Transfer.BT709),
    Matrix.FCC: (Primaries.BT470M, Transfer.GAMMA22),
    Matrix.BT470BG: (Primaries.BT470BG, Transfer.SMPTE170M),
    Matrix.SMPTE170M: (Primaries.SMPTE170M, Transfer.SMPTE170M),
    Matrix.SMPTE240M: (Primaries.SMPTE240M, Transfer.SMPTE240M),
    Matrix.BT2020_NCL: (Primaries.BT2020, Transfer.BT2020_10),
    Matrix.BT2020_CL: (Primaries.BT2020, Transfer.BT2020_10),
    Matrix.ICTCP: (Primaries.BT2020, Transfer.PQ),
}
"""What usually comes with a matrix."""

_HEIGHTS_625 = (288, 576, 608)
_HEIGHTS_525 = (240, 480, 486, 512)


def complete(
    color: ColorSpec, width: int, height: int, layout: PlaneLayout
) -> tuple[ColorSpec, tuple[str, ...]]:
    """Fill the gaps of a source's colour description, and say what was guessed.

    Meant for the source, with the source's size: the result of an upscale keeps the completed
    description, for its size no longer tells what the material was.

    Rules: RGB planes have matrix RGB. Otherwise BT.2020 primaries or transfer, PQ and HLG give
    BT.2020 non-constant luminance; 720 lines or 1280 columns and more give BT.709; less gives
    BT.601, as BT470BG for the heights of 625-line material and as SMPTE170M elsewhere. Primaries
    and transfer follow the matrix, except that a guessed BT.601 at a height of neither television
    system (web video) goes with BT.709 primaries and transfer. Chroma sits top left for BT.2020, at
    the centre for full range and for 4:1:0, left otherwise. Range is taken as given, for RGB too.

    Args:
        color: as tagged.
        width: of the source, pixels.
        height: of the source, pixels.
        layout: of the source's planes.

    Returns:
        The description without gaps (the chroma location stays UNSPECIFIED where chroma is not
        subsampled), and one sentence for each guess.
    """
    notes: list[str] = []
    if layout.is_rgb:
        color = _complete_rgb(color, notes)
    else:
        color = _complete_matrix(color, width, height, notes)
    color = _complete_curve(color, layout, notes)
    is_subsampled = not layout.is_rgb and not layout.is_gray
    is_subsampled &= bool(layout.log2_chroma_w or layout.log2_chroma_h)
    if is_subsampled and color.chroma_location is ChromaLocation.UNSPECIFIED:
        location = chroma_location(color, layout)
        color = replace(color, chroma_location=location)
        notes.append(f"Chroma location is not tagged: taken as {location.name}.")
    return color, tuple(notes)


def _complete_rgb(color: ColorSpec, notes: list[str]) -> ColorSpec:
    if color.matrix not in (Matrix.RGB, Matrix.UNSPECIFIED):
        notes.append(f"Matrix {color.matrix.name} is tagged but the planes are RGB: ignored.")
    return replace(color, matrix=Matrix.RGB)


def _complete_matrix(color: ColorSpec, width: int, height: int, notes: list[str]) -> ColorSpec:
    """Fill in the matrix, and what only the picture's height tells about the primaries."""
    if color.matrix is Matrix.RGB:
        notes.append("Matrix RGB is tagged but the planes are not RGB: treated as not tagged.")
    elif color.matrix is not Matrix.UNSPECIFIED:
        return color
    wide = color.primaries is Primaries.BT2020 or color.transfer in (
        Transfer.PQ,
        Transfer.HLG,
        Transfer.BT2020_10,
        Transfer.BT2020_12,
    )
    if wide:
        matrix, reason = Matrix.BT2020_NCL, "primaries or transfer are of BT.2020 or HDR"
    elif height >= 720 or width >= 1280:
        matrix, reason = Matrix.BT709, f"{width}x{height} is high definition"
    else:
        matrix = Matrix.BT470BG if height in _HEIGHTS_625 else Matrix.SMPTE170M
        reason = f"{width}x{height} is standard definition"
    notes.append(f"Matrix is not tagged: taken as {matrix.name}, because {reason}.")
    color = replace(color, matrix=matrix)
    if matrix is Matrix.SMPTE170M and height not in _HEIGHTS_525:
        if color.primaries is Primaries.UNSPECIFIED:
            color = replace(color, primaries=Primaries.BT709)
            notes.append("Primaries are not tagged: taken as BT709.")
        if color.transfer is Transfer.UNSPECIFIED:
            color = replace(color, transfer=Transfer.BT709)
            notes.append("Transfer is not tagged: taken as BT709.")
    return color


def _complete_curve(color: ColorSpec, layout: PlaneLayout, notes: list[str]) -> ColorSpec:
    primaries, transfer = _BY_MATRIX.get(color.matrix, (Primaries.BT709, Transfer.BT709))
    if color.transfer in (Transfer.PQ, Transfer.HLG):
        primaries = Primaries.BT2020
    if transfer is Transfer.BT2020_10 and layout.bits > 10:
        transfer = Transfer.BT2020_12
    if color.primaries is Primaries.UNSPECIFIED:
        color = replace(color, primaries=primaries)
        notes.append(f"Primaries are not tagged: taken as {primaries.name}.")
    if color.transfer is Transfer.UNSPECIFIED:
        color = replace(color, transfer=transfer)
        notes.append(f"Transfer is not tagged: taken as {transfer.name}.")
    return color


def check_convertible(color: ColorSpec, layout: PlaneLayout) -> None:
    """Refuse, before a run, colour that cannot be brought to RGB and back exactly.

    BT.2020 constant luminance and ICtCp mix linear light into luma and chroma, and SMPTE ST 2085
    and the chromaticity-derived matrices are hardly ever meant; the model sees R'G'B' as coded, and
    a way there and back through linear light would have to be its own.

    Args:
        color: `complete`d.
        layout: of the planes.

    Raises:
        UnsupportedVideoError: in one sentence.
    """
    _check_layout(layout)
    if not layout.is_rgb and not layout.is_gray and color.matrix is not Matrix.YCGCO:
        _luma_weights(color)


def planes_to_rgb(
    planes: Sequence[Tensor],
    layout: PlaneLayout,
    color: ColorSpec,
    *,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Convert planes to RGB; reckoned in float32 whatever goes in or comes out.

    Args:
        planes: in the layout's order, each (B, h, w), uint8 or uint16 codes or floats as the layout
            says, all on one device, any strides. An alpha plane may be there and is not read: it
            travels beside, since no model sees it.
        layout: integer samples of 8 to 16 bits, or float samples (RGB and grey only, 1.0 is white
            whatever the range says).
        color: `complete`d; matrix, range and chroma location are used.
        dtype: floating type of the result.

    Returns:
        (B, 3, H, W), R, G, B, nominally [0, 1] and not clamped, on the device of the planes.

    Raises:
        ShapeError: the planes are not those of the layout.
        UnsupportedVideoError: the matrix or the layout cannot be converted.
    """
    _check_layout(layout)
    num_color = 1 if layout.is_gray else 3
    height, width = _check_planes(planes, layout, num_color)
    batch, device = planes[0].shape[0], planes[0].device
    rgb = torch.empty((batch, 3, height, width), dtype=torch.float32, device=device)
    scale, offset, chroma_scale, chroma_offset = _code_range(layout, color)
    if layout.is_rgb or layout.is_gray:
        # Planes are ordered G, B, R.
        for channel, plane in zip((1, 2, 0), planes[:num_color], strict=False):
            rgb[:, channel].copy_(plane)
        if not layout.is_float:
            filled = rgb[:, 1] if layout.is_gray else rgb
            filled.sub_(offset).mul_(1 / scale)
        if layout.is_gray:
            rgb[:, 0::2] = rgb[:, 1:2]
        return rgb.to(dtype)

    cb, cr = (
        upsample_plane(plane.to(torch.float32).sub_(chroma_offset), layout, color, height, width)
        for plane in planes[1:3]
    )
    if color.matrix is Matrix.YCGCO:
        # H.273 equations 44 to 47: t = Y - Cg; G = Y + Cg; B = t - Co; R = t + Co.
        green, orange = cb.div_(chroma_scale), cr.div_(chroma_scale)
        luma = planes[0].to(torch.float32).sub_(offset).mul_(1 / scale)
        rest = luma - green
        for channel, plane in enumerate((rest + orange, luma + green, rest - orange)):
            rgb[:, channel].copy_(plane)
        return rgb.to(dtype)
    kr, kb = _luma_weights(color)
    red, blue = 2 * (1 - kr) / chroma_scale, 2 * (1 - kb) / chroma_scale
    kg = 1 - kr - kb
    luma = rgb[:, 1]
    luma.copy_(planes[0])
    luma.sub_(offset).mul_(1 / scale)
    torch.add(luma, cr, alpha=red, out=rgb[:, 0])
    torch.add(luma, cb, alpha=blue, out=rgb[:, 2])
    luma.sub_(cr, alpha=red * kr / kg).sub_(cb, alpha=blue * kb / kg)
    return rgb.to(dtype)


def rgb_to_planes(
    rgb_BCHW: Tensor, layout: PlaneLayout, color: ColorSpec, *, dither: int | None = None
) -> tuple[Tensor, ...]:
    """Convert RGB to planes of codes: rounded to nearest, clamped to what the bits can hold.

    Args:
        rgb_BCHW: (B, 3, H, W) R, G, B, nominally [0, 1] but free to leave it, any floating type;
            reckoned in float32. Must be finite: what a NaN becomes is not defined.
        layout: of the planes wanted; an alpha plane is not made.
        color: `complete`d, with the matrix, range and chroma location wanted. Grey takes its luma
            weights from the matrix, or from BT.709 where that has none.
        dither: None rounds to nearest; the index of the first frame adds a fixed, evenly spread
            pattern of one code's height before rounding down, another one for each frame (sample b
            takes dither + b) and plane. Use it where bits are lost. Float planes ignore it.

    Returns:
        Y, U, V or G, B, R or Y, each (B, h, w), contiguous: torch.uint8 up to 8 bits, torch.uint16
        above, or the layout's float, neither rounded nor clamped.

    Raises:
        ShapeError: the tensor is not (B, 3, H, W) of a floating type.
        UnsupportedVideoError: the matrix or the layout cannot be converted.
    """
    _check_layout(layout)
    if rgb_BCHW.dim() != 4 or rgb_BCHW.shape[1] != 3 or not rgb_BCHW.is_floating_point():
        raise ShapeError(
            f"RGB must be a floating tensor (B, 3, H, W), not {rgb_BCHW.dtype} "
            f"{tuple(rgb_BCHW.shape)}."
        )
    rgb = rgb_BCHW.to(torch.float32)
    red, green, blue = rgb.unbind(1)
    scale, offset, chroma_scale, chroma_offset = _code_range(layout, color)
    if layout.is_rgb:
        return tuple(
            _to_codes(plane, scale, offset, layout, dither, index)
            for index, plane in enumerate((green, blue, red))
        )
    if color.matrix is Matrix.YCGCO and not layout.is_gray:
        # H.273 equations 41 to 43.
        halves = torch.add(red, blue).div_(2)
        planes = (
            torch.add(green, halves).div_(2),
            downsample_plane(torch.sub(green, halves).div_(2), layout, color),
            downsample_plane(torch.sub(red, blue).div_(2), layout, color),
        )
        scales = ((scale, offset), (chroma_scale, chroma_offset), (chroma_scale, chroma_offset))
        return tuple(
            _to_codes(plane, *each, layout, dither, index)
            for index, (plane, each) in enumerate(zip(planes, scales, strict=True))
        )
    if layout.is_gray and color.matrix not in _LUMA_WEIGHTS:
        kr, kb = _LUMA_WEIGHTS[Matrix.BT709]
    else:
        kr, kb = _luma_weights(color)
    luma = torch.mul(red, kr).add_(green, alpha=1 - kr - kb).add_(blue, alpha=kb)
    codes = [_to_codes(luma, scale, offset, layout, dither, 0)]
    if not layout.is_gray:
        # Subtract first, reduce then: both are linear, and this way two planes are reduced, not 3.
        for index, plane, weight in ((1, blue, kb), (2, red, kr)):
            chroma = downsample_plane(plane - luma, layout, color)
            gain = chroma_scale / (2 * (1 - weight))
            codes.append(_to_codes(chroma, gain, chroma_offset, layout, dither, index))
    return tuple(codes)


def _to_codes(
    plane: Tensor, scale: float, offset: float, layout: PlaneLayout, dither: int | None, index: int
) -> Tensor:
    if layout.is_float:
        dtype = torch.float16 if layout.bits == 16 else torch.float32
        return plane.to(dtype, memory_format=torch.contiguous_format, copy=True)
    codes = plane * scale
    if dither is None:
        codes.add_(offset + 0.5)
    else:
        codes.add_(_dither_pattern(codes, dither, index)).add_(offset)
    # The conversion cuts the fraction off: with the half above, this rounds to nearest.
    codes.clamp_(0, (1 << layout.bits) - 0.5)
    return codes.to(torch.uint8 if layout.bits <= 8 else torch.uint16).contiguous()


def _dither_pattern(like: Tensor, first_frame: int, index: int) -> Tensor:
    """Thresholds in (0, 1), (B, h, w), spread evenly in space and time.

    Roberts' R2 sequence on the pixel grid in 16-bit integers, hence equal on every device: steps
    of 1/p and 1/p^2, p the plastic number, and of the golden ratio from frame to frame.
    """
    batch, height, width = like.shape
    rows = torch.arange(height, device=like.device, dtype=torch.int32).mul_(37345)
    columns = torch.arange(width, device=like.device, dtype=torch.int32).mul_(49471)
    frames = torch.arange(batch, device=like.device, dtype=torch.int32).mul_(40503)
    frames.add_((first_frame * 40503 + index * 21845) & 0xFFFF)
    steps = frames.view(-1, 1, 1) + rows.view(1, -1, 1) + columns.view(1, 1, -1)
    # 256 levels, away from 0 and 1, so that a value that is a code already stays that code.
    return steps.bitwise_and_(0xFFFF).bitwise_right_shift_(8).to(torch.float32).add_(0.5).div_(256)


def _code_range(layout: PlaneLayout, color: ColorSpec) -> tuple[float, float, float, float]:
    """(luma scale, luma offset, chroma scale, chroma offset): code = value * scale + offset.

    Without meaning for float samples, which are values already.
    """
    step = 2.0 ** (layout.bits - 8)
    if color.full_range:
        top = 2.0**layout.bits - 1
        return top, 0.0, top, 128 * step
    return 219 * step, 16 * step, 224 * step, 128 * step


def _luma_weights(color: ColorSpec) -> tuple[float, float]:
    weights = _LUMA_WEIGHTS.get(color.matrix)
    if weights is None:
        raise UnsupportedVideoError(
            f"Colour matrix {color.matrix.name} cannot be converted to RGB.",
            hint="convert the video to BT.709 or BT.2020 non-constant luminance first",
        )
    return weights


def _check_layout(layout: PlaneLayout) -> None:
    if layout.is_float:
        if layout.bits not in (16, 32) or not (layout.is_rgb or layout.is_gray):
            raise UnsupportedVideoError(
                "Float samples are supported as RGB or grey of 16 or 32 bits only."
            )
    elif not 8 <= layout.bits <= 16:
        raise UnsupportedVideoError(f"Samples must have 8 to 16 bits, not {layout.bits}.")
    if max(layout.log2_chroma_w, layout.log2_chroma_h) > 2:
        raise UnsupportedVideoError("Chroma subsampled by more than 4 cannot be converted.")


def _check_planes(planes: Sequence[Tensor], layout: PlaneLayout, num: int) -> tuple[int, int]:
    if len(planes) < num or any(plane.dim() != 3 for plane in planes[:num]):
        raise ShapeError(f"Expected {num} planes (B, h, w), got {len(planes)} of another shape.")
    batch, height, width = planes[0].shape
    if layout.is_float:
        dtypes = [torch.float16, torch.float32]
    else:
        dtypes = [torch.uint8 if layout.bits <= 8 else torch.uint16]
    for index, plane in enumerate(planes[:num]):
        expected = (batch, *layout.plane_size(index, width, height))
        if tuple(plane.shape) != expected:
            raise ShapeError(f"Plane {index} is {tuple(plane.shape)}, expected {expected}.")
        if plane.dtype not in dtypes:
            raise ShapeError(f"Plane {index} is {plane.dtype}, the layout says {layout.dtype}.")
    return height, width
