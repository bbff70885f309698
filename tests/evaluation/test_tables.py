"""Tables, metrics for DVC and the CSV: what stands where, how figures are written, the same bytes every time."""

import csv
import io
import json

import pytest

from srlib.evaluation.benchmark import METRICS, Cost, Method, Score
from srlib.evaluation.number_text import gigas, number, thousands
from srlib.evaluation.tables import (
    Table,
    by_set,
    detail_table,
    difference_table,
    document,
    flat,
    headline,
    main_table,
    markdown,
    means,
    means_csv,
    print_table,
    scores_csv,
)

INFINITE = float("inf")


def score(test_set: str, image: str, method: str, psnr: float, work: int = 0) -> Score:
    known = {"psnr_y": psnr, "ssim_y": 1 - 1 / psnr, "psnr_rgb": psnr - 1, "lr_psnr": psnr + 20}
    return Score(test_set, image, method, dict.fromkeys(METRICS, 0.5) | known, work)


@pytest.fixture
def scores() -> list[Score]:
    return [
        score("Set5", name, method, psnr + gain, work)
        for name, psnr in (("a", 20.0), ("b", 24.0), ("c", 28.0), ("d", 30.0), ("e", 33.0))
        for method, gain, work in (("bicubic", 0.0, 0), ("EDSR", 1.25, 3_000_000))
    ] + [score("Own", "f", "bicubic", 30.0), score("Own", "f", "EDSR", INFINITE)]


METHODS = [Method("bicubic"), Method("EDSR", cost=Cost(1_517_571, lambda h, w: h * w))]


def test_means(scores: list[Score]) -> None:
    result = means(scores)
    assert result["Set5"]["bicubic"]["psnr_y"] == 27.0
    assert result["Set5"]["EDSR"]["psnr_y"] == 28.25
    assert result["Own"]["EDSR"]["psnr_y"] is None
    assert means_csv(scores).splitlines()[:3] == [
        "set,method,psnr_y,ssim_y,psnr_rgb,color_error,lr_psnr",
        "Set5,bicubic,27.0,0.961797,26.0,0.5,47.0",
        "Set5,EDSR,28.25,0.96359,27.25,0.5,48.25",
    ]
    assert "Own,EDSR,inf,1.0,inf,0.5,inf" in means_csv(scores)
    assert flat(scores)["Set5/EDSR/psnr_y"] == 28.25
    assert "Own/EDSR/psnr_y" not in flat(scores)


def test_headline_metrics_have_the_same_names_for_every_network(scores: list[Score]) -> None:
    result = headline(scores, [Method("bicubic"), Method("EDSR", role="pretrained")])
    assert result["Set5"]["pretrained"] == {"psnr_y": 28.25, "ssim_y": 0.96359}
    assert list(result["Set5"]) == ["bicubic", "pretrained"]
    assert json.loads(json.dumps(result, allow_nan=False))["Own"]["pretrained"]["psnr_y"] is None


def test_one_csv_line_per_image_and_method(scores: list[Score]) -> None:
    rows = list(csv.DictReader(io.StringIO(scores_csv(scores))))
    assert list(rows[0]) == ["set", "picture", "method", *METRICS, "multiply_adds"]
    assert len(rows) == 12
    assert rows[1] == {
        "set": "Set5",
        "picture": "a",
        "method": "EDSR",
        "psnr_y": "21.25",
        "ssim_y": "0.952941",
        "psnr_rgb": "20.25",
        "color_error": "0.5",
        "lr_psnr": "41.25",
        "multiply_adds": "3000000",
    }
    assert rows[-1]["psnr_y"] == "inf"


def test_the_main_table(scores: list[Score]) -> None:
    table = main_table(scores, METHODS, 4)
    assert table.header == ["×4", "Parameters", "Multiply-adds", "Set5 (5)", "Own (1)"]
    assert table.rows[0] == ["bicubic", "", "", "27.00 / .9618", "30.00 / .9667"]
    assert table.rows[1][:3] == ["EDSR", "1.52 M", "0.0025 G"]
    assert table.rows[1][4] == "∞ / 1.0000"
    assert table.bold == {(1, 3), (1, 4)}
    equal = [Score(one.set, one.image, f"{one.method}2", one.values, one.multiply_adds) for one in scores]
    table = main_table([*scores, *equal], [*METHODS, Method("EDSR2"), Method("bicubic2")], 4)
    assert table.bold == {(1, 3), (1, 4), (2, 3), (2, 4)}, "methods that are equal are all the best"


def test_columns_of_costs_only_with_networks(scores: list[Score]) -> None:
    plain = [s for s in scores if s.method == "bicubic"]
    table = main_table(plain, METHODS[:1], 4)
    assert table.header == ["×4", "Set5 (5)", "Own (1)"]
    assert table.bold == {(0, 1), (0, 2)}


def test_intervals_and_differences(scores: list[Score]) -> None:
    detail = detail_table("Set5", scores)
    assert detail.rows[0][1].startswith("27.00 [") and detail.rows[0][1].endswith("]")
    set5, own = difference_table(scores).rows
    assert set5[:3] == ["Set5", "EDSR − bicubic", "+1.25 [+1.25, +1.25]"]
    assert set5[4] == "yes"
    assert own[2] == "∞" and own[4] == ""  # a single image has no interval


def test_markdown(scores: list[Score]) -> None:
    text = markdown(Table("Title", ["A|B", "C"], [["x", "1"], ["y", "2"]], frozenset({(1, 1)})))
    assert text == "Title\n\n| A\\|B | C |\n| --- | ---: |\n| x | 1 |\n| y | **2** |\n"
    whole = document(scores, METHODS, 4, METRICS)
    assert "**28.25 / .9636**" in whole
    assert "| EDSR baseline | Lim et al. 2017 | 32.09 / .8938 |" in whole
    assert ".9019†" in whole  # SSIM of another program is marked


def test_printed_plainly_where_there_is_no_terminal(scores: list[Score], capsys: pytest.CaptureFixture[str]) -> None:
    print_table(main_table(scores, METHODS, 4))
    out = capsys.readouterr().out
    assert "28.25 / .9636" in out
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("value", "digits", "sign", "text"),
    [
        (28.4304, 2, False, "28.43"),
        (0.81113, 4, False, ".8111"),
        (1.0, 4, False, "1.0000"),
        (0.99999, 4, False, "1.0000"),
        (0.05, 2, False, "0.05"),
        (-0.0123, 4, True, "−.0123"),
        (0.0123, 4, True, "+.0123"),
        (-0.5, 2, True, "−0.50"),
        (0.0, 4, True, "+.0000"),
        (INFINITE, 2, False, "∞"),
        (-INFINITE, 2, False, "−∞"),
    ],
)
def test_how_figures_are_written(value: float, digits: int, sign: bool, text: str) -> None:
    assert number(value, digits, sign) == text


def test_how_counts_are_written() -> None:
    assert [thousands(n) for n in (999, 24_800, 1_517_571, 43_000_000)] == ["999", "24.8 k", "1.52 M", "43 M"]
    assert [gigas(n) for n in (0, 4.43e9, 2.1e12)] == ["", "4.43 G", "2.1 T"]
    assert [thousands(n) for n in (999_400, 999_600, 1_234_000_000)] == ["999 k", "1 M", "1.23 G"]
    assert [gigas(n) for n in (999.4e9, 999.6e9)] == ["999 G", "1 T"]


def test_images_stay_in_order(scores: list[Score]) -> None:
    assert by_set(scores)["Set5"]["EDSR"]["psnr_y"] == [21.25, 25.25, 29.25, 31.25, 34.25]
