"""Files and folders of this machine that a recipe names: checked, and copied where they belong."""

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from srlib.data.archive import check_archive
from srlib.data.patterns import match
from srlib.data.sources import PACKAGE, Source, own_source
from srlib.errors import SrlibError, one_line
from srlib.files import file_hash
from srlib.imaging.folders import list_images
from srlib.params import Download


def local_path(source: Source) -> Path:
    """Return the path of a file or folder that does not come from the network.

    Raises:
        SrlibError: It is missing or has another checksum.
    """
    inside = source.address.removeprefix(PACKAGE)
    is_folder = inside.endswith("/")
    if inside == source.address:
        path = Path(inside).expanduser()
        remedy = f"if this is the right {'folder' if is_folder else 'file'}, write its checksum in params.yaml"
    else:
        package = find_spec(inside.split("/", 1)[0])
        path = Path(package.origin).parents[1] / inside if package and package.origin else Path(inside)
        remedy = "install the versions of requirements.lock"
    if not (path.is_dir() if is_folder else path.is_file()):
        raise SrlibError(
            f"{path}: no such {'folder' if is_folder else 'file'}, but the recipe asks for it under `download`"
        )
    got = folder_digest(path) if is_folder else file_hash(path, source.algorithm)
    if got != source.digest:
        raise SrlibError(f"{path}: expected the {source.algorithm} {source.digest}, got {got}; {remedy}")
    return path


def folder_digest(folder: Path) -> str:
    """Return the SHA-256 of the names and contents of all images of a folder, as lines of `sha256sum`, sorted by name.

    Raises:
        SrlibError: There is no image.
    """
    images = list_images(folder)
    if not images:
        raise SrlibError(f"{folder}: expected images, found none")
    digest = hashlib.sha256()
    for path in images:
        name = os.fsencode(path.relative_to(folder).as_posix())
        digest.update(file_hash(path).encode() + b"  " + name + b"\n")
    return digest.hexdigest()


def copy_matching(source: Path, patterns: Mapping[str, str], folder: Path, *, flat: bool = False) -> None:
    """Copy the images of a folder whose names match a pattern; see `srlib.data.archive.unpack_matching`.

    Raises:
        SrlibError: A pattern without an image, or a file that is already there.
    """
    for name, target in match(str(source), _names(source), patterns, flat=flat).items():
        path = folder / target
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            raise SrlibError(f"{source}: {name} would replace another image of the same name in its set")
        shutil.copyfile(source / name, path)


def own_image_mistakes(params: Download, store: Path) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the archives and folders that the recipe describes itself, as far as they are here.

    Args:
        params: The section `download`.
        store: Folder of finished downloads.

    Yields:
        A key of params.yaml, and a line: missing, another checksum, or a pattern without an image.
    """
    for key, entry in params.own_images.items():
        source = own_source(entry)
        try:
            if source.mirror is None:
                path = local_path(source)
            else:
                path = source.stored(store)
                if not path.is_file():  # not fetched yet
                    continue
            flat = key.startswith("test")
            if path.is_dir():
                match(str(path), _names(path), entry.patterns, flat=flat)
            else:
                check_archive(path, entry.patterns, flat=flat)
        except (SrlibError, OSError) as error:
            yield f"download.{key}", one_line(error)


def _names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in list_images(folder)]
