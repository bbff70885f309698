import os
from pathlib import Path

import pytest

from srlib.atomic import remove
from srlib.errors import SrlibError
from srlib.files import (
    check_output,
    check_output_folder,
    file_hash,
    read_regular,
    tree_hash,
    write_json,
    write_text,
)


def test_json_is_the_same_bytes_for_the_same_value(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": "ü"})
    write_json(tmp_path / "b.json", {"a": "ü", "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "c.json", float("nan"))
    assert not (tmp_path / "c.json").exists()


def test_hashes_are_the_known_ones(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "abc")
    assert file_hash(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_hash(tmp_path / "a", "md5") == "900150983cd24fb0d6963f7d28e17f72"


def test_a_tree_hash_sees_names_and_contents(tmp_path: Path) -> None:
    seen = set()
    for name, content in (("a", "1"), ("b", "1"), ("a", "2"), ("d/a", "1")):
        remove(tmp_path / "t")
        write_text(tmp_path / "t" / name, content)
        seen.add(tree_hash(tmp_path / "t"))
    assert len(seen) == 4


class TestReadRegular:
    def test_content_up_to_the_limit(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"12345")
        assert read_regular(tmp_path / "a", limit=5) == b"12345"
        with pytest.raises(SrlibError, match="a: expected at most 4 bytes, got 5"):
            read_regular(tmp_path / "a", limit=4)

    def test_pipes_devices_and_folders_are_refused(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
            with pytest.raises(SrlibError, match="expected a regular file"):
                read_regular(path, limit=5)

    def test_a_missing_file_is_an_os_error(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            read_regular(tmp_path / "none", limit=5)


class TestOutputs:
    """Places where nothing can be written are refused before the work."""

    @pytest.fixture
    def places(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.chdir(tmp_path)
        Path("folder").mkdir()
        Path("file").touch()
        Path("dangling").symlink_to("nowhere")
        os.mkfifo("pipe")
        return tmp_path

    @pytest.mark.parametrize(
        ("path", "reason"),
        [
            ("/", "is a folder"),
            ("folder", "is a folder"),
            ("pipe", "is a pipe or device"),
            ("/dev/null", "is a pipe or device"),
            ("file/x", "is not a folder"),
            ("dangling/x", "is not a folder"),
            ("dangling", "is a link to nowhere, which does not exist; remove the link"),
            ("n" * 256, "a name has 256 bytes, more than 255"),
            ("/proc/x/y", "cannot be written; /proc: "),
        ],
    )
    def test_a_file_that_cannot_be_written(self, places: Path, path: str, reason: str) -> None:
        with pytest.raises(SrlibError, match=reason) as error:
            check_output(Path(path))
        assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)

    @pytest.mark.parametrize(
        ("path", "reason"),
        [
            ("file", "expected a folder"),
            ("pipe", "expected a folder"),
            ("/dev/null", "expected a folder"),
            ("dangling", "expected a folder"),
            ("file/x", "is not a folder"),
            (f"new/{'n' * 256}", "a name has 256 bytes, more than 255"),
            ("/proc/x", "cannot be written; /proc: "),
        ],
    )
    def test_a_folder_that_cannot_be_written(self, places: Path, path: str, reason: str) -> None:
        with pytest.raises(SrlibError, match=reason) as error:
            check_output_folder(Path(path))
        assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_folder_without_permission(self, places: Path) -> None:
        Path("folder").chmod(0o500)
        for check in (check_output, check_output_folder):
            with pytest.raises(SrlibError, match="Permission denied"):
                check(Path("folder/new"))

    def test_endings_and_files_that_exist(self, places: Path) -> None:
        Path("A.PNG").touch()
        check_output(Path("A.PNG"), suffix=".png")
        for path, options, message in [
            ("new.jpg", {"suffix": ".png"}, "new.jpg: expected a name that ends in .png"),
            ("A.PNG", {"force": False}, "A.PNG: exists; use --force to overwrite"),
        ]:
            with pytest.raises(SrlibError) as error:
                check_output(Path(path), **options)
            assert str(error.value) == message

    def test_places_that_can_be_written_stay_as_they_are(self, places: Path) -> None:
        for path in ("file", "new", "new/inner/file"):
            check_output(Path(path))
        for path in ("folder", "new", "new/inner"):
            check_output_folder(Path(path))
        assert sorted(os.listdir()) == ["dangling", "file", "folder", "pipe"] and not os.listdir("folder")
