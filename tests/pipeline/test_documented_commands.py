"""The commands of README, of the tutorial and of the page on experiments work as printed, in their order."""

import re
import shutil
import subprocess

import pytest
import skimage.data
from PIL import Image as Pillow

from .conftest import BIN, ROOT, Repository, ran

PAGES = ("README.md", "docs/tutorials/quickstart.md", "docs/how-to/compare-experiments.md")
PROGRAMS = re.compile(r"(\$ )?(make|git|sed|\.venv/bin/\w+) ")
NOT_RUN = {"make ui": "a server that does not end"}
TERMINAL = 120


def commands(page: str) -> list[str]:
    """The commands in the code blocks of a page; in blocks with `$ ` the other lines are what they print."""
    lines: list[str] = []
    for block in re.findall(r"^```\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S):
        session = [line for line in block.splitlines() if PROGRAMS.match(line)]
        marked = [line.removeprefix("$ ") for line in session if line.startswith("$ ")]
        lines += marked or session
    return [line for line in lines if not line.startswith(tuple(NOT_RUN))]


def expected_stages(page: str) -> set[str]:
    """The stages that a page says a changed parameter runs."""
    return set(re.findall(r"^Running stage '(\w+)':$", (ROOT / page).read_text(encoding="utf-8"), re.M))


@pytest.fixture(scope="module")
def copy(repository: Repository, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A copy of the first repository, whose cache makes only the first change train."""
    copy = Repository(tmp_path_factory.mktemp("documented") / "repository")
    shutil.copytree(repository.path, copy.path, symlinks=True)
    (copy.path / ".venv").mkdir()
    (copy.path / ".venv/bin").symlink_to(BIN)
    return copy


@pytest.fixture
def clone(copy: Repository) -> Repository:
    """The copy as a fresh clone is after its first `dvc repro`: dvc.lock is there, and not committed."""
    first, results = copy.run("git", "rev-list", "--reverse", "HEAD").stdout.split()[:2]
    lock = copy.run("git", "show", f"{results}:dvc.lock").stdout
    copy.run("git", "reset", "-q", "--hard", first)
    (copy.path / "dvc.lock").write_text(lock)
    copy.run("dvc", "checkout", "--force")
    (copy.path / ".venv/installed").touch()  # newer than requirements.lock: make sets nothing up
    Pillow.fromarray(skimage.data.chelsea()[:80, :96]).save(copy.path / "photo.jpg")
    (copy.path / "big.png").unlink(missing_ok=True)
    return copy


@pytest.mark.parametrize("page", PAGES)
def test_commands_work_as_printed(clone: Repository, page: str) -> None:
    printed: dict[str, str] = {}
    assert len(commands(page)) > 5
    for command in commands(page):
        done = shell(clone, command)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        printed[command] = done.stdout
        if command == ".venv/bin/dvc repro" and ran(done):
            assert set(ran(done)) == expected_stages(page)
    changes = clone.run("git", "status", "--porcelain", "--untracked-files=all").stdout.splitlines()
    assert {line[3:] for line in changes} <= {"params.yaml", "dvc.lock", "photo.jpg", "big.png"}
    check_output(clone, printed)


def check_output(clone: Repository, printed: dict[str, str]) -> None:
    for command, output in printed.items():
        if "exp show" in command:
            assert "stronger" in output and "finetune.adversarial_weight" in output and "ssim_y" not in output
            # The scores of so short a training may be equal, and have no column then: the pattern must keep them.
            dropped = re.search(r'--drop "(.*)"', command)
            assert dropped and not re.match(dropped[1], "sample.gan.psnr_y")
            assert max(map(len, output.splitlines())) <= TERMINAL
        elif "exp diff" in command:
            assert "finetune.adversarial_weight" in output and max(map(len, output.splitlines())) <= TERMINAL
        elif "metrics diff" in command:
            assert "sample.gan." in output
        elif "plots" in command:
            check_plots((clone.path / "dvc_plots/index.html").read_text(encoding="utf-8"))


def shell(repository: Repository, command: str) -> subprocess.CompletedProcess[str]:
    environment = repository.environment | {"COLUMNS": str(TERMINAL)}
    return subprocess.run(
        ["bash", "-c", command],
        cwd=repository.path,
        env=environment,
        text=True,
        capture_output=True,
        check=False,
        timeout=1800,
    )


def check_plots(page: str) -> None:
    """DVC's page requests nothing, its axes have units, and bicubic is a line of the charts of PSNR."""
    head, _, plots = page.partition("</head>")
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    assert "function vegaEmbed" in head
    assert plots.count("vegaEmbed(") == 4
    assert plots.count('"title": "PSNR-Y (dB)"') >= 2 and plots.count("bicubic_psnr_y") >= 2
    titles = set(re.findall(r'"title": \{"text": "(.*?)"', plots))
    assert titles == {
        "Pre-training: loss",
        "Pre-training: PSNR-Y of held-out patches",
        "SRGAN: loss terms",
        "SRGAN: PSNR-Y of held-out patches",
    }
