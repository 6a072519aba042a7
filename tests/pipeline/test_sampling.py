"""Cells are means by area, whether their edges fall on samples or between them."""

from __future__ import annotations

import numpy as np
import pytest

from vsr.pipeline.sampling import PlaneSampler


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(("width", "height"), [(6.0, 4.0), (2.0, 8.0), (3.5, 4.0), (6.0, 2.25)])
def test_cells_are_means_by_area(width: float, height: float, dtype: type) -> None:
    x = np.stack([np.arange(10.0), np.arange(1.0, 11.0)], 1) * np.float64(width)
    # Rows of cells may be left out.
    y = np.array([[0.0, 1.0], [1.0, 2.0], [3.0, 4.0]]) * np.float64(height)
    size = int(np.ceil(y.max())) + 2, int(np.ceil(x.max())) + 1
    top = 1 if dtype is np.float32 else np.iinfo(dtype).max
    plane: np.ndarray = (np.random.default_rng(3).random(size) * top).astype(dtype)
    # A grid so fine that every edge falls between its samples.
    fine = np.repeat(np.repeat(plane.astype(np.float64), 4, axis=0), 4, axis=1)
    expected = [
        [fine[round(4 * a) : round(4 * b), round(4 * c) : round(4 * d)].mean() for c, d in x]
        for a, b in y
    ]
    found = PlaneSampler(x, y, size).means(plane)
    assert found.dtype == np.float32 and np.abs(found - expected).max() < 2e-6 * top
