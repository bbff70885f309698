"""Sources of public data: address, path in a mirror, size, checksum and terms of every file.

`plan` lists the files of each role of the recipe; nothing is fetched here.
"""

import csv
import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote, urlsplit

from srlib.errors import SrlibError, one_line
from srlib.files import read_regular
from srlib.params import Download, OwnImages

DIV2K = "https://data.vision.ee.ethz.ch/cvl/DIV2K"
GITHUB = "https://raw.githubusercontent.com"
SELFEXSR = f"{GITHUB}/jbhuang0604/SelfExSR/8f6dd8c1d20cb7e8792a7177b4f6fd677633f598"
KERAS = "https://storage.googleapis.com/tensorflow"
PACKAGE = "package:"  # in place of https:// for a file inside an installed package

RESEARCH = "academic research only"
UNSTATED = "no license stated; for research, not to be redistributed"
FREE = "public domain or CC0, see the documentation of the package"
WEIGHTS_LICENSE = "CC BY 4.0 (the VGG group's weights, as Keras distributes them)"
MIT = "MIT (keras-squeezenet's conversion of SqueezeNet 1.1)"
OWN = "your own"
ELSEWHERE = "see the publisher"

ROLES = ("train", "test", "features")

LARGEST_ARCHIVE = 1 << 40  # bytes of an archive whose size is not known in advance
LARGEST_CHECKSUMS = 1 << 20  # bytes of a file of checksums


@dataclass(frozen=True)
class Source:
    """A file to fetch.

    Attributes:
        address: `https://…`, `package:…` for a file inside an installed package, else the path of the user's own file,
            or of a folder, with "/" at its end.
        digest: Hexadecimal SHA-256, or MD5 if the publisher states only that.
        terms: Terms of use.
        mirror: Path below a mirror; None for a file that does not come from the network.
        size: Size in bytes, if known.
        limit: Largest size in bytes if `size` is not known; None: that of small files.
        published: The publisher's checksum, if `digest` is another one by request of the user.
        alternatives: What else a recipe can ask for where the address cannot be reached.
    """

    address: str
    digest: str
    terms: str
    mirror: str | None = None
    size: int | None = None
    limit: int | None = None
    published: str | None = None
    alternatives: str = ""

    @property
    def algorithm(self) -> str:
        """Return the kind of checksum: `sha256` or `md5`."""
        return "md5" if len(self.digest) == 32 else "sha256"

    @property
    def name(self) -> str:
        """Return the file name, without the query of its address and with harmless characters only."""
        path = urlsplit(self.address).path if self.mirror else self.address
        return re.sub(r"[^\w.-]", "_", path.rsplit("/", 1)[-1], flags=re.ASCII)[-100:]

    def stored(self, store: Path) -> Path:
        """Return the path of the complete file in the store: an existing one of the same checksum, or a new one."""
        others = (path for path in sorted(store.glob(f"{self.digest}-*")) if path.suffix not in (".partial", ".json"))
        path = store / f"{self.digest}-{self.name}"
        return path if path.exists() else next(others, path)


@dataclass(frozen=True)
class Item:
    """The place of a source in the folder of its role.

    Attributes:
        source: The file to fetch.
        target: Path in that folder; for an archive, the folder of its files.
        members: For a published archive, all names inside it; each keeps its last part.
        pattern: For another archive or a folder, the pattern of the images that are used.
        flat: Whether the images that match the pattern keep only the last part of their names.
        factor: For a photograph that is stored as a PNG: its sides are multiplied by this (see `photographs`).
    """

    source: Source
    target: str
    members: tuple[str, ...] = ()
    pattern: str | None = None
    flat: bool = False
    factor: float | None = None


