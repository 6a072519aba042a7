from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vsr.models.image.interpolation import imresize
from vsr.models.registration import _median3, register
from vsr.models.video.reconstruction import Reconstruction


def scene(height: int, width: int, seed: int = 0) -> Tensor:
    """Octaves of noise, the coarser the stronger, as in nature: (1, 3, H, W) about 0.5."""
    generator = torch.Generator().manual_seed(seed)
    picture = torch.full((1, 3, height, width), 0.5)
    for period in (5, 10, 20, 40):
        grid = torch.randn(1, 3, height // period + 2, width // period + 2, generator=generator)
        size = (grid.shape[-2] * period, grid.shape[-1] * period)
        octave = F.interpolate(grid, size=size, mode="bicubic")[..., :height, :width]
        picture = picture + 0.09 * (period / 5) ** 0.5 * octave
    return picture


def moved(num_frames: int, step_px: int = 3) -> tuple[Tensor, Tensor]:
    """A camera that pans by 3 of 4 pixels a frame: large (T, 3, 192, 192) and small pictures."""
    wide = scene(192, 192 + step_px * num_frames)
    large = torch.cat([wide[..., step_px * t : step_px * t + 192] for t in range(num_frames)])
    return large, (imresize(large, scale=1 / 4) * 255).round() / 255


def psnr_db(result: Tensor, truth: Tensor) -> float:
    inside = slice(16, -16)
    error = (result - truth)[..., inside, inside].square().mean()
    return -10 * float(error.log10())


def enlarge(small_TCHW: Tensor, **options: int | float) -> Tensor:
    model = Reconstruction(4, **options)  # type: ignore[arg-type]
    state = model.init_state(1, *small_TCHW.shape[-2:])
    return model.upscale(small_TCHW[None], state)[0][0]


def test_registration_finds_subpixel_motion() -> None:
    wide = scene(160, 200)
    for dx, dy in ((3, 1), (-6, 4), (14, -9)):
        ref, other = (
            imresize(wide[..., 30 + y : 126 + y, 40 + x : 136 + x].mean(1, keepdim=True), scale=0.5)
            for x, y in ((0, 0), (dx, dy))
        )
        flow = register(ref, other)[0, :, 10:-10, 10:-10]
        # other shows what lies further right, so its content has moved left.
        error = (flow - torch.tensor([-dx / 2, -dy / 2])[:, None, None]).square().sum(0).sqrt()
        assert float(error.median()) < 0.2


def test_a_median_is_the_one_of_nine() -> None:
    x = torch.rand(2, 2, 7, 9, generator=torch.Generator().manual_seed(1))
    windows = F.unfold(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3).view(2, 2, 9, 7, 9)
    assert torch.equal(_median3(x), windows.median(dim=2).values)


def test_neighbours_add_detail() -> None:
    large, small = moved(5)
    many, alone = enlarge(small)[2], enlarge(small, radius=0)[2]
    plain = imresize(small[2], scale=4)
    assert psnr_db(many, large[2]) > psnr_db(plain, large[2]) + 0.6
    assert psnr_db(many, large[2]) > psnr_db(alone, large[2]) + 0.15


def test_a_neighbour_of_another_scene_does_no_harm() -> None:
    large, small = moved(5)
    small[3] = imresize(scene(192, 192, seed=9), scale=1 / 4)[0]
    plain = imresize(small[2], scale=4)
    assert psnr_db(enlarge(small)[2], large[2]) > psnr_db(plain, large[2]) + 0.5
