"""Draw PSNR-Y on a test set against machine hours, from the measurements that the pages of docs/experiments/ name.

    python benchmarks/hours.py docs/experiments/hours.csv docs/experiments/hours.svg [--set Set14]

A row of the table is a training, its minutes on two cores so far (those of the weights that it started from included),
and PSNR-Y on the test sets. The same table and the same version of matplotlib give the same bytes.
"""

import argparse
import csv
import itertools
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

EDSR_BASELINE = {"Set5": 32.09, "Set14": 28.58}
"""Published: Lim et al. 2017 (EDSR), 300,000 steps on DIV2K on a GPU."""


def main() -> None:
    """Draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("figure", type=Path)
    parser.add_argument("--set", choices=sorted(EDSR_BASELINE), default="Set14")
    options = parser.parse_args()
    with options.table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    matplotlib.rcParams.update({"svg.hashsalt": "srlib", "svg.fonttype": "path"})
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for training, points in itertools.groupby(rows, key=lambda row: row["training"]):
        places = [(float(row["minutes"]) / 60, float(row[options.set])) for row in points]
        axes.plot(*zip(*places, strict=True), marker="o", markersize=3.5, label=training)
    baseline = EDSR_BASELINE[options.set]
    axes.axhline(baseline, color="gray", linestyle="--", linewidth=1, label="EDSR baseline, published")
    axes.set_xscale("log")
    hours = [1 / 30, 1 / 10, 1 / 4, 1 / 2, 1, 2, 4]
    axes.set_xticks(hours, ["2 min", "6 min", "15 min", "30 min", "1 h", "2 h", "4 h"])
    axes.minorticks_off()
    axes.set_xlabel("time of two cores, from random weights")
    axes.set_ylabel(f"PSNR-Y on {options.set}, ×4 (dB)")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=8)
    figure.savefig(options.figure, metadata={"Date": None})


if __name__ == "__main__":
    main()
