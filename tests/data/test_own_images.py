"""Archives and folders that a recipe describes itself, fetched from a web server on this machine."""

import bz2
import gzip
import hashlib
import importlib.util
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from srlib.data import archive
from srlib.data import fetching as module
from srlib.data.download import download
from srlib.data.local import folder_digest, own_image_mistakes
from srlib.data.pairs import find_pairs
from srlib.data.sources import read_checksums
from srlib.errors import SrlibError
from srlib.imaging.write import write_png
from srlib.params import Download

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "download_faults.py"
spec = importlib.util.spec_from_file_location("download_faults", SCRIPT)
faults = importlib.util.module_from_spec(spec)
spec.loader.exec_module(faults)

Fetch = Callable[..., Path]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short pauses, and no proxy between this test and its server."""
    monkeypatch.setattr(module, "PATIENCE", (0.01,) * 4)
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server() -> Iterator["faults.Server"]:
    with faults.serving() as server:
        yield server


def image(name: str) -> bytes:
    """Some bytes for a file of this name; downloads do not decode images."""
    return f"content of {name}".encode()


def zipped(*names: str) -> bytes:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as package:
        for name in names:
            package.writestr(name, image(name))
    return buffer.getvalue()


def tarred(*names: str) -> bytes:
    with tarfile.open(fileobj=(buffer := io.BytesIO()), mode="w") as package:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = len(image(name))
            package.addfile(entry, io.BytesIO(image(name)))
    return buffer.getvalue()


def served(server: "faults.Server", path: str, content: bytes, **keys: str) -> dict[str, str]:
    """Put an archive on the server; return its entry in a recipe."""
    server.files[path] = content
    return {"address": server.address + path, "sha256": hashlib.sha256(content).hexdigest(), **keys}


def section(train: object = "none", test: object = ("sample",)) -> Download:
    test = list(test) if isinstance(test, tuple) else test
    return Download.model_validate({"train": train, "test": test, "features": "none"})


@pytest.fixture
def fetch(tmp_path: Path) -> Fetch:
    """Build the folder of a role in tmp_path/out, with the store tmp_path/store."""

    def fetch(params: Download, role: str = "train", **options: object) -> Path:
        download(role, tmp_path / "out", params, scale=4, store=tmp_path / "store", **options)
        return tmp_path / "out"

    return fetch


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*") if path.name != "SOURCES.json")


# Public layouts


def div2k_like(server: "faults.Server") -> list[dict[str, str]]:
    """The HR and LR archives of DIV2K as two entries of one set."""
    hr = served(server, "/DIV2K_train_HR.zip", zipped(*(f"DIV2K_train_HR/{n:04}.png" for n in (1, 2, 3))))
    lr = served(server, "/LR_X4.zip", zipped(*(f"DIV2K_train_LR_bicubic/X4/{n:04}x4.png" for n in (1, 2, 3))))
    return [
        {"name": "div2k", **hr, "hr": "DIV2K_train_HR/*"},
        {"name": "div2k", **lr, "lr": "DIV2K_train_LR_bicubic/X4/*"},
    ]


def test_df2k_is_div2k_and_flickr2k(server, fetch: Fetch) -> None:
    names = [f"Flickr2K/Flickr2K_HR/{n:06}.png" for n in (1, 2)]
    names += [f"Flickr2K/Flickr2K_LR_bicubic/X{s}/{n:06}x{s}.png" for s in (2, 3, 4) for n in (1, 2)]
    flickr = {
        "name": "flickr2k",
        **served(server, "/Flickr2K.tar", tarred("Flickr2K/", *names)),
        "hr": "Flickr2K/Flickr2K_HR/*.png",
        "lr": "Flickr2K/Flickr2K_LR_bicubic/X4/*.png",
    }
    out = fetch(section([*div2k_like(server), flickr]))
    assert files(out) == [
        *(f"HR/div2k/{n:04}.png" for n in (1, 2, 3)),
        *(f"HR/flickr2k/{n:06}.png" for n in (1, 2)),
        *(f"LR/div2k/{n:04}x4.png" for n in (1, 2, 3)),
        *(f"LR/flickr2k/{n:06}x4.png" for n in (1, 2)),
    ]
    assert (out / "LR/flickr2k/000002x4.png").read_bytes() == image("Flickr2K/Flickr2K_LR_bicubic/X4/000002x4.png")
    pairs, mistakes = find_pairs(out, given_lr=True, scale=4)
    assert [pair.name for pair in pairs] == [name.removeprefix("HR/") for name in files(out)[:5]] and not mistakes
    facts = json.loads((out / "SOURCES.json").read_text())
    assert facts["train"][2]["hr"] == "Flickr2K/Flickr2K_HR/*.png"
    assert [fact["path"] for fact in facts["files"]] == ["HR/div2k", "LR/div2k", "HR/flickr2k", "LR/flickr2k"]


def test_lsdir_is_many_shards_with_folders(server, fetch: Fetch) -> None:
    shards = [
        {
            "name": "lsdir",
            **served(
                server,
                f"/shard-{number:02}.tar.gz",
                gzip.compress(tarred(*(f"HR/train/{number:04}000/{number}{n:06}.png" for n in (1, 2)))),
            ),
            "hr": "HR/train/**",
        }
        for number in range(3)
    ]
    assert files(fetch(section(shards))) == [
        f"HR/lsdir/{number:04}000/{number}{n:06}.png" for number in range(3) for n in (1, 2)
    ]
    assert len(server.requests) == 3


def test_bsds500_has_images_beside_other_files(server, fetch: Fetch) -> None:
    names = ["BSR/bench/pic.png", "BSR/BSDS500/data/groundTruth/train/100075.mat"]
    names += [f"BSR/BSDS500/data/images/{name}" for name in ("train/100075.jpg", "val/3096.jpg", "val/Thumbs.db")]
    entry = served(server, "/BSR_bsds500.tgz", gzip.compress(tarred("BSR/", *names)))
    out = fetch(section([{"name": "bsds500", **entry, "hr": "BSR/BSDS500/data/images/**"}]))
    assert files(out) == ["HR/bsds500/train/100075.jpg", "HR/bsds500/val/3096.jpg"]
    pairs, mistakes = find_pairs(out, given_lr=False, scale=4)
    assert [pair.name for pair in pairs] == ["bsds500/train/100075.jpg", "bsds500/val/3096.jpg"] and not mistakes


def test_a_flat_zip_with_lr_images_of_its_own(server, fetch: Fetch, tmp_path: Path) -> None:
    (tmp_path / "my photos.zip").write_bytes(content := zipped("sharp/a.jpg", "blurred/a.png", "notes.txt"))
    entry = {"file": str(tmp_path / "my photos.zip"), "sha256": hashlib.sha256(content).hexdigest()}
    out = fetch(section(entry | {"hr": "sharp/*", "lr": "blurred/*"}))
    assert files(out) == ["HR/a.jpg", "LR/a.png"]
    assert files(fetch(section(entry))) == ["HR/blurred/a.png", "HR/sharp/a.jpg"]  # without patterns: all images
    assert server.requests == [] and not list((tmp_path / "store").iterdir())


@pytest.mark.parametrize(
    "pack", [tarred, *(lambda *n, c=c: c.compress(tarred(*n)) for c in (gzip, bz2, lzma)), zipped],
    ids=["tar", "gz", "bz2", "xz", "zip"],
)  # fmt: skip
def test_kinds_of_archives(pack: Callable[..., bytes], server, fetch: Fetch) -> None:
    entry = served(server, "/any%20name?download=true", pack("./a/b.png", "a/c.png"))
    out = fetch(section(entry | {"hr": "a/*"}))
    assert files(out) == ["HR/b.png", "HR/c.png"] and (out / "HR/b.png").read_bytes() == image("./a/b.png")


# Folders, lists and test sets


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number, name in enumerate(("a.png", "x/b.png")):
        write_png(tmp_path / "photos" / name, np.full((8, 8, 3), number, np.uint8))
    (tmp_path / "photos" / ".DS_Store").touch()
    return tmp_path / "photos"


def test_a_folder_beside_a_published_set(photos: Path, fetch: Fetch) -> None:
    entry = {"name": "mine", "folder": f"{photos}/", "sha256": folder_digest(photos)}
    out = fetch(section(["sample", entry]))
    assert files(out)[:3] == ["HR/mine/a.png", "HR/mine/x/b.png", "HR/sample/astronaut.png"] and len(files(out)) == 8
    assert (out / "HR/mine/x/b.png").read_bytes() == (photos / "x/b.png").read_bytes()


def test_the_checksum_of_a_folder_is_that_of_its_images(photos: Path) -> None:
    lines = [f"{hashlib.sha256((photos / name).read_bytes()).hexdigest()}  {name}\n" for name in ("a.png", "x/b.png")]
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert folder_digest(photos) == digest
    (photos / "notes.txt").touch()
    assert folder_digest(photos) == digest
    (photos / "a.png").rename(photos / "c.png")
    assert folder_digest(photos) != digest


def test_a_list_keeps_names_when_a_set_is_added(server, fetch: Fetch) -> None:
    first = div2k_like(server)
    alone = files(fetch(section(first)))
    other = {"name": "other", **served(server, "/o.zip", zipped("0001.png"))}
    assert set(alone) < set(files(fetch(section([other, *first]))))


def test_two_archives_of_a_set_with_one_name(server, fetch: Fetch, tmp_path: Path) -> None:
    shards = [{"name": "s", **served(server, f"/{n}.zip", zipped("1.png", f"{n}.jpg"))} for n in range(2)]
    with pytest.raises(SrlibError, match=r"1\.png would replace another image of the same name"):
        fetch(section(shards))
    assert not (tmp_path / "out").exists()


def test_test_sets_of_your_own(server, fetch: Fetch) -> None:
    entry = served(server, "/faces.zip", zipped("faces/HR/1.png", "faces/HR/x/2.png", "faces/LR/1x4.png"))
    out = fetch(section(test=("sample", {"name": "faces", **entry, "hr": "faces/HR/**"})), role="test")
    assert files(out)[:2] == ["faces/HR/1.png", "faces/HR/2.png"]  # without folders, as evaluate reads them
    assert section(test=("sample", {"name": "faces", **entry})).test_sets == ["sample", "faces"]


# Fetched once, resumed, checked


def test_an_archive_is_fetched_once_and_resumed(server, fetch: Fetch, tmp_path: Path) -> None:
    content = zipped(*(f"{n}.png" for n in range(3000)))
    entry = served(server, "/big.zip", content)
    server.faults["/big.zip"] = [faults.drop(0.5)]
    fetch(section(entry))
    assert [start for _, start in server.requests] == [0, len(content) // 2]
    renamed = served(server, "/moved.zip", content)
    fetch(section(renamed))
    assert len(server.requests) == 2
    assert [path.name for path in (tmp_path / "store").glob("*-*")] == [f"{entry['sha256']}-big.zip"]


def test_progress_of_an_archive_counts_bytes(server, fetch: Fetch, capsys: pytest.CaptureFixture[str]) -> None:
    fetch(section(served(server, "/a.zip", content := zipped("1.png"))))
    size = f"{len(content)} B"
    assert f"download from 127.0.0.1: {size} of {size} (100%)" in capsys.readouterr().err


def test_a_wrong_checksum_is_reported_with_the_right_one(server, fetch: Fetch, tmp_path: Path) -> None:
    entry = served(server, "/a.zip", zipped("1.png"))
    with pytest.raises(SrlibError, match=f"wrong sha256, expected {'0' * 64}, got {entry['sha256']}"):
        fetch(section(entry | {"sha256": "0" * 64}))
    assert not list((tmp_path / "store").glob("*-*"))


def test_a_mirror_holds_other_sets_below_their_host(server, fetch: Fetch, tmp_path: Path) -> None:
    content = zipped("1.png")
    entry = {"address": "https://example.org/sets/a.zip?x=1", "sha256": hashlib.sha256(content).hexdigest()}
    (tmp_path / "mirror/example.org/sets").mkdir(parents=True)
    (tmp_path / "mirror/example.org/sets/a.zip").write_bytes(content)
    assert files(fetch(section(entry), mirror=str(tmp_path / "mirror"))) == ["HR/1.png"]


# Refused


def linked() -> bytes:
    with tarfile.open(fileobj=(buffer := io.BytesIO()), mode="w") as package:
        entry = tarfile.TarInfo("a.png")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        package.addfile(entry)
    return buffer.getvalue()


def lying(size: int) -> bytes:
    entry = tarfile.TarInfo("a.png")
    entry.size = size
    return entry.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


def long_header() -> bytes:
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    return entry.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


REFUSED = {
    "a name with ..": (tarred("a/../../x.png"), "expected relative names without"),
    "a link": (linked(), "expected images, got links: a.png"),
    "sizes without end": (lying(2 << 40), "expected at most 1100 GB"),
    "a large header": (long_header(), r"damaged or unsupported archive \(a header of 8589934592 bytes\)"),
    "a cut archive": (lying(5000), r"damaged or unsupported archive \(unexpected end of data\)"),
    "cut compression": (gzip.compress(tarred("a.png"))[:-20], "damaged or unsupported archive"),
    "damaged compression": (b"\x1f\x8b" + bytes(500), "damaged or unsupported archive"),
    "neither zip nor tar": (b"Rar!\x1a\x07\x01" + bytes(600), "expected zip, tar, tar.gz, tar.bz2 or tar.xz"),
    "a tar without images": (tarred("a.txt"), "there is no image at all"),
    "nothing that matches": (
        zipped("HR/a.png"),
        r"expected images like \*, found none; its 1 images are named like HR",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_bad_archive_is_one_line_and_leaves_nothing(kind: str, fetch: Fetch, tmp_path: Path) -> None:
    content, line = REFUSED[kind]
    (tmp_path / "a.bin").write_bytes(content)
    entry = {"file": str(tmp_path / "a.bin"), "sha256": hashlib.sha256(content).hexdigest()}
    pattern = {"hr": "*"} if kind == "nothing that matches" else {}
    with pytest.raises(SrlibError, match=line) as caught:
        fetch(section(entry | pattern))
    assert str(caught.value).isprintable()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "store"]


def test_an_image_that_is_too_large(fetch: Fetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "LARGEST_OWN_MEMBER", 1 << 20)
    with tarfile.open(tmp_path / "a.tar", "w") as package:
        entry = tarfile.TarInfo("a.png")
        entry.size = (1 << 20) + 1
        package.addfile(entry, io.BytesIO(bytes(entry.size)))
    digest = hashlib.sha256((tmp_path / "a.tar").read_bytes()).hexdigest()
    with pytest.raises(SrlibError, match=r"images larger than the limit of 1 MiB: a\.png"):
        fetch(section({"file": str(tmp_path / "a.tar"), "sha256": digest}))


def test_disk_space_is_checked_before_unpacking(fetch: Fetch, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "a.tar").write_bytes(content := tarred("a.png", "b.png"))
    entry = {"file": str(tmp_path / "a.tar"), "sha256": hashlib.sha256(content).hexdigest()}
    usage = archive.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(SrlibError, match="unpacking needs"):
        fetch(section(entry))


# What is checked before any stage


def test_the_check_names_every_mistake(server, photos: Path, fetch: Fetch, tmp_path: Path) -> None:
    stored = served(server, "/stored.zip", zipped("HR/1.png"))
    fetch(section(stored))
    (tmp_path / "a.zip").write_bytes(zipped("HR/1.png"))
    digest = hashlib.sha256((tmp_path / "a.zip").read_bytes()).hexdigest()
    sets = [
        {"name": "a", "file": str(tmp_path / "none.zip"), "sha256": digest},
        {"name": "b", "file": str(tmp_path / "a.zip"), "sha256": "0" * 64},
        {"name": "c", "file": str(tmp_path / "a.zip"), "sha256": digest, "hr": "LR/*"},
        {"name": "d", "folder": str(photos), "sha256": "0" * 64},
        {"name": "e", "folder": str(photos), "sha256": folder_digest(photos), "hr": "HR/*"},
        {"name": "f", **stored, "hr": "LR/*"},
        {"name": "g", **stored, "hr": "HR/*"},
        {"name": "h", **served(server, "/later.zip", zipped("LR/1.png")), "hr": "HR/*"},  # not fetched yet
    ]
    mistakes = list(own_image_mistakes(section(sets), tmp_path / "store"))
    assert [key for key, _ in mistakes] == [f"download.train[{index}]" for index in range(6)]
    words = (
        "no such file",
        f"expected the sha256 {'0' * 64}, got {digest}",
        "expected images like LR/*",
        f"got {folder_digest(photos)}; if this is the right folder",
        "expected images like HR/*",
        "expected images like LR/*",
    )
    assert all(word in line for word, (_, line) in zip(words, mistakes, strict=True)), mistakes


# Other checksums than the published ones


def test_other_checksums_are_used_reported_and_recorded(fetch: Fetch, tmp_path: Path, capsys) -> None:
    names = [f"SelfExSR/data/Set5/image_SRF_4/img_{n:03}_SRF_4_HR.png" for n in range(1, 6)]
    for name in names:
        (tmp_path / "mirror" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mirror" / name).write_bytes(image(name))
    lines = [f"{hashlib.sha256(image(name)).hexdigest()}  ./{name}\n" for name in names]
    (tmp_path / "checksums.txt").write_text("".join(lines))
    checksums = read_checksums(tmp_path / "checksums.txt")
    assert list(checksums) == names
    with pytest.raises(SrlibError, match="instead of"):
        fetch(section(test=("Set5",)), role="test", mirror=str(tmp_path / "mirror"))
    out = fetch(section(test=("Set5",)), role="test", mirror=str(tmp_path / "mirror"), checksums=checksums)
    assert files(out) == [f"Set5/HR/{name}.png" for name in ("baby", "bird", "butterfly", "head", "woman")]
    assert capsys.readouterr().err.count("instead of the published checksum") == 5
    fact = json.loads((out / "SOURCES.json").read_text())["files"][0]
    assert fact["sha256"] == checksums[names[0]] and fact["published_checksum"] not in checksums.values()


def test_checksums_that_belong_to_no_file_are_reported(fetch: Fetch, server, tmp_path: Path, capsys) -> None:
    content = tarred("a.png")
    (tmp_path / "mirror/localhost").mkdir(parents=True)
    (tmp_path / "mirror/localhost/a.tar").write_bytes(content)
    other = {"address": "https://localhost/b.tar", "name": "b", "sha256": "1" * 64, "hr": "*"}
    params = section({"address": "https://localhost/a.tar", "sha256": "0" * 64, "hr": "*"}, test=(other,))
    right = {"localhost/a.tar": hashlib.sha256(content).hexdigest(), "localhost/b.tar": "2" * 64}
    fetch(params, mirror=str(tmp_path / "mirror"), checksums=right)
    assert "SRLIB_CHECKSUMS: " not in capsys.readouterr().err  # a line of another role is right, too
    fetch(params, mirror=str(tmp_path / "mirror"), checksums=right | {"b.tar": "2" * 64, "c.tar": "3" * 64})
    line = "SRLIB_CHECKSUMS: 2 of 4 lines replace nothing, such as b.tar: the recipe fetches no file of this path; "
    assert line + "expected paths in the mirror such as localhost/a.tar\n" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["x  a.zip\n", f"{'0' * 64} a.zip\n", f"{'0' * 63}g  a.zip\n", f"{'0' * 64}  \n"])
def test_a_list_of_checksums_of_another_form(text: str, tmp_path: Path) -> None:
    (tmp_path / "list").write_text(f"{'0' * 64}  good.zip\n{text}")
    with pytest.raises(SrlibError, match="list, line 2: expected `<SHA-256>  <path in the mirror>`"):
        read_checksums(tmp_path / "list")
    with pytest.raises(SrlibError, match=r"SRLIB_CHECKSUMS: .*none: cannot be read"):
        read_checksums(tmp_path / "none")
