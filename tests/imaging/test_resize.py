from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from srlib.errors import SrlibError
from srlib.imaging.read import read_image
from srlib.imaging.resize import crop_to_multiple, downscale, resize


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def pairs(shared, set_name, scale):
    folder = shared / "mirror/SelfExSR/data" / set_name / f"image_SRF_{scale}"
    files = sorted(folder.glob("*_HR.png"))
    return [(path, path.with_name(path.name.replace("_HR", "_LR"))) for path in files]


MIRRORED = [("Set5", 2, 5), ("Set5", 3, 5), ("Set5", 4, 5), ("Set14", 2, 14), ("Set14", 3, 14), ("Set14", 4, 14)]


@pytest.mark.parametrize(("set_name", "scale", "count"), [*MIRRORED, ("BSD100", 4, 100)])
def test_matlabs_own_files_byte_for_byte(shared, set_name, scale, count):
    files = pairs(shared, set_name, scale)
    assert len(files) == count
    differing = [hr.name for hr, lr in files if not np.array_equal(downscale(read_image(hr), scale), read_image(lr))]
    assert differing == []


def luma(image):
    return 16 + image.astype(float) @ [65.481, 128.553, 24.966] / 255


# The table of MATLAB bicubic x4, measured by an independent implementation from the LR files.
@pytest.mark.parametrize(
    ("set_name", "psnr", "ssim"), [("Set5", 28.430, 0.8111), ("Set14", 26.091, 0.7048), ("BSD100", 25.962, 0.6681)]
)
def test_upscaling_scores_as_published(shared, set_name, psnr, ssim):
    metrics = pytest.importorskip("skimage.metrics")
    scores = []
    for hr, lr in pairs(shared, set_name, 4):
        true, test = (luma(image)[4:-4, 4:-4] for image in (read_image(hr), resize(read_image(lr), 4)))
        how = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255, "full": True}
        inside = metrics.structural_similarity(true, test, **how)[1][5:-5, 5:-5]
        scores.append((10 * np.log10(255**2 / np.mean((true - test) ** 2)), inside.mean()))
    assert np.mean(scores, axis=0) == pytest.approx([psnr, ssim], abs=2e-3)
    assert np.mean(scores, axis=0)[1] == pytest.approx(ssim, abs=2e-4)


def reference(row, new, factor, *, width, kernel, edges):
    """One output row by imresize's definition, pixel by pixel, in exact fractions."""
    stretch = min(factor, Fraction(1))
    out = []
    for i in range(new):
        center = (i + Fraction(1, 2)) / factor - Fraction(1, 2)
        total = weight_sum = Fraction(0)
        reach = int(width / stretch) + 2
        for j in range(int(center) - reach, int(center) + reach + 1):
            weight = kernel(abs(center - j) * stretch)
            period = j % (2 * len(row))
            where = min(max(j, 0), len(row) - 1) if edges == "clamp" else min(period, 2 * len(row) - 1 - period)
            total += weight * int(row[where])
            weight_sum += weight
        out.append(min(max(int(total / weight_sum + Fraction(1, 2)), 0), 255))
    return out


def cubic(x):
    if x <= 1:
        return Fraction(3, 2) * x**3 - Fraction(5, 2) * x**2 + 1
    return -Fraction(1, 2) * x**3 + Fraction(5, 2) * x**2 - 4 * x + 2 if x <= 2 else Fraction(0)


def linear(x):
    return max(1 - x, Fraction(0))


KERNELS = {"cubic": (4, cubic), "linear": (2, linear)}


