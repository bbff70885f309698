"""Raster files: georeference, gaps, kinds of numbers, windows."""

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from srlib.errors import SrlibError
from srlib.imaging.resize import resize
from srlib.rasters import upscaling
from srlib.rasters.upscaling import run_raster

rasterio = pytest.importorskip("rasterio", reason="needs the extra geo")
from rasterio.control import GroundControlPoint  # noqa: E402
from rasterio.enums import ColorInterp  # noqa: E402
from rasterio.transform import Affine  # noqa: E402


class Bicubic:
    """A model that upscales by MATLAB bicubic."""

    name, scale, receptive_field = "bicubic", 4, 2

    def __call__(self, rgb, *, on_pixels=None):
        return resize(rgb, self.scale)


def write(path, values, **profile):
    """Write bands [n, h, w]."""
    profile = {"driver": "GTiff", "dtype": values.dtype.name, "crs": "EPSG:32633"} | profile
    profile.setdefault("transform", Affine(10, 0, 500_000, 0, -10, 5_000_000))
    with rasterio.open(path, "w", count=len(values), height=values.shape[1], width=values.shape[2], **profile) as file:
        file.write(values)
        return path


def scene(bands=1, height=40, width=56, dtype="int16"):
    draw = np.random.default_rng(3)
    smooth = resize(draw.integers(0, 256, (bands, 10, 14), np.uint8).transpose(1, 2, 0), (height, width))
    return (smooth.transpose(2, 0, 1).astype(np.float64) * 37 - 2000).astype(dtype)


def upscaled(source, out, **options):
    run_raster(source, out, Bicubic, **options)
    return rasterio.open(out)


def test_the_georeference_covers_the_same_ground(tmp_path):
    """Bounds, coordinate system and corners; rotated, too."""
    rotated = Affine(10, 3, 500_000, 2, -10, 5_000_000)
    with upscaled(write(tmp_path / "a.tif", scene(), transform=rotated), tmp_path / "b.tif") as result:
        assert result.crs.to_epsg() == 32633
        for x, y in ((0, 0), (56, 0), (0, 40), (56, 40)):
            corner = rasterio.transform.xy(result.transform, 4 * y, 4 * x, offset="ul")
            np.testing.assert_allclose(corner, rasterio.transform.xy(rotated, y, x, offset="ul"))


def test_without_a_georeference_there_is_none_after(tmp_path):
    source = write(tmp_path / "a.tif", scene(), crs=None, transform=None)
    with upscaled(source, tmp_path / "b.tif") as result:
        assert result.transform.is_identity and result.crs is None
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert not {33550, 33922, 34264} & {tag.code for tag in file.pages.first.tags}


@pytest.mark.parametrize(
    ("dtype", "nodata", "fits"),
    [("int64", -9999, True), ("int64", 0, True), ("int64", -(2**63), False), ("uint64", 2**64 - 1, False)],
)
def test_nodata_of_64_bits_is_kept_or_refused(dtype, nodata, fits, tmp_path):
    values = scene(dtype="int64")[0].astype(dtype) % 1000 + 1
    values[4:9, 5:9] = nodata
    text = (42113, "s", 0, str(nodata), True)  # GDAL's tag, as GDAL itself writes it
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", extratags=[text])
    if fits:
        with upscaled(tmp_path / "a.tif", tmp_path / "b.tif") as result:
            np.testing.assert_array_equal(result.read_masks(1) == 0, (values == nodata).repeat(4, 0).repeat(4, 1))
    else:
        with pytest.raises(SrlibError, match=r"rasterio cannot keep a nodata value of more than 53 bits"):
            upscaled(tmp_path / "a.tif", tmp_path / "b.tif")
        assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_every_kind_of_number_is_kept(dtype, tmp_path):
    """Against bicubic of the numbers themselves, within two of 65,535 levels (one of 255 for bytes)."""
    values = scene(2, dtype="float64")
    values = ((values + 2000) / 37).astype(dtype) if dtype == "uint8" else (values + 2000).astype(dtype)
    with upscaled(write(tmp_path / "a.tif", values), tmp_path / "b.tif") as result:
        assert set(result.dtypes) == {dtype} and (result.count, result.height, result.width) == (2, 160, 224)
        for band, numbers in zip(result.read(), values.astype(np.float64), strict=True):
            low, high = numbers.min(), numbers.max()
            levels = np.rint((numbers - low) / (high - low) * 65535).astype(np.uint16)
            expected = resize(levels[..., None].repeat(3, 2), 4)[..., 0] / 65535 * (high - low) + low
            tolerance = 1.5 if dtype == "uint8" else (high - low) / 65535 * 2 + (0.5 if dtype[0] in "iu" else 0)
            np.testing.assert_allclose(band, expected, atol=tolerance)


