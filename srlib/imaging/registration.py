"""Register two photographs of one scene: find where each LR pixel lies in the HR image, and resample HR to fit.

Coordinates are (x, y) of pixel centers, the first pixel at 0. The global part is a homography: a start from matching
SIFT features (Lowe 2004) by RANSAC, refined by the enhanced correlation coefficient (ECC, Evangelidis and Psarakis
2008), which does not depend on brightness and contrast. What remains, as from a lens or a scene with depth, is a shift
for each tile, interpolated between the tiles' centers. LR is never resampled: its blur and noise are what a network
is to learn from.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from srlib.arrays import Image, Pixels
from srlib.errors import SrlibError
from srlib.imaging.color import luma
from srlib.imaging.resize import resize

_Floats = npt.NDArray[np.float64]

LARGEST_SIDE = 2**15 - 2
"""Pixels per side that `resample` can read and write; OpenCV counts them in 16 bits."""

_REDUCED_SIDE = 1024
"""Pixels to which the longer side is reduced for the global part; the shifts of the tiles make up for it."""

_FEATURES, _RATIO, _INLIERS = 4000, 0.75, 12
_STEPS, _PRECISION = 100, 1e-5
_SMOOTHING = 5
"""Side in pixels of the Gaussian filter in front of ECC, against noise."""

_LOWEST_CORRELATION = 0.5
"""ECC below which two images are not of the same scene."""

_FLAT = 3.0
"""Standard deviation in levels of 255 below which a tile shows nothing that could be shifted."""


@dataclass(frozen=True)
class Registration:
    """Where an LR image lies in an HR image.

    Attributes:
        warp: Homography [3, 3] from the pixel centers (x, y) of HR on the grid of LR, `scale` pixels per LR pixel, to
            those of the HR image.
        ratio: HR pixels per LR pixel.
    """

    warp: _Floats
    ratio: float


def register(lr: Image, hr: Image, scale: int) -> Registration:
    """Find where an LR image lies in an HR image of the same scene.

    Args:
        lr: uint8 RGB [h, w, 3].
        hr: uint8 RGB [H, W, 3], about `scale` times as detailed; it may show more or less of the scene.
        scale: HR pixels per LR pixel of the registered pair.

    Returns:
        The registration.

    Raises:
        SrlibError: The images show nothing in common.

    Example:
        >>> import skimage.data
        >>> hr = skimage.data.astronaut()
        >>> lr = resize(hr[8:, 4:], 0.25)
        >>> position = register(lr, hr, 4)
        >>> position.warp[:2, 2].round().astype(int).tolist(), round(position.ratio, 1)
        ([4, 8], 4.0)
    """
    # Both at the size of LR, or smaller.
    reduction = min(1.0, _REDUCED_SIDE / max(lr.shape[:2]))
    small_lr, to_lr = _reduced(lr, reduction)
    small_hr, to_hr = _reduced(hr, reduction / scale)
    start = _feature_homography(small_lr, small_hr)
    if start is None:
        start = _translation(small_lr, small_hr)
    warp = _refined(small_lr, small_hr, start, cv2.MOTION_HOMOGRAPHY)
    if warp is None:
        raise SrlibError("the two images show nothing in common")
    warp = to_hr @ warp @ np.linalg.inv(to_lr) @ _scaling(scale, scale, inverse=True)
    return Registration(warp / warp[2, 2], scale * float(np.sqrt(abs(np.linalg.det(warp[:2, :2] / warp[2, 2])))))


def resample(hr: Image, warp: _Floats, size: tuple[int, int], shifts: _Floats | None = None) -> Pixels:
    """Resample an HR image to the grid of its LR image (Lanczos, 8×8 pixels).

    Args:
        hr: uint8 RGB [H, W, 3].
        warp: Homography from the new pixel centers to those of `hr`.
        size: New (height, width).
        shifts: Further shift (x, y) in new pixels [rows, columns, 2], at the centers of as many tiles; bilinear between
            them (default: none).

    Returns:
        uint16 [height, width, 3], 257 for each level of 255, so that nothing is rounded twice. Beyond the border of
        `hr`, its outermost pixels are repeated.
    """
    source = hr.astype(np.float32) * 257
    places = _places(warp, size, shifts)
    values = cv2.remap(source, places, None, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(np.clip(np.rint(values), 0, 65535), np.uint16)


def covered(hr: Image, warp: _Floats, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Return for each pixel of `resample` whether it lies inside the HR image, bool [height, width]."""
    places = _places(warp, size, None)
    return np.asarray(((places >= 0) & (places <= (hr.shape[1] - 1, hr.shape[0] - 1))).all(axis=-1))


