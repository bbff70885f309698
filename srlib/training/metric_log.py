"""The records of loss.csv and validation.csv."""

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from srlib.files import write_text
from srlib.training.types import LogRecord, Sample


@dataclass
class MetricLog:
    """Records of a training, written to `folder` as loss.csv and validation.csv and passed on as they come.

    Attributes:
        folder: Folder for the two files.
        report: Callback that receives the values of each new record and its step, for example to log them to MLflow.
            Names of validation values begin with `validation_`.
        report_sample: Callback that receives a few held-out patches with their SR, and the step.
        loss: Mean losses and learning rate of each interval.
        validation: Scores on held-out patches.
    """

    folder: Path
    report: Callable[[LogRecord, int], None] = lambda record, step: None
    report_sample: Callable[[Sample, int], None] = lambda sample, step: None
    loss: list[LogRecord] = field(default_factory=list)
    validation: list[LogRecord] = field(default_factory=list)

    def add_loss(self, step: int, values: LogRecord) -> None:
        """Add a record to loss.csv."""
        self.loss.append({"step": step, **values})
        self.report(self.loss[-1], step)
        _write_csv(self.folder / "loss.csv", self.loss)

    def add_validation(self, step: int, values: LogRecord) -> None:
        """Add values to the record of this step in validation.csv."""
        if not self.validation or self.validation[-1]["step"] != step:
            self.validation.append({"step": step})
        self.validation[-1].update(values)
        self._report_validation(values, step)
        _write_csv(self.folder / "validation.csv", self.validation)

    def validation_record(self, step: int) -> LogRecord:
        """Return the validation record of a step."""
        return next(record for record in self.validation if record["step"] == step)

    def report_again(self) -> None:
        """Report the records of an earlier process, so that the run of a resumed stage has the whole curves."""
        for record in self.loss:
            self.report(record, int(record["step"]))
        for record in self.validation:
            values = {name: value for name, value in record.items() if name != "step"}
            self._report_validation(values, int(record["step"]))

    def _report_validation(self, values: LogRecord, step: int) -> None:
        self.report({f"validation_{name}": value for name, value in values.items()}, step)

    def write(self) -> None:
        """Write both files."""
        _write_csv(self.folder / "loss.csv", self.loss)
        _write_csv(self.folder / "validation.csv", self.validation)


def _write_csv(path: Path, records: list[LogRecord]) -> None:
    """Write numbers with seven significant digits: more than float32 holds, and the same in every run."""
    text = io.StringIO()
    writer = csv.DictWriter(text, records[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: f"{value:.7g}" for name, value in record.items()} for record in records)
    write_text(path, text.getvalue())
