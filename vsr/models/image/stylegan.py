"""StyleGAN generators: the first one's layers, its public checkpoints, and a small one of our own.

Karras et al., 2019, "A Style-Based Generator Architecture for Generative Adversarial Networks",
arXiv 1812.04948, figure 1b, with the learning rate equalised as in Karras et al., 2018 (arXiv
1710.10196, section 4.1): weights are stored at unit variance and scaled when used.

`StyleGAN1` has the tensors of the PyTorch port that PULSE uses (two files, of the mapping and of
the synthesis). `SmallGenerator` follows the second version (Karras et al., 2020, arXiv 1912.04958,
figure 7b, section 2.2): styles scale what goes into a convolution, what comes out is scaled back to
unit variance, and pictures of all sizes are added up. What differs there: inputs and outputs are
scaled in place of weights, which is the same and needs no convolution of its own for each sample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.errors import CheckpointError
from vsr.models.pickled import parse_pickled, unwrap_tensors

SLOPE = 0.2
"""Of the leaky ReLU that ends the mapping, too: its inverse is one of slope 5."""
_GAIN = math.sqrt(2)


class EqualLinear(nn.Module):
    """A dense layer whose weights are scaled when used.

    Args:
        num_inputs: of a sample.
        num_outputs: likewise.
        gain: over Glorot's deviation.
        rate: over the learning rate of other layers, of weights and bias alike.
        bias: what it begins with.
    """

    def __init__(
        self,
        num_inputs: int,
        num_outputs: int,
        *,
        gain: float = _GAIN,
        rate: float = 1.0,
        bias: float = 0.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_outputs, num_inputs) / rate)
        self.bias = nn.Parameter(torch.full((num_outputs,), bias / rate))
        self._scale = gain / math.sqrt(num_inputs) * rate
        self._rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self._scale, self.bias * self._rate)


class EqualConv(nn.Module):
    """A convolution whose weights are scaled when used.

    Args:
        num_inputs: channels.
        num_outputs: likewise.
        size: of the kernel.
        gain: over Glorot's deviation.
    """

    def __init__(
        self, num_inputs: int, num_outputs: int, size: int = 3, *, gain: float = _GAIN
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_outputs, num_inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(num_outputs))
        self._scale = gain / math.sqrt(num_inputs * size * size)

    @property
    def scaled(self) -> Tensor:
        """The weights as they are used."""
        return self.weight * self._scale

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return F.conv2d(x_BCHW, self.scaled, self.bias, padding=self.weight.shape[-1] // 2)


def pixel_norm(x_BC: Tensor) -> Tensor:
    """Each vector at unit mean square."""
    return x_BC * torch.rsqrt(x_BC.square().mean(dim=1, keepdim=True) + 1e-8)


class _Mapping(nn.Module):
    """From normal noise to what styles are made of, by dense layers that learn slowly."""

    def __init__(self, latent_dim: int, num_layers: int) -> None:
        super().__init__()
        self.num_layers = num_layers
        for index in range(num_layers):
            self.add_module(f"dense{index}", EqualLinear(latent_dim, latent_dim, rate=0.01))

    def forward(self, z_BD: Tensor) -> Tensor:
        x = pixel_norm(z_BD)
        for index in range(self.num_layers):
            x = F.leaky_relu(self.get_submodule(f"dense{index}")(x), SLOPE)
        return x


# -- the first version, with the names of the public port -------------------------------------


class _Noise(nn.Module):
    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_channels))


class _Style(nn.Module):
    def __init__(self, latent_dim: int, num_channels: int) -> None:
        super().__init__()
        self.lin = EqualLinear(latent_dim, 2 * num_channels, gain=1.0)


class _Epilogue(nn.Module):
    """Noise, leaky ReLU, each channel normalised over the picture, style."""

    def __init__(self, latent_dim: int, num_channels: int) -> None:
        super().__init__()
        self.noise = _Noise(num_channels)
        self.style_mod = _Style(latent_dim, num_channels)

    def forward(self, x_BCHW: Tensor, w_BD: Tensor, noise_B1HW: Tensor) -> Tensor:
        x = x_BCHW + self.noise.weight[:, None, None] * noise_B1HW
        x = F.instance_norm(F.leaky_relu(x, SLOPE))
        gain, offset = self.style_mod.lin(w_BD)[:, :, None, None].chunk(2, dim=1)
        styled: Tensor = x * (gain + 1) + offset
        return styled


class _FirstBlock(nn.Module):
    def __init__(self, latent_dim: int, num_channels: int) -> None:
        super().__init__()
        self.const = nn.Parameter(torch.ones(1, num_channels, 4, 4))
        self.bias = nn.Parameter(torch.ones(num_channels))
        self.epi1 = _Epilogue(latent_dim, num_channels)
        self.conv = EqualConv(num_channels, num_channels)
        self.epi2 = _Epilogue(latent_dim, num_channels)

    def forward(self, w_BLD: Tensor, noise: Sequence[Tensor]) -> Tensor:
        x = (self.const + self.bias[:, None, None]).expand(len(w_BLD), -1, -1, -1)
        x = self.epi1(x, w_BLD[:, 0], noise[0])
        result: Tensor = self.epi2(self.conv(x), w_BLD[:, 1], noise[1])
        return result


class _Block(nn.Module):
    def __init__(self, latent_dim: int, num_inputs: int, num_channels: int) -> None:
        super().__init__()
        self.conv0_up = EqualConv(num_inputs, num_channels)
        self.epi1 = _Epilogue(latent_dim, num_channels)
        self.conv1 = EqualConv(num_channels, num_channels)
        self.epi2 = _Epilogue(latent_dim, num_channels)

    def forward(self, x: Tensor, w_BLD: Tensor, noise: Sequence[Tensor]) -> Tensor:
        x = self.epi1(self._doubled(x), w_BLD[:, 0], noise[0])
        result: Tensor = self.epi2(self.conv1(x), w_BLD[:, 1], noise[1])
        return result

    def _doubled(self, x_BCHW: Tensor) -> Tensor:
        """Twice the size, convolved, smoothed by 1-2-1; from 128 px on in one transposed step.

        The two ways see the kernel from opposite sides, and checkpoints were trained with both.
        """
        weight = self.conv0_up.scaled
        if 2 * x_BCHW.shape[-1] >= 128:
            spread = F.avg_pool2d(F.pad(weight.transpose(0, 1), (1, 1, 1, 1)), 2, 1) * 4
            x = F.conv_transpose2d(x_BCHW, spread, stride=2, padding=1)
        else:
            x = F.conv2d(F.interpolate(x_BCHW, scale_factor=2), weight, padding=1)
        taps = x.new_tensor([0.25, 0.5, 0.25])
        kernel = (taps[:, None] * taps).expand(x.shape[1], 1, 3, 3)
        return F.conv2d(x, kernel, padding=1, groups=x.shape[1]) + self.conv0_up.bias[:, None, None]


class _Synthesis(nn.Module):
    def __init__(self, resolution: int, latent_dim: int, base: int, most: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleDict()
        before = 0
        for level in range(2, int(math.log2(resolution)) + 1):
            width = min(base // 2 ** (level - 1), most)
            block = _Block(latent_dim, before, width) if before else _FirstBlock(latent_dim, width)
            self.blocks[f"{2**level}x{2**level}"] = block
            before = width
        self.torgb = EqualConv(before, 3, 1, gain=1.0)

    def forward(self, w_BLD: Tensor, noise: Sequence[Tensor]) -> Tensor:
        x: Tensor | None = None
        for index, block in enumerate(self.blocks.values()):
            span = slice(2 * index, 2 * index + 2)
            x = block(*(() if x is None else (x,)), w_BLD[:, span], noise[span])
        assert x is not None
        result: Tensor = self.torgb(x)
        return result


class StyleGAN1(nn.Module):
    """A generator of the first version; keeps the `Generator` protocol of `pulse`.

    Args:
        resolution: side of its pictures, a power of 2.
        latent_dim: D.
        mapping_layers: of the mapping.
        base: channels times side at the finest levels.
        most: channels at the coarse ones.
    """

    def __init__(
        self,
        resolution: int = 1024,
        *,
        latent_dim: int = 512,
        mapping_layers: int = 8,
        base: int = 8192,
        most: int = 512,
    ) -> None:
        super().__init__()
        self.resolution, self.latent_dim = resolution, latent_dim
        self.num_layers = 2 * int(math.log2(resolution)) - 2
        self.g_mapping = _Mapping(latent_dim, mapping_layers)
        self.g_synthesis = _Synthesis(resolution, latent_dim, base, most)

    @property
    def noise_px(self) -> tuple[int, ...]:
        """Side of each layer's noise."""
        return tuple(4 * 2 ** (layer // 2) for layer in range(self.num_layers))

    def mapping(self, z_BD: Tensor) -> Tensor:
        """(B, D) normal -> (B, D)."""
        result: Tensor = self.g_mapping(z_BD)
        return result

    def synthesis(self, w_BLD: Tensor, noise: Sequence[Tensor]) -> Tensor:
        """(B, L, D) and L maps (B or 1, 1, h, h) -> (B, 3, R, R) about [-1, 1]."""
        result: Tensor = self.g_synthesis(w_BLD, noise)
        return result


def load_stylegan1(mapping: Path, synthesis: Path) -> StyleGAN1:
    """A generator of the public port's two files.

    Raises:
        CheckpointError: one cannot be read, or is of another network.
    """
    parts = [_tensors(path) for path in (mapping, synthesis)]
    sizes = [int(name.split(".")[1].split("x")[0]) for name in parts[1] if "blocks." in name]
    dense = [name for name in parts[0] if name.endswith(".weight")]
    if not sizes or not dense or "torgb.weight" not in parts[1]:
        raise CheckpointError(
            f"{mapping} and {synthesis} are not the mapping and the synthesis of a StyleGAN",
            hint="name the file of the mapping first",
        )
    resolution = max(sizes)
    finest = parts[1]["torgb.weight"].shape[1]
    generator = StyleGAN1(
        resolution,
        latent_dim=parts[0][dense[0]].shape[1],
        mapping_layers=len(dense),
        base=finest * resolution // 2,
        most=max(tensor.shape[0] for n, tensor in parts[1].items() if n.endswith("conv.weight")),
    )
    for name, module, tensors in zip(
        ("mapping", "synthesis"), (generator.g_mapping, generator.g_synthesis), parts, strict=True
    ):
        try:
            module.load_state_dict(tensors)
        except RuntimeError as error:
            first = str(error).splitlines()[1].strip()
            raise CheckpointError(
                f"The {name} is not that of a StyleGAN as known: {first}"
            ) from error
    return generator.eval().requires_grad_(False)


def _tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, the blur's constant kernels left out."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"The weights {path} cannot be read: {error.strerror}") from error
    held: Mapping[str, Tensor] = unwrap_tensors(parse_pickled(path, data))
    return {name: t.float() for name, t in held.items() if "intermediate" not in name}


# -- a small one of our own --------------------------------------------------------------------


class _Modulated(nn.Module):
    """A convolution between a style and its undoing; noise and leaky ReLU where it is no last."""

    def __init__(
        self, latent_dim: int, num_inputs: int, num_outputs: int, *, size: int = 3, up: bool = False
    ) -> None:
        super().__init__()
        self.is_picture, self.up = size == 1, up
        self.style = EqualLinear(latent_dim, num_inputs, gain=1.0, bias=1.0)
        self.conv = EqualConv(num_inputs, num_outputs, size, gain=1.0)
        self.noise = nn.Parameter(torch.zeros(()))

    def forward(self, x_BCHW: Tensor, w_BD: Tensor, noise_B1HW: Tensor | None = None) -> Tensor:
        style_BC = self.style(w_BD)
        x = x_BCHW * style_BC[:, :, None, None]
        if self.up:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        weight = self.conv.scaled
        y = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
        if self.is_picture:
            return y + self.conv.bias[:, None, None]
        energy_BO = style_BC.square() @ weight.square().sum((2, 3)).T
        y = y * torch.rsqrt(energy_BO + 1e-8)[:, :, None, None]
        if noise_B1HW is not None:
            y = y + self.noise * noise_B1HW
        return _GAIN * F.leaky_relu(y + self.conv.bias[:, None, None], SLOPE)


class SmallGenerator(nn.Module):
    """Textures and scenes at 64 or 128 px; keeps the `Generator` protocol of `pulse`.

    Args:
        resolution: side of its pictures: 4 times 2 for each entry of `channels` but the first.
        latent_dim: D.
        mapping_layers: of the mapping.
        channels: from 4x4 to the finest level.
    """

    def __init__(
        self,
        *,
        latent_dim: int = 128,
        mapping_layers: int = 4,
        channels: Sequence[int] = (128, 128, 128, 64, 32),
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.resolution = 4 * 2 ** (len(channels) - 1)
        self.num_layers = 2 * len(channels) - 1
        self.first = nn.Parameter(torch.randn(1, channels[0], 4, 4))
        self.dense = _Mapping(latent_dim, mapping_layers)
        self.convs, self.to_rgb = nn.ModuleList(), nn.ModuleList()
        before = channels[0]
        for index, width in enumerate(channels):
            if index:
                self.convs.append(_Modulated(latent_dim, before, width, up=True))
            self.convs.append(_Modulated(latent_dim, width, width))
            self.to_rgb.append(_Modulated(latent_dim, width, 3, size=1))
            before = width

    @property
    def noise_px(self) -> tuple[int, ...]:
        """Side of each layer's noise."""
        return tuple(4 * 2 ** ((layer + 1) // 2) for layer in range(self.num_layers))

    def mapping(self, z_BD: Tensor) -> Tensor:
        """(B, D) normal -> (B, D)."""
        result: Tensor = self.dense(z_BD)
        return result

    def synthesis(self, w_BLD: Tensor, noise: Sequence[Tensor]) -> Tensor:
        """(B, L, D) and L maps (B or 1, 1, h, h) -> (B, 3, R, R) about [-1, 1]."""
        x = self.first.expand(len(w_BLD), -1, -1, -1)
        picture: Tensor | None = None
        for layer, conv in enumerate(self.convs):
            x = conv(x, w_BLD[:, layer], noise[layer])
            if layer % 2 == 0:
                made = self.to_rgb[layer // 2](x, w_BLD[:, layer])
                if picture is not None:
                    made = made + F.interpolate(
                        picture, scale_factor=2, mode="bilinear", align_corners=False
                    )
                picture = made
        assert picture is not None
        return picture
