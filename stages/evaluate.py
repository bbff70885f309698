"""Usage: evaluate.py PRETRAINED GAN RESULTS [CURVES …]. Score every method on the test sets."""

import sys
from pathlib import Path

from srlib.atomic import atomic_path
from srlib.files import write_text
from srlib.progress import progress
from srlib.stage import stage_run


def main(pretrained: Path, gan: Path, results: Path, *curves: Path) -> None:
    """Score the sets in `evaluate.images`; write tables, report, strips and images to `results`; print the table."""
    inputs = {"pretrained": pretrained, "gan": gan}
    with stage_run("evaluate", inputs=inputs, keras=True) as run:
        from srlib.evaluation import champions, tables
        from srlib.evaluation.benchmark import Timing, evaluate, write_versions
        from srlib.evaluation.methods import recipe_methods, recipe_metrics
        from srlib.evaluation.opinions import current, read_opinions
        from srlib.evaluation.sets import featured, find_sets
        from srlib.imaging.write import write_png
        from srlib.report.html import exhibit, render
        from srlib.report.strips import strip

        section, scale = run.params.evaluate, run.params.scale
        sets, survey = find_sets(images := Path(section.images), scale), read_opinions(Path(section.survey))
        champions.check(section.champion, sets)
        methods, metrics = recipe_methods(section, scale, pretrained, gan), recipe_metrics(section)
        columns = [method.name for method in methods if method.name not in ("nearest", "bilinear")]
        chosen, scores, exhibits, timing = featured(sets, section.strips), [], [], Timing()
        strips, versions, side = results / "strips", results / "images", section.strip_size
        with atomic_path(strips) as new_strips, atomic_path(versions) as new_versions:
            new_strips.mkdir()
            new_versions.mkdir()
            with progress(sum(map(len, sets.values())), "evaluate", "images") as advance:
                for result in evaluate(sets, methods, scale, metrics=metrics):
                    test_set, name = result.image.set, result.image.name
                    scores += result.scores
                    timing.add(result)
                    write_versions(new_versions, result)
                    if (test_set, name) in chosen:
                        write_png(new_strips / f"{test_set}_{name}.png", strip(result, columns, scale=scale, side=side))
                        exhibits.append(exhibit(result, columns, side=side))
                    advance()
        opinions = current(survey, versions)
        page = render(scores, methods, scale, metrics, opinions, exhibits=exhibits, logs=curves, recipe=run.params)
        write_text(results / "report.html", page)
        tables.write(results, scores, methods, scale, metrics, opinions)
        run.tracking.log_results({f"speed/{name}": value for name, value in timing.metrics().items()})
        files = [results / name for name in ("report.html", *tables.FILES)]
        for path in (*files[:2], strips):
            run.tracking.log_artifact(path, on_parent=True)
        run.done([*files, strips, versions])
        run.score(tables.flat(scores, metrics), champions.model_scores(scores, metrics, images, inputs))
        run.elect(champions.candidates(section.champion, scores, metrics, images, inputs))
        tables.print_table(tables.main_table(scores, methods, scale, opinions))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
