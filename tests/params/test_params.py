from pathlib import Path

import pytest
import yaml

from srlib.errors import SrlibError
from srlib.params import Params, load_params

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


def changed(tmp_path: Path, key: str, value: object) -> Path:
    """The quick start with one key set (or removed, for None) at a dotted path."""
    content = yaml.safe_load((ROOT / "recipes/quickstart.yaml").read_text())
    *sections, last = key.split(".")
    place = content
    for section in sections:
        place = place[section]
    if value is None:
        del place[last]
    else:
        place[last] = value
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_valid(recipe: Path) -> None:
    assert isinstance(load_params(recipe), Params)


def test_the_committed_params_are_the_quick_start() -> None:
    assert load_params(ROOT / "params.yaml") == load_params(ROOT / "recipes/quickstart.yaml")


def test_all_five_recipes_are_there() -> None:
    assert {path.stem for path in RECIPES} == {"quickstart", "div2k-x4", "edsr-paper", "srgan-paper", "photos"}


def test_the_article_recipe_says_what_the_article_does() -> None:
    params = load_params(ROOT / "recipes/div2k-x4.yaml")
    assert (params.scale, params.prepare.patch * params.scale) == (4, 256)
    assert (params.pretrain.batch, params.pretrain.epochs, params.pretrain.loss) == (32, 150, "mae")
    assert (params.finetune.batch, params.finetune.steps) == (16, 200_000)
    assert (params.finetune.perceptual_scale, params.finetune.adversarial_weight) == (0.00615, 0.001)
    assert params.finetune.perceptual_scale == pytest.approx(1 / 12.75**2, rel=1e-3)


