"""Warping and the flow network: conventions, sizes, and what training may rely on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from vsr.errors import ShapeError
from vsr.models.flow import FlowNet, luma, warp


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def constant_flow(dx: float, dy: float, height: int, width: int) -> Tensor:
    return torch.tensor([dx, dy]).view(1, 2, 1, 1).expand(1, 2, height, width).contiguous()


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (2, 2), (17, 31), (180, 320)])
def test_warping_by_nothing_is_the_identity(size: tuple[int, int]) -> None:
    image = noise(2, 4, *size)
    warped = warp(image, torch.zeros(2, 2, *size))
    # Coordinates go through [-1, 1], which costs a rounding step of a coordinate.
    torch.testing.assert_close(warped, image, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("dx", "dy"), [(1, 0), (0, 1), (-2, 0), (0, -3), (2, -1)])
def test_warping_by_whole_pixels_is_a_shift(dx: int, dy: int) -> None:
    height, width = 13, 18
    image = noise(1, 3, height, width)
    rows = (torch.arange(height) + dy).clamp(0, height - 1)
    columns = (torch.arange(width) + dx).clamp(0, width - 1)
    expected = image[:, :, rows][..., columns]
    warped = warp(image, constant_flow(dx, dy, height, width))
    torch.testing.assert_close(warped, expected, atol=1e-5, rtol=0)


def test_flow_is_dx_then_dy_and_says_where_to_sample() -> None:
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(12.0), indexing="ij")
    image = torch.stack((x, 100 * y))[None]
    flow = torch.zeros(1, 2, 8, 12)
    flow[0, :, 3, 5] = torch.tensor([2.5, -1.25])
    warped = warp(image, flow)[0]
    assert warped[:, 3, 5].tolist() == pytest.approx([7.5, 175.0], abs=1e-3)
    torch.testing.assert_close(warped[:, 4, 5], image[0, :, 4, 5], atol=1e-3, rtol=0)


def test_the_border_goes_on_outside() -> None:
    image = noise(1, 1, 6, 9)
    far = warp(image, constant_flow(1e4, -1e4, 6, 9))
    assert torch.equal(far, image[..., :1, -1:].expand_as(image))


def test_low_precision_images_are_sampled_at_exact_places() -> None:
    # Near x = 600 a bfloat16 coordinate has steps of 4 px.
    ramp = (torch.arange(640) % 8).float().view(1, 1, 1, 640).expand(1, 1, 4, 640) / 8
    flow = constant_flow(1, 0, 4, 640)
    exact = warp(ramp, flow)
    warped = warp(ramp.bfloat16(), flow)
    assert warped.dtype == torch.float32
    torch.testing.assert_close(warped, exact, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("image", "flow"),
    [((1, 3, 8, 8), (1, 2, 8, 9)), ((1, 3, 8, 8), (1, 2, 4, 8)), ((1, 3, 8, 8), (1, 3, 8, 8))],
)
def test_sizes_that_differ_are_refused(image: tuple[int, ...], flow: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="differ"):
        warp(torch.zeros(image), torch.zeros(flow))


def test_luma_is_bt601() -> None:
    picture = torch.tensor([1.0, 0.5, 0.25]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    assert luma(picture).shape == (1, 1, 2, 2)
    assert float(luma(picture)[0, 0, 0, 0]) == pytest.approx(0.299 + 0.2935 + 0.0285)


def network(num_levels: int = 4) -> FlowNet:
    torch.manual_seed(2)
    return FlowNet(8, num_levels).eval()


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (16, 16), (17, 31), (45, 20)])
@pytest.mark.parametrize("num_levels", [1, 4])
def test_any_size_gives_flow_of_that_size(size: tuple[int, int], num_levels: int) -> None:
    flow = network(num_levels)(noise(2, 3, *size), noise(2, 3, *size, seed=1))
    assert flow.shape == (2, 2, *size)
    assert flow.dtype == torch.float32
    assert bool(flow.isfinite().all())


def test_the_pyramid_ends_in_the_flow() -> None:
    net = network()
    ref, other = noise(1, 3, 21, 34), noise(1, 3, 21, 34, seed=1)
    flows = net.pyramid(ref, other)
    assert [flow.shape for flow in flows] == [(1, 2, 21, 34)] * 4
    assert torch.equal(flows[-1], net(ref, other))


def test_a_pair_does_not_look_at_the_others_of_its_batch() -> None:
    net = network()
    ref, other = noise(3, 3, 24, 20), noise(3, 3, 24, 20, seed=1)
    together = net(ref, other)
    for index in range(3):
        alone = net(ref[index : index + 1], other[index : index + 1])
        torch.testing.assert_close(together[index : index + 1], alone, atol=1e-4, rtol=1e-4)


def test_brightness_alone_decides() -> None:
    """Equal luma in other colours gives equal flow."""
    net = network()
    ref, other = noise(1, 3, 24, 20), noise(1, 3, 24, 20, seed=1)
    grey = [luma(picture).expand(-1, 3, -1, -1) for picture in (ref, other)]
    torch.testing.assert_close(net(ref, other), net(*grey), atol=1e-3, rtol=1e-3)


def test_least_squares_alone_follows_a_shift() -> None:
    """With the corrections at zero the network is as good as its least-squares steps."""
    net = network()
    for level in net.levels:
        last = list(level.children())[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        last.weight.zero_()
        last.bias.zero_()
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(80.0), indexing="ij")

    def picture(dx: float, dy: float) -> Tensor:
        waves = torch.sin((x - dx) / 5) * torch.cos((y - dy) / 6) + torch.sin((x - y - dx + dy) / 9)
        return (0.5 + 0.2 * waves).expand(1, 3, -1, -1)

    flow = net(picture(0, 0), picture(1.5, -0.75))
    inner = flow[0, :, 12:-12, 12:-12].flatten(1).median(dim=1).values
    assert inner.tolist() == pytest.approx([1.5, -0.75], abs=0.1)


@pytest.mark.parametrize("channels", [8, 16, 37])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1), (24, 40)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_are_sampled_as_planes_are(
    channels: int, size: tuple[int, int], dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(6)
    planes = torch.randn(2, channels, *size, generator=generator).to(dtype)
    rows = planes.contiguous(memory_format=torch.channels_last)
    flow = 12 * torch.randn(2, 2, *size, generator=generator)
    flow[:, :, ::3] = flow[:, :, ::3].round()
    with torch.no_grad():
        sampled = warp(rows, flow)
    with torch.enable_grad():  # which rows have none for
        expected = warp(planes, flow)
    torch.testing.assert_close(sampled, expected, atol=1e-4, rtol=1e-5)
    if rows.shape[2:] != (1, 1):
        assert sampled.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_a_flow_that_is_no_number_harms_only_its_pixel(bad: float) -> None:
    rows = torch.rand(1, 16, 6, 8).contiguous(memory_format=torch.channels_last)
    flow = torch.zeros(1, 2, 6, 8)
    flow[0, 0, 2, 3] = bad
    with torch.no_grad():
        sampled = warp(rows, flow)
    sound = torch.ones(6, 8, dtype=torch.bool)
    sound[2, 3] = False
    assert torch.equal(sampled[..., sound], rows[..., sound])
    assert bool(sampled[0, 0, 2, 3].isnan()) == (bad != bad)
