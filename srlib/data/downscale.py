"""Write LR versions of a folder of images: downscaled exactly, or degraded at random."""

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast, get_args

import numpy as np

from srlib.cluster import connected
from srlib.errors import SrlibError, printable
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

NOTE = ".made.json"
"""Hidden file in the folder of LR images: the images of a run or of its part, and the settings that made them. A later
run with these settings leaves such images as they are; every other image that exists is in its way.
"""

_LARGEST_NOTE = 1 << 28


def downscale_folder(
    hr_folder: Path,
    lr_folder: Path,
    scale: int,
    edges: str = "clamp",
    *,
    force: bool = False,
    part: Part | None = None,
    scheduler: str | None = None,
) -> int:
    """Write the LR image of every image below `hr_folder` as PNG with the same relative name; return the number.

    An unusable image does not stop the others; all of them are named in one error at the end. A run that
    is started again with the same settings makes what is missing: after an interruption, or for new images.

    Args:
        hr_folder: Folder of HR images, searched at any depth.
        lr_folder: Folder for the LR images; it must lie outside `hr_folder`.
        scale: Downscaling factor, a whole number from 1.
        edges: `clamp` or `mirror`; see `srlib.imaging.resize`.
        force: Overwrite existing files.
        part: Write only this part of the images (default: all).
        scheduler: Address of a Dask scheduler whose workers do the work (default: this machine).

    Raises:
        SrlibError: Before any work: no images, a wrong option, or a target that exists or that two images share.
            After the work: one line for each unusable image.
    """
    if edges not in get_args(Edges):
        raise SrlibError(f"edges: expected {' or '.join(get_args(Edges))}, got {edges}")
    if scale < 1:
        raise SrlibError(f"scale: expected a whole number from 1, got {scale}")
    images = _images(Path(hr_folder), Path(lr_folder), part)
    settings = {"from": printable(Path(hr_folder).resolve()), "scale": scale, "edges": edges}
    run = _Run(images, Path(lr_folder), scale, settings, part, label=f"downscaling ×{scale}")

    def convert(hr: np.ndarray, name: str) -> np.ndarray:
        return downscale(hr, scale, edges=cast(Edges, edges))

    return run.write_all(convert, force=force, scheduler=scheduler)


