"""The page of a blind opinion survey, and the key without which its answers mean nothing.

Raters score each version of each image from 1 (bad) to 5 (excellent), as in the SRGAN paper (Ledig et al. 2017, section
3.3), after they have seen examples of a 1 (nearest neighbor) and a 5 (the original). One HTML file holds all of it.

The page hides the methods: items have keyed hashes (HMAC-SHA256 under a secret of the key file) instead of names and
are sorted by them; the versions of an image come from one encoder and are padded to the same length. The pixels cannot
be hidden: a program that decodes the images can measure their sharpness, as the eye does.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from srlib.atomic import atomic_path
from srlib.errors import SrlibError
from srlib.evaluation.benchmark import ORIGINAL
from srlib.evaluation.sets import set_order
from srlib.files import check_output, write_text
from srlib.progress import progress
from srlib.survey.answers import (
    DATA_END,
    DATA_START,
    Example,
    KeyItem,
    Order,
    PageData,
    PageItem,
    SurveyKey,
    read_key,
    read_page,
)
from srlib.survey.items import example, items, keyed_hash, read_versions
from srlib.survey.selection import ImageName, Versions, default_methods, draw, draw_examples, find_images
from srlib.webpage import render_page

MAX_PAGE_BYTES = 96 << 20
EXAMPLES, FEWEST_RATED = 2, 3
_EXAMPLE_SIDE = 384  # two of them fit side by side, or one above the other


@dataclass(frozen=True)
class SurveyOptions:
    """Options of a survey.

    Attributes:
        methods: Methods to compare; by default those that `default_methods` finds.
        sets: Sets to draw from; all by default.
        count: Images to rate, spread evenly over the sets; 0 for all. There may be fewer.
        max_side: Larger images are cut to their most detailed square of this side, in pixels.
        examples: Images that are shown first, as examples, and not rated; by default `EXAMPLES` where at least
            `FEWEST_RATED` others remain, otherwise none.
        examples_from: Folder of other images for the examples, as in the paper; otherwise some of the images are used.
        scale: Upscaling factor, for the examples of nearest neighbor.
        order: "grouped": the versions of an image follow one another; "mixed": one random sequence, as in the paper;
            "fixed": grouped, and the same order for every rater.
        seed: Seed for the draw of images and for the order.

    Raises:
        SrlibError: A value outside its range.
    """

    methods: Sequence[str] = ()
    sets: Sequence[str] = ()
    count: int = 13
    max_side: int = 480
    examples: int | None = None
    examples_from: Path | None = None
    scale: int = 4
    order: Order = "grouped"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("count", 0), ("examples", 0), ("max_side", 16), ("scale", 2)):
            if (value := getattr(self, name)) is not None and value < least:
                raise SrlibError(f"survey: {name}: expected at least {least}, got {value}")
        if self.methods and (len(set(self.methods)) != len(self.methods) or len(self.methods) < 2):
            raise SrlibError(f"survey: expected at least two different methods, got {', '.join(self.methods)}")


@dataclass(frozen=True)
class SurveyPage:
    """Summary of a page that `make_page` wrote.

    Attributes:
        survey: Id of the survey.
        images: `<set>/<image>` of the images to rate.
        examples: Names of the example images.
        methods: Methods that are compared.
        available: Number of images to choose from.
        item_count: Number of versions that a rater rates.
        byte_count: Size of the page.
    """

    survey: str
    images: list[str]
    examples: list[str]
    methods: list[str]
    available: int
    item_count: int
    byte_count: int


def make_page(
    images: Path,
    page: Path,
    key: Path,
    options: SurveyOptions | None = None,
    *,
    origin: Mapping[str, str] | None = None,
) -> SurveyPage:
    """Write the page of a survey and its key.

    The key file holds a random secret. If it exists, its secret is used again: the same images, options and key give
    the same page byte for byte. A different survey is refused then, because its key would replace the one that earlier
    answers need.

    Args:
        images: `<Set>/<method>/<name>.png`; each image has the same size for every method and in `original`.
        page: HTML file to write; only the page of a survey is replaced.
        key: Key file to write or to use again; raters must never get it.
        options: Options of the survey.
        origin: Tags of the MLflow run that made the images, stored in the key (see `srlib.survey.tracking.origin`).

    Raises:
        SrlibError: A folder or version is missing, sizes differ, there are too few images, the page would be too large,
            a file cannot be written, or the key file belongs to another survey.
    """
    options = options or SurveyOptions()
    _check_outputs(page, key)
    methods = list(options.methods) or default_methods(images, options.sets)
    versions = find_images(images, methods, options.sets, options.scale)
    if len(methods) < 2:
        raise SrlibError(f"{images}: expected at least two methods in every set, found {', '.join(methods) or 'none'}")
    names, examples = _choose(images, versions, options)
    secret = read_key(key).secret if key.exists() else secrets.token_hex(32)
    page_items, key_items, example_items = _encode(names, versions, examples, methods, options, bytes.fromhex(secret))
    sets = sorted({name[0] for name in versions}, key=set_order)
    content = _key(secret, options, key_items, methods, sets, origin or {})
    if key.exists() and read_key(key).survey != content.survey:
        raise SrlibError(f"{key}: the key of another survey, whose answers need it; choose another --key, or delete it")
    text = _render(content, page_items, example_items)
    if len(text) > MAX_PAGE_BYTES:
        raise SrlibError(
            f"{page}: would have {len(text) >> 20} MB, at most {MAX_PAGE_BYTES >> 20} open well on a phone; "
            "use a smaller --count or --max-side"
        )
    _write_key(key, content)
    write_text(page, text)
    labels, example_names = ["/".join(name) for name in names], [path.stem for path in examples]
    return SurveyPage(content.survey, labels, example_names, methods, len(versions), len(key_items), len(text))


def _check_outputs(page: Path, key: Path) -> None:
    for path in (page, key):
        check_output(path)
    if key.resolve() == page.resolve():
        raise SrlibError(f"{key}: the key must not be the page itself; raters would read it")
    if key.exists():
        read_key(key)
    if page.exists():
        try:
            read_page(page)
        except SrlibError:
            raise SrlibError(f"{page}: exists and is no page of a survey; choose another --page") from None


def _choose(
    images: Path, versions: Mapping[ImageName, Mapping[str, Path]], options: SurveyOptions
) -> tuple[list[ImageName], list[Path]]:
    """Return the images to rate and the files of the examples."""
    names, examples = draw(versions, options.seed), options.examples
    if options.examples_from is not None:
        chosen = draw_examples(options.examples_from, EXAMPLES if examples is None else examples, options.seed)
        return names[: options.count or None], chosen
    if examples is None:
        examples = EXAMPLES if len(names) >= EXAMPLES + FEWEST_RATED else 0
    rated = len(names) - examples
    if rated < 1:
        raise SrlibError(
            f"{images}: {len(names)} images are too few for {examples} examples and at least one to rate; "
            "add images, or use a smaller --examples or --examples-from FOLDER"
        )
    return names[:rated][: options.count or None], [versions[name][ORIGINAL] for name in names[rated:]]


def _encode(
    names: Sequence[ImageName],
    versions: Versions,
    examples: Sequence[Path],
    methods: Sequence[str],
    options: SurveyOptions,
    secret: bytes,
) -> tuple[list[PageItem], dict[str, KeyItem], list[Example]]:
    """Return the images' entries for the page and for the key file, and the examples."""
    page_items: list[PageItem] = []
    key_items: dict[str, KeyItem] = {}
    example_items = []
    with progress(len(names) + len(examples), "survey", "images") as advance:
        for name in names:
            pixels = read_versions(versions[name], methods, options.max_side, options.scale)
            for page_item, key_item in items(name, pixels, secret):
                page_items.append(page_item)
                key_items[page_item.id] = key_item
            advance()
        for path in examples:
            example_items.append(example(path, min(options.max_side, _EXAMPLE_SIDE), options.scale, secret))
            advance()
    return page_items, key_items, example_items


