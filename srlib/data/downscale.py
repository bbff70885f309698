"""LR versions of a folder of pictures."""

from pathlib import Path
from typing import cast, get_args

from srlib.errors import SrlibError
from srlib.imaging.images import list_images, read_image, write_png
from srlib.imaging.resize import Edges, downscale
from srlib.parallel import for_each


def downscale_folder(hr_folder: Path, lr_folder: Path, scale: int, edges: str = "clamp", *, force: bool = False) -> int:
    """Writes the LR picture of every picture below `hr_folder`, as PNG under the same relative name; returns how many.

    A picture that cannot be used does not stop the others: all such are named at the end.

    Raises:
        SrlibError: No pictures, an LR folder inside the HR folder, a target that is there already (unless `force`) or
            that two pictures share; these before any work. Pictures that could not be used; these at the end.
    """
    if edges not in get_args(Edges):
        raise SrlibError(f"edges: expected {' or '.join(get_args(Edges))}, got {edges}")
    if scale < 1:
        raise SrlibError(f"scale: expected a whole number from 1, got {scale}")
    hr_folder, lr_folder = Path(hr_folder), Path(lr_folder)
    pictures = list_images(hr_folder)
    if not pictures:
        raise SrlibError(f"{hr_folder}: no pictures in it")
    if lr_folder.resolve().is_relative_to(hr_folder.resolve()):
        raise SrlibError(
            f"{lr_folder}: expected a folder outside {hr_folder}, or its LR would be taken for HR next time"
        )
    targets: dict[Path, Path] = {}
    for picture in pictures:
        target = lr_folder / picture.relative_to(hr_folder).with_suffix(".png")
        if target in targets:
            raise SrlibError(f"{picture} and {targets[target]} would both become {target}; rename one")
        if target.exists() and not force:
            raise SrlibError(f"{target}: exists; give --force to overwrite")
        targets[target] = picture

    def write(target: Path) -> str | None:
        try:
            hr = read_image(targets[target])
            if min(hr.shape[:2]) < scale:
                raise SrlibError(f"{targets[target]}: {hr.shape[1]}×{hr.shape[0]} pixels, too small for ×{scale}")
            write_png(target, downscale(hr, scale, cast(Edges, edges)))
        except SrlibError as error:
            return str(error)
        return None

    mistakes = list(filter(None, for_each(write, targets, label=f"downscaling ×{scale}", unit="pictures")))
    if mistakes:
        raise SrlibError("\n".join([*mistakes, f"{len(mistakes)} of {len(targets)} pictures were left out"]))
    return len(targets)
