"""Find training images that show the scene or subject of a test image.

A network that has learned a test image scores too high on it. Copies differ in size, crop and compression, so that no
hash of their bytes finds them. Here keypoints are matched, and a copy is where many of them agree on one scale, angle
and shift.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from srlib.errors import SrlibError
from srlib.imaging.folders import list_images
from srlib.imaging.read import read_image
from srlib.parallel import for_each

_Floats = npt.NDArray[np.float32]

_SIDE = 512
"""Pixels to which the longer side of an image is reduced."""

_KEYPOINTS = 500
"""Most keypoints of an image."""

_SIMILAR = 0.9
"""Cosine of two descriptors from which on they may be of the same point."""

_LARGEST_RATIO = 10.0
"""Largest ratio of the scales of two copies; beyond it all points of one fall on a single point of the other."""

_TOLERANCE = 4.0
"""Pixels by which points that agree may miss each other."""

_ENOUGH = 12
"""Points that must agree."""


@dataclass(frozen=True)
class Overlap:
    """A training image and a test image that show the same scene, parts of it, or the same subject.

    Attributes:
        image: The training image.
        test: The test image.
        points: Keypoints that agree.
    """

    image: Path
    test: Path
    points: int


@dataclass(frozen=True)
class OverlapSearch:
    """Result of `find_overlaps`.

    Attributes:
        overlaps: Pairs that show the same scene, in the order of the training images.
        images: Number of training images that were compared.
        tests: Number of test images that they were compared with.
        unreadable: One line for each file that could not be read.
        plain: Images with too few corners to be compared with any other, even with themselves: not counted above.
    """

    overlaps: tuple[Overlap, ...]
    images: int
    tests: int
    unreadable: tuple[str, ...]
    plain: tuple[Path, ...] = ()


@dataclass(frozen=True)
class _Keypoints:
    """Positions [n, 2] in pixels of the reduced image, and descriptors [n, 128] of length 1."""

    places: _Floats
    descriptors: _Floats

    @property
    def are_enough(self) -> bool:
        """Whether they can agree with those of another image."""
        return len(self.places) >= _ENOUGH


def find_overlaps(images: Path, tests: Path, *, workers: int | None = None) -> OverlapSearch:
    """Compare every image of one folder with every image of another.

    SIFT keypoints (Lowe 2004) with RootSIFT descriptors (Arandjelović & Zisserman 2012) that are each other's nearest
    are matched; RANSAC counts those that agree on one scale, angle and shift. Copies that were scaled, cropped,
    rotated or compressed are found, but a crop the less surely the smaller it is: nearly always half of the sides of
    the other image, a quarter in 7 of 10. Mirrored copies are not, nor images without corners, such as a clear sky.

    Args:
        images: Folder of training images, at any depth.
        tests: Folder of test images, at any depth; folders named `LR` in it are left out.
        workers: Number of images compared at once (default: all CPU cores).

    Returns:
        The pairs, and how many images were compared.

    Raises:
        SrlibError: A folder does not exist or holds no image, or no test image can be read.

    Example:
        >>> import tempfile, skimage
        >>> from srlib.imaging.write import write_png
        >>> folder, cat = Path(tempfile.mkdtemp()), skimage.data.chelsea()
        >>> write_png(folder / "train/part.png", cat[40:280, 100:400])
        >>> write_png(folder / "test/cat.png", cat)
        >>> search = find_overlaps(folder / "train", folder / "test")
        >>> [(pair.image.name, pair.test.name) for pair in search.overlaps]
        [('part.png', 'cat.png')]
    """
    training = _listed(images)
    tested = [path for path in _listed(tests) if "LR" not in path.relative_to(tests).parts]
    if not tested:
        raise SrlibError(f"{tests}: expected test images, found only images in folders named LR")
    known = for_each(_read_keypoints, tested, label="reading test images", unit="images", workers=workers)
    references = [(path, points) for path, points in zip(tested, known, strict=True) if isinstance(points, _Keypoints)]
    if not references:
        raise SrlibError("\n".join(["none of the test images can be read:", *map(str, known)]))
    compare = functools.partial(_compare, references=references)
    results = for_each(compare, training, label="comparing images", unit="images", workers=workers)
    overlaps = [overlap for result in results if isinstance(result, list) for overlap in result]
    unreadable = [line for line in (*known, *results) if isinstance(line, str)]
    plain = [path for path, points in references if not points.are_enough]
    compared = sum(isinstance(result, list) for result in results)
    plain += [path for path, result in zip(training, results, strict=True) if result is None]
    tested_with = sum(points.are_enough for _, points in references)
    return OverlapSearch(tuple(overlaps), compared, tested_with, tuple(unreadable), tuple(plain))


def _listed(folder: Path) -> list[Path]:
    paths = list_images(folder)
    if not paths:
        raise SrlibError(f"{folder}: expected a folder of images, found none")
    return paths


def _compare(path: Path, *, references: Sequence[tuple[Path, _Keypoints]]) -> list[Overlap] | str | None:
    """Return the overlaps of one training image; one line if it cannot be read, None if it has too few keypoints."""
    keypoints = _read_keypoints(path)
    if isinstance(keypoints, str):
        return keypoints
    if not keypoints.are_enough:
        return None
    counts = ((test, _agreeing(keypoints, reference)) for test, reference in references)
    return [Overlap(path, test, count) for test, count in counts if count >= _ENOUGH]


def _read_keypoints(path: Path) -> _Keypoints | str:
    """Return the strongest keypoints of an image; one line if it cannot be read."""
    try:
        rgb = read_image(path)
    except SrlibError as error:
        return str(error)
    factor = _SIDE / max(rgb.shape[:2])
    if factor < 1:
        rgb = cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    points, descriptors = cv2.SIFT.create(_KEYPOINTS).detectAndCompute(gray, None)
    if not points:
        return _Keypoints(np.empty((0, 2), np.float32), np.empty((0, 128), np.float32))
    shares = descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-6)
    return _Keypoints(np.array([point.pt for point in points], np.float32), np.sqrt(shares).astype(np.float32))


def _agreeing(one: _Keypoints, other: _Keypoints) -> int:
    """Return how many keypoints of two images agree on one scale, angle and shift."""
    if not (one.are_enough and other.are_enough):
        return 0
    similar = one.descriptors @ other.descriptors.T
    nearest = similar.argmax(axis=1)
    rows = np.arange(len(nearest))
    mutual = (similar.argmax(axis=0)[nearest] == rows) & (similar[rows, nearest] >= _SIMILAR)
    if mutual.sum() < _ENOUGH:
        return 0
    warp, inliers = cv2.estimateAffinePartial2D(
        one.places[mutual], other.places[nearest[mutual]], method=cv2.RANSAC, ransacReprojThreshold=_TOLERANCE
    )
    if warp is None or not 1 / _LARGEST_RATIO < np.hypot(warp[0, 0], warp[1, 0]) < _LARGEST_RATIO:
        return 0
    return int(inliers.sum())
