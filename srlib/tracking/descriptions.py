"""What a person reads first in MLflow: names of runs, and descriptions in Markdown of everything that has one."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from srlib.tracking.changes import Change, in_words, shortened
from srlib.tracking.keys import score_text, test_scores

_LONGEST_NAME = 160
_WHAT = "Super-resolution"
"""Beginning of each description of a model; a description that begins otherwise was written by a person. Without
Markdown: MLflow's list of versions shows it as it is."""
_SCORES = re.compile(r"\*\*Scores\*\*:\n\n(?:\|.*\n)+")
_NO_SCORES = "not evaluated yet"
_IN_WHAT = ("scale", "training", "channels", "value_range")

EXPERIMENT_NOTE = """\
Super-resolution networks, trained and scored by the pipeline in dvc.yaml.

Each execution of the pipeline is one run; below it is one run for each stage that really executed. A name says what
changed against the run before, and the score. What was cached made no run.

- **Compare**: tick runs, then *Compare*; or search, such as `metrics."test/Set5/SRGAN/psnr_y" > 28`.
- **Curves**: `train/…`, `validation/…`, `gan/…`.
- **Results**: `result/…` on held-out patches, `test/<set>/…` on test sets.
- **Models**: the tab *Models* lists what was trained, with scores; *Model registry* has the versions and the champion.
"""


@dataclass(frozen=True)
class Comparison:
    """What a run has that the run before it of the same kind had not.

    Attributes:
        before: Id of the run before; None for the first.
        before_name: Its name.
        changed: Parameters that differ.
        news: Other differences, such as `new patches`.
    """

    before: str | None = None
    before_name: str = ""
    changed: Sequence[Change] = ()
    news: Sequence[str] = ()

    def in_words(self, section: str | None = None) -> str:
        """Return the comparison as part of a run's name."""
        if self.before is None:
            return "first run"
        return in_words(self.changed, section) or ", ".join(self.news) or "same parameters"


def run_name(kind: str, comparison: Comparison, section: str | None, score: str) -> str:
    """Return the name of a run.

    Args:
        kind: The stage, or the experiment of DVC; may be empty.
        comparison: What changed.
        section: The stage's section of params.yaml, which the names of its parameters leave out.
        score: The headline score; may be empty.

    Example:
        >>> changed = [Change("finetune.steps", "80", "160")]
        >>> run_name("finetune", Comparison("id", "", changed), "finetune", "29.10 dB")
        'finetune: steps 80 → 160 · 29.10 dB'
    """
    words = comparison.in_words(section)
    name = f"{kind}: {words}" if kind else words
    return f"{name} · {score}"[:_LONGEST_NAME] if score else name[:_LONGEST_NAME]


def headline(metrics: Mapping[str, float]) -> str:
    """Return the score that tells most about a run, or an empty text.

    Args:
        metrics: Metrics of the run. A test set counts more than held-out patches.

    Example:
        >>> headline({"test/Set5/EDSR/psnr_y": 30.25, "test/Set5/SRGAN/psnr_y": 28.1})
        'EDSR 30.25, SRGAN 28.10 dB on Set5'
        >>> headline({"result/validation_psnr_y": 29.5})
        '29.50 dB on held-out patches'
    """
    scores = test_scores(metrics)
    sets = [name for by_set in scores.values() for name in by_set]
    if sets:
        first = "Set5" if "Set5" in sets else sets[0]
        parts = [f"{method} {by_set[first].split(' ')[0]}" for method, by_set in scores.items() if first in by_set]
        return f"{', '.join(parts[:3])} dB on {first}"
    for key in ("result/validation_psnr_y", "finetune/validation_psnr_y", "pretrain/validation_psnr_y"):
        if key in metrics:
            return f"{metrics[key]:.2f} dB on held-out patches"
    return ""


def run_note(comparison: Comparison, metrics: Mapping[str, float], experiment: str, more: Sequence[str] = ()) -> str:
    """Return the description of a run: what changed, and the scores.

    Args:
        comparison: What changed.
        metrics: Metrics of the run.
        experiment: Id of the experiment, for links.
        more: Further paragraphs.
    """
    parts = [_changes_note(comparison, experiment)]
    if scores := test_scores(metrics):
        parts.append(score_table(scores))
    elif "result/validation_psnr_y" in metrics:
        text = score_text(metrics["result/validation_psnr_y"], metrics.get("result/validation_ssim_y"))
        step = f", weights of step {metrics['result/step']:.0f}" if "result/step" in metrics else ""
        parts.append(f"**Held-out patches**, PSNR-Y in dB / SSIM-Y: {text}{step}.")
    return "\n\n".join([*parts, *more])


