"""Public state dicts, made up under their authors' names, against the arithmetic written out."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.errors import CheckpointError
from vsr.models.checkpoint import card_of_file, load_upscaler, resolve_spec
from vsr.models.image.interpolation import imresize
from vsr.models.image.per_frame import luma

Tensors = dict[str, Tensor]
Forward = Callable[[Tensors, Tensor], Tensor]
MEAN = torch.tensor([0.4488, 0.4371, 0.4040]).view(1, 3, 1, 1)


class Maker:
    """Random layers under given names."""

    def __init__(self) -> None:
        self.tensors: Tensors = {}
        self.generator = torch.Generator().manual_seed(7)

    def random(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)

    def conv(self, name: str, c_in: int, c_out: int, size: int = 3, *, bias: bool = True) -> None:
        self.tensors[f"{name}.weight"] = self.random(c_out, c_in, size, size) / (c_in**0.5 * size)
        if bias:
            self.tensors[f"{name}.bias"] = 0.1 * self.random(c_out)

    def deconv(self, name: str, c: int, c_out: int, size: int, *, bias: bool = True) -> None:
        self.tensors[f"{name}.weight"] = self.random(c, c_out, size, size) / (c**0.5 * size)
        if bias:
            self.tensors[f"{name}.bias"] = 0.1 * self.random(c_out)

    def slope(self, name: str, count: int = 1) -> None:
        self.tensors[f"{name}.weight"] = 0.1 + 0.2 * self.random(count).abs()


def conv(t: Mapping[str, Tensor], name: str, x: Tensor, stride: int = 1, pad: int = -1) -> Tensor:
    weight = t[f"{name}.weight"]
    pad = weight.shape[-1] // 2 if pad < 0 else pad
    return F.conv2d(x, weight, t.get(f"{name}.bias"), stride, pad)


def lrelu(x: Tensor, slope: float = 0.1) -> Tensor:
    return F.leaky_relu(x, slope)


# -- EDSR -----------------------------------------------------------------------------------------


def edsr(style: str, scale: int) -> tuple[Tensors, Forward]:
    make, width, blocks = Maker(), 8, 2
    ups = [3] if scale == 3 else [2] * (scale.bit_length() - 1)
    first, last, after = "conv_first", "conv_last", "conv_after_body"
    block, up = "body.{}.conv{}", "upsample.{}"
    if style == "official":
        first, last, after = "head.0", "tail.1", f"body.{blocks}"
        block, up = "body.{}.body.{}", "tail.0.{}"
        for name in ("sub_mean", "add_mean"):
            make.tensors |= {f"{name}.weight": torch.eye(3)[..., None, None], f"{name}.bias": MEAN}
    if style == "mmagic":
        up = "upsample.{}.upsample_conv"
    inner = (0, 2) if style == "official" else (1, 2)
    step = 1 if style == "mmagic" else 2
    make.conv(first, 3, width)
    for i in range(blocks):
        make.conv(block.format(i, inner[0]), width, width)
        make.conv(block.format(i, inner[1]), width, width)
    make.conv(after, width, width)
    for i, factor in enumerate(ups):
        make.conv(up.format(step * i), width, width * factor**2)
    make.conv(last, width, 3)

    def forward(t: Tensors, x: Tensor) -> Tensor:
        top = 1.0 if style == "mmagic" else 255.0
        y = head = conv(t, first, (x - MEAN) * top)
        for i in range(blocks):
            y = y + conv(
                t, block.format(i, inner[1]), F.relu(conv(t, block.format(i, inner[0]), y))
            )
        y = conv(t, after, y) + head
        for i, factor in enumerate(ups):
            y = F.pixel_shuffle(conv(t, up.format(step * i), y), factor)
        return conv(t, last, y) / top + MEAN

    return make.tensors, forward


# -- SRResNet, RRDB, SRVGG ------------------------------------------------------------------------


def msrresnet(style: str, width: int = 8, blocks: int = 2) -> tuple[Tensors, Forward]:
    make = Maker()
    body = {"basicsr": "body", "mmagic": "trunk_net", "old": "recon_trunk"}[style]
    hr = "HRconv" if style == "old" else "conv_hr"
    up = "upsample{}.upsample_conv" if style == "mmagic" else "upconv{}"
    make.conv("conv_first", 3, width)
    for i in range(blocks):
        make.conv(f"{body}.{i}.conv1", width, width)
        make.conv(f"{body}.{i}.conv2", width, width)
    for i in (1, 2):
        make.conv(up.format(i), width, 4 * width)
    make.conv(hr, width, width)
    make.conv("conv_last", width, 3)

    def forward(t: Tensors, x: Tensor) -> Tensor:
        y = lrelu(conv(t, "conv_first", x))
        for i in range(blocks):
            y = y + conv(t, f"{body}.{i}.conv2", F.relu(conv(t, f"{body}.{i}.conv1", y)))
        for i in (1, 2):
            y = F.pixel_shuffle(conv(t, up.format(i), y), 2)
            y = y if style == "mmagic" else lrelu(y)
        y = conv(t, "conv_last", lrelu(conv(t, hr, y)))
        return y + F.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)

    return make.tensors, forward


def rrdb(style: str, scale: int) -> tuple[Tensors, Forward]:
    make, width, growth, fold = Maker(), 8, 4, 4 // scale
    names = {
        "new": ("conv_first", "body.0.rdb{}.conv{}", "conv_body", "conv_up1", "conv_up2",
                "conv_hr", "conv_last"),
        "old": ("conv_first", "RRDB_trunk.0.RDB{}.conv{}", "trunk_conv", "upconv1", "upconv2",
                "HRconv", "conv_last"),
        "numbered": ("model.0", "model.1.sub.0.RDB{}.conv{}.0", "model.1.sub.1", "model.3",
                     "model.6", "model.8", "model.10"),
    }[style]  # fmt: skip
    first, dense, trunk, *ups, hr, last = names
    make.conv(first, 3 * fold**2, width)
    for i in (1, 2, 3):
        for j in range(1, 6):
            make.conv(dense.format(i, j), width + (j - 1) * growth, width if j == 5 else growth)
    for name in (trunk, *ups, hr):
        make.conv(name, width, width)
    make.conv(last, width, 3)

    def forward(t: Tensors, x: Tensor) -> Tensor:
        y = head = conv(t, first, F.pixel_unshuffle(x, fold))
        for i in (1, 2, 3):
            seen = y
            for j in range(1, 5):
                seen = torch.cat((seen, lrelu(conv(t, dense.format(i, j), seen), 0.2)), 1)
            y = y + 0.2 * conv(t, dense.format(i, 5), seen)
        y = head + conv(t, trunk, head + 0.2 * y)
        for up in ups:
            y = lrelu(conv(t, up, F.interpolate(y, scale_factor=2, mode="nearest")), 0.2)
        return conv(t, last, lrelu(conv(t, hr, y), 0.2))

    return make.tensors, forward


def srvgg() -> tuple[Tensors, Forward]:
    make, width, convs = Maker(), 8, 3
    for i in range(convs + 1):
        make.conv(f"body.{2 * i}", 3 if i == 0 else width, width)
        make.slope(f"body.{2 * i + 1}", width)
    make.conv(f"body.{2 * convs + 2}", width, 48)

    def forward(t: Tensors, x: Tensor) -> Tensor:
        y = x
        for i in range(convs + 1):
            y = F.prelu(conv(t, f"body.{2 * i}", y), t[f"body.{2 * i + 1}.weight"])
        y = F.pixel_shuffle(conv(t, f"body.{2 * convs + 2}", y), 4)
        return y + F.interpolate(x, scale_factor=4, mode="nearest")

    return make.tensors, forward


# -- SRCNN, FSRCNN, LapSRN, DBPN ------------------------------------------------------------------


def srcnn() -> tuple[Tensors, Forward]:
    make = Maker()
    make.conv("conv1", 3, 64, 9)
    make.conv("conv2", 64, 32, 1)
    make.conv("conv3", 32, 3, 5)

    def forward(t: Tensors, x: Tensor) -> Tensor:
        y = F.relu(conv(t, "conv1", imresize(x, scale=4)))
        return conv(t, "conv3", F.relu(conv(t, "conv2", y)))

    return make.tensors, forward


def fsrcnn(prefix: str = "", width: int = 8) -> tuple[Tensors, Forward]:
    make, shrunk, m = Maker(), 12, 4
    make.conv(f"{prefix}head_conv.0", 3, width, 5)
    make.slope(f"{prefix}head_conv.1")
    make.conv(f"{prefix}body_conv.0.0", width, shrunk, 1)
    make.slope(f"{prefix}body_conv.0.1")
    for i in range(1, m + 1):
        make.conv(f"{prefix}body_conv.{i}", shrunk, shrunk)
    make.slope(f"{prefix}body_conv.{m + 1}")
    make.conv(f"{prefix}body_conv.{m + 2}.0", shrunk, width, 1)
    make.slope(f"{prefix}body_conv.{m + 2}.1")
    make.deconv(f"{prefix}tail_conv", width, 3, 9)

    def forward(t: Tensors, x: Tensor) -> Tensor:
        body = f"{prefix}body_conv"
        y = F.prelu(conv(t, f"{prefix}head_conv.0", x), t[f"{prefix}head_conv.1.weight"])
        y = F.prelu(conv(t, f"{body}.0.0", y), t[f"{body}.0.1.weight"])
        for i in range(1, m + 1):
            y = conv(t, f"{body}.{i}", y)
        y = F.prelu(y, t[f"{body}.{m + 1}.weight"])
        y = F.prelu(conv(t, f"{body}.{m + 2}.0", y), t[f"{body}.{m + 2}.1.weight"])
        weight, bias = t[f"{prefix}tail_conv.weight"], t[f"{prefix}tail_conv.bias"]
        return F.conv_transpose2d(y, weight, bias, 4, 3, output_padding=1)

    return make.tensors, forward


def lapsrn() -> tuple[Tensors, Forward]:
    make, width = Maker(), 8
    make.conv("conv_input", 1, width, bias=False)
    for level in (1, 2):
        for i in range(10):
            make.conv(f"convt_F{level}.0.cov_block.{2 * i}", width, width, bias=False)
        make.deconv(f"convt_F{level}.0.cov_block.20", width, width, 4, bias=False)
        make.deconv(f"convt_I{level}", 1, 1, 4, bias=False)
        make.conv(f"convt_R{level}", width, 1, bias=False)

    def forward(t: Tensors, x: Tensor) -> Tensor:
        y = luma(x)
        features = lrelu(conv(t, "conv_input", y), 0.2)
        for level in (1, 2):
            for i in range(10):
                features = lrelu(conv(t, f"convt_F{level}.0.cov_block.{2 * i}", features), 0.2)
            weight = t[f"convt_F{level}.0.cov_block.20.weight"]
            features = lrelu(F.conv_transpose2d(features, weight, None, 2, 1), 0.2)
            y = F.conv_transpose2d(y, t[f"convt_I{level}.weight"], None, 2, 1)
            y = y + conv(t, f"convt_R{level}", features)
        # Chroma is interpolated, so R, G and B all change by what Y does.
        return imresize(x, scale=4) + (y - imresize(luma(x), scale=4)) * 255 / 219

    return make.tensors, forward


def dbpn() -> tuple[Tensors, Forward]:
    make, c, stages = Maker(), 4, 4
    make.conv("feat0.conv", 3, 6)
    make.slope("feat0.act")
    make.conv("feat1.conv", 6, c, 1)
    make.slope("feat1.act")
    for kind, count in (("up", stages), ("down", stages - 1)):
        for n in range(1, count + 1):
            inputs = n - 1 if kind == "up" else n
            if inputs > 1:
                make.conv(f"{kind}{n}.conv.conv", inputs * c, c, 1)
                make.slope(f"{kind}{n}.conv.act")
            for k in (1, 2, 3):
                name = f"{kind}{n}.{kind}_conv{k}"
                if (k == 2) == (kind == "down"):
                    make.deconv(f"{name}.deconv", c, c, 8)
                else:
                    make.conv(f"{name}.conv", c, c, 8)
                make.slope(f"{name}.act")
    make.conv("output_conv.conv", stages * c, 3)

    def layer(t: Tensors, name: str, x: Tensor) -> Tensor:
        if f"{name}.deconv.weight" in t:
            x = F.conv_transpose2d(x, t[f"{name}.deconv.weight"], t[f"{name}.deconv.bias"], 4, 2)
        else:
            size = t[f"{name}.conv.weight"].shape[-1]
            x = conv(t, f"{name}.conv", x, 4, 2) if size == 8 else conv(t, f"{name}.conv", x)
        return F.prelu(x, t[f"{name}.act.weight"])

    def unit(t: Tensors, kind: str, n: int, x: Tensor) -> Tensor:
        if f"{kind}{n}.conv.conv.weight" in t:
            x = layer(t, f"{kind}{n}.conv", x)
        one = layer(t, f"{kind}{n}.{kind}_conv1", x)
        error = layer(t, f"{kind}{n}.{kind}_conv2", one) - x
        return one + layer(t, f"{kind}{n}.{kind}_conv3", error)

    def forward(t: Tensors, x: Tensor) -> Tensor:
        x = layer(t, "feat1", layer(t, "feat0", x))
        h1 = unit(t, "up", 1, x)
        l1 = unit(t, "down", 1, h1)
        h2 = unit(t, "up", 2, l1)
        l2 = unit(t, "down", 2, torch.cat((h2, h1), 1))
        h3 = unit(t, "up", 3, torch.cat((l2, l1), 1))
        l3 = unit(t, "down", 3, torch.cat((h3, h2, h1), 1))
        h4 = unit(t, "up", 4, torch.cat((l3, l2, l1), 1))
        return conv(t, "output_conv.conv", torch.cat((h4, h3, h2, h1), 1))

    return make.tensors, forward


# -- ClassSR --------------------------------------------------------------------------------------


def classsr() -> tuple[Tensors, Forward]:
    make = Maker()
    make.conv("classifier.CondNet.0", 3, 128, 4)
    for i, width in ((2, 128), (4, 128), (6, 128), (8, 32)):
        make.conv(f"classifier.CondNet.{i}", 128, width, 1)
    make.tensors["classifier.lastOut.weight"] = make.random(3, 32)
    make.tensors["classifier.lastOut.bias"] = torch.zeros(3)
    branches = [fsrcnn(f"net{n}.", width) for n, width in ((1, 4), (2, 6), (3, 8))]
    for tensors, _ in branches:
        make.tensors |= tensors

    def forward(t: Tensors, x: Tensor) -> Tensor:
        y = conv(t, "classifier.CondNet.0", x, 4, 0)
        for i in (2, 4, 6, 8):
            y = conv(t, f"classifier.CondNet.{i}", lrelu(y))
        logits = F.linear(
            y.mean((2, 3)), t["classifier.lastOut.weight"], t["classifier.lastOut.bias"]
        )
        return branches[int(logits.argmax())][1](t, x)

    return make.tensors, forward


CASES: dict[str, tuple[Callable[[], tuple[Tensors, Forward]], str, int]] = {
    "edsr-basicsr-x4": (lambda: edsr("basicsr", 4), "edsr", 4),
    "edsr-basicsr-x3": (lambda: edsr("basicsr", 3), "edsr", 3),
    "edsr-mmagic-x2": (lambda: edsr("mmagic", 2), "edsr", 2),
    "edsr-mmagic-x4": (lambda: edsr("mmagic", 4), "edsr", 4),
    "edsr-official-x4": (lambda: edsr("official", 4), "edsr", 4),
    "msrresnet-basicsr": (lambda: msrresnet("basicsr"), "msrresnet", 4),
    "msrresnet-mmagic": (lambda: msrresnet("mmagic"), "msrresnet", 4),
    "msrresnet-old": (lambda: msrresnet("old"), "msrresnet", 4),
    "rrdb-x4": (lambda: rrdb("new", 4), "rrdb", 4),
    "rrdb-x2": (lambda: rrdb("new", 2), "rrdb", 2),
    "rrdb-x1": (lambda: rrdb("new", 1), "rrdb", 1),
    "rrdb-old": (lambda: rrdb("old", 4), "rrdb", 4),
    "rrdb-numbered": (lambda: rrdb("numbered", 4), "rrdb", 4),
    "srvgg": (srvgg, "srvgg", 4),
    "srcnn-mmagic": (srcnn, "srcnn", 4),
    "fsrcnn-classsr": (fsrcnn, "fsrcnn", 4),
    "lapsrn": (lapsrn, "lapsrn", 4),
    "dbpn": (dbpn, "dbpn", 4),
    "classsr": (classsr, "classsr", 4),
}


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_public_names_load_strictly_and_give_their_networks_pictures(
    name: str, tmp_path: Path
) -> None:
    make, family, scale = CASES[name]
    tensors, forward = make()
    path = tmp_path / "public.pth"
    torch.save({"params_ema": tensors} if "basicsr" in name else tensors, path)
    spec = resolve_spec(path)
    assert (spec.family, spec.scale) == (family, scale)
    model: Any = load_upscaler(path)
    assert model.scale == scale
    assert spec.halo_px == model.halo_px
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    expected = forward(tensors, x)
    got = model.enlarge(x)
    assert got.shape == expected.shape == (1, 3, 32 * scale, 32 * scale)
    assert (got - expected).abs().max() <= 2e-5 * expected.abs().max().clamp(min=1)
    card = card_of_file(path)
    assert card is not None and card.gmac_180p > 0 and card.licence == "NOASSERTION"


@pytest.mark.parametrize("name", ["edsr-official-x4", "rrdb-x4", "dbpn", "classsr", "lapsrn"])
def test_a_missing_or_foreign_tensor_is_refused(name: str, tmp_path: Path) -> None:
    tensors, _ = CASES[name][0]()
    path = tmp_path / "public.pth"
    last = [key for key in tensors if "mean" not in key][-1]
    torch.save({key: value for key, value in tensors.items() if key != last}, path)
    with pytest.raises(CheckpointError):
        load_upscaler(path)
    torch.save(tensors | {"attention.weight": torch.zeros(2, 2)}, path)
    with pytest.raises(CheckpointError, match=r"hold the unexpected attention\.weight"):
        load_upscaler(path)


def test_the_published_large_network_scales_its_residuals(tmp_path: Path) -> None:
    make = Maker()
    make.conv("head.0", 3, 256)
    make.conv("body.0.body.0", 256, 256)
    make.conv("body.0.body.2", 256, 256)
    make.conv("body.1", 256, 256)
    make.conv("tail.0.0", 256, 1024)
    make.conv("tail.1", 256, 3)
    torch.save(make.tensors, tmp_path / "large.pth")
    model = cast(nn.Module, load_upscaler(tmp_path / "large.pth"))
    assert model.get_submodule("body.0").residual_scale == 0.1


def test_an_unknown_network_is_named_by_its_first_tensor(tmp_path: Path) -> None:
    torch.save({"encoder.0.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"not known here; its first is 'encoder.0.weight'"):
        load_upscaler(tmp_path / "other.pth")


def test_programs_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "program.pt", "w") as archive:
        archive.writestr("program/constants.pkl", b"")
        archive.writestr("program/code/__torch__.py", "raise SystemExit")
    with pytest.raises(CheckpointError, match="is a TorchScript program"):
        load_upscaler(tmp_path / "program.pt")
    torch.save(nn.Conv2d(3, 3, 1), tmp_path / "module.pth")
    with pytest.raises(CheckpointError, match="holds more than plain weights"):
        load_upscaler(tmp_path / "module.pth")
