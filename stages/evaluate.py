"""Usage: evaluate.py PICTURES PRETRAINED GAN RESULTS. Scores every method on the test sets."""

import sys
from pathlib import Path

from srlib.files import remove, write_json, write_text
from srlib.progress import progress
from srlib.stage import stage_run


def main(pictures: Path, pretrained: Path, gan: Path, results: Path) -> None:
    """Writes table, scores, strips and every method's pictures to `results`, and prints the table."""
    inputs = {"pictures": pictures, "pretrained": pretrained, "gan": gan}
    with stage_run("evaluate", inputs=inputs, keras=True) as run:
        from srlib.data.images import write_png
        from srlib.evaluation import tables
        from srlib.evaluation.benchmark import evaluate, find_sets, interpolation
        from srlib.evaluation.figures import strip
        from srlib.evaluation.methods import trained

        section, scale = run.params.evaluate, run.params.scale
        sets = find_sets(pictures, scale)
        methods = [interpolation(name) for name in section.interpolations]
        methods += [trained(folder, scale) for folder in (pretrained, gan)]
        shown = [method.name for method in methods if method.name not in ("nearest", "bilinear")]
        strips, versions = results / "strips", results / "pictures"
        for folder in (strips, versions):
            remove(folder)
            folder.mkdir(parents=True)
        scores, seconds = [], dict.fromkeys((method.name for method in methods), 0.0)
        with progress(sum(map(len, sets.values())), "evaluate", "pictures") as advance:
            for number, result in enumerate(evaluate(sets, methods, scale)):
                name = result.picture.name
                scores += result.scores
                for method, image in {**result.sr, "original": result.hr}.items():
                    write_png(versions / result.picture.set / method / f"{name}.png", image)
                if number < section.strips:
                    drawing = strip(result, shown, scale=scale, crop=section.crop)
                    write_png(strips / f"{result.picture.set}_{name}.png", drawing)
                    run.log_image(f"{result.picture.set}_{name}", drawing)
                for method, taken in result.seconds.items():
                    seconds[method] += taken
                advance()
        table = tables.main_table(scores, methods, scale)
        write_text(results / "table.md", tables.markdown(table))
        write_text(results / "scores.csv", tables.scores_csv(scores))
        write_json(results / "scores.json", tables.scores_json(scores))
        run.log_metrics({f"seconds/{method}": taken for method, taken in seconds.items()})
        run.log_metrics(tables.flat(scores))
        run.log_artifact(results / "table.md")
        run.done(results / name for name in ("table.md", "scores.csv", "scores.json", "strips", "pictures"))
        tables.print_table(table)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