def _changes_note(comparison: Comparison, experiment: str) -> str:
    if comparison.before is None:
        return "The first run of its kind that finished."
    before = f"[{literal(comparison.before_name)}]({run_link(experiment, comparison.before)})"
    if not comparison.changed:
        words = ", ".join(comparison.news) or "nothing: the same parameters, data and code"
        return f"**Changed** against {before}: {words}."
    rows = [(f"`{c.key}`", _code(c.before), _code(c.now)) for c in comparison.changed]
    news = f"\n\nAlso: {', '.join(comparison.news)}." if comparison.news else ""
    return f"**Changed** against {before}:\n\n{table(('Parameter', 'Before', 'Now'), rows)}{news}"


def score_table(scores: Mapping[str, Mapping[str, str]]) -> str:
    """Return a Markdown table of method → set → text, one row for each method."""
    sets = list(dict.fromkeys(name for by_set in scores.values() for name in by_set))
    rows = [(method, *(by_set.get(name, "") for name in sets)) for method, by_set in scores.items()]
    return f"**Test sets**, PSNR-Y in dB / SSIM-Y:\n\n{table(('Method', *sets), rows)}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table.

    Example:
        >>> print(table(("a", "b"), [("1", "2")]))
        | a | b |
        |---|---|
        | 1 | 2 |
    """
    lines = [header, *rows]
    text = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]
    return "\n".join([text[0], f"|{'---|' * len(header)}", *text[1:]])


def run_link(experiment: str, run: str) -> str:
    """Return the address of a run within MLflow's pages."""
    return f"#/experiments/{experiment}/runs/{run}"


def _code(text: str) -> str:
    return f"`{shortened(text).replace('`', chr(39))}`"


def literal(name: str) -> str:
    """Return a name that Markdown takes literally inside a link."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>|" else c for c in name)


def model_note(facts: Mapping[str, str], name: str | None = None) -> str:
    """Return the description of a registered model: what it is, and how to load it.

    Args:
        facts: Facts about the network, such as `network` and `scale`.
        name: Its registered name; None leaves out how to load it.
    """
    kind = "sharp detail (SRGAN)" if facts.get("training") == "gan" else "faithful pixels (high PSNR)"
    what = (
        f"{_WHAT} ×{facts['scale']} for {kind}: takes an image and gives one {facts['scale']} times as wide and high."
    )
    if name is None:
        return what
    champion = "The alias `champion` marks the version that evaluation found best, by the rule in params.yaml."
    return f"{what}\n\n{champion}\n\n{_load_note(f'models:/{name}@champion')}"


def version_note(uri: str, facts: Mapping[str, str], origin: str, scores: Mapping[str, str]) -> str:
    """Return the description of a model's version: what it is, its scores, how to load it.

    Args:
        uri: Address of the version.
        facts: Facts about the network.
        origin: A sentence about where it comes from.
        scores: Test set → text of its scores.
    """
    options = ", ".join(f"{key} {value}" for key, value in facts.items() if key not in _IN_WHAT)
    return (
        f"{model_note(facts)}\n\n{options[:1].upper()}{options[1:]}. {origin}\n\n{_scores(scores)}\n{_load_note(uri)}"
    )


def with_scores(note: str, scores: Mapping[str, str]) -> str | None:
    """Return a version's description with further scores; None if somebody has written another description.

    Args:
        note: The present description.
        scores: Test set → text of its scores.

    Example:
        >>> with_scores("My best model", {"Set5": "30.25 / .8612"}) is None
        True
    """
    if not note.startswith((_WHAT, f"**{_WHAT}")) or not (section := _SCORES.search(note)):
        return None
    rows = dict(re.findall(r"^\| (.*?) \| (.*?) \|$", section[0], re.MULTILINE)[1:]) | dict(scores)
    rows.pop(_NO_SCORES, None)
    return note[: section.start()] + _scores(rows) + note[section.end() :]


def _scores(scores: Mapping[str, str]) -> str:
    rows = list(scores.items()) or [(_NO_SCORES, "")]
    return f"**Scores**:\n\n{table(('Measured on', 'PSNR-Y in dB / SSIM-Y'), rows)}\n"


def _load_note(uri: str) -> str:
    """Return how a model is loaded, in Python and on the command line."""
    return (
        "**How to use it**:\n\n"
        "```python\n"
        "import mlflow\n"
        f'model = mlflow.pyfunc.load_model("{uri}")\n'
        'big = model.predict(open("photo.jpg", "rb").read())  # PNG bytes; or give arrays\n'
        "```\n\n"
        f'With srlib: `srlib upscale photo.jpg -o big.png --model "{uri}"`'
    )