def test_thirteen_bands_with_their_meaning(tmp_path):
    path = write(tmp_path / "a.tif", scene(13, 20, 24, "uint16"))
    with rasterio.open(path, "r+") as file:
        file.descriptions = [f"B{band:02}" for band in range(13)]
        file.update_tags(4, wavelength="665", STATISTICS_MEAN="12")
        file.update_tags(sensor="A")
        file.scales, file.offsets, file.units = [0.1] * 13, [2.0] * 13, ["reflectance"] * 13
    with upscaled(path, tmp_path / "b.tif") as result:
        assert result.descriptions == tuple(f"B{band:02}" for band in range(13))
        assert result.tags(4) == {"wavelength": "665"} and result.tags()["sensor"] == "A"
        assert (result.scales[0], result.offsets[0], result.units[0]) == (0.1, 2.0, "reflectance")


def test_nodata_and_nan_stay_where_they_are(tmp_path):
    values = scene(1, dtype="float32")
    values[0, 5:9, 7:30], values[0, 30:, 40:] = np.nan, -9999
    with upscaled(write(tmp_path / "a.tif", values, nodata=-9999), tmp_path / "b.tif") as result:
        band = result.read()
        assert result.nodata == -9999
        np.testing.assert_array_equal(np.isnan(band), np.isnan(values).repeat(4, 1).repeat(4, 2))
        np.testing.assert_array_equal(band == -9999, (values == -9999).repeat(4, 1).repeat(4, 2))
        valid = band[np.isfinite(band) & (band != -9999)]
        assert valid.min() >= -2000, "nothing of the gaps in the numbers around them"


def test_no_valid_number_becomes_nodata(tmp_path):
    """Between -5 and 5, bicubic gives 0, which is nodata here."""
    values = np.where(np.indices((24, 24)).sum(axis=0) % 8 < 4, -5, 5).astype(np.int16)[None]
    with upscaled(write(tmp_path / "a.tif", values, nodata=0), tmp_path / "b.tif") as result:
        assert (result.read_masks() > 0).all()


def test_a_mask_is_kept(tmp_path):
    mask = np.full((40, 56), 255, np.uint8)
    mask[:10, :12] = 0
    path = tmp_path / "a.tif"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        write(path, scene(2))
        with rasterio.open(path, "r+") as file:
            file.write_mask(mask)
    with upscaled(path, tmp_path / "b.tif") as result:
        np.testing.assert_array_equal(result.dataset_mask(), mask.repeat(4, 0).repeat(4, 1))
    assert not list(tmp_path.glob("*.msk"))


@pytest.mark.parametrize("window", [16, 24])
def test_windows_leave_no_trace(window, tmp_path, monkeypatch):
    """To the last bit, with gaps: the same as in one window."""
    values = scene(4, 50, 61, "float32")
    values[:, 12:20, 10:36] = np.nan
    path = write(tmp_path / "a.tif", values, photometric="RGB")
    with upscaled(path, tmp_path / "whole.tif") as whole:
        monkeypatch.setattr(upscaling, "_WINDOW", window)
        with upscaled(path, tmp_path / "windows.tif") as windows:
            np.testing.assert_array_equal(windows.read(), whole.read())


def test_red_green_and_blue_go_together(tmp_path, capsys):
    """As the file names them, whatever their order; or as the user does."""
    path = write(tmp_path / "a.tif", scene(5, 20, 24, "uint8"))
    with rasterio.open(path, "r+") as file:
        gray = ColorInterp.undefined
        file.colorinterp = [gray, ColorInterp.blue, ColorInterp.green, ColorInterp.red, gray]
    with upscaled(path, tmp_path / "b.tif") as result:
        assert result.colorinterp[3] == ColorInterp.red
    assert f"{path}: bands 4, 3, 2 go through the network together; bands 1, 5 alone" in capsys.readouterr().err
    with upscaled(path, tmp_path / "c.tif", together=[(1, 5, 3)]):
        assert "bands 1, 5, 3 go through the network together; bands 2, 4 alone" in capsys.readouterr().err


def test_ground_control_points_move_with_the_pixels(tmp_path):
    path = write(tmp_path / "a.tif", scene(), transform=None)
    with rasterio.open(path, "r+") as file:
        file.gcps = (
            [GroundControlPoint(row, col, 10.0 * col, -10.0 * row) for row, col in ((0, 0), (0, 56), (40, 0))],
            (rasterio.CRS.from_epsg(32633)),
        )
    with upscaled(path, tmp_path / "b.tif") as result:
        assert [(point.row, point.col, point.x) for point in result.gcps[0]] == [(0, 0, 0), (0, 224, 560), (160, 0, 0)]