_DIV2K = """
train_HR 3530603713 9d0b9c463f6e35b6c62cc6a930ee2224f670b34c1df841a57670f9acf0f6c335
valid_HR 448993893 20dd31fd84d777bc1cf5d6b7654a3f569c0aec74458ae094122ad1d0489900fc
train_LR_bicubic_X2 925390592 a53a424317575838dadce4bcd97cf7b744d6855f43740ed5f0245af3cf4bd850
train_LR_bicubic_X3 427847282 ad5c8e5507e2765823d3c2c5bd0934842efcd487c5370604c224090898b3163a
train_LR_bicubic_X4 246914039 f006b837f4eb52b82909aa01478e6d6d199eefce932179491d0c9dbb706dde3a
valid_LR_bicubic_X2 117763600 60eed9875c697df51204aa579e2a699e1d5215095788a097ff54dd17e2664d57
valid_LR_bicubic_X3 54513392 04b9a2ed3b4a0715d3924d3ae8514830c3328fac8d30512ce716d6f419e052a3
valid_LR_bicubic_X4 31505881 a50a5d1c4b88de4e8d300d8fb2b904c52fe93b2b298a4899697760d7cbb6d553
train_LR_unknown_X2 734182735 f166eeba119fc55bfc9a99c05561980e7a965382f36640ce8ef626c9f61d122c
train_LR_unknown_X3 377245548 b6455af3b2aa02d76ae3238c49d7aae3b48b0acdc44b5bdc0f4c02d40ebcb43b
train_LR_unknown_X4 208956781 d131c7aad51e0abbdc4433362ce899e5e75f40b9847ead70ee995188e8fd0adb
valid_LR_unknown_X2 93433041 ec50bb084c0011130874efd2ed7859b46e0aa7104c565818d5271ac315e04e0a
valid_LR_unknown_X3 48143315 ebf23a3e1ef6800cae97285d3a50d022d89b62655e685884c0abcc89eec5b809
valid_LR_unknown_X4 26695095 e3897555a98de1157c20974fb6093105fbc1ff5e9caf7bd348f58f6da140fbef
"""

_NAMES = {
    "Set5": "baby bird butterfly head woman",
    "Set14": "baboon barbara bridge coastguard comic face flowers foreman lenna man monarch pepper ppt3 zebra",
}

VGG19 = Source(
    f"{KERAS}/keras-applications/vgg19/vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
    "253f8cb515780f3b799900260a226db6",
    WEIGHTS_LICENSE,
    mirror="keras-applications/vgg19/vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
    size=80134624,
    alternatives="set download.features to squeezenet, or to {file: ..., sha256: ...}, and finetune.features to match, "
    "or use random weights for a trial: docs/how-to/train-an-srgan.md",
)
SQUEEZENET = Source(
    f"{GITHUB}/DeepCognition/keras-squeezenet/a73d4339aa4d37c51a0b3ba044bed55477abec73/"
    "squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5",
    "17154246284f555591549ac2c83e127abfbf4307dc4b0060fdaa2931d0fa38da",
    MIT,
    mirror="keras-squeezenet/squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5",
    size=3002560,
)
FEATURE_WEIGHTS = {"vgg19": VGG19, "squeezenet": SQUEEZENET}
"""Value of `download.features` → the file."""

# Color photographs of scikit-image. The two motorcycles show one scene, so both are for training.
SAMPLE_TRAIN = {
    "astronaut.png": (791555, "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5"),
    "hubble_deep_field.jpg": (527940, "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4"),
    "ihc.png": (477916, "f8dd1aa387ddd1f49d8ad13b50921b237df8e9b262606d258770687b0ef93cef"),
    "motorcycle_left.png": (644701, "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179"),
    "motorcycle_right.png": (640373, "5fc913ae870e42a4b662314bc904d1786bcad8e2f0b9b67dba5a229406357797"),
    "retina.jpg": (269564, "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6"),
}
SAMPLE_TEST = {
    "chelsea.png": (240512, "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb"),
    "coffee.png": (466706, "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7"),
    "rocket.jpg": (112525, "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c"),
}


