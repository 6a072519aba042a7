"""Networks whose features say how alike two pictures look."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.errors import CheckpointError, ConfigError
from vsr.models.image.interpolation import imresize
from vsr.training.config import LossSection

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
_VGG19 = (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512, 512)
"""Widths of the 3x3 convolutions, M for a maximum over 2x2; the rest of VGG-19 is not used."""


class FeatureNet(nn.Module):
    """A small network of four levels, trained here to tell how a picture was degraded.

    What tells a blurred, noisy or coarsely stored picture from a clean one is what a perceptual
    loss must see, and no labels are needed to learn it.

    Args:
        num_channels: width of the first level; each further level is twice as wide.
        num_classes: kinds of degradation that `classify` tells apart.
    """

    def __init__(self, num_channels: int = 16, num_classes: int = 5) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        in_channels = 3
        for level in range(4):
            width = num_channels * 2**level
            self.stages.append(
                nn.Sequential(
                    nn.Conv2d(in_channels, width, 3, padding=1),
                    nn.ReLU(),
                    nn.Conv2d(width, width, 3, padding=1),
                    nn.ReLU(),
                )
            )
            in_channels = width
        self.head = nn.Linear(in_channels, num_classes)
        for module in self.stages.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, rgb_BCHW: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in [0, 1] -> features of each level, each half as large as the one above."""
        features: list[Tensor] = []
        x = rgb_BCHW - 0.5
        for stage in self.stages:
            if features:
                x = F.avg_pool2d(x, 2)
            x = stage(x)
            features.append(x)
        return features

    def classify(self, rgb_BCHW: Tensor) -> Tensor:
        """Logits (B, num_classes)."""
        logits: Tensor = self.head(self(rgb_BCHW)[-1].mean(dim=(2, 3)))
        return logits


class Vgg19Features(nn.Module):
    """Features of VGG-19 (Simonyan and Zisserman, 2015) before the activation.

    Levels are conv1_2, conv2_2, conv3_4, conv4_4 and conv5_2, with the tensor names of torchvision;
    ESRGAN and Real-ESRGAN compare such features (arXiv 2107.10833, section 4.1, with conv5_4 as the
    last). Weights are not part of this package.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.ModuleList()
        self._taken: list[int] = []
        in_channels = 3
        for index, width in enumerate(_VGG19):
            if width == "M":
                self._taken.append(len(self.features) - 2)
                self.features.append(nn.MaxPool2d(2))
            else:
                assert isinstance(width, int)
                self.features.append(nn.Conv2d(in_channels, width, 3, padding=1))
                if index < len(_VGG19) - 1:
                    self.features.append(nn.ReLU())
                in_channels = width
        self._taken.append(len(self.features) - 1)
        for name, values in (("mean", _IMAGENET_MEAN), ("deviation", _IMAGENET_DEVIATION)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, rgb_BCHW: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in [0, 1] -> five levels of features."""
        x = (rgb_BCHW - self.mean) / self.deviation
        features = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self._taken:
                features.append(x)
        return features


