"""Which cells of the report are marked as the best."""

from srlib.evaluation.benchmark import METRICS, Method, Score
from srlib.evaluation.opinions import Opinion, Opinions
from srlib.report.tables import image_tables, score_table


def test_equal_methods_are_all_the_best() -> None:
    scores = [
        Score("Own", "plain", method, dict.fromkeys(METRICS, 0.9) | {"psnr_y": psnr})
        for method, psnr in (("nearest", 40.0), ("bicubic", float("inf")), ("EDSR", float("inf")))
    ]
    methods = [Method("nearest"), Method("bicubic"), Method("EDSR")]
    mos = {"nearest": 3.5, "bicubic": 2.0, "EDSR": 3.5, "original": 4.5}
    rows = [Opinion("all", name, value, None, None, [0, 0, 1, 1, 0], 1, 1) for name, value in mos.items()]
    table = score_table(scores, methods, 4, Opinions("0" * 16, rows, [], [], [], []))
    best = {line.head: [cell.best for cell in line.cells] for line in table.rows}
    assert [best[method.name] for method in methods] == [[False, True], [True, False], [True, True]]
    ((_, images),) = image_tables(scores, methods)
    assert [cell.best for cell in images.rows[0].cells] == [False, True, True]
