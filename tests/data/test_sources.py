import csv
import hashlib
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from srlib.data import sources
from srlib.data.sources import Item, plan
from srlib.models.features import LAYERS
from srlib.params import TEST_SCALES, Download, FeatureFile

PARTS = ["HR", *(f"LR_{kind}_X{scale}" for kind in ("bicubic", "unknown") for scale in (2, 3, 4))]
SETS = ["Set5", "Set14", "BSD100", "Urban100"]


def recipe(**changes: object) -> Download:
    return Download.model_validate({"train": "none", "test": ["sample"], "features": "none"} | changes)


def test_available_scales_are_accepted() -> None:
    assert {(name, scale) for name, scales in TEST_SCALES.items() for scale in scales} == set(sources._selfexsr())


def everything() -> list[Item]:
    """Every item that any recipe can ask for, and DIV2K's validation archives, which none asks for yet."""
    items = [
        item
        for scale in (2, 3, 4)
        for train in ("sample", "free-photos", "div2k-bicubic", "div2k-unknown")
        for item in plan("train", recipe(train=train), scale)
    ]
    for scale, names in ((2, SETS[:2]), (3, SETS[:2]), (4, SETS)):
        items += plan("test", recipe(test=["sample", "DIV2K", *names]), scale)
    for network in LAYERS:
        items += plan("features", recipe(features=network), 4)
    return items


@pytest.fixture(scope="module")
def tables(shared: Path) -> Path:
    """The folder with the lists that these tables were taken from."""
    if not (shared.parent / "sources.md").is_file():
        pytest.skip("../shared/sources.md is not on this machine")
    return shared.parent


def test_div2k_table_matches_independent_list(tables: Path) -> None:
    rows = re.findall(r"^\| (DIV2K_\w+)\.zip \| (\d+) \| ([0-9a-f]{64}) \|$", (tables / "sources.md").read_text(), re.M)
    assert len(rows) == 14
    for name, size, digest in rows:
        source = sources.div2k(name.removeprefix("DIV2K_"))
        assert (source.address, source.mirror) == (
            f"https://data.vision.ee.ethz.ch/cvl/DIV2K/{name}.zip",
            f"DIV2K/{name}.zip",
        )
        assert (source.size, source.digest, source.algorithm) == (int(size), digest, "sha256")


def test_vgg19_is_the_one_written_down(tables: Path) -> None:
    text = (tables / "sources.md").read_text()
    base, place = re.search(r"## VGG19 — `(\S+)<file>`, mirror path `(\S+)<file>`", text).groups()
    name, digest, size = re.search(r"`(vgg19\S+)`, md5 ([0-9a-f]{32}), (\d+) bytes", text).groups()
    source = sources.VGG19
    assert (source.address, source.mirror) == (base + name, place + name)
    assert (source.digest, source.size, source.algorithm) == (digest, int(size), "md5")


def test_every_feature_network_has_a_source(shared: Path) -> None:
    assert list(sources.FEATURE_WEIGHTS) == list(LAYERS)
    (path,) = (shared / "weights").glob("squeezenet*.h5")
    source = sources.SQUEEZENET
    assert (source.name, source.size) == (path.name, path.stat().st_size)
    assert source.digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_benchmark_table_matches_independent_list(tables: Path) -> None:
    base = re.search(r"## Benchmarks — `(\S+/data/)<Set>", (tables / "sources.md").read_text())[1]
    rows = (line.split() for line in (tables / "sources_selfexsr.sha256").read_text().splitlines())
    expected = {(base + path, f"SelfExSR/data/{path}", digest) for digest, path in rows}
    listed = {
        (i.source.address, i.source.mirror, i.source.digest) for i in everything() if "SelfExSR" in i.source.address
    }
    assert listed == expected and len(expected) == 257


LATER = {"gianni-rosato/gb82-image-set", "imazen/codec-corpus"}


def test_most_photographs_are_those_of_the_independent_list(shared: Path) -> None:
    lines = csv.DictReader((shared.parent / "photos/photos.tsv").read_text().splitlines(), delimiter="\t")
    expected = {
        row["blob"]: (row["repo"], row["path"], int(row["bytes"]), float(row["factor"]))
        for row in lines
        if row["tier"] in ("cc0", "free")
    }
    items = plan("train", recipe(train="free-photos"), 4)
    listed = {}
    for item in items:
        owner, name, commit, path = unquote(urlsplit(item.source.address).path).lstrip("/").split("/", 3)
        assert re.fullmatch("[0-9a-f]{40}", commit)
        blob = Path(item.source.mirror).stem
        listed[blob] = (f"{owner}/{name}", path, item.source.size, item.factor)
        assert item.target == f"HR/{item.target[3:].split('_')[0]}_{blob[:12]}.png"
    later = {blob for blob, (repository, *_) in listed.items() if repository in LATER}
    assert {blob: facts for blob, facts in listed.items() if blob not in later} == expected
    assert len(later) == 268 and len(items) == 522