def degradation_loss(network: FeatureNet, clean_BCHW: Tensor) -> Tensor:
    """Cross entropy of telling clean pictures from degraded ones, every kind in every batch.

    Kinds are clean, shrunk and enlarged again, blurred, noisy, and quantised in blocks of 8 x 8
    as coarse JPEG is; how strongly is drawn from torch's generator.
    """
    kinds = [clean_BCHW]
    side = clean_BCHW.shape[-1]
    scale = (0.25, 0.33, 0.5)[int(torch.randint(3, ()))]
    kinds.append(imresize(imresize(clean_BCHW, scale=scale), size=(clean_BCHW.shape[-2], side)))
    width = 3 + 2 * int(torch.randint(3, ()))
    kinds.append(F.avg_pool2d(clean_BCHW, width, 1, width // 2, count_include_pad=False))
    deviation = 0.02 + 0.08 * torch.rand(len(clean_BCHW), 1, 1, 1, device=clean_BCHW.device)
    kinds.append(clean_BCHW + deviation * torch.randn_like(clean_BCHW))
    kinds.append(_quantise_blocks(clean_BCHW, step=0.1 + 0.4 * float(torch.rand(()))))
    pictures = torch.cat(kinds).clamp(0, 1)
    labels = torch.arange(len(kinds), device=pictures.device).repeat_interleave(len(clean_BCHW))
    return F.cross_entropy(network.classify(pictures).float(), labels)


def _quantise_blocks(picture_BCHW: Tensor, step: float) -> Tensor:
    """Round the cosine transform of 8x8 blocks to multiples of `step`."""
    index = torch.arange(8, device=picture_BCHW.device, dtype=torch.float32)
    basis = torch.cos(torch.pi / 8 * (index + 0.5) * index[:, None]) / 2
    basis[0] /= 2**0.5
    height, width = (length - length % 8 for length in picture_BCHW.shape[-2:])
    blocks = picture_BCHW[..., :height, :width].unfold(2, 8, 8).unfold(3, 8, 8)
    with torch.autocast(picture_BCHW.device.type, enabled=False):
        codes = basis @ blocks @ basis.T
        blocks = basis.T @ (codes / step).round().mul(step) @ basis
    result = picture_BCHW.clone()
    result[..., :height, :width] = blocks.transpose(-2, -3).flatten(-4, -3).flatten(-2)
    return result


def load_features(section: LossSection) -> nn.Module:
    """The feature network that a configuration names, its weights frozen.

    Raises:
        ConfigError: weights are needed and none are named.
        CheckpointError: the file is missing, damaged or of another network.
    """
    if section.feature_weights is None:
        raise ConfigError(
            "[loss] content and texture compare features, and feature_weights names no file",
            hint="train the feature network first, or name the weights of torchvision's vgg19",
        )
    path = Path(section.feature_weights)
    network: nn.Module = Vgg19Features() if section.features == "vgg19" else FeatureNet()
    try:
        if path.suffix == ".safetensors":
            tensors = load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
        wanted = network.state_dict()
        network.load_state_dict({name: tensors[name].float() for name in wanted})
    except (OSError, RuntimeError, SafetensorError, LookupError, AttributeError, EOFError) as error:
        raise CheckpointError(
            f"[loss] feature_weights: {path} does not hold the weights of {section.features}"
        ) from error
    return network.eval().requires_grad_(False)


def content(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """Mean over the levels of the L1 distance of features.

    Each level is divided by the mean size of the truth's features, so that levels count alike
    whatever the network (Johnson et al., 2016, equation 2, without that).
    """
    parts = [
        (a - b).abs().mean() / b.abs().mean().clamp(min=1e-6)
        for a, b in zip(one, other, strict=True)
    ]
    return torch.stack(parts).mean()


def texture(one: Sequence[Tensor], other: Sequence[Tensor], patch_px: int = 16) -> Tensor:
    """Mean over the levels of the L1 distance of Gram matrices of patches.

    Gatys et al., 2016, equation 3, on patches as in EnhanceNet (Sajjadi et al., 2017, section
    4.2.3): which features occur together, not where. A patch has `patch_px` pixels a side at the
    first level and half as many at each further one.
    """
    parts = []
    for level, pair in enumerate(zip(one, other, strict=True)):
        side = max(2, patch_px >> level)
        a, b = (_grams(features, side) for features in pair)
        parts.append((a - b).abs().mean() / b.abs().mean().clamp(min=1e-6))
    return torch.stack(parts).mean()


def _grams(features_BCHW: Tensor, side: int) -> Tensor:
    """Gram matrices (N, C, C) of patches of `side` pixels, or of the picture if it is smaller."""
    side = min(side, *features_BCHW.shape[-2:])
    patches = features_BCHW.unfold(2, side, side).unfold(3, side, side)
    flat = patches.permute(0, 2, 3, 1, 4, 5).flatten(4).flatten(0, 2)
    return flat @ flat.transpose(1, 2) / flat.shape[-1]
