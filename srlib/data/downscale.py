"""Write LR versions of a folder of images: downscaled exactly, or degraded at random."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

import numpy as np

from srlib.errors import SrlibError
from srlib.files import check_output_folder
from srlib.imaging.folders import list_images
from srlib.imaging.read import read_image
from srlib.imaging.resize import Edges, downscale
from srlib.imaging.write import write_png
from srlib.parallel import for_each
from srlib.parts import Part

if TYPE_CHECKING:
    from srlib.params.degradation import Degradation


def downscale_folder(
    hr_folder: Path,
    lr_folder: Path,
    scale: int,
    edges: str = "clamp",
    *,
    force: bool = False,
    part: Part | None = None,
) -> int:
    """Write the LR image of every image below `hr_folder` as PNG with the same relative name; return the number.

    An unusable image does not stop the others; all of them are named in one error at the end.

    Args:
        hr_folder: Folder of HR images, searched at any depth.
        lr_folder: Folder for the LR images; it must lie outside `hr_folder`.
        scale: Downscaling factor, a whole number from 1.
        edges: `clamp` or `mirror`; see `srlib.imaging.resize`.
        force: Overwrite existing files.
        part: Write only this part of the images (default: all).

    Raises:
        SrlibError: Before any work: no images, a wrong option, or a target that exists or that two images share.
            After the work: one line for each unusable image.
    """
    if edges not in get_args(Edges):
        raise SrlibError(f"edges: expected {' or '.join(get_args(Edges))}, got {edges}")
    if scale < 1:
        raise SrlibError(f"scale: expected a whole number from 1, got {scale}")
    sources = _targets(Path(hr_folder), Path(lr_folder), force, part)
    return _write_all(
        sources, scale, lambda hr, _: downscale(hr, scale, edges=cast(Edges, edges)), label=f"downscaling ×{scale}"
    )


def degrade_folder(
    hr_folder: Path,
    lr_folder: Path,
    scale: int,
    params: "Degradation",
    *,
    seed: int = 0,
    force: bool = False,
    part: Part | None = None,
) -> int:
    """Write a randomly degraded LR image of every image below `hr_folder`; return the number.

    The degradation of an image depends on the seed and its relative name only.

    Args:
        hr_folder: Folder of HR images, searched at any depth.
        lr_folder: Folder for the LR images; it must lie outside `hr_folder`.
        scale: Downscaling factor, a whole number from 1.
        params: The section `prepare.degradation`.
        seed: Seed of all random settings.
        force: Overwrite existing files.
        part: Write only this part of the images (default: all).

    Raises:
        SrlibError: As `downscale_folder`.
    """
    from srlib.data.degradation import degrade_image, keyed_generator

    hr_folder = Path(hr_folder)
    sources = _targets(hr_folder, Path(lr_folder), force, part)

    def degrade(hr: np.ndarray, source: Path) -> np.ndarray:
        return degrade_image(hr, scale, params, keyed_generator(f"{seed}/{source.relative_to(hr_folder).as_posix()}"))

    return _write_all(sources, scale, degrade, label="degrading")


def _write_all(
    sources: dict[Path, Path], scale: int, convert: Callable[[np.ndarray, Path], np.ndarray], *, label: str
) -> int:
    """Write the converted image of each source to its target; name all unusable images at the end."""

    def write(target: Path) -> str | None:
        try:
            hr = read_image(sources[target])
            if min(hr.shape[:2]) < scale:
                raise SrlibError(f"{sources[target]}: {hr.shape[1]}×{hr.shape[0]} pixels, too small for ×{scale}")
            write_png(target, convert(hr, sources[target]))
        except SrlibError as error:
            return str(error)
        return None

    mistakes = list(filter(None, for_each(write, sources, label=label, unit="images")))
    if mistakes:
        raise SrlibError("\n".join([*mistakes, f"{len(mistakes)} of {len(sources)} images were left out"]))
    return len(sources)


def _targets(hr_folder: Path, lr_folder: Path, force: bool, part: Part | None) -> dict[Path, Path]:
    """Map each target file of a part to its source image; raise SrlibError for conflicts among all of them."""
    images = list_images(hr_folder)
    if not images:
        raise SrlibError(f"{hr_folder}: no images found")
    check_output_folder(lr_folder)
    if lr_folder.resolve().is_relative_to(hr_folder.resolve()):
        raise SrlibError(f"{lr_folder}: expected a folder outside {hr_folder}, or the next run would read LR as HR")
    sources: dict[Path, Path] = {}
    for image in images:
        target = lr_folder / image.relative_to(hr_folder).with_suffix(".png")
        if target in sources:
            raise SrlibError(f"{image} and {sources[target]} would both become {target}; rename one of them")
        sources[target] = image
    if part is not None:
        own = part.of(sources, lambda target: sources[target].relative_to(hr_folder).as_posix())
        sources = {target: sources[target] for target in own}
    for target in () if force else sources:
        if target.exists():
            raise SrlibError(f"{target}: exists; use --force to overwrite it")
    return sources
