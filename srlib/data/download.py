"""The download stage: build a data folder from public data and the user's own, with the origin of every file."""

import shutil
import sys
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

from srlib.atomic import atomic_path
from srlib.data.archive import unpack, unpack_matching
from srlib.data.fetching import fetch
from srlib.data.local import copy_matching, local_path
from srlib.data.photographs import PhotographFile, write_photographs
from srlib.data.sources import ROLES, Item, plan, with_checksums
from srlib.errors import one_line
from srlib.files import write_json
from srlib.params import Download


def download(
    role: str,
    out: Path,
    params: Download,
    *,
    scale: int,
    store: Path,
    mirror: str | None = None,
    checksums: Mapping[str, str] | None = None,
) -> list[Item]:
    """Build the data folder of one role of the recipe: `train`, `test` or `features`.

    `train` contains HR/ (and LR/ if the source has LR images), and in them a folder for each set of a list; `test`
    contains <Set>/HR/ for each set, `features` a weights file. Each also contains SOURCES.json with the address,
    checksum and terms of every file.

    Args:
        role: `train`, `test` or `features`.
        out: Folder to write, completely or not at all.
        params: The `download` section of the recipe.
        scale: Upscaling factor.
        store: Folder of finished and partial downloads.
        mirror: Folder or base address that holds the files under `Source.mirror`.
        checksums: Path in a mirror → SHA-256 to expect instead of the published one; each replacement is reported, and
            so is how many of the paths name no file that any role fetches.

    Returns:
        The contents of the folder.

    Raises:
        SrlibError: A file is unavailable (named with its address), or there is not enough disk space.
        ValueError: The recipe asks for data that does not exist; see `sources.plan`.
    """
    items = with_checksums(plan(role, params, scale), checksums or {})
    for source in (item.source for item in items):
        if source.published:
            print(
                f"download: {source.mirror}: expecting the SHA-256 {source.digest} (SRLIB_CHECKSUMS) instead of the "
                f"published checksum {source.published}",
                file=sys.stderr,
            )
    _report_unused(checksums or {}, params, scale)
    paths = {item.source: local_path(item.source) for item in items if item.source.mirror is None}
    paths |= fetch([item.source for item in items if item.source.mirror], store, mirror, out)
    with atomic_path(out) as folder:
        folder.mkdir()
        photographs = [item for item in items if item.factor is not None]
        for source, group in groupby((item for item in items if item.factor is None), key=lambda item: item.source):
            _place(paths[source], list(group), folder)
        write_photographs(
            [PhotographFile(paths[item.source], folder / item.target, item.factor or 1.0) for item in photographs]
        )
        request = params.model_dump(mode="json", exclude_none=True)[role]
        write_json(folder / "SOURCES.json", {role: request, "files": [_facts(item) for item in items]})
    return items


def _report_unused(checksums: Mapping[str, str], params: Download, scale: int) -> None:
    """Say how many checksums belong to no file that any role fetches: a list of wrong paths would replace nothing."""
    fetched = [item.source.mirror for role in ROLES for item in plan(role, params, scale) if item.source.mirror]
    if unused := [path for path in checksums if path not in fetched]:
        example = next((path for path in fetched if path not in checksums), None) or next(iter(fetched), None)
        print(
            f"download: SRLIB_CHECKSUMS: {len(unused)} of {len(checksums)} lines replace nothing, such as "
            f"{one_line(unused[0])}: the recipe fetches no file of this path"
            + (f"; expected paths in the mirror such as {example}" if example else ""),
            file=sys.stderr,
        )


def _place(path: Path, items: list[Item], folder: Path) -> None:
    """Unpack or copy a file or folder to the places of its items."""
    patterns = {item.target: item.pattern for item in items if item.pattern is not None}
    if patterns:
        put = copy_matching if path.is_dir() else unpack_matching
        put(path, patterns, folder, flat=items[0].flat)
        return
    for item in items:
        target = folder / item.target
        if item.members:
            unpack(path, item.members, target)
        else:  # a copy, not a link: changes to an output must not reach the store
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def _facts(item: Item) -> dict[str, str]:
    """Return the origin of an item for SOURCES.json."""
    source = item.source
    facts = {"path": item.target, "address": source.address, source.algorithm: source.digest, "terms": source.terms}
    if source.published:
        facts["published_checksum"] = source.published
    return facts