MISTAKES = {
    "typo in a key": ("pretrain.lerning_rate", {"peak": 1e-4}, ["pretrain.lerning_rate", "unknown key"]),
    "typo in a nested key": ("finetune.features.weigths", "file", ["finetune.features.weigths", "unknown key"]),
    "unknown section": ("pretraining", {}, ["pretraining", "unknown key"]),
    "missing section": ("finetune", None, ["finetune", "missing"]),
    "missing key": ("pretrain.lr_patch", None, ["pretrain.lr_patch", "missing"]),
    "number as text": ("pretrain.steps", "many", ["pretrain.steps", "expected", "integer", "'many'"]),
    "fraction for a count": ("pretrain.batch", 16.5, ["pretrain.batch", "integer", "16.5"]),
    "negative count": ("finetune.steps", -1, ["finetune.steps", "greater than 0", "-1"]),
    "scale that no model has": ("scale", 5, ["scale", "2, 3 or 4", "5"]),
    "unknown model": ("pretrain.model.name", "edrs", ["pretrain.model", "'edsr'", "'edrs'"]),
    "option of another model": ("pretrain.model.groups", 3, ["pretrain.model.groups", "unknown key"]),
    "unknown test set": ("download.test", ["set5"], ["download.test[0]", "'Set5'", "'set5'"]),
    "no test set": ("download.test", [], ["download.test", "at least 1 item"]),
    "steps and epochs": ("pretrain.epochs", 3, ["pretrain", "exactly one of `steps` and `epochs`"]),
    "training patch beyond the stored one": (
        "finetune.lr_patch",
        64,
        ["finetune.lr_patch", "at most prepare.patch (48)", "64"],
    ),
    "copies that are larger": ("prepare.sizes", [1.0, 1.5], ["prepare.sizes[1]", "less than or equal to 1", "1.5"]),
    "a copy twice": ("prepare.sizes", [1.0, 0.5, 0.5], ["prepare: ", "each of `sizes` once"]),
    "learning rate too large": (
        "finetune.learning_rate.peak",
        10,
        ["finetune.learning_rate.peak", "less than 1", "10"],
    ),
    "weights that nothing fetches": ("finetune.features.weights", "file", ["download.features", "vgg19"]),
    "text for a list": ("download.test", "Set5", ["download.test", "list", "'Set5'"]),
    "a yes for a number": ("pretrain.ema_decay", True, ["pretrain.ema_decay", "number", "True"]),
    "a section that is a value": ("prepare", "fast", ["prepare", "keys and values", "'fast'"]),
    "wrong precision": ("pretrain.precision", "bf16", ["pretrain.precision", "'mixed_bfloat16'", "'bf16'"]),
    "milestones without steps": (
        "finetune.learning_rate.milestones",
        [10],
        ["finetune.learning_rate", "`schedule: steps`"],
    ),
    "infinite": ("finetune.perceptual_weight", float("inf"), ["finetune.perceptual_weight", "finite", "inf"]),
    "neither of a union": ("download.features", "vgg16", ["download.features", "'vgg19'", "'vgg16'"]),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_line_that_names_key_expectation_and_value(mistake, tmp_path: Path) -> None:
    key, value, words = mistake
    with pytest.raises(SrlibError) as caught:
        load_params(changed(tmp_path, key, value))
    line = str(caught.value)
    assert "\n" not in line
    assert "params.yaml" in line
    for word in words:
        assert word in line


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = changed(tmp_path, "scale", 7)
    path.write_text(path.read_text().replace("batch: 16", "batch: x"))
    with pytest.raises(SrlibError) as caught:
        load_params(path)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("scale: [", "not valid YAML"),
        ("- scale", "expected sections"),
        ("", "expected sections"),
        ("scale: 4\nscale: 2\n", "`scale` stands here twice"),
        ("scale: !!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_recipe(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(SrlibError, match=words):
        load_params(path)


def test_a_missing_file_points_to_the_recipes(tmp_path: Path) -> None:
    with pytest.raises(SrlibError, match="copy a recipe"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("text", ["1e-4", "1.0e-4", "1E-4", "0.0001", ".0001", "1.e-4"])
def test_numbers_are_read_as_dvc_reads_them(text: str, tmp_path: Path) -> None:
    path = changed(tmp_path, "finetune.learning_rate", {"peak": "PEAK"})
    path.write_text(path.read_text().replace("PEAK", text))
    assert load_params(path).finetune.learning_rate.peak == 1e-4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scale": 2, "download.test": ["Set5", "BSD100"]}, "download.test: BSD100 exists for scale 4 only"),
        ({"scale": 3, "download.test": ["Urban100"]}, "download.test: Urban100 exists for scale 4 only"),
        ({"download.test": ["Set5", "Set5"]}, "download.test: Set5 stands there twice"),
        ({"download.features": {"file": "w.npz", "sha256": "0" * 64}}, "download.features.file: expected .*h5.*w.npz"),
    ],
)
def test_what_no_source_has_is_told_before_any_work(changes: dict, words: str, tmp_path: Path) -> None:
    content = yaml.safe_load((ROOT / "recipes/quickstart.yaml").read_text())
    content["scale"] = changes.pop("scale", 4)
    content["download"] |= {key.split(".")[1]: value for key, value in changes.items()}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(SrlibError, match=words) as caught:
        load_params(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_sets_that_exist_at_a_scale_are_accepted(scale: int, tmp_path: Path) -> None:
    path = changed(tmp_path, "download.test", ["sample", "Set5", "Set14", "DIV2K"])
    path.write_text(path.read_text().replace("scale: 4", f"scale: {scale}"))
    assert load_params(path).scale == scale


@pytest.mark.parametrize("name", ["srcnn", "espcn", "fsrcnn"])
def test_a_network_on_luma_can_be_pre_trained(name: str, tmp_path: Path) -> None:
    pretrain = yaml.safe_load((ROOT / "recipes/quickstart.yaml").read_text())["pretrain"]
    chosen = {**pretrain, "model": {"name": name}, "equivariant": False}
    assert load_params(changed(tmp_path, "pretrain", chosen)).pretrain.model.name == name


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"name": "srcnn", "middle": 7}, "pretrain.model.middle: expected 1, 3 or 5, got 7"),
        ({"name": "espcn", "filters": 1}, "pretrain.model.filters: expected greater than or equal to 2, got 1"),
        ({"name": "fsrcnn", "blocks": 0}, "pretrain.model.blocks: expected greater than 0, got 0"),
        ({"name": "espcn", "blocks": 2}, "pretrain.model.blocks: unknown key"),
        ({"name": "vdsr"}, "pretrain.model: expected `name` to be one of .*'fsrcnn'.*, got 'vdsr'"),
    ],
)
def test_options_of_networks_are_checked(model: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(SrlibError, match=words) as caught:
        load_params(changed(tmp_path, "pretrain.model", model))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "change", [{"optimizer": "adamw"}, {"weight_decay": 0.01}, {"optimizer": "adamw", "weight_decay": 0.0}]
)
def test_weight_decay_and_adamw_go_together(change: dict, tmp_path: Path) -> None:
    pretrain = yaml.safe_load((ROOT / "recipes/quickstart.yaml").read_text())["pretrain"]
    accepted = load_params(changed(tmp_path, "pretrain", {**pretrain, "optimizer": "adamw", "weight_decay": 0.01}))
    assert accepted.pretrain.weight_decay == 0.01
    with pytest.raises(SrlibError, match="pretrain: `weight_decay` above 0 and `optimizer: adamw` go together"):
        load_params(changed(tmp_path, "pretrain", {**pretrain, **change}))


@pytest.mark.parametrize("model", [{"name": "srresnet"}, {"name": "espcn"}, {"name": "compact", "filters": 12}])
def test_what_cannot_be_equivariant_is_refused(model: dict, tmp_path: Path) -> None:
    pretrain = yaml.safe_load((ROOT / "recipes/quickstart.yaml").read_text())["pretrain"] | {"equivariant": True}
    assert load_params(changed(tmp_path, "pretrain", pretrain)).pretrain.equivariant
    with pytest.raises(SrlibError, match="pretrain: `equivariant: true` needs the model edsr or compact with"):
        load_params(changed(tmp_path, "pretrain", {**pretrain, "model": model}))