def test_photographs_state_terms_and_credit() -> None:
    items = plan("train", recipe(train="free-photos"), 3)
    assert {item.target.split("_")[0] for item in items} == {"HR/cc0", "HR/free"}
    assert all(", credit: " in item.source.terms and 0 < item.factor <= 1 for item in items)


@pytest.mark.parametrize("name", ["Set5", "Set14"])
def test_images_have_their_published_names(name: str, tables: Path) -> None:
    text = " ".join((tables / "sources.md").read_text().split())
    expected = re.search(rf"{name}(?: names in order)?: ([a-z0-9, ]+)\.", text)[1].split(", ")
    items = plan("test", recipe(test=[name]), 4)
    assert [item.target for item in items] == [f"{name}/HR/{own}.png" for own in expected]
    assert [int(item.source.name[4:7]) for item in items] == list(range(1, len(items) + 1))


def test_the_mirror_holds_these_files(shared: Path) -> None:
    seen = 0
    for item in everything():
        path = shared / "mirror" / (item.source.mirror or "none")
        if path.is_file():
            assert hashlib.new(item.source.algorithm, path.read_bytes()).hexdigest() == item.source.digest, path
            seen += 1
    assert seen == 157


def test_addresses_and_targets_are_well_formed() -> None:
    for item in everything():
        assert item.source.terms
        assert re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{32}", item.source.digest)
        assert not item.target.startswith("/") and ".." not in item.target
        if item.source.mirror is None:
            assert item.source.address.startswith(sources.PACKAGE)
        else:
            parts = urlsplit(item.source.address)
            assert parts.scheme == "https" and parts.hostname and not parts.query and " " not in item.source.address
            mirror_folder, path = item.source.mirror.split("/", 1)
            assert mirror_folder == "free-photos" or item.source.address.endswith(path)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_targets_of_a_role_are_unique(scale: int) -> None:
    names = SETS if scale == 4 else SETS[:2]
    targets = [item.target for item in plan("test", recipe(test=["sample", "DIV2K", *names]), scale)]
    assert len(set(targets)) == len(targets)


def test_the_samples_share_no_scene() -> None:
    train, test = set(sources.SAMPLE_TRAIN), set(sources.SAMPLE_TEST)
    assert train and test and not train & test
    assert not {digest for _, digest in sources.SAMPLE_TRAIN.values()} & {d for _, d in sources.SAMPLE_TEST.values()}
    assert {"motorcycle_left.png", "motorcycle_right.png"} <= train  # two views of one scene


def test_samples_are_in_the_installed_package() -> None:
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    for name, (size, digest) in (sources.SAMPLE_TRAIN | sources.SAMPLE_TEST).items():
        content = (folder / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (size, digest)


def test_the_names_inside_div2k() -> None:
    members = {part: sources.div2k_members(part) for part in ("train_HR", "valid_HR", "train_LR_bicubic_X4")}
    assert members["train_HR"][0] == "DIV2K_train_HR/0001.png" and members["train_HR"][-1] == "DIV2K_train_HR/0800.png"
    assert members["valid_HR"][0] == "DIV2K_valid_HR/0801.png" and members["valid_HR"][-1] == "DIV2K_valid_HR/0900.png"
    assert members["train_LR_bicubic_X4"][0] == "DIV2K_train_LR_bicubic/X4/0001x4.png"
    assert [len(set(names)) for names in members.values()] == [800, 100, 800]
    assert sources.div2k_members("train_LR_unknown_X2")[799] == "DIV2K_train_LR_unknown/X2/0800x2.png"


def test_a_recipe_gets_only_what_it_needs() -> None:
    assert plan("train", recipe(train="none"), 4) == plan("features", recipe(), 4) == []
    archives = [item.source.name for item in plan("train", recipe(train="div2k-unknown"), 3)]
    assert archives == ["DIV2K_train_HR.zip", "DIV2K_train_LR_unknown_X3.zip"]
    both = plan("test", recipe(test=["Set5", "Set14"]), 2)
    assert set(plan("test", recipe(test=["Set5"]), 2)) < set(both) and len(both) == 19
    own = FeatureFile(file="weights/mine.h5", sha256="0" * 64)
    assert [item.target for item in plan("features", recipe(features=own), 4)] == ["mine.h5"]


def test_a_set_that_does_not_exist_at_the_scale() -> None:
    with pytest.raises(ValueError, match=r"download\.test: Urban100 exists at scale 4 only"):
        plan("test", recipe(test=["Urban100"]), 2)


def test_there_are_three_roles() -> None:
    with pytest.raises(ValueError, match="expected train, test or features"):
        plan("validation", recipe(), 4)