def plan(role: str, params: Download, scale: int) -> list[Item]:
    """List the files of a role.

    Args:
        role: `train`, `test` or `features`.
        params: The `download` section of the recipe.
        scale: Upscaling factor.

    Raises:
        ValueError: Unknown role, or the recipe asks for data that does not exist.
    """
    params.check(scale)
    if role == "train":
        if isinstance(params.train, list):
            return [item for entry in params.train for item in _train_in_folder(entry, scale)]
        return _train(params.train, scale)
    if role == "test":
        return [item for entry in params.test for item in _test(entry, scale)]
    if role == "features":
        choice = params.features
        if isinstance(choice, str):
            return [Item(source, source.name) for name, source in FEATURE_WEIGHTS.items() if name == choice]
        return [Item(Source(choice.file, choice.sha256, OWN), Path(choice.file).name)]
    raise ValueError(f"{role}: no such role; expected train, test or features")


def own_source(entry: OwnImages) -> Source:
    """Return the archive or folder of an entry that describes its images itself."""
    if entry.address is not None:
        parts = urlsplit(entry.address)
        mirror = f"{parts.hostname}{parts.path}"
        return Source(entry.address, entry.sha256, ELSEWHERE, mirror=mirror, limit=LARGEST_ARCHIVE)
    if entry.file is not None:
        return Source(entry.file, entry.sha256, OWN)
    return Source(f"{str(entry.folder).rstrip('/')}/", entry.sha256, OWN)


def read_checksums(path: Path) -> dict[str, str]:
    """Read a list of checksums as `sha256sum` writes it: path below a mirror → SHA-256.

    Args:
        path: Text file with a line `<64 hexadecimal digits>  <path>` per file.

    Raises:
        SrlibError: Not readable, or one line per line of another form.
    """
    try:
        lines = read_regular(path, limit=LARGEST_CHECKSUMS).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SrlibError(f"SRLIB_CHECKSUMS: {path}: cannot be read: {one_line(error)}") from None
    matches = {number: re.fullmatch(r"([0-9a-f]{64}) [ *](?:\./)?(\S+)", line) for number, line in enumerate(lines, 1)}
    if wrong := [number for number, line in matches.items() if line is None]:
        raise SrlibError(
            "\n".join(f"SRLIB_CHECKSUMS: {path}, line {n}: expected `<SHA-256>  <path in the mirror>`" for n in wrong)
        )
    return {line[2]: line[1] for line in matches.values() if line}


def with_checksums(items: Iterable[Item], checksums: Mapping[str, str]) -> list[Item]:
    """Return the items with the checksums of a mirror that repacked its files in place of the published ones.

    Args:
        items: Files to fetch.
        checksums: Path below a mirror → SHA-256.
    """
    result = []
    for item in items:
        source = item.source
        digest = checksums.get(source.mirror or "", source.digest)
        if digest != source.digest:
            source = replace(source, digest=digest, size=None, limit=LARGEST_ARCHIVE, published=source.digest)
        result.append(replace(item, source=source))
    return result


def div2k(part: str) -> Source:
    """Return an archive of DIV2K, such as `train_HR` or `valid_LR_unknown_X4`.

    Raises:
        KeyError: Unknown part.
    """
    size, digest = {row[0]: row[1:] for row in map(str.split, _DIV2K.strip().splitlines())}[part]
    name = f"DIV2K_{part}.zip"
    return Source(f"{DIV2K}/{name}", digest, RESEARCH, mirror=f"DIV2K/{name}", size=int(size))


def div2k_members(part: str) -> tuple[str, ...]:
    """Return the names of the images inside an archive of DIV2K."""
    subset, kind, *rest = part.split("_")
    numbers = range(1, 801) if subset == "train" else range(801, 901)
    if kind == "HR":
        return tuple(f"DIV2K_{part}/{number:04}.png" for number in numbers)
    degradation, factor = rest
    folder = f"DIV2K_{subset}_LR_{degradation}/{factor}"
    return tuple(f"{folder}/{number:04}{factor.lower()}.png" for number in numbers)


