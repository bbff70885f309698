"""Usage: evaluate.py PICTURES PRETRAINED GAN RESULTS [CURVES …]. Scores every method on the test sets."""

import sys
from pathlib import Path

from srlib.files import remove, write_json, write_text
from srlib.progress import progress
from srlib.stage import stage_run


def main(pictures: Path, pretrained: Path, gan: Path, results: Path, *curves: Path) -> None:
    """Writes tables, scores, strips, report and every method's pictures to `results`, and prints the table."""
    inputs = {"pictures": pictures, "pretrained": pretrained, "gan": gan}
    with stage_run("evaluate", inputs=inputs, keras=True) as run:
        from srlib.evaluation import champions, methods, tables
        from srlib.evaluation.benchmark import Timing, evaluate
        from srlib.evaluation.sets import featured, find_sets
        from srlib.imaging.write import write_png
        from srlib.report import html as report
        from srlib.report.strips import strip

        section, scale = run.params.evaluate, run.params.scale
        sets = find_sets(pictures, scale)
        champions.check(section.champion, sets)
        rows = methods.recipe_methods(section, scale, pretrained, gan)
        metrics = methods.recipe_metrics(section)
        shown = [row.name for row in rows if row.name not in ("nearest", "bilinear")]
        chosen = featured(sets, section.strips)
        for folder in (strips := results / "strips", versions := results / "images"):
            remove(folder)
            folder.mkdir(parents=True)
        scores, shots, timing = [], [], Timing()
        with progress(sum(map(len, sets.values())), "evaluate", "pictures") as advance:
            for result in evaluate(sets, rows, scale, metrics=metrics):
                test_set, name = result.image.set, result.image.name
                scores += result.scores
                timing.add(result)
                for method, image in {**result.sr, "original": result.hr}.items():
                    write_png(versions / test_set / method / f"{name}.png", image)
                if (test_set, name) in chosen:
                    drawing = strip(result, shown, scale=scale, crop=section.strip_size)
                    write_png(strips / f"{test_set}_{name}.png", drawing)
                    run.log_image(f"{test_set}_{name}", drawing)
                    shots.append(report.exhibit(result, shown, crop=section.strip_size))
                advance()
        charts = [(folder.name, folder / f"{kind}.csv") for folder in curves for kind in ("loss", "validation")]
        page = report.render(scores, rows, scale, exhibits=shots, curves=charts, recipe=run.params, metrics=metrics)
        write_text(results / "report.html", page)
        write_text(results / "table.md", tables.document(scores, rows, scale, metrics))
        write_text(results / "scores.csv", tables.scores_csv(scores, metrics))
        write_json(results / "scores.json", tables.scores_json(scores, metrics))
        run.log_metrics({**timing.metrics(), **tables.flat(scores, metrics)})
        files = [results / name for name in ("report.html", "table.md", "scores.csv", "scores.json")]
        for file in files[:2]:
            run.log_artifact(file)
        run.done([*files, strips, versions])
        run.elect(champions.candidates(section.champion, scores, metrics, pictures, inputs))
        tables.print_table(tables.main_table(scores, rows, scale))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
