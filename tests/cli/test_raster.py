"""`srlib raster`: what the command adds to `srlib.rasters`."""

import numpy as np
import pytest
from typer.testing import CliRunner

from srlib.cli import app

rasterio = pytest.importorskip("rasterio", reason="needs the extra geo")


@pytest.fixture
def scene(tmp_path):
    path = tmp_path / "a.tif"
    values = np.random.default_rng(0).integers(0, 3000, (4, 12, 16), np.uint16)
    with rasterio.open(path, "w", driver="GTiff", dtype="uint16", count=4, height=12, width=16) as file:
        file.write(values)
    return path


def test_the_network_upscales_a_scene(scene, tmp_path):
    out = tmp_path / "b.tif"
    result = CliRunner().invoke(app, ["raster", str(scene), "-o", str(out), "--together", "3,2,1", "--threads", "1"])
    assert result.exit_code == 0, result.output
    assert "bands 3, 2, 1 go through the network together; band 4 alone" in result.stderr
    with rasterio.open(out) as file:
        assert (file.count, file.height, file.width, file.dtypes[0]) == (4, 48, 64, "uint16")
        assert file.read().min() >= 0 and file.read().max() < 3000


def test_wrong_bands_are_one_line(scene, tmp_path):
    result = CliRunner().invoke(app, ["raster", str(scene), "-o", str(tmp_path / "b.tif"), "--together", "red"])
    assert str(result.exception) == "--together: expected three numbers of bands such as 4,3,2, got red"
