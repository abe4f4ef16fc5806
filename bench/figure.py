"""Draws docs/accuracy.png from bench/results: test accuracy against the time of the whole command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

RESULTS = Path(__file__).parent / "results"
TARGET = Path(__file__).parent.parent / "docs" / "accuracy.png"
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#555555"  # of Okabe and Ito, for colour blindness


def result(name: str) -> Any:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text())["result"] if path.exists() else None


def draw() -> None:
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.add_subplot()
    budgets = [found for name in RESULTS.glob("budget_*m.json") if (found := result(name.stem))]
    budgets += [found for found in [result("shortest")] if found]
    points = sorted((found["minutes"], 100 * found["mean_test_accuracy"]) for found in budgets)
    if points:
        axes.plot(*zip(*points, strict=True), "o-", color=BLUE, label="pati with a time budget (mean over the seeds)")
        for minutes, accuracy in points:
            axes.annotate(f"{accuracy:.1f}", (minutes, accuracy), (0, 6), textcoords="offset points", ha="center")
    if scratch := result("scratch"):
        rows = [(row["seconds"] / 60, 100 * row["test_accuracy"]) for row in scratch.values()]
        axes.plot(*zip(*rows, strict=True), "s-", color=GREEN, label="the bootcamp's network in pati, 3 and 12 epochs")
    if notebook := result("notebook"):
        rows = [(row["seconds"] / 60, 100 * row["test_accuracy"]) for row in notebook["epochs"]]
        axes.plot(*zip(*rows, strict=True), "^-", color=ORANGE, label="the bootcamp notebook, 1 to 3 epochs")
    if keras := result("keras"):
        minutes, published = keras["measured"]["epoch_minutes"], keras["published"]
        ends = [100 * published[name] for name in ("best_epoch", "last_epoch")]
        axes.plot(
            [minutes * published["epochs"]] * 2,
            ends,
            "D--",
            color=GREY,
            label="Keras example: published best and last of 25\nepochs, at the time per epoch measured here",
        )
    axes.set_xscale("log")
    ticks = [0.5, 1, 2, 5, 10, 30, 60, 180, 840]
    low, high = axes.get_xlim()
    shown = [tick for tick in ticks if low <= tick <= high]
    axes.set_xticks(shown, [f"{tick:g}" for tick in shown], minor=False)
    axes.minorticks_off()
    axes.set_xlabel("time of the whole command in minutes, two cores")
    axes.set_ylabel("test accuracy, %")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper left", fontsize="small", ncols=2)  # no corner of the axes is free
    axes.margins(y=0.12)
    figure.savefig(TARGET, dpi=110)


if __name__ == "__main__":
    draw()
