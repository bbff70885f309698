"""Write LR versions of a folder of images: downscaled exactly, or degraded at random."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

import numpy as np

from srlib.errors import SrlibError
from srlib.files import check_output_folder, read_regular, write_json
from srlib.imaging.folders import list_images
from srlib.imaging.read import read_image
from srlib.imaging.resize import Edges, downscale
from srlib.imaging.write import write_png
from srlib.parallel import for_each
from srlib.parts import Part
from srlib.signals import Stopped

if TYPE_CHECKING:
    from srlib.params.degradation import Degradation

NOTE = ".unfinished.json"
"""Hidden file in the folder of LR images while a run is unfinished: the settings that all images must share."""

_LARGEST_NOTE = 1 << 20


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

    An unusable image does not stop the others; all of them are named in one error at the end. An interrupted run
    continues when it is started again with the same settings.

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
    sources = _sources(Path(hr_folder), Path(lr_folder), part)
    settings = {"from": str(Path(hr_folder).resolve()), "scale": scale, "edges": edges}
    run = _Run(sources, Path(lr_folder), scale, settings, part, label=f"downscaling ×{scale}")
    return run.write_all(lambda hr, _: downscale(hr, scale, edges=cast(Edges, edges)), force=force)


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
    sources = _sources(hr_folder, Path(lr_folder), part)
    settings = {"from": str(hr_folder.resolve()), "scale": scale, "seed": seed, **params.model_dump(mode="json")}
    run = _Run(sources, Path(lr_folder), scale, settings, part, label="degrading")

    def degrade(hr: np.ndarray, source: Path) -> np.ndarray:
        return degrade_image(hr, scale, params, keyed_generator(f"{seed}/{source.relative_to(hr_folder).as_posix()}"))

    return run.write_all(degrade, force=force)


class _Run:
    """One run over a folder, which a later one with the same settings continues."""

    def __init__(
        self,
        sources: dict[Path, Path],
        folder: Path,
        scale: int,
        settings: dict[str, object],
        part: Part | None,
        *,
        label: str,
    ) -> None:
        self._sources = sources
        self._folder = folder
        self._scale = scale
        self._settings = settings
        self._note = folder / NOTE if part is None else part.file(folder / NOTE)
        self._label = label

    def write_all(self, convert: Callable[[np.ndarray, Path], np.ndarray], *, force: bool) -> int:
        """Write the converted image of each source to its target; name all unusable images at the end."""
        existing = [target for target in self._sources if target.exists()]
        if existing and not force:
            self._check_continues(existing[0])
            print(f"{self._folder}: continues; {len(existing)} of {len(self._sources)} images exist", file=sys.stderr)
        elif existing:  # until the end of a forced run, the folder may hold images of both
            self._note.unlink(missing_ok=True)
        else:
            write_json(self._note, self._settings)
        pending = [target for target in self._sources if force or target not in existing]
        try:
            results = for_each(lambda target: self._write(target, convert), pending, label=self._label, unit="images")
        except Stopped as error:
            raise Stopped(
                error.signum, f"run it again {'to continue' if self._note.exists() else 'with --force'}"
            ) from None
        if mistakes := list(filter(None, results)):
            left_out = f"{len(mistakes)} of {len(self._sources)} images were left out"
            raise SrlibError("\n".join([*mistakes, left_out]))  # the note stays: once mended, only these are missing
        self._note.unlink(missing_ok=True)
        return len(self._sources)

    def _check_continues(self, existing: Path) -> None:
        """Raise an SrlibError unless what exists comes from an unfinished run with the same settings."""
        try:
            before = json.loads(read_regular(self._note, limit=_LARGEST_NOTE))
        except (OSError, ValueError, RecursionError, SrlibError):
            before = None
        if before == self._settings:
            return
        of = ""
        if isinstance(before, dict):
            different = [key for key in {**before, **self._settings} if before.get(key) != self._settings.get(key)]
            of = f", from an interrupted run that differs in {', '.join(different)}"
        raise SrlibError(f"{existing}: exists{of}; use --force to overwrite it")

    def _write(self, target: Path, convert: Callable[[np.ndarray, Path], np.ndarray]) -> str | None:
        """Write one image; return what is wrong with it, or None."""
        source, scale = self._sources[target], self._scale
        try:
            hr = read_image(source)
            if min(hr.shape[:2]) < scale:
                raise SrlibError(f"{source}: {hr.shape[1]}×{hr.shape[0]} pixels, too small for ×{scale}")
            write_png(target, convert(hr, source))
        except SrlibError as error:
            return str(error)
        return None


def _sources(hr_folder: Path, lr_folder: Path, part: Part | None) -> dict[Path, Path]:
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
    if part is None:
        return sources
    own = part.of(sources, lambda target: sources[target].relative_to(hr_folder).as_posix())
    return {target: sources[target] for target in own}