def _places(warp: _Floats, size: tuple[int, int], shifts: _Floats | None) -> npt.NDArray[np.float32]:
    """Return the pixel centers (x, y) in HR for each new pixel, [height, width, 2]."""
    height, width = size
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    if shifts is not None:
        field = cv2.resize(shifts.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
        x, y = x + field[..., 0], y + field[..., 1]
    return np.asarray(cv2.perspectiveTransform(np.stack([x, y], axis=-1), warp), np.float32)


def tile_shift(lr: Pixels, fitted: Pixels) -> _Floats:
    """Return the shift (x, y) in LR pixels by which a tile of the resampled HR still differs from LR.

    Args:
        lr: uint8 or uint16 RGB [h, w, 3].
        fitted: HR, resampled and downscaled to the same size.

    Returns:
        float64 [2]; (0, 0) for a flat tile, and where none can be found.
    """
    ours, theirs = (luma(image, "luma").astype(np.float32) for image in (lr, fitted))
    if min(ours.std(), theirs.std()) < _FLAT:
        return np.zeros(2)
    warp = _refined(ours, theirs, np.eye(3), cv2.MOTION_TRANSLATION)
    return np.zeros(2) if warp is None else warp[:2, 2]


def color_transform(source: Pixels, target: Pixels, *, rounds: int = 4) -> _Floats:
    """Return the affine map of colors from one image to another one that fits best where both show the same.

    Least squares, repeated without the pixels whose error is above three standard deviations (from the median, so that
    moved objects do not count).

    Args:
        source: RGB [N, 3] or [h, w, 3].
        target: RGB of the same shape and dtype.
        rounds: Number of fits.

    Returns:
        float64 [4, 3]: three rows for R, G and B, and one for the constant, all in levels of 255.
    """
    divisor = 257.0 if source.dtype == np.uint16 else 1.0
    inputs = np.column_stack([source.reshape(-1, 3) / divisor, np.ones(source.size // 3)])
    outputs = target.reshape(-1, 3) / divisor
    inliers = np.ones(len(inputs), bool)
    for _ in range(rounds):
        matrix = np.linalg.lstsq(inputs[inliers], outputs[inliers], rcond=None)[0]
        errors = np.abs(inputs @ matrix - outputs).max(axis=1)
        inliers = errors <= 3 * 1.4826 * max(float(np.median(errors)), 0.5)
    return np.asarray(matrix)


def apply_color(image: Pixels, matrix: _Floats) -> Image:
    """Apply a map of colors from `color_transform`.

    Args:
        image: uint16 RGB [h, w, 3], 257 for each level.
        matrix: [4, 3].

    Returns:
        uint8 RGB [h, w, 3].
    """
    levels = np.rint(image / 257.0 @ matrix[:3] + matrix[3])
    return np.asarray(np.clip(levels, 0, 255), np.uint8)


def _reduced(image: Image, factor: float) -> tuple[npt.NDArray[np.float32], _Floats]:
    """Return luma at about `factor` of the size, and the map from its pixel centers to those of the image."""
    height, width = image.shape[:2]
    size = max(round(height * factor), 1), max(round(width * factor), 1)
    small = image if size == (height, width) else resize(image, size)
    return luma(small, "luma").astype(np.float32), _scaling(width / size[1], height / size[0])


def _scaling(x: float, y: float, *, inverse: bool = False) -> _Floats:
    """Return the map from the pixel centers of an image to those of one that is (x, y) times as wide and high."""
    matrix = np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])
    return np.linalg.inv(matrix) if inverse else matrix


def _feature_homography(ours: npt.NDArray[np.float32], theirs: npt.NDArray[np.float32]) -> _Floats | None:
    """Return a homography from SIFT features that match in both images; None if too few do."""
    sift = cv2.SIFT.create(_FEATURES)
    features = [sift.detectAndCompute(np.clip(image, 0, 255).astype(np.uint8), None) for image in (ours, theirs)]
    (points, descriptors), (other_points, other_descriptors) = features
    if min(len(points), len(other_points)) < _INLIERS:
        return None
    pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(descriptors, other_descriptors, k=2)
    good = [pair[0] for pair in pairs if len(pair) == 2 and pair[0].distance < _RATIO * pair[1].distance]
    if len(good) < _INLIERS:
        return None
    here = np.array([points[match.queryIdx].pt for match in good])
    there = np.array([other_points[match.trainIdx].pt for match in good])
    warp, inliers = cv2.findHomography(here, there, cv2.RANSAC, 2.0)
    return None if warp is None or inliers.sum() < _INLIERS else np.asarray(warp)


def _translation(ours: npt.NDArray[np.float32], theirs: npt.NDArray[np.float32]) -> _Floats:
    """Return a translation by phase correlation of the parts at the top left that both images have."""
    height, width = np.minimum(ours.shape, theirs.shape)
    window = cv2.createHanningWindow((int(width), int(height)), cv2.CV_32F) if min(height, width) > 1 else None
    shift, _ = cv2.phaseCorrelate(ours[:height, :width].copy(), theirs[:height, :width].copy(), window)
    return np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1.0]])


def _refined(
    ours: npt.NDArray[np.float32], theirs: npt.NDArray[np.float32], start: _Floats, motion: int
) -> _Floats | None:
    """Return the warp from `ours` to `theirs` of largest ECC near a start; None if ECC does not converge."""
    rows = 3 if motion == cv2.MOTION_HOMOGRAPHY else 2
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _STEPS, _PRECISION)
    first = (start / start[2, 2])[:rows].astype(np.float32)
    try:
        correlation, warp = cv2.findTransformECC(ours, theirs, first, motion, criteria, None, _SMOOTHING)
    except cv2.error:  # "the images may be uncorrelated or non-overlapped"
        return None
    if correlation < _LOWEST_CORRELATION:
        return None
    return np.vstack([warp, [0, 0, 1]]) if rows == 2 else np.asarray(warp, np.float64)
