"""Makes the page of a blind opinion survey, and the key without which its answers mean nothing.

Raters give each version of each picture 1 (bad) to 5 (excellent), as in the SRGAN paper (Ledig et al. 2017, section
3.3), after they have seen what a 1 (nearest neighbor) and a 5 (the original) look like. One HTML file holds all of it.

What the page hides: items carry keyed hashes (HMAC-SHA256 under a secret of the key file) instead of names and stand in
the order of these; the versions of a picture are encoded by the same encoder and padded to the same length. What
remains: the pixels. Whoever decodes the pictures by a program can measure their sharpness, as the eye does.
"""

import base64
import hashlib
import hmac
import json
import secrets
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from srlib.errors import SrlibError
from srlib.evaluation.regions import busiest_region
from srlib.evaluation.sets import SETS, index_images
from srlib.files import atomic_path, write_text
from srlib.imaging.arrays import Image
from srlib.imaging.folders import list_images
from srlib.imaging.read import read_image
from srlib.imaging.resize import crop_to_multiple, downscale, resize
from srlib.imaging.write import encode_png
from srlib.progress import progress
from srlib.survey.answers import KEY_FORMAT, Order, Survey, page_data, read_key

METHODS = ("bicubic", "EDSR", "SRGAN", "original")
ORIGINAL = "original"
MAX_PAGE_BYTES = 96 << 20
_PNG_HEAD = 33  # signature and IHDR
_LEAST_PADDING = 64
_EXAMPLE_SIDE = 384  # two of them fit side by side, or one above the other

Name = tuple[str, str]
"""(set, picture)"""
Found = dict[Name, dict[str, Path]]
"""Picture → method → file, with the original always among them."""


@dataclass(frozen=True)
class Made:
    """What `make` made: the survey's id, how much a rater has to rate, and the page's size in bytes."""

    survey: str
    pictures: list[str]
    calibration: list[str]
    items: int
    page_bytes: int


def make(
    pictures: Path,
    page: Path,
    key: Path,
    *,
    methods: Sequence[str] = METHODS,
    sets: Sequence[str] = (),
    count: int = 13,
    crop: int = 480,
    calibration: int = 2,
    calibration_from: Path | None = None,
    scale: int = 4,
    order: Order = "grouped",
    seed: int = 0,
    origin: Mapping[str, str] | None = None,
) -> Made:
    """Writes the page of a survey and its key.

    The key file holds a random secret. Where it is there already, its secret is used again: the same pictures, options
    and key give the same page to the byte, and a survey that differs is refused, since its key would replace the one
    that earlier answers need.

    Args:
        pictures: `<Set>/<method>/<name>.png`, each picture in the same size for every method, and in `original`.
        page: The HTML file to write.
        key: The key file to write or to use again; never to be given to raters.
        methods: Folders below each set to be compared.
        sets: Folders of `pictures`; all of them if empty.
        count: How many pictures are rated, drawn by the seed and spread evenly over the sets; 0 takes all.
        crop: Larger pictures are cut to their most detailed square of at most this many pixels a side.
        calibration: How many pictures are shown as examples first. They are held out and not rated.
        calibration_from: A folder with other pictures to draw the examples from, as in the paper; none is held out.
        scale: The factor of enlargement, for the examples of nearest neighbor.
        order: "grouped": the versions of a picture follow one another; "mixed": one random sequence, as in the paper.
        seed: Of the draw of pictures and of every rater's order.
        origin: Tags of the MLflow run that made the pictures, kept in the key (see `survey_tracking.origin`).

    Raises:
        SrlibError: A folder or version is missing, sizes differ, pictures are too few, the page would be too large, or
            the key file belongs to another survey.
    """
    if len(set(methods)) != len(methods) or len(methods) < 2:
        raise SrlibError(f"survey: expected at least two different methods, got {', '.join(methods) or 'none'}")
    if calibration < 0 or count < 0 or crop < 16 or scale < 2:
        raise SrlibError("survey: expected count and calibration of at least 0, crop of 16 and scale of 2")
    if key.resolve() == page.resolve():
        raise SrlibError(f"{key}: the key must not be the page itself; raters would read it")
    found = _find(pictures, methods, sets, scale)
    chosen, examples = _choose(_draw(found, seed), found, count, calibration, calibration_from, seed)
    if not chosen:
        raise SrlibError(
            f"{pictures}: {len(found)} pictures are too few to hold {calibration} out as examples; "
            "add pictures, ask for fewer examples, or give a folder to draw them from"
        )
    secret = read_key(key)[1]["secret"] if key.exists() else secrets.token_hex(32)
    sealer = bytes.fromhex(secret)
    items: dict[str, dict[str, str]] = {}
    images: dict[str, dict[str, Any]] = {}
    shown = []
    with progress(len(chosen) + len(examples), "survey", "pictures") as advance:
        for name in chosen:
            for item, entry, image in _items(name, _versions(found[name], methods, crop, scale), sealer):
                items[item], images[item] = entry, image
            advance()
        for path in examples:
            shown.append(_example(path, min(crop, _EXAMPLE_SIDE), scale, sealer))
            advance()
    identity = _keyed(sealer, "survey", str(seed), order, *(f"{i} {e['group']}" for i, e in sorted(items.items())))[:16]
    groups = {item: entry["group"] for item, entry in items.items()}
    survey = Survey(identity, seed, order, _keyed(sealer, "seal", identity), groups)
    content = {
        "format": KEY_FORMAT,
        "survey": survey.survey,
        "seed": seed,
        "order": order,
        "seal": survey.seal,
        "secret": secret,
        "items": items,
        "methods": list(methods),
        "sets": sorted({name[0] for name in found}, key=lambda name: (SETS.index(name) if name in SETS else 99, name)),
        "origin": dict(origin or {}),
    }
    if key.exists() and read_key(key)[0].survey != identity:
        raise SrlibError(
            f"{key}: the key of another survey; its answers would be lost. Choose another key file, or delete this one"
        )
    text = _page(page_data(survey, images, shown))
    if len(text) > MAX_PAGE_BYTES:
        raise SrlibError(
            f"{page}: would have {len(text) >> 20} MB, at most {MAX_PAGE_BYTES >> 20} open well on a phone; "
            "take fewer pictures or a smaller crop"
        )
    with atomic_path(key) as temporary:
        temporary.touch(mode=0o600)
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    write_text(page, text)
    return Made(identity, ["/".join(name) for name in chosen], [path.stem for path in examples], len(items), len(text))