def _key(
    secret: str,
    options: SurveyOptions,
    key_items: dict[str, KeyItem],
    methods: list[str],
    sets: list[str],
    origin: Mapping[str, str],
) -> SurveyKey:
    """Return the key file's content; the survey's id depends on everything that the answers depend on."""
    sealer = bytes.fromhex(secret)
    groups = (f"{name} {item.group}" for name, item in sorted(key_items.items()))
    survey = keyed_hash(sealer, "survey", str(options.seed), options.order, *groups)[:16]
    return SurveyKey(
        survey=survey,
        seed=options.seed,
        order=options.order,
        seal=keyed_hash(sealer, "seal", survey),
        secret=secret,
        items=key_items,
        methods=methods,
        sets=sets,
        origin=dict(origin),
    )


def _render(key: SurveyKey, page_items: Sequence[PageItem], examples: Sequence[Example]) -> str:
    data = PageData(
        survey=key.survey,
        seed=key.seed,
        order=key.order,
        seal=key.seal,
        items=sorted(page_items, key=lambda item: item.id),
        calibration=list(examples),
    )
    # Base64, hexadecimal and our own keys contain no "<": nothing can end the block early.
    block = f"{DATA_START}{data.model_dump_json()}{DATA_END}"
    return render_page(
        "srlib.survey",
        "survey.html.j2",
        style="survey.css",
        scripts=["survey_text.js", "survey.js"],
        values={"data": Markup(block)},  # noqa: S704
        rules=["connect-src 'self'"],
    )


def _write_key(key: Path, content: SurveyKey) -> None:
    """Write the key so that only its owner can read it."""
    text = json.dumps(content.model_dump(by_alias=True), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    with atomic_path(key) as temporary:
        temporary.touch(mode=0o600)
        temporary.write_text(text, encoding="utf-8")
