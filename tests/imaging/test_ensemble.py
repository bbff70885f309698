"""The mean over the eight flips and rotations."""

import numpy as np

from srlib.imaging.ensemble import mean_over_views


def test_eight_different_views_are_averaged() -> None:
    image = np.arange(2 * 3 * 3, dtype=np.float32).reshape(2, 3, 3)
    views = []

    def upscale(view: np.ndarray) -> np.ndarray:
        views.append(view)
        return np.kron(view, np.ones((2, 2, 1), np.float32))

    mean = mean_over_views(image, upscale, 2)
    np.testing.assert_array_equal(
        mean, np.kron(image, np.ones((2, 2, 1))), err_msg="an equivariant function: no change"
    )
    assert len({(view.shape, view.tobytes()) for view in views}) == 8


def test_what_only_one_view_has_counts_an_eighth() -> None:
    image = np.zeros((2, 2, 1))
    mean = mean_over_views(image, lambda view: np.float64([[[8], [0]], [[0], [0]]]), 1)
    np.testing.assert_array_equal(mean[..., 0], np.full((2, 2), 2.0))