def degrade_folder(
    hr_folder: Path,
    lr_folder: Path,
    scale: int,
    params: "Degradation",
    *,
    seed: int = 0,
    force: bool = False,
    part: Part | None = None,
    scheduler: str | None = None,
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
        scheduler: Address of a Dask scheduler whose workers do the work (default: this machine).

    Raises:
        SrlibError: As `downscale_folder`.
    """
    from srlib.data.degradation import degrade_image, keyed_generator

    hr_folder = Path(hr_folder)
    images = _images(hr_folder, Path(lr_folder), part)
    settings = {"from": printable(hr_folder.resolve()), "scale": scale, "seed": seed, **params.model_dump(mode="json")}
    run = _Run(images, Path(lr_folder), scale, settings, part, label="degrading")

    def convert(hr: np.ndarray, name: str) -> np.ndarray:
        return degrade_image(hr, scale, params, keyed_generator(f"{seed}/{name}"))

    return run.write_all(convert, force=force, scheduler=scheduler)


class _Image(NamedTuple):
    """An HR image, its path below the HR folder, and the LR file to write."""

    source: Path
    name: str
    target: Path


Convert = Callable[[np.ndarray, str], np.ndarray]
"""Function from an HR image and its path below the HR folder to its LR image."""


class _Run:
    """One run over a folder, which a later one with the same settings continues."""

    def __init__(
        self,
        images: list[_Image],
        folder: Path,
        scale: int,
        settings: dict[str, object],
        part: Part | None,
        *,
        label: str,
    ) -> None:
        self._images = images
        self._folder = folder
        self._scale = scale
        self._settings = settings
        self._note = folder / NOTE if part is None else part.file(folder / NOTE)
        self._label = label

    def write_all(self, convert: Convert, *, force: bool, scheduler: str | None) -> int:
        """Write the converted image of each source to its target; name all unusable images at the end."""
        if not self._images:
            return 0
        existing = {image.target for image in self._images if image.target.exists()}
        if existing and not force:
            self._check_continues([image for image in self._images if image.target in existing])
            print(f"{self._folder}: continues; {len(existing)} of {len(self._images)} images exist", file=sys.stderr)
        self._forget_others()
        replacing = bool(existing) and force
        if replacing:  # until the end, the folder may hold images of both
            self._note.unlink(missing_ok=True)
        else:
            self._write_note()
        pending = [image for image in self._images if force or image.target not in existing]
        try:
            results = self._for_each(functools.partial(_write, convert, self._scale), pending, scheduler)
        except Stopped as error:
            raise Stopped(
                error.signum, f"run it again {'to continue' if self._note.exists() else 'with --force'}"
            ) from None
        if mistakes := list(filter(None, results)):
            left_out = f"{len(mistakes)} of {len(self._images)} images were left out"
            raise SrlibError("\n".join([*mistakes, left_out]))  # the note stays: once mended, only these are missing
        if replacing:
            self._write_note()
        return len(self._images)

    def _write_note(self) -> None:
        versions = {self._name(image.target): _version(image.source) for image in self._images}
        write_json(self._note, {"settings": self._settings, "images": versions})

    def _name(self, target: Path) -> str:
        return printable(target.relative_to(self._folder).as_posix())  # JSON cannot hold every name

    def _check_continues(self, existing: list[_Image]) -> None:
        """Raise an SrlibError unless what exists comes from earlier runs with the same settings and HR images."""
        settings, versions = _read_note(self._note)
        if settings == self._settings:
            names = [self._name(image.target) for image in existing]
            foreign = [image for image, name in zip(existing, names, strict=True) if name not in versions]
            stale = [i for i, name in zip(existing, names, strict=True) if versions.get(name) != _version(i.source)]
            if not stale:
                return
            image = min(foreign or stale, key=lambda image: image.target)
            of = "" if foreign else f", made of another version of {image.source}"
        else:
            image = min(existing, key=lambda image: image.target)
            different = [key for key in {**settings, **self._settings} if settings.get(key) != self._settings.get(key)]
            of = f", from an earlier run that differs in {', '.join(different)}" if settings else ""
        raise SrlibError(f"{image.target}: exists{of}; use --force to overwrite it")

    def _forget_others(self) -> None:
        """Remove the notes of other settings that name images of this run: those may become this run's."""
        names = {self._name(image.target) for image in self._images}
        for note in self._folder.glob(f"{Path(NOTE).stem}*{Path(NOTE).suffix}"):
            settings, versions = _read_note(note)
            if settings != self._settings and not names.isdisjoint(versions):
                note.unlink(missing_ok=True)

    def _for_each(
        self, write: Callable[[_Image], str | None], images: list[_Image], scheduler: str | None
    ) -> list[str | None]:
        inputs = [image.source for image in images[:1]]
        with connected(scheduler if images else None, inputs=inputs, outputs=[self._folder]) as cluster:
            if cluster:  # workers have another working folder
                images = [_Image(source.absolute(), name, target.absolute()) for source, name, target in images]
            return for_each(write, images, label=self._label, unit="images", cluster=cluster)


def _version(source: Path) -> list[int]:
    """Return what changes when another image gets the name of an HR image: its size and time."""
    facts = source.stat()
    return [facts.st_size, facts.st_mtime_ns]


def _read_note(path: Path) -> tuple[dict[str, object], dict[str, object]]:
    """Return a note's settings, and name of an image → version of its source; both are empty for a damaged note."""
    try:
        note = json.loads(read_regular(path, limit=_LARGEST_NOTE))
        return dict(note["settings"]), dict(note["images"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError, SrlibError):
        return {}, {}


def _write(convert: Convert, scale: int, image: _Image) -> str | None:
    """Write one LR image; return what is wrong with its HR image, or None."""
    try:
        hr = read_image(image.source)
        if min(hr.shape[:2]) < scale:
            raise SrlibError(f"{image.source}: {hr.shape[1]}×{hr.shape[0]} pixels, too small for ×{scale}")
        write_png(image.target, convert(hr, image.name))
    except SrlibError as error:
        return str(error)
    return None


def _images(hr_folder: Path, lr_folder: Path, part: Part | None) -> list[_Image]:
    """Return the images of a part; raise SrlibError for conflicts among all of them."""
    sources = list_images(hr_folder)
    if not sources:
        raise SrlibError(f"{hr_folder}: no images found")
    check_output_folder(lr_folder)
    if lr_folder.resolve().is_relative_to(hr_folder.resolve()):
        raise SrlibError(f"{lr_folder}: expected a folder outside {hr_folder}, or the next run would read LR as HR")
    images: dict[Path, _Image] = {}
    for source in sources:
        name = source.relative_to(hr_folder)
        target = lr_folder / name.with_suffix(".png")
        if target in images:
            raise SrlibError(f"{source} and {images[target].source} would both become {target}; rename one of them")
        images[target] = _Image(source, name.as_posix(), target)
    return list(images.values()) if part is None else part.of(images.values(), lambda image: image.name)