def _train(choice: str | OwnImages, scale: int) -> list[Item]:
    if isinstance(choice, OwnImages):
        source = own_source(choice)
        return [Item(source, folder, pattern=pattern) for folder, pattern in choice.patterns.items()]
    if choice == "none":
        return []
    if choice == "sample":
        return _sample(SAMPLE_TRAIN, "HR")
    if choice == "free-photos":
        return _free_photos()
    lr = f"train_LR_{choice.removeprefix('div2k-')}_X{scale}"
    parts = {"HR": "train_HR", "LR": lr}
    return [Item(div2k(part), folder, div2k_members(part)) for folder, part in parts.items()]


def _train_in_folder(choice: str | OwnImages, scale: int) -> list[Item]:
    """Return the items of one set of a list: below HR and LR, each set has a folder of its name."""
    name = choice.name if isinstance(choice, OwnImages) else choice
    items = _train(choice, scale)
    return [replace(item, target="/".join([item.target[:2], f"{name}{item.target[2:]}"])) for item in items]


def _test(name: str | OwnImages, scale: int) -> list[Item]:
    if isinstance(name, OwnImages):
        source, patterns = own_source(name), name.patterns
        return [Item(source, f"{name.name}/{kind}", pattern=text, flat=True) for kind, text in patterns.items()]
    if name == "sample":
        return _sample(SAMPLE_TEST, "sample/HR")
    if name == "DIV2K":
        return [Item(div2k("valid_HR"), "DIV2K/HR", div2k_members("valid_HR"))]
    rows = _selfexsr()[name, scale]
    # HR files differ between scales: they are cropped to a multiple of the scale.
    names = _NAMES[name].split() if name in _NAMES else [Path(path).name.split("_SRF_")[0] for path, _ in rows]
    return [
        Item(
            Source(f"{SELFEXSR}/data/{path}", digest, UNSTATED, mirror=f"SelfExSR/data/{path}"), f"{name}/HR/{own}.png"
        )
        for own, (path, digest) in zip(names, rows, strict=True)
    ]


def _sample(images: dict[str, tuple[int, str]], folder: str) -> list[Item]:
    return [
        Item(Source(f"{PACKAGE}skimage/data/{name}", digest, FREE, size=size), f"{folder}/{name}")
        for name, (size, digest) in images.items()
    ]


def _free_photos() -> list[Item]:
    """Return the photographs that the shipped weights were trained from, of which 15 were held out."""
    table = (files("srlib") / "weights/SOURCES.tsv").read_text(encoding="utf-8")
    items = []
    for row in csv.DictReader(table.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE):
        address = f"{GITHUB}/{row['repository']}/{row['commit']}/{quote(row['path'])}"
        mirror = f"free-photos/{row['git_blob']}{Path(row['path']).suffix.lower()}"
        terms = f"{row['terms']}, credit: {row['credit']}"
        source = Source(address, row["sha256"], terms, mirror=mirror, size=int(row["bytes"]))
        items.append(Item(source, f"HR/{row['tier']}_{row['git_blob'][:12]}.png", factor=float(row["factor"])))
    return items


@functools.cache
def _selfexsr() -> dict[tuple[str, int], list[tuple[str, str]]]:
    """Map (set, scale) to the (path, SHA-256) of its HR images, in order."""
    table: dict[tuple[str, int], list[tuple[str, str]]] = {}
    for line in (files("srlib.data") / "selfexsr.sha256").read_text(encoding="ascii").splitlines():
        digest, path = line.split()
        name, folder, _ = path.split("/")
        table.setdefault((name, int(folder.removeprefix("image_SRF_"))), []).append((path, digest))
    return {key: sorted(rows) for key, rows in table.items()}
