"""Archives that are damaged, too large or not what was expected."""

import io
import stat
import zipfile
from pathlib import Path

import pytest

from srlib.data import archive
from srlib.errors import SrlibError

from .conftest import png, zipped

NAMES = [f"set/{n}.png" for n in range(3)]
IMAGES = {name: png(number) for number, name in enumerate(NAMES)}


def refused(tmp_path: Path, content: bytes) -> str:
    """Return the error for an archive; nothing may have been written outside its folder."""
    path = tmp_path / "abc-set.zip"
    path.write_bytes(content)
    with pytest.raises(SrlibError) as caught:
        archive.unpack(path, NAMES, tmp_path / "in" / "out")
    assert sorted(p.name for p in tmp_path.rglob("*")) == sorted({"abc-set.zip", "in", "out"} | left(tmp_path))
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


def left(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "in/out").iterdir()} & {"0.png", "1.png", "2.png"}


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({name: IMAGES[name] for name in NAMES[:2]}, "set/2.png"),
        (IMAGES | {"set/3.png": b""}, "set/3.png"),
        (IMAGES | {"../evil.png": b""}, "../evil.png"),
        (IMAGES | {"/etc/evil.png": b""}, "/etc/evil.png"),
        (IMAGES | {"other/0.png": b""}, "other/0.png"),
        ({"set/0.png": b"", "set/1.png": b"", "set/../set/2.png": b""}, "set/../set/2.png"),
        ({}, "set/0.png"),
    ],
)
def test_unexpected_names_are_refused(members: dict, named: str, tmp_path: Path) -> None:
    assert named in refused(tmp_path, zipped(members))
    assert left(tmp_path) == set()


def test_duplicate_name_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as opened:
        for name in [*NAMES, "set/1.png"]:
            if name in opened.namelist():
                with pytest.warns(UserWarning, match="Duplicate"):
                    opened.writestr(name, b"another")
            else:
                opened.writestr(name, IMAGES[name])
    assert "set/1.png" in refused(tmp_path, buffer.getvalue())


def test_a_link_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("set/2.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as opened:
        for name in NAMES[:2]:
            opened.writestr(name, IMAGES[name])
        opened.writestr(link, "/etc/passwd")
    assert "links: set/2.png" in refused(tmp_path, buffer.getvalue())


def test_oversized_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "LARGEST_MEMBER", 1 << 20)
    bomb = zipped(IMAGES | {"set/1.png": bytes((1 << 20) + 1)})
    assert len(bomb) < 5000
    assert "images larger than the limit of 1 MiB: set/1.png" in refused(tmp_path, bomb)


def test_oversized_total_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "LARGEST_TOTAL", sum(map(len, IMAGES.values())) - 1)
    assert "its images have" in refused(tmp_path, zipped(IMAGES))


@pytest.mark.parametrize(
    ("offset", "value"),
    [(6, (99).to_bytes(2, "little")), (8, (0x0820).to_bytes(2, "little")), (46, b"\xff\xfe")],
    ids=["version 9.9", "patched data", "name that is not UTF-8"],
)
def test_odd_headers_are_one_line(tmp_path: Path, offset: int, value: bytes) -> None:
    content = bytearray(zipped(IMAGES))
    entry = content.rindex(b"PK\x01\x02")
    content[entry + offset : entry + offset + len(value)] = value
    if offset == 46:
        content[entry + 8 : entry + 10] = (0x0800).to_bytes(2, "little")
    refused(tmp_path, bytes(content))


def test_member_larger_than_stated_is_refused(tmp_path: Path) -> None:
    """The central directory says 10 bytes where a million come out."""
    content = bytearray(zipped(IMAGES | {"set/2.png": bytes(1_000_000)}))
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = (10).to_bytes(4, "little")
    assert "damaged or unsupported archive" in refused(tmp_path, bytes(content))
    assert (tmp_path / "in/out/2.png").stat().st_size <= 10


@pytest.mark.parametrize("flag", [1, None], ids=["encrypted", "of another compression"])
def test_encrypted_or_uncommon_members_are_refused(flag: int | None, tmp_path: Path) -> None:
    content = bytearray(zipped(IMAGES))
    entry = content.rindex(b"PK\x01\x02")
    if flag:
        content[entry + 8] |= flag
    else:
        content[entry + 10] = 12  # bzip2
    assert "expected stored or deflated members, got others: set/2.png" in refused(tmp_path, bytes(content))


def test_damaged_member_data_is_noticed(tmp_path: Path) -> None:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as opened:
        for name, content in IMAGES.items():
            opened.writestr(name, content)
    content = bytearray(buffer.getvalue())
    content[content.index(b"IDAT") + 5] ^= 1
    assert "damaged or unsupported archive (Bad CRC-32" in refused(tmp_path, bytes(content))


@pytest.mark.parametrize("content", [b"", b"<html>", zipped(IMAGES)[:-30], zipped(IMAGES)[40:]])
def test_incomplete_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    assert "damaged or unsupported archive" in refused(tmp_path, content)


@pytest.mark.parametrize("folders", [101, 2000])
def test_too_many_folders_inside_each_other_are_one_line(folders: int, tmp_path: Path) -> None:
    path = tmp_path / "deep.zip"
    path.write_bytes(zipped({"a/" * folders + "1.png": png(1)}))
    for call in (archive.check_archive, archive.unpack_matching):
        where = () if call is archive.check_archive else (tmp_path,)
        with pytest.raises(SrlibError) as caught:
            call(path, {"HR": "**"}, *where)
        assert "expected at most 100 folders inside each other, got more: a/a/a/" in str(caught.value)
        assert len(str(caught.value)) < 300
    archive.unpack_matching(path, {"HR": "**"}, tmp_path, flat=True)
    assert (tmp_path / "HR/1.png").is_file()
