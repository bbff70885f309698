"""Find the section `prepare.degradation` that fits a folder of images, and show both side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from srlib.arrays import Image
from srlib.data.degradation import degrade_image, keyed_generator
from srlib.errors import SrlibError
from srlib.formats.inks import to_8_bits
from srlib.imaging.estimation import HIDING_QUALITY, SMALLEST_SIDE, Traces, estimate_traces
from srlib.imaging.folders import list_images
from srlib.imaging.input_range import SHARP
from srlib.imaging.jpeg_noise import LUMA, lowest_noise
from srlib.imaging.read import read_image
from srlib.imaging.resize import resize
from srlib.imaging.write import write_png
from srlib.parallel import for_each
from srlib.params.degradation import Blur, Compression, Degradation, DegradationPass, Noise, Resizing

VISIBLE_NOISE = 3.0
"""Noise in levels of 255 below which an image counts as free of it: fine texture and JPEG artifacts look alike."""

VISIBLE_BLUR = 0.5
"""Blur in pixels below which an image counts as sharp."""

_GRAY_SHARE = 0.2
"""Share of gray noise in the images from which on those with averaged chroma (4:2:0) are taken to have it: detail of
their chroma often looks like independent noise, and independent noise hardly ever like gray noise."""

_TILE, _ZOOM, _GAP = 128, 2, 8


@dataclass(frozen=True)
class FolderTraces:
    """What the images of a folder show of their degradation.

    Attributes:
        images: Images that were large enough.
        traces: Estimates of each.
        skipped: Images that could not be read or are too small, one line each.
    """

    images: tuple[Path, ...]
    traces: tuple[Traces, ...]
    skipped: tuple[str, ...]

    @property
    def hidden_noise(self) -> float | None:
        """Levels below which JPEG compression hides noise in half of the images or more; None if it does in fewer."""
        qualities = [trace.jpeg_quality for trace in self.traces if trace.jpeg_quality is not None]
        levels = [lowest_noise(quality) for quality in qualities if quality < HIDING_QUALITY]
        return float(np.median(levels)) if 2 * len(levels) >= max(len(self.traces), 1) else None


def estimate_folder(folder: Path) -> FolderTraces:
    """Estimate the degradation of every image below a folder.

    Args:
        folder: Images as they are: originals from the camera or the web, not copies saved by another program.

    Returns:
        The estimates.

    Raises:
        SrlibError: No image of at least 96 pixels per side.
    """
    paths = list_images(Path(folder))
    results = for_each(_estimate, paths, label="estimating", unit="images")
    images = tuple(path for path, result in zip(paths, results, strict=True) if isinstance(result, Traces))
    traces = tuple(result for result in results if isinstance(result, Traces))
    skipped = tuple(result for result in results if isinstance(result, str))
    if not traces:
        first = f" ({skipped[0]})" if skipped else ""
        raise SrlibError(f"{folder}: expected images of at least {SMALLEST_SIDE} pixels per side, got none{first}")
    return FolderTraces(images, traces, skipped)


def _estimate(path: Path) -> Traces | str:
    try:
        return estimate_traces(read_image(path), path.read_bytes())
    except (SrlibError, OSError) as error:
        message = str(error)
        return message if message.startswith(str(path)) else f"{path}: {message}"


def fitted_degradation(traces: Sequence[Traces], scale: int) -> Degradation:
    """Return the section `prepare.degradation` whose random images resemble the estimated ones.

    Each range goes from the 10th to the 90th percentile. One pass; what the estimates cannot tell apart (elliptic
    blur, shot noise, resizing by other software) is left out.

    Args:
        traces: Estimates of some images, at least one.
        scale: Factor that the network will upscale by; blur is stated in HR pixels.

    Returns:
        The section.

    Example:
        >>> section = fitted_degradation([Traces(5.0, 0.0, 0.34, 80)], scale=4)
        >>> section.passes[0].noise.sigma, section.passes[0].compression.quality, section.passes[0].blur
        ([5.0, 5.0], [80, 80], None)
    """
    blurs = [trace.blur for trace in traces if trace.blur is not None]
    blurred = [scale * float(np.sqrt(blur**2 - SHARP**2)) for blur in blurs if blur > VISIBLE_BLUR]
    noisy = [trace for trace in traces if trace.noise >= VISIBLE_NOISE]
    compressed = [trace for trace in traces if trace.jpeg_quality is not None]
    clean = sum(
        trace.noise < VISIBLE_NOISE and (trace.blur or 0) <= VISIBLE_BLUR and trace.jpeg_quality is None
        for trace in traces
    )
    touched = max(len(traces) - clean, 1)

    def share(count: int, whole: int) -> float:
        return round(min(count / max(whole, 1), 1), 2)

    one = DegradationPass(resize=Resizing(methods=["antialiased"]))
    if blurred:
        probability = share(len(blurred) * len(traces), len(blurs) * touched)
        blur = Blur(probability=probability, sigma=_range(blurred, 2, highest=20), anisotropic=0, generalized=0)
        one = one.model_copy(update={"blur": blur})
    if noisy:
        kinds = _kinds_of_noise(noisy)
        gray = share(sum(is_gray for _, is_gray in kinds), len(kinds))
        sigma = _range([sigma for sigma, _ in kinds], 1, highest=100)
        visible = sum(trace in noisy or not trace.hides_noise for trace in traces)
        probability = share(len(noisy) * len(traces), visible * touched)
        noise = Noise(probability=probability, sigma=sigma, poisson=0, gray=gray)
        one = one.model_copy(update={"noise": noise})
    if compressed:
        low, high = _range([trace.jpeg_quality for trace in compressed if trace.jpeg_quality], 0, highest=100)
        compression = Compression(
            probability=share(len(compressed), touched),
            quality=[int(low), int(high)],
            webp=0,
            full_chroma=share(sum(trace.full_chroma for trace in compressed), len(compressed)),
        )
        one = one.model_copy(update={"compression": compression})
    return Degradation(clean=share(clean, len(traces)), passes=[one])


def _kinds_of_noise(noisy: Sequence[Traces]) -> list[tuple[float, bool]]:
    """Return σ per channel of each noisy image, and whether its noise is gray."""
    known = [trace.gray_noise > 0.5 for trace in noisy if trace.gray_noise is not None]
    is_gray = sum(known) >= _GRAY_SHARE * len(known)
    return [
        (trace.noise, trace.gray_noise > 0.5)
        if trace.full_chroma and trace.gray_noise is not None
        else (trace.luma_noise / (1 if is_gray else LUMA), is_gray)
        for trace in noisy
    ]


def _range(values: Sequence[float], digits: int, *, highest: float) -> list[float]:
    low, high = (round(float(value), digits) for value in np.percentile(values, [10, 90]))
    return [min(low, highest), min(high, highest)]


def section_text(section: Degradation) -> str:
    """Return the section as YAML, to paste below `prepare:` in a recipe."""
    content = section.model_dump(mode="json", exclude_none=True)
    for one in content["passes"]:
        one["resize"] = {"methods": one["resize"]["methods"]}
        one.get("blur", {}).pop("shape", None)
        one.get("noise", {}).pop("scale", None)
    text = yaml.safe_dump({"degradation": content}, sort_keys=False, default_flow_style=None, width=120)
    return "".join(f"  {line}\n" for line in text.splitlines())


def comparison_sheet(
    images: Sequence[Path],
    hr_folder: Path,
    section: Degradation,
    scale: int,
    out: Path,
    *,
    count: int = 8,
    seed: int = 0,
) -> None:
    """Draw details of real images (left) beside degraded HR images (right), each pixel as four.

    Args:
        images: The real images.
        hr_folder: Clean images to degrade.
        section: The degradation.
        scale: Factor from HR to LR.
        out: PNG file to write.
        count: Number of rows, at most as many as there are images.
        seed: Seed of the random settings.

    Raises:
        SrlibError: A folder without images, or an image that cannot be read.
    """
    real = [_detail(read_image(path)) for path in _spread(images, count)]
    made = []
    for path in _spread(list_images(Path(hr_folder)), len(real)):
        generator = keyed_generator(f"{seed}/{path.name}")
        made.append(_detail(to_8_bits(degrade_image(read_image(path), scale, section, generator))))
    if not made:
        raise SrlibError(f"{hr_folder}: no images in it")
    side = _TILE * _ZOOM + _GAP
    sheet = np.full((len(real) * side + _GAP, 2 * side + _GAP, 3), 255, np.uint8)
    for column, tiles in enumerate((real, made)):
        for row, tile in enumerate(tiles):
            large = resize(tile, _ZOOM, kernel="nearest")
            top, left = row * side + _GAP, column * side + _GAP
            sheet[top : top + large.shape[0], left : left + large.shape[1]] = large
    write_png(Path(out), sheet)


def _spread(paths: Sequence[Path], count: int) -> list[Path]:
    """Return at most `count` of the paths, evenly spread."""
    return [paths[index] for index in np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int)]


def _detail(image: Image) -> Image:
    """Return the square with the most contrast."""
    rows = range(0, max(image.shape[0] - _TILE, 0) + 1, _TILE // 2)
    columns = range(0, max(image.shape[1] - _TILE, 0) + 1, _TILE // 2)
    tiles = [image[row : row + _TILE, column : column + _TILE] for row in rows for column in columns]
    return max(tiles, key=lambda tile: float(np.std(tile)))
