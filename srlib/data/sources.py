"""Where public data comes from: address, place in a mirror, size and checksum of every file.

Terms: DIV2K is for academic research only. The benchmark pictures state no licence, so they are fetched from their
author's repository and never passed on. scikit-image's photographs ship inside that package.
"""

import functools
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from srlib.errors import SrlibError

DIV2K = "https://data.vision.ee.ethz.ch/cvl/DIV2K/"
SELFEXSR = "https://raw.githubusercontent.com/jbhuang0604/SelfExSR/8f6dd8c1d20cb7e8792a7177b4f6fd677633f598/"
KERAS = "https://storage.googleapis.com/tensorflow/"

NAMES = {
    "Set5": ["baby", "bird", "butterfly", "head", "woman"],
    "Set14": [  # in the order of the files
        "baboon",
        "barbara",
        "bridge",
        "coastguard",
        "comic",
        "face",
        "flowers",
        "foreman",
        "lenna",
        "man",
        "monarch",
        "pepper",
        "ppt3",
        "zebra",
    ],
}


@dataclass(frozen=True)
class Source:
    """One file to fetch.

    Attributes:
        path: Its place below a mirror.
        base: The address that `path`, without its first `strip` parts, is appended to.
        digest: Hexadecimal checksum.
        algorithm: `sha256`, or `md5` where the publisher gives only that.
        size: In bytes, where known.
        strip: How many leading parts of `path` the address does not have.
    """

    path: str
    base: str
    digest: str
    algorithm: str = "sha256"
    size: int | None = None
    strip: int = 1

    @property
    def url(self) -> str:
        """The public address."""
        return self.base + "/".join(self.path.split("/")[self.strip :])

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.path.rsplit("/", 1)[-1]


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


@functools.cache
def div2k() -> dict[str, Source]:
    """DIV2K's archives by their part, such as `train_LR_bicubic_X4`."""
    rows = (line.split() for line in _DIV2K.split("\n") if line)
    return {part: Source(f"DIV2K/DIV2K_{part}.zip", DIV2K, digest, size=int(size)) for part, size, digest in rows}


@functools.cache
def _selfexsr() -> dict[str, str]:
    lines = (files("srlib.data") / "selfexsr.sha256").read_text(encoding="ascii").split("\n")
    return {path: digest for digest, path in (line.split() for line in lines if line)}


def benchmark(name: str, scale: int) -> dict[str, Source]:
    """The HR pictures of Set5, Set14, BSD100 or Urban100 for a scale, by the name that they get.

    HR differs between scales: it is cropped to a multiple of the scale.

    Raises:
        SrlibError: The set does not exist for this scale.
    """
    folder = f"{name}/image_SRF_{scale}/"
    paths = sorted(path for path in _selfexsr() if path.startswith(folder))
    if not paths:
        raise SrlibError(f"download.test: {name} does not exist for scale {scale}; expected scale 4 or another set")
    names = NAMES.get(name) or [Path(path).stem.split("_SRF_")[0] for path in paths]
    return {
        f"{own}.png": Source(f"SelfExSR/data/{path}", SELFEXSR, _selfexsr()[path])
        for own, path in zip(names, paths, strict=True)
    }


VGG19 = Source(
    "keras-applications/vgg19/vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
    KERAS,
    "253f8cb515780f3b799900260a226db6",
    algorithm="md5",
    size=80134624,
    strip=0,
)

SAMPLE_TRAIN = {
    "astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    "hubble_deep_field.jpg": "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4",
    "ihc.png": "f8dd1aa387ddd1f49d8ad13b50921b237df8e9b262606d258770687b0ef93cef",
    "motorcycle_left.png": "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
    "motorcycle_right.png": "5fc913ae870e42a4b662314bc904d1786bcad8e2f0b9b67dba5a229406357797",
    "retina.jpg": "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6",
}
"""Colour photographs inside scikit-image to train on, with their SHA-256. The two motorcycles are near-duplicates."""

SAMPLE_TEST = {
    "chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    "coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    "rocket.jpg": "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
}
"""Those to test on; none of them is trained on."""