def _find(pictures: Path, methods: Sequence[str], sets: Sequence[str], scale: int) -> Found:
    if not pictures.is_dir():
        raise SrlibError(
            f"{pictures}: no such folder; expected <Set>/<method>/<name>.png as the evaluation writes them"
        )
    names = list(sets) or sorted(p.name for p in pictures.iterdir() if p.is_dir() and not p.name.startswith("."))
    wanted = dict.fromkeys([*methods, ORIGINAL])
    found: Found = {}
    problems = []
    for name in names:
        if absent := [method for method in wanted if not (pictures / name / method).is_dir()]:
            problems.append(
                f"{pictures / name}: expected a folder {', '.join(absent)} with the pictures of that method"
            )
            continue
        versions = {method: index_images(pictures / name / method, scale) for method in wanted}
        for picture in sorted(set().union(*versions.values())):
            if missing := [method for method in wanted if picture not in versions[method]]:
                problems.append(f"{pictures / name}: {picture} is missing in {', '.join(missing)}")
            else:
                found[name, picture] = {method: versions[method][picture] for method in wanted}
    if problems:
        raise SrlibError("\n".join(problems))
    if not found:
        raise SrlibError(f"{pictures}: no pictures; expected <Set>/<method>/<name>.png as the evaluation writes them")
    return found


def _lot(seed: int, *parts: str) -> str:
    return hashlib.sha256("/".join([str(seed), *parts]).encode()).hexdigest()


def _draw(found: Found, seed: int) -> list[Name]:
    """All pictures in random order, the sets taking turns, so that any beginning of it is spread evenly."""
    by_set: dict[str, list[Name]] = {}
    for name in sorted(found, key=lambda name: _lot(seed, *name)):
        by_set.setdefault(name[0], []).append(name)
    turns = zip_longest(*(by_set[name] for name in sorted(by_set)))
    return [name for turn in turns for name in turn if name is not None]


