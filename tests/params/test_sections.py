"""Mistakes inside sections and across them: one line each, with the key, what was expected and what came."""

from collections.abc import Callable
from pathlib import Path

import pytest

from srlib.errors import SrlibError
from srlib.models import MODELS
from srlib.params import Finetune, check_params, load_params
from srlib.schema import NonNegative

Lines = Callable[[dict[str, object]], list[str]]
Write = Callable[[dict[str, object]], Path]

DIGEST = "0" * 64
MISSING = "(missing)"
ABLE = " or ".join(name for name, network in MODELS.items() if network().equivariant_width is not None)

MISTAKES: dict[str, tuple[str, object, str]] = {
    "typo in a key": ("pretrain.lerning_rate", {"peak": 1e-4}, "pretrain.lerning_rate: unknown key"),
    "typo in an inner key": ("finetune.features.weigths", "file", "finetune.features.weigths: unknown key"),
    "unknown section": ("pretraining", {}, "pretraining: unknown key"),
    "missing section": ("finetune", MISSING, "finetune: missing key"),
    "missing key": ("pretrain.lr_patch", MISSING, "pretrain.lr_patch: missing key"),
    "text for a number": ("pretrain.steps", "many", "pretrain.steps: expected an integer, got 'many'"),
    "none for null": ("prepare.jpeg", "none", "prepare.jpeg: expected an integer, got 'none'; for nothing, write null"),
    "a million blocks": (
        "pretrain.model.blocks",
        1_000_000,
        "pretrain.model.blocks: expected less than or equal to 1000, got 1000000",
    ),
    "learning rate of nothing": (
        "pretrain.learning_rate.peak",
        1e-300,
        "pretrain.learning_rate.peak: expected greater than or equal to 0.000000000001, got 1e-300",
    ),
    "fraction for a count": ("pretrain.batch", 16.5, "pretrain.batch: expected an integer, got 16.5"),
    "negative count": ("finetune.steps", -1, "finetune.steps: expected greater than 0, got -1"),
    "unknown scale": ("scale", 5, "scale: expected 2, 3 or 4, got 5"),
    "unknown test set": (
        "download.test",
        ["set5"],
        "download.test[0]: expected 'sample', 'Set5', 'Set14', 'BSD100', 'Urban100' or 'DIV2K' or a mapping, got "
        "'set5'",
    ),
    "duplicate test set": (
        "download.test",
        ["Set5", "sample", "Set5"],
        "download.test: expected each set once, got Set5 more than once",
    ),
    "unknown training set": (
        "download.train",
        "div2k",
        "download.train: expected 'sample', 'free-photos', 'div2k-bicubic' or 'div2k-unknown' or 'none' or a mapping "
        "or a list, got 'div2k'",
    ),
    "images from nowhere": (
        "download.train",
        {"sha256": DIGEST},
        "download.train.address: expected exactly one of address, file and folder, got none",
    ),
    "images from two places": (
        "download.train",
        {"file": "a.zip", "folder": "a", "sha256": DIGEST},
        "download.train.folder: expected exactly one of address, file and folder, got file and folder",
    ),
    "an archive without a checksum": (
        "download.train",
        ["div2k-bicubic", {"name": "mine", "file": "a.zip"}],
        "download.train[1].sha256: missing key",
    ),
    "an address with a password": (
        "download.train",
        {"address": "https://me:secret@host/a.zip", "sha256": DIGEST},
        "download.train.address: expected an address such as https://host/set.zip, without a password, got "
        "'https://me:secret@host/a.zip'",
    ),
    "an address of another kind": (
        "download.test",
        [{"name": "a", "address": "ftp://host/a.zip", "sha256": DIGEST}],
        "download.test[0].address: expected an address such as https://host/set.zip, without a password, got "
        "'ftp://host/a.zip'",
    ),
    "a pattern that leads outside": (
        "download.train",
        {"file": "a.zip", "sha256": DIGEST, "hr": "../*.png"},
        "download.train.hr: expected a pattern of names such as HR/*.png, relative and without `..`, got '../*.png'",
    ),
    "stars inside a name": (
        "download.train",
        {"file": "a.zip", "sha256": DIGEST, "hr": "HR/**.png"},
        "download.train.hr: expected `**` to stand for whole folders, as in HR/**/*.png, got '**.png'",
    ),
    "a set of a list without a name": (
        "download.train",
        ["sample", {"file": "a.zip", "sha256": DIGEST}],
        "download.train[1].name: expected a name for a set of a list, got none",
    ),
    "a published set's name": (
        "download.test",
        [{"name": "set5", "file": "a.zip", "sha256": DIGEST}],
        "download.test[0].name: expected another name: Set5 is a published set",
    ),
    "a name with a slash": (
        "download.test",
        [{"name": "a/b", "file": "a.zip", "sha256": DIGEST}],
        "download.test[0].name: expected a name of at most 64 letters, digits, `.`, `-` and `_`, beginning with a "
        "letter or digit, got 'a/b'",
    ),
    "two spellings of a name": (
        "download.train",
        [{"name": name, "file": "a.zip", "sha256": DIGEST} for name in ("a", "A")],
        "download.train[1].name: expected one spelling, got a and A",
    ),
    "a set without HR images": (
        "download.train",
        ["sample", {"name": "a", "file": "a.zip", "sha256": DIGEST, "lr": "LR/*"}],
        "download.train: expected HR images for a; give one of its entries the key `hr`",
    ),
    "an archive of LR images alone": (
        "download.train",
        {"file": "a.zip", "sha256": DIGEST, "lr": "LR/*"},
        "download.train.hr: expected a pattern of the HR images, got none; a list may hold their archive too",
    ),
    "no set": (
        "download.train",
        [],
        "download.train: expected 'sample', 'free-photos', 'div2k-bicubic' or 'div2k-unknown' or 'none' or a mapping "
        "or a list of at least 1, got []",
    ),
    "weights in another format": (
        "download.features",
        {"file": "w.npz", "sha256": DIGEST},
        "download.features.file: expected a file of Keras weights, .h5, got w.npz",
    ),
    "no SHA-256": (
        "download.features",
        {"file": "w.h5", "sha256": "12"},
        "download.features.sha256: expected a SHA-256 of 64 hexadecimal digits in lower case, got '12'",
    ),
    "neither of a union": (
        "download.features",
        "vgg16",
        "download.features: expected 'none', 'vgg19' or 'squeezenet' or a mapping, got 'vgg16'",
    ),
    "both budgets": ("pretrain.epochs", 3, "pretrain.steps: expected exactly one of `steps` and `epochs`, got both"),
    "no budget": (
        "pretrain.steps",
        MISSING,
        "pretrain.steps: expected exactly one of `steps` and `epochs`, got neither",
    ),
    "crop beyond the stored patch": (
        "finetune.lr_patch",
        64,
        "finetune.lr_patch: expected at most prepare.patch (48), got 64",
    ),
    "a deviation that no patch has": (
        "prepare.flat",
        128.0,
        "prepare.flat: expected less than or equal to 127.5, got 128.0",
    ),
    "larger copies": ("prepare.sizes", [1.0, 1.5], "prepare.sizes[1]: expected less than or equal to 1, got 1.5"),
    "duplicate size": ("prepare.sizes", [1.0, 0.5, 0.5], "prepare.sizes: expected each size once, got [1.0, 0.5, 0.5]"),
    "path with a control character": (
        "prepare.images",
        "data\0",
        "prepare.images: expected a path of printable characters, got 'data\\x00'",
    ),
    "learning rate too large": (
        "finetune.learning_rate.peak",
        10,
        "finetune.learning_rate.peak: expected less than 1, got 10",
    ),
    "norm beyond float32": (
        "pretrain.clip_norm",
        1e308,
        "pretrain.clip_norm: expected less than or equal to 1000000, got 1e+308",
    ),
    "weight beyond float32": (
        "finetune.texture_weight",
        1e300,
        "finetune.texture_weight: expected less than or equal to 1000000, got 1e+300",
    ),
    "scale beyond float32": (
        "finetune.perceptual_scale",
        1e30,
        "finetune.perceptual_scale: expected less than or equal to 1000000 or 'auto', got 1e+30",
    ),
    "weight of either kind beyond float32": (
        "finetune.checkerboard_weight",
        1e30,
        "finetune.checkerboard_weight: expected less than or equal to 1000000 or 'auto', got 1e+30",
    ),
    "warm-up beyond the steps": (
        "pretrain.learning_rate.warmup",
        300,
        "pretrain.learning_rate.warmup: expected fewer than `steps` (300), got 300; lower it, or raise `steps`",
    ),
    "milestones of a constant schedule": (
        "finetune.learning_rate.milestones",
        [10],
        "finetune.learning_rate.milestones: expected only with `schedule: steps`, got [10] with constant",
    ),
    "final of a constant schedule": (
        "finetune.learning_rate.final",
        1e-6,
        "finetune.learning_rate.final: expected only with `schedule: cosine`, got 1e-06 with constant",
    ),
    "final above the peak": (
        "pretrain.learning_rate.final",
        0.5,
        "pretrain.learning_rate.final: expected at most `peak` (0.004), got 0.5",
    ),
    "milestone beyond the steps": (
        "finetune.learning_rate",
        {"schedule": "steps", "peak": 1e-4, "milestones": [40, 80]},
        "finetune.learning_rate.milestones: expected steps below `steps` (80), got 80; remove it",
    ),
    "a milestone within the warm-up": (
        "finetune.learning_rate",
        {"schedule": "steps", "peak": 1e-4, "warmup": 30, "milestones": [20, 40]},
        "finetune.learning_rate.milestones: expected steps after the warm-up (30), got 20",
    ),
    "milestones out of order": (
        "finetune.learning_rate",
        {"schedule": "steps", "peak": 1e-4, "milestones": [40, 20]},
        "finetune.learning_rate.milestones: expected rising numbers, got [40, 20]",
    ),
    "no milestone": (
        "finetune.learning_rate",
        {"schedule": "steps", "peak": 1e-4},
        "finetune.learning_rate.milestones: expected at least one with `schedule: steps`, got none",
    ),
    "adamw without decay": (
        "pretrain.optimizer",
        "adamw",
        "pretrain.weight_decay: expected above 0 with `optimizer: adamw`, got 0; set it, or use `optimizer: adam`",
    ),
    "decay without adamw": (
        "pretrain.weight_decay",
        0.01,
        "pretrain.weight_decay: expected 0 with `optimizer: muon`, got 0.01; use `optimizer: adamw`",
    ),
    "a boolean for a number": ("pretrain.ema_decay", True, "pretrain.ema_decay: expected a number, got True"),
    "a value for a section": ("prepare", "fast", "prepare: expected a mapping, got 'fast'"),
    "a section for a value": ("seed", {"a": 1}, "seed: expected an integer, got {'a': 1}"),
    "unknown precision": (
        "pretrain.precision",
        "bf16",
        "pretrain.precision: expected 'float32' or 'mixed_bfloat16', got 'bf16'",
    ),
    "infinite": (
        "finetune.perceptual_weight",
        float("inf"),
        "finetune.perceptual_weight: expected a finite number, got inf",
    ),
    "unknown layer": (
        "finetune.features",
        {"network": "squeezenet", "weights": "random", "layer": "fire99"},
        "finetune.features.layer: expected a layer of squeezenet (conv1, fire2, fire3, fire4, fire5, fire6, fire7, "
        "fire8, fire9), got 'fire99'",
    ),
    "weights that are not fetched": (
        "finetune.features.weights",
        "file",
        "finetune.features.weights: expected random with `download.features: none`, got file; set download.features "
        "to vgg19 or to a file of your own, or use random weights",
    ),
    "neither a factor nor auto": (
        "finetune.perceptual_scale",
        "big",
        "finetune.perceptual_scale: expected a number or 'auto', got 'big'",
    ),
    "champion by a metric without weights": (
        "evaluate.champion.gan.metric",
        "lpips",
        "evaluate.champion.gan.metric: lpips needs weights; set `evaluate.lpips`, or use another metric",
    ),
    "unknown champion": (
        "evaluate.champion",
        {"best": {"set": "sample", "metric": "psnr_y"}},
        "evaluate.champion.best: expected 'pretrained' or 'gan', got 'best'",
    ),
    "one registered name": (
        "registry.gan",
        "srlib-x{scale}",
        "registry.gan: expected another name than `pretrained`, got srlib-x{scale} for both",
    ),
    "one registered name at this scale": (
        "registry",
        {"pretrained": "a-x4", "gan": "a-x{scale}"},
        "registry.gan: expected another name than `pretrained` at scale 4, got a-x4",
    ),
    "a registered name that MLflow refuses": (
        "registry.gan",
        "a/b",
        "registry.gan: expected 1 to 200 letters, digits, spaces and ._-{}, the first one a letter or digit, got 'a/b'",
    ),
    "a row with the name of a trained network": (
        "evaluate.methods",
        [{"name": "SRGAN", "file": "x.pb", "sha256": DIGEST}],
        "evaluate.methods[0].name: expected another name than those of the trained networks (EDSR, SRGAN), got SRGAN",
    ),
    "no loss at all": (
        "finetune",
        {
            **dict.fromkeys(("perceptual_weight", "pixel_weight", "adversarial_weight"), 0.0),
            **{"steps": 9, "lr_patch": 24, "learning_rate": {"peak": 1e-4}, "features": {"weights": "random"}},
        },
        "finetune.perceptual_weight: expected one of the weights above 0, got 0 for all",
    ),
    "a number as key": ("prepare", {1: 2, "images": "a"}, "prepare.1: expected a string as key"),
}