@settings(deadline=None, max_examples=60)
@given(
    row=st.lists(st.integers(0, 255), min_size=1, max_size=24),
    factor=st.fractions(Fraction(1, 5), 5, max_denominator=7),
    kernel=st.sampled_from(sorted(KERNELS)),
    edges=st.sampled_from(["clamp", "mirror"]),
)
def test_any_factor_is_exact(row, factor, kernel, edges):
    image = np.array(row, np.uint8)[:, None, None]
    new = -(-len(row) * factor // 1)
    width, function = KERNELS[kernel]
    expected = reference(row, new, factor, width=width, kernel=function, edges=edges)
    # One pixel wide, the second axis has nothing to mix: this is one pass.
    assert resize(image, factor, kernel=kernel, edges=edges)[:, 0, 0].tolist() == expected
    sideways = resize(image.swapaxes(0, 1), (1, int(new)), kernel=kernel, edges=edges)
    if Fraction(int(new), len(row)) == factor:
        assert sideways[0, :, 0].tolist() == expected


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 90), st.integers(1, 90), st.integers(0, 255))
@settings(deadline=None, max_examples=40)
def test_a_flat_image_stays_flat(height, width, new_height, new_width, value):
    image = np.full((height, width, 3), value, np.uint8)
    out = resize(image, (new_height, new_width), edges="mirror")
    assert out.shape == (new_height, new_width, 3) and (out == value).all()


@pytest.mark.parametrize("edges", ["clamp", "mirror"])
@pytest.mark.parametrize("kernel", ["cubic", "linear", "box"])
@pytest.mark.parametrize("target", [Fraction(1, 4), Fraction(2, 3), 3, (17, 61)])
def test_flips_and_channels_commute_with_resizing(kernel, edges, target):
    image = pixels(48, 36, 3)
    out = resize(image, target, kernel=kernel, edges=edges)
    for channel in range(3):
        alone = resize(image[..., channel : channel + 1], target, kernel=kernel, edges=edges)
        np.testing.assert_array_equal(alone[..., 0], out[..., channel])
    if kernel != "box":  # a half-open box is not symmetric
        np.testing.assert_array_equal(resize(image[::-1, ::-1], target, kernel=kernel, edges=edges), out[::-1, ::-1])


def test_the_edges_differ_only_near_the_border():
    image = pixels(80, 80, 3)
    clamp, mirror = (resize(image, Fraction(1, 4), edges=edges) for edges in ("clamp", "mirror"))
    assert (clamp != mirror).any()
    np.testing.assert_array_equal(clamp[2:-2, 2:-2], mirror[2:-2, 2:-2])


def test_the_axis_that_shrinks_more_goes_first():
    image = pixels(30, 60, 3)
    for size in ((20, 15), (10, 45), (60, 15)):
        narrow_first = size[1] / 60 < size[0] / 30
        middle = (30, size[1]) if narrow_first else (size[0], 60)
        np.testing.assert_array_equal(resize(image, size), resize(resize(image, middle), size))
    assert (resize(image, (20, 15)) != resize(resize(image, (20, 60)), (20, 15))).any()


def test_nearest_repeats_and_box_averages():
    image = pixels(6, 5, 3)
    np.testing.assert_array_equal(resize(image, 4, kernel="nearest"), image.repeat(4, 0).repeat(4, 1))
    np.testing.assert_array_equal(resize(image, 4, kernel="box"), image.repeat(4, 0).repeat(4, 1))
    assert resize(np.array([10, 20, 30, 41], np.uint8)[:, None, None], (2, 1), kernel="box")[:, 0, 0].tolist() == [
        15,
        36,
    ]
    np.testing.assert_array_equal(resize(image, (2, 5), kernel="nearest"), image[[1, 4]])