def _choose(
    lots: list[Name], found: Found, count: int, calibration: int, calibration_from: Path | None, seed: int
) -> tuple[list[Name], list[Path]]:
    """The pictures to be rated, and the originals of the examples."""
    if calibration_from is None:
        lots, held = lots[: max(0, len(lots) - calibration)], lots[max(0, len(lots) - calibration) :]
        return lots[: count or None], [found[name][ORIGINAL] for name in held]
    others = sorted(list_images(calibration_from), key=lambda path: _lot(seed, path.name))
    if len(others) < calibration:
        raise SrlibError(f"{calibration_from}: expected {calibration} pictures for the examples, found {len(others)}")
    return lots[: count or None], others[:calibration]


def _versions(paths: dict[str, Path], methods: Sequence[str], crop: int, scale: int) -> dict[str, Image]:
    """Every version of one picture, uint8 RGB [h, w, 3], cut to the same square where it is larger than `crop`."""
    original = read_image(paths[ORIGINAL])
    versions = {method: read_image(paths[method]) for method in methods}
    for method, image in versions.items():
        if image.shape != original.shape:
            raise SrlibError(
                f"{paths[method]}: {image.shape[1]}×{image.shape[0]} pixels, "
                f"expected the original's {original.shape[1]}×{original.shape[0]}"
            )
    if max(original.shape[:2]) <= crop:
        return versions
    whole = crop_to_multiple(original, scale)
    region = busiest_region(whole, downscale(whole, scale), crop)
    return {method: np.ascontiguousarray(region.cut(image)) for method, image in versions.items()}


def _items(
    name: Name, versions: dict[str, Image], sealer: bytes
) -> Iterator[tuple[str, dict[str, str], dict[str, Any]]]:
    """(id, what it stands for, what the page holds of it) of each version of one picture."""
    group = _keyed(sealer, "group", *name)[:12]
    digests = {method: hashlib.sha256(image.tobytes()).hexdigest() for method, image in versions.items()}
    ids = {method: _keyed(sealer, "item", *name, method, digest)[:24] for method, digest in digests.items()}
    encoded = _encode(sealer, {ids[method]: image for method, image in versions.items()})
    for method, item in ids.items():
        entry = {"group": group, "set": name[0], "picture": name[1], "method": method}
        yield item, entry, {**_size(versions[method]), "png": encoded[item]}


def _example(path: Path, crop: int, scale: int, sealer: bytes) -> dict[str, Any]:
    """A picture as the worst (nearest neighbor) and the best (itself) that a rater will see."""
    original = crop_to_multiple(read_image(path), scale)
    low = downscale(original, scale)
    if max(original.shape[:2]) > crop:
        region = busiest_region(original, low, crop - crop % scale)
        original = crop_to_multiple(np.ascontiguousarray(region.cut(original)), scale)
        low = downscale(original, scale)
    encoded = _encode(sealer, {"bad": resize(low, original.shape[:2], kernel="nearest"), "good": original})
    return {**_size(original), **encoded}


def _size(image: Image) -> dict[str, int]:
    return {"width": image.shape[1], "height": image.shape[0]}


def _keyed(secret: bytes, *parts: str) -> str:
    return hmac.new(secret, "\0".join(parts).encode(), hashlib.sha256).hexdigest()


def _encode(secret: bytes, versions: dict[str, Image]) -> dict[str, str]:
    """Base64 of PNGs of one length: a private chunk of noise before the pixels fills each up to the largest."""
    plain = {}
    for name, image in versions.items():
        plain[name] = encode_png(image, compression=9)
    length = max(map(len, plain.values())) + _LEAST_PADDING
    padded = {}
    for name, png in plain.items():
        body = b"srPd" + hashlib.shake_256(secret + name.encode()).digest(length - len(png))
        chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        padded[name] = base64.b64encode(png[:_PNG_HEAD] + chunk + png[_PNG_HEAD:]).decode()
    return padded


def _page(data: str) -> str:
    """The template with style, script, data and a policy that allows exactly these."""
    folder = files("srlib.survey") / "templates"
    names = ("survey.css", "survey_text.js", "survey.js", "survey.html")
    style, texts, code, page = ((folder / name).read_text(encoding="utf-8") for name in names)
    script = texts + code
    policy = "; ".join(
        [
            "default-src 'none'",
            "img-src data:",
            "connect-src 'self'",
            f"style-src '{_source(style)}'",
            f"script-src '{_source(script)}'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    # The data last: nothing is looked for inside of it.
    for mark, text in (("{{policy}}", policy), ("{{style}}", style), ("{{script}}", script), ("{{data}}", data)):
        before, _, after = page.partition(mark)
        page = before + text + after
    return page


def _source(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
