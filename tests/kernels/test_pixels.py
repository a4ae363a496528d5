"""Batches of faces as they lie in memory."""

import numpy as np
import pytest

from stages.kernels.pixels import gather_pixels


@pytest.mark.parametrize(("count", "width"), [(32, 16), (16, 128), (5, 16), (16, 10)])
def test_pixels_are_divided_by_255_with_the_batch_last(count: int, width: int) -> None:
    faces = np.random.default_rng(0).integers(0, 256, (40, 4, width, 3), np.uint8)
    rows = np.random.default_rng(1).integers(0, 40, count)
    out = np.full((3, 4, width, count), np.nan, np.float32)
    gather_pixels(faces, rows, out)
    np.testing.assert_array_equal(out, faces[rows].transpose(3, 1, 2, 0) / np.float32(255))