def test_linear_upscaling_agrees_with_pillow():
    image = pixels(40, 30, 3)
    other = np.asarray(Image.fromarray(image).resize((120, 160), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(resize(image, 4, kernel="linear")[4:-4, 4:-4] - other[4:-4, 4:-4]).max() <= 1


def test_without_antialiasing_the_kernel_keeps_its_width():
    row = np.zeros((16, 1, 1), np.uint8)
    row[0] = 255  # four pixels from the center of the first output pixel's support
    assert resize(row, Fraction(1, 8), antialias=False).max() == 0 < resize(row, Fraction(1, 8)).max()


def test_sizes_and_halves():
    assert resize(pixels(7, 10, 3), 0.5).shape == (4, 5, 3)
    assert resize(pixels(9, 10, 3), 1 / 3).shape == (3, 4, 3)
    assert resize(pixels(5, 7, 3), 1).shape == (5, 7, 3)
    # (10 + 11) / 2 is a half: it rounds up.
    assert resize(np.array([10, 11], np.uint8)[:, None, None], (1, 1), kernel="box").item() == 11
    hr = pixels(23, 18, 3)
    np.testing.assert_array_equal(crop_to_multiple(hr, 4), hr[:20, :16])
    np.testing.assert_array_equal(downscale(hr, 4), resize(hr[:20, :16], (5, 4)))
    assert downscale(hr, 4).shape == (5, 4, 3)


@pytest.mark.parametrize(
    "image", [None, np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint16), np.zeros((0, 4, 3), np.uint8)]
)
def test_not_a_image(image):
    for function in (resize, downscale):
        with pytest.raises(SrlibError, match=f"{function.__name__}: expected a uint8 or uint16 image"):
            function(image, 2)


@pytest.mark.parametrize("target", [0, -1, float("nan"), float("inf"), (0, 4), (4,), (2.5, 4), "2"])
def test_not_a_target(target):
    with pytest.raises(SrlibError, match="resize: expected"):
        resize(pixels(4, 4, 3), target)


@pytest.mark.parametrize(
    "target",
    [np.float64(1 / 3), np.float32(1 / 3), np.float16(2.5), np.int64(2), np.uint8(2), (np.uint8(7), np.int64(3))],
)
def test_numbers_of_numpy(target):
    image = pixels(250, 12, 3)
    same = tuple(map(int, target)) if isinstance(target, tuple) else Fraction(float(target)).limit_denominator(1000)
    np.testing.assert_array_equal(resize(image, target), resize(image, same))


@pytest.mark.parametrize(
    ("target", "line"),
    [
        (1e6, "4000000×3000000 pixels needs about 72.* GB of memory, and .* GB are free; cut the image, or ask for"),
        ((1, 2**31), f"{2**31}×1 pixels needs about 1086.6 GB of memory"),
        (np.float64(1e300), r"expected at most 2,147,483,648 pixels per side, got 1e\+300"),
        ((1, 10**400), "expected at most 2,147,483,648 pixels per side, got .1, 10000000000"),
    ],
)
def test_a_result_beyond_the_memory_is_one_line(target, line):
    with pytest.raises(SrlibError, match=f"^resize: (4×3 to )?{line}"):
        resize(pixels(3, 4, 3), target)


def test_smaller_than_the_scale():
    with pytest.raises(SrlibError, match="downscale: 8×3 pixels, too small for ×4"):
        downscale(pixels(3, 8, 3), 4)


@pytest.mark.parametrize("scale", [0, -1, 2.5, "2", None])
def test_not_a_scale(scale):
    with pytest.raises(SrlibError, match=f"downscale: scale: expected a whole number from 1, got {scale}"):
        downscale(pixels(8, 8, 3), scale)
    for whole in (np.int64(2), np.uint8(2)):
        np.testing.assert_array_equal(downscale(pixels(300, 8, 3), whole), downscale(pixels(300, 8, 3), 2))


@pytest.mark.parametrize("options", [{"kernel": "lanczos"}, {"edges": "wrap"}])
def test_not_an_option(options):
    ((name, value),) = options.items()
    with pytest.raises(SrlibError, match=f"resize: {name}: expected one of .*, got {value}"):
        resize(pixels(8, 8, 3), 2, **options)


@pytest.mark.parametrize("factor", [Fraction(1, 4), Fraction(2, 3), 2, 4])
def test_sixteen_bits_follow_the_same_sums_as_eight(factor):
    eight = pixels(23, 18, 3)
    sixteen = resize(eight.astype(np.uint16) * 257, factor)
    assert sixteen.dtype == np.uint16
    # Eight bits round once per pass, half a level each, the second pass weighing the first with up to 1.25² in all.
    assert np.abs(sixteen / 257 - resize(eight, factor)).max() < 1.5
    constant = np.full((5, 6, 1), 65535, np.uint16)
    assert (resize(constant, factor) == 65535).all()
    # (0 + 65535) / 2 is a half: it rounds up.
    assert resize(np.array([0, 65535], np.uint16)[:, None, None], (1, 1), kernel="box").item() == 32768
