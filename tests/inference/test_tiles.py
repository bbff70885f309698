"""Tiles: every pixel once, none nearer to a cut than the overlap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srlib.errors import SrlibError
from srlib.inference.tiles import Grid, grid
from srlib.memory import free_memory

sides = st.integers(1, 400)


def check(cut: Grid, height: int, width: int, overlap: int) -> None:
    """A tile is a row crossed with a column: it is enough that each axis is covered once."""
    for spans, length, size in zip((cut.rows, cut.columns), (height, width), cut.shape, strict=True):
        written = np.zeros(length, int)
        for span in spans:
            assert span.stop - span.start == size
            assert 0 <= span.start <= span.keep_start < span.keep_stop <= span.stop <= length
            assert span.start == 0 or span.keep_start - span.start >= overlap
            assert span.stop == length or span.stop - span.keep_stop >= overlap
            written[span.keep_start : span.keep_stop] += 1
        assert (written == 1).all()


@settings(deadline=None)
@given(sides, sides, st.integers(0, 70), st.integers(1, 500))
def test_tiles_of_a_given_side_keep_every_pixel_once(height: int, width: int, overlap: int, side: int) -> None:
    cut = grid(height, width, overlap=overlap, largest=1, side=side)
    check(cut, height, width, overlap)
    assert max(cut.shape) <= side + 2 * overlap


@settings(deadline=None)
@given(sides, sides, st.integers(0, 70), st.integers(1, 200_000))
def test_automatic_tiles_keep_every_pixel_once(height: int, width: int, overlap: int, largest: int) -> None:
    cut = grid(height, width, overlap=overlap, largest=largest)
    check(cut, height, width, overlap)
    if height * width <= largest:
        assert len(cut) == 1
    elif largest >= (4 * overlap + 100) ** 2:
        assert np.prod(cut.shape) <= largest


def test_no_other_grid_computes_less() -> None:
    cut = grid(1080, 1920, overlap=22, largest=400_000)
    others = [grid(1080, 1920, overlap=22, largest=1, side=side) for side in range(200, 1200, 20)]
    computed, *alternatives = (len(one) * np.prod(one.shape) for one in (cut, *others) if np.prod(one.shape) <= 400_000)
    assert computed <= min(alternatives)
    assert computed < 1.2 * 1080 * 1920


def test_a_side_of_nothing_is_refused() -> None:
    with pytest.raises(SrlibError, match="tile: expected a side from 1 pixel, got 0"):
        grid(10, 10, overlap=3, largest=100, side=0)


def test_free_memory_is_between_nothing_and_the_machine() -> None:
    free = free_memory()
    assert free is None or 2**20 < free < 2**50