@pytest.mark.parametrize(("key", "value", "line"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_line(key: str, value: object, line: str, lines: Lines) -> None:
    assert lines({key: value}) == [line]


def test_a_decay_that_leaves_nothing_of_the_weights(lines: Lines, write: Write) -> None:
    changes = {"pretrain.optimizer": "adamw", "pretrain.weight_decay": 249.0}
    assert load_params(write(changes), stage=None)
    assert lines(changes | {"pretrain.weight_decay": 250}) == [
        "pretrain.weight_decay: expected below 1 / `learning_rate.peak` (250), where a step leaves nothing, got 250.0"
    ]


def test_a_single_weight_is_enough(write: Write) -> None:
    """Also one of a loss term that somebody adds as docs/how-to/add-a-loss-term.md says."""

    class WithEdges(Finetune):
        edge_weight: NonNegative = 0.0

    section = load_params(write({})).finetune_section().model_dump()
    weights = [name for name in WithEdges.model_fields if name.endswith("_weight")]
    assert len(weights) > 9
    for name in weights:
        assert WithEdges.model_validate({**section, **dict.fromkeys(weights, 0.0), name: 0.5})


def test_an_automatic_factor_needs_a_calibrated_layer(lines: Lines, write: Write) -> None:
    changes = {"download.features": "vgg19", "finetune.features": {}, "finetune.perceptual_scale": "auto"}
    assert load_params(write(changes), stage=None)
    assert lines(changes | {"finetune.features": {"layer": "block3_conv1"}}) == [
        "finetune.perceptual_scale: expected a number with vgg19's block3_conv1, got auto: no calibrated factor is "
        "known; choose a layer of docs/reference/feature-networks.md that has one, or measure it by `python "
        "benchmarks/perceptual_scale.py --vgg19 FILE`"
    ]


def test_several_layers_have_their_calibrated_factors(lines: Lines, write: Write) -> None:
    features = {"network": "squeezenet", "layer": ["conv1", "fire5"]}
    changes = {"download.features": "squeezenet", "finetune.features": features, "finetune.perceptual_scale": "auto"}
    section = load_params(write(changes), stage=None).finetune
    assert section and section.features.deepest == "fire5"
    assert lines(changes | {"finetune.perceptual_scale": 0.1}) == [
        "finetune.perceptual_scale: expected auto with 2 layers, got 0.1; a number belongs to one layer"
    ]
    assert lines(changes | {"finetune.features": features | {"layer": ["conv1", "conv1"]}}) == [
        "finetune.features.layer: expected each layer once, got conv1, conv1"
    ]


def test_the_features_are_those_that_are_fetched(lines: Lines, write: Write) -> None:
    changes = {"download.features": "squeezenet", "finetune.features": {"network": "squeezenet", "layer": "fire3"}}
    assert load_params(write(changes), stage=None)
    assert lines(changes | {"finetune.features": {}}) == [
        "finetune.features.network: expected squeezenet with `download.features: squeezenet`, got vgg19; set "
        "download.features to vgg19"
    ]


def test_patches_at_hr_pixels_need_a_border(lines: Lines, write: Write) -> None:
    """The stored patches have 48 LR pixels."""
    at_hr: dict[str, object] = {"finetune.positions": "hr_pixels"}
    load_params(write(at_hr | {"finetune.lr_patch": 44}))
    assert lines(at_hr | {"finetune.lr_patch": 45}) == [
        "finetune.lr_patch: expected at most prepare.patch (48) − 4 with `positions: hr_pixels`, got 45"
    ]
    for change in ({"prepare.jpeg": 75}, {"prepare.noise": 2.0}):
        assert lines(at_hr | change) == [
            "finetune.positions: expected lr_pixels, since LR cannot be made anew with `lr: given`, `noise` or `jpeg` "
            "in prepare, got hr_pixels; write lr_pixels, or use prepare.degradation for noise and compression"
        ]


@pytest.mark.parametrize(
    ("model", "line"),
    [
        ({"name": "srcnn", "middle": 7}, "pretrain.model.middle: expected 1, 3 or 5, got 7"),
        ({"name": "espcn", "filters": 1}, "pretrain.model.filters: expected greater than or equal to 2, got 1"),
        ({"name": "fsrcnn", "blocks": 0}, "pretrain.model.blocks: expected greater than 0, got 0"),
        ({"name": "espcn", "blocks": 2}, "pretrain.model.blocks: unknown key"),
        (
            {"name": "edrs"},
            f"pretrain.model: expected `name` to be one of {', '.join(map(repr, MODELS))}, got 'edrs'",
        ),
        ({"blocks": 3}, "pretrain.model: expected a mapping with a `name`, got {'blocks': 3}"),
        ("edsr", "pretrain.model: expected a mapping, got 'edsr'"),
        (
            {"name": "compact", "filters": 12},
            "pretrain.model.filters: expected a multiple of 8 with `equivariant: true`, got 12; change it, or set "
            "`equivariant: false`",
        ),
        (
            {"name": "srresnet"},
            f"pretrain.equivariant: expected false with srresnet, got true; only {ABLE} can be equivariant",
        ),
        (
            {"name": "large_kernel", "large_filters": 12},
            "pretrain.model: expected options with which large_kernel can be equivariant (docs/reference/params.md), "
            "got {'blocks': 16, 'filters': 64, 'every': 4, 'size': 13, 'large_filters': 12}",
        ),
    ],
)
def test_options_of_networks(model: object, line: str, lines: Lines) -> None:
    assert lines({"pretrain.model": model}) == [line]


@pytest.mark.parametrize(("scale", "patch"), [(2, 16), (4, 9)])
def test_patches_have_the_size_that_the_feature_layer_needs(scale: int, patch: int, lines: Lines, write: Write) -> None:
    features = {"network": "squeezenet", "layer": "fire9", "weights": "random"}
    changes = {"scale": scale, "finetune.features": features, "finetune.lr_patch": patch}
    assert load_params(write(changes), stage=None)
    assert lines(changes | {"finetune.lr_patch": patch - 1}) == [
        f"finetune.lr_patch: expected at least {patch}, since squeezenet's fire9 needs HR patches of 31 pixels (the "
        f"SRGAN shifts its crops by up to {scale - 1}), got {patch - 1}; raise it, or choose an earlier layer"
    ]


def test_a_discriminator_of_features_needs_larger_patches(lines: Lines) -> None:
    features = {"network": "squeezenet", "layer": "fire5", "weights": "random"}
    changes = {"finetune.features": features, "finetune.discriminator": "features", "finetune.lr_patch": 12}
    assert lines(changes) == [
        "finetune.lr_patch: expected at least 13, since squeezenet's fire5 needs HR patches of 47 pixels (the SRGAN "
        "shifts its crops by up to 3), got 12; raise it, or choose an earlier layer"
    ]


@pytest.mark.parametrize("name", MODELS)
def test_every_network_can_be_chosen(name: str, write: Write) -> None:
    changes: dict[str, object] = {"pretrain.model": {"name": name}, "pretrain.equivariant": False}
    if MODELS[name].channels != "rgb":
        changes["finetune"] = None
    model = load_params(write(changes)).pretrain.model
    assert model == MODELS[name]()


def test_an_srgan_needs_an_rgb_network(lines: Lines, write: Write) -> None:
    changes = {"pretrain.model": {"name": "srcnn"}, "pretrain.equivariant": False}
    (line,) = lines(changes)
    assert line.startswith("finetune: expected null with srcnn, which works on luma")
    assert "set pretrain.model to one of edsr, srresnet, compact" in line
    path = write({**changes, "finetune": None})
    with pytest.raises(SrlibError, match="finetune: expected the parameters of an SRGAN, got null"):
        load_params(path, stage="finetune")


@pytest.mark.parametrize("name", ["a/b", ".a", "a\nb", "a\0", "", "x" * 101])
def test_names_of_rows_can_be_folders(name: str, lines: Lines) -> None:
    method = {"name": name, "file": "x.pb", "sha256": DIGEST}
    (line,) = lines({"evaluate.methods": [method]})
    assert line.startswith("evaluate.methods[0].name: expected a name of 1 to 100 bytes without /")


@pytest.mark.parametrize("name", ["bicubic", "original"])
def test_names_of_rows_differ(name: str, lines: Lines) -> None:
    method = {"name": name, "file": "x.pb", "sha256": DIGEST}
    expected = f"evaluate.methods: expected a different name for every row, got {name} 2 times"
    assert lines({"evaluate.methods": [method]}) == [expected]


@pytest.mark.parametrize(
    ("scale", "name", "line"),
    [
        (2, "BSD100", "download.test: BSD100 exists at scale 4 only, and `scale` is 2; remove BSD100"),
        (3, "Urban100", "download.test: Urban100 exists at scale 4 only, and `scale` is 3; remove Urban100"),
    ],
)
def test_test_sets_exist_at_the_scale(scale: int, name: str, line: str, lines: Lines) -> None:
    assert lines({"scale": scale, "download.test": [name]}) == [line]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_test_sets_of_every_scale(scale: int, write: Write) -> None:
    changes = {"scale": scale, "download.test": ["sample", "Set5", "Set14", "DIV2K"]}
    assert load_params(write(changes)).scale == scale


@pytest.mark.parametrize("key", ["noise", "jpeg", "sizes"])
def test_given_lr_images_are_not_degraded(key: str, lines: Lines) -> None:
    value = {"noise": 3.0, "jpeg": 80, "sizes": [0.5]}[key]
    expected = f"prepare.{key}: expected no value with `lr: given`, got {value}; remove it, or set `lr: make`"
    assert lines({"prepare.lr": "given", f"prepare.{key}": value}) == [expected]


def test_all_mistakes_are_reported_at_once(lines: Lines) -> None:
    changes = {
        "scale": 7,
        "pretrain.batch": "x",
        "pretrain.learning_rate.warmup": -1,
        "finetune.learning_rate": {"schedule": "steps", "peak": 1e-4, "milestones": [90, 80], "final": 0.1},
        "evaluate.crop": 96,
    }
    assert [line.split(": ")[0] for line in lines(changes)] == [
        "evaluate.crop",
        "scale",
        "pretrain.batch",
        "pretrain.learning_rate.warmup",
        "finetune.learning_rate.milestones",
        "finetune.learning_rate.final",
        "finetune.learning_rate.final",
    ]


def test_deep_and_long_values_are_abridged(write: Write) -> None:
    deep: object = "x"
    for _ in range(200):
        deep = [deep]
    for value in (deep, "x" * 10_000, list(range(10_000)), {str(n): n for n in range(1000)}):
        content = load_params(write({})).model_dump()
        with pytest.raises(SrlibError) as caught:
            check_params({**content, "seed": value}, "recipe")
        assert len(str(caught.value)) < 300