def refused(source, out, **options):
    with pytest.raises(SrlibError) as error:
        run_raster(source, out, Bicubic, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_cannot_be_done_is_one_line(tmp_path):
    good = write(tmp_path / "good.tif", scene(2))
    out = tmp_path / "out.tif"
    assert refused(tmp_path / "none.tif", out).endswith("none.tif: no such file")
    assert refused(good, tmp_path / "x.png").endswith("x.png: expected a name that ends in .tif")
    assert "exists; --force overwrites it" in refused(good, good)
    assert "is the file that is read" in refused(good, good, force=True)
    assert "groups of three different bands from 1 to 2, each band once, got 1,2,3" in refused(
        good, out, together=[(1, 2, 3)]
    )
    text = tmp_path / "text.tif"
    text.write_text('<VRTDataset rasterXSize="4" rasterYSize="4"/>')
    assert "expected a GeoTIFF or JPEG 2000 file" in refused(text, out)
    complex_numbers = write(tmp_path / "complex.tif", np.ones((1, 8, 8), np.complex64))
    assert "expected one kind of integers or floats in all bands, got complex64" in refused(complex_numbers, out)
    classes = write(tmp_path / "classes.tif", np.ones((1, 8, 8), np.uint8), photometric="palette")
    with rasterio.open(classes, "r+") as file:
        file.write_colormap(1, {1: (255, 0, 0, 255)})
    assert "its numbers are classes" in refused(classes, out)
    cut = tmp_path / "cut.tif"
    cut.write_bytes(good.read_bytes()[:300])
    assert "cut.tif: cannot be read as GeoTIFF or JPEG 2000" in refused(cut, out)
    assert not out.exists() and not list(tmp_path.glob(".*"))


def test_a_damaged_head_is_one_line(tmp_path):
    """GDAL's own errors reach rasterio's callers at odd places, such as the meaning of the bands."""
    pages = np.arange(2 * 20 * 24, dtype=np.uint8).reshape(2, 20, 24)
    tifffile.imwrite(tmp_path / "whole.tif", pages, photometric="minisblack", extratags=[(274, 3, 1, 6, True)])
    whole = (tmp_path / "whole.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "whole.tif") as file:
        places = [file.pages.first.tags[tag].offset for tag in (259, 273, 274)]
        second = file.pages[1].offset
    damaged = [whole[: second + 20], *(whole[: at + 2] + b"\x02" + whole[at + 3 :] for at in places)]
    damaged += [whole[: at + 8] + b"\xf0" + whole[at + 9 :] for at in places]
    lines = []
    for content in damaged:
        (tmp_path / "a.tif").write_bytes(content)
        try:
            upscaled(tmp_path / "a.tif", tmp_path / "b.tif", force=True).close()
        except SrlibError as error:
            lines.append(str(error))
    assert len(lines) > 3 and not any("\n" in line for line in lines)


@pytest.mark.parametrize(("length", "fill"), [(100, 0), (3000, 0), (9000, 1)])
def test_a_disk_that_is_full_leaves_nothing(length, fill, tmp_path, monkeypatch):
    """GDAL raises nothing where the last bytes of a file do not fit."""
    source = write(tmp_path / "a.tif", scene())

    def write_half(reader, path, *rest):
        sums = whole(reader, path, *rest)
        content = path.read_bytes()
        path.write_bytes(content[:length] + bytes(fill * (len(content) - length)))
        return sums

    whole = upscaling._write
    monkeypatch.setattr(upscaling, "_write", write_half)
    with pytest.raises(SrlibError, match=r"b\.tif: could not be written whole"):
        run_raster(source, tmp_path / "b.tif", Bicubic)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_what_is_not_kept_has_a_line(tmp_path, capsys):
    tifffile = pytest.importorskip("tifffile")
    pages = np.arange(2 * 20 * 24, dtype=np.uint8).reshape(2, 20, 24)
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack", extratags=[(274, 3, 1, 6, True)])
    with upscaled(tmp_path / "a.tif", tmp_path / "b.tif") as result:
        assert result.count == 1
    lines = capsys.readouterr().err.splitlines()
    assert f"{tmp_path}/a.tif: only the first of 2 pages is used" in lines
    assert f"{tmp_path}/a.tif: not kept: the orientation tag (6); the rows stay as they are in the file" in lines
    assert not any("Warning" in line for line in lines)


def test_the_colors_mean_the_same(tmp_path):
    """White as zero, a color profile and XMP are kept."""
    path = write(tmp_path / "a.tif", scene(dtype="uint8"), photometric="MINISWHITE", source_icc_profile="AAAA")
    with rasterio.open(path, "r+") as file:
        file.update_tags(ns="xml:XMP", **{"xml:XMP": "<x/>"})
    with upscaled(path, tmp_path / "b.tif") as result:
        assert result.tags(ns="IMAGE_STRUCTURE")["MINISWHITE"] == "YES"
        assert result.tags(ns="COLOR_PROFILE")["SOURCE_ICC_PROFILE"] == "AAAA"
        assert "<x/>" in str(result.tags(ns="xml:XMP"))


@pytest.mark.parametrize("extra", ["assocalpha", "unassalpha"])
@pytest.mark.parametrize("colors", [1, 3])
def test_alpha_keeps_its_kind(colors, extra, tmp_path):
    """Colors that are multiplied by alpha already would be multiplied twice under the name of the other kind."""
    values = scene(colors + 1, dtype="uint16").transpose(1, 2, 0)
    photometric = "rgb" if colors == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", values, photometric=photometric, extrasamples=[extra])
    upscaled(tmp_path / "a.tif", tmp_path / "b.tif").close()
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        page = file.pages.first
        assert [kind.name for kind in page.extrasamples] == [extra.upper()]
        assert page.photometric.name == photometric.upper()


def test_alpha_that_cannot_keep_its_kind_has_a_line(tmp_path, capsys):
    values = scene(5, dtype="uint16").transpose(1, 2, 0)
    kinds = ["unspecified", "assocalpha"]
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", extrasamples=kinds)
    upscaled(tmp_path / "a.tif", tmp_path / "b.tif").close()
    assert "a.tif: not kept: that the colors are multiplied by alpha" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_red_green_and_blue_are_all_the_samples(dtype, tmp_path):
    """A TIFF of RGB that names two more samples than it has is opened by few programs."""
    tifffile.imwrite(tmp_path / "a.tif", scene(3, dtype=dtype).transpose(1, 2, 0), photometric="rgb")
    upscaled(tmp_path / "a.tif", tmp_path / "b.tif").close()
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        page = file.pages.first
        assert (page.photometric.name, page.samplesperpixel, page.extrasamples) == ("RGB", 3, ())


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_white_as_zero_is_no_color_table(dtype, tmp_path):
    """GDAL shows a table of grays where the file has none."""
    values = np.uint8(5) * np.arange(48, dtype=dtype).reshape(6, 8)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite")
    upscaled(tmp_path / "a.tif", tmp_path / "b.tif").close()
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.pages.first.photometric.name == "MINISWHITE"
        np.testing.assert_allclose(file.asarray(), resize(values[..., None], 4)[..., 0], atol=4)  # clipped to the range


def test_names_that_look_like_addresses(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("zip:a.tif", "GTIFF_DIR:2:a.tif", "new\nline.tif"):
        write(tmp_path / "a.tif", scene()).rename(name)
        run_raster(Path(name), Path(f"big-{name}"), Bicubic)
        assert Path(f"big-{name}").is_file()
    assert "new\\nline.tif: band 1 alone" in capsys.readouterr().err.splitlines()
    odd = Path(os.fsdecode(b"\xff.tif"))
    odd.write_bytes(b"II*\0")
    with pytest.raises(SrlibError, match="GDAL needs names in UTF-8"):
        run_raster(odd, Path("c.tif"), Bicubic)
    with pytest.raises(SrlibError, match="expected a file, got a folder"):
        run_raster(tmp_path, Path("c.tif"), Bicubic)


def test_an_undeclared_number_for_gaps(tmp_path):
    values = scene(dtype="float64")
    values[0, :2], values[0, 5] = -np.finfo("float64").max, np.finfo("float64").max
    with pytest.raises(SrlibError, match=r"band 1 has numbers from -1\.79769e\+308 to 1\.79769e\+308; declare"):
        run_raster(write(tmp_path / "a.tif", values), tmp_path / "b.tif", Bicubic)


@pytest.mark.parametrize("opaque", [255, 40])
def test_an_alpha_band_keeps_its_gaps(opaque, tmp_path):
    """Colors below transparent pixels must not show at their edges: a gap stays one, to the pixel."""
    alpha = np.full((1, 24, 32), opaque, np.uint8)
    alpha[:, :, 20:] = 0
    alpha[:, 5, 6] = 0
    colors = np.where(alpha > 0, np.uint8(200), np.uint8(0)).repeat(3, 0)
    path = write(tmp_path / "a.tif", np.concatenate([colors, alpha]), photometric="RGB", alpha="YES")
    with upscaled(path, tmp_path / "b.tif") as result:
        values = result.read()
        np.testing.assert_array_equal(result.dataset_mask() > 0, alpha[0].repeat(4, 0).repeat(4, 1) > 0)
    assert (values[:3, values[3] > 0] == 200).all()
