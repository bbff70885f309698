"""Artifacts travel through an S3 server on this machine, and a team's photographs through a folder as remote."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from srlib.data.local import folder_digest
from srlib.imaging.write import write_png

from .conftest import Repository, ran

BIN = Path(sys.executable).parent
pytestmark = [pytest.mark.slow, pytest.mark.dvc]

ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "DVC_NO_ANALYTICS": "1",
}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The address of a local S3 server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [BIN / "moto_server", "-H", "127.0.0.1", "-p", str(port)],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 300
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert server.poll() is None, "the S3 server did not start"
                assert time.monotonic() < end, "the S3 server did not start in time"
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


def test_what_one_clone_pushes_another_pulls(endpoint: str, tmp_path: Path) -> None:
    import boto3

    boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        region_name="us-east-1",
    ).create_bucket(Bucket="bucket")
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()

    def run(folder: Path, *command: str) -> str:
        program = str(BIN / command[0]) if (BIN / command[0]).exists() else command[0]
        done = subprocess.run(
            [program, *command[1:]],
            cwd=folder,
            env=ENVIRONMENT,
            text=True,
            capture_output=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(here, "git", "init", "-q")
    run(here, "git", "config", "user.email", "someone@example.org")
    run(here, "git", "config", "user.name", "Someone")
    run(here, "dvc", "init", "-q")
    run(here, "dvc", "remote", "add", "--default", "team", "s3://bucket/srlib")
    run(here, "dvc", "remote", "modify", "team", "endpointurl", endpoint)
    run(here, "dvc", "remote", "modify", "team", "use_ssl", "false")
    (here / "dvc.yaml").write_text(
        "stages:\n"
        "  raw: {cmd: echo public > raw, outs: [raw: {push: false}]}\n"
        "  model: {cmd: mkdir m && cat raw raw > m/weights, deps: [raw], outs: [m]}\n"
    )
    run(here, "dvc", "repro")
    run(here, "git", "add", "-A")
    run(here, "git", "commit", "-q", "-m", "one")
    run(here, "dvc", "push")
    run(tmp_path, "git", "clone", "-q", str(here), str(there))
    run(there, "dvc", "pull", "--allow-missing")
    assert (there / "m/weights").read_text() == "public\npublic\n"
    assert not (there / "raw").exists()
    assert "Running stage 'model'" not in run(there, "dvc", "repro", "--pull")


def test_a_team_shares_its_photographs(new_repository: Callable[[str], Repository]) -> None:
    first = new_repository("first")
    first.change("download.train", "none")
    first.change("prepare.images", "data/photos")
    for number in range(3):
        content = np.random.default_rng(number).integers(0, 256, (128, 128, 3), np.uint8)
        write_png(first.path / f"data/photos/holiday/{number}.png", content)
    first.run("dvc", "add", "data/photos")
    first.run("git", "add", "data/photos.dvc", "params.yaml")
    assert first.run("git", "status", "--porcelain", "data").stdout == "A  data/photos.dvc\n"
    assert first.repro("prepare") == ["check", "prepare"]
    first.run("git", "add", "-A")
    first.run("git", "commit", "-q", "-m", "Our photographs")
    first.run("dvc", "push")

    second = Repository(first.path.with_name("second"))
    first.run("git", "clone", "-q", str(first.path), str(second.path))
    second.run("dvc", "pull", "data/photos.dvc")
    assert (second.path / "data/photos/holiday/2.png").is_file()
    assert second.repro("--pull", "prepare") == []  # the patches come from the remote as well
    assert (second.path / "data/patches/index.csv").is_file()
    second.change("prepare.stride", 16)
    (second.path / "data/photos/holiday/2.png").rename(second.path / "data/photos/holiday/kept.png")
    done = second.run("dvc", "repro", "prepare")
    assert "prepare" in ran(done)
    second.run("dvc", "add", "data/photos")  # a changed collection: the same command again
    assert "data/photos.dvc" in second.run("git", "status", "--porcelain").stdout

    third = new_repository("third")
    third.run("dvc", "import", str(first.path), "data/photos", "-o", "data/team")
    assert (third.path / "data/team/holiday/2.png").is_file()
    third.run("git", "add", "data/team.dvc")
    team = {"name": "team", "folder": "data/team", "sha256": folder_digest(third.path / "data/team")}
    third.change("download.train", ["sample", team])
    assert third.repro("prepare") == ["check", "download@train", "prepare"]
    index = (third.path / "data/patches/index.csv").read_text()
    assert ",team/holiday/2.png," in index and ",sample/astronaut.png," in index
