"""Writes the parts of the docs that come from code: `make docs`. A test compares them.

docs/cli.md        help of every verb
docs/reference.md  catalogues, recipe fields, reasons and flags of files
"""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

from rich.console import Console

from pati import catalogue
from pati.cli import app
from pati.decode import FLAGS, REASONS

HERE = Path(__file__).parent
VERBS = ("fetch", "check", "train", "eval", "explain", "predict", "list")


def help_of(*words: str) -> str:
    screen = io.StringIO()
    app.help_print(list(words), console=Console(file=screen, width=100, color_system=None))
    return "\n".join(line.rstrip() for line in screen.getvalue().strip("\n").splitlines())


def cli() -> str:
    parts = ["# Command line\n\nMade by `make docs` from the code.\n", f"```\n{help_of()}\n```\n"]
    parts += [f"## pati {verb}\n\n```\n{help_of(verb)}\n```\n" for verb in VERBS]
    return "\n".join(parts)


def table(head: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|", *(f"| `{name}` | {text} |" for name, text in rows)]
    return "\n".join(lines) + "\n"


def reference() -> str:
    parts = ["# Reference\n\nMade by `make docs` from the code.\n"]
    for name in catalogue.registries():
        parts.append(f"## {name.capitalize()}\n\n{table((name, 'what it is'), catalogue.rows(name))}")
    fields = catalogue.rows("fields")
    parts.append(
        f"## Recipe\n\nWhat `--set` takes; the default stands in brackets.\n\n{table(('field', 'what it is'), fields)}"
    )
    reasons = list(REASONS.items())
    parts.append(f"## Why a file is quarantined\n\n{table(('reason', 'what it means, what to do'), reasons)}")
    parts.append(f"## Odd but kept\n\n{table(('flag', 'what it means'), list(FLAGS.items()))}")
    return "\n".join(parts)


WORDS = {
    "README.md": {
        "head": "| photos | command | test accuracy | 95 % interval | whole command |",
        "cats": "cats-vs-dogs: 20,002 files, 2 classes",
        "clothing": "clothing: 5,096 photos, 17 classes, one sender in one split only",
        "digits": "digits: 1,797 drawings of 8×8",
        "mean": "mean of {count} seeds",
        "minutes": "{minutes:.1f} min, {memory:.1f} GB",
        "percent": "{:.1f} %",
        "foot": "{cpu}, {cores} cores, no GPU; torch {torch}, Python {python}; commit {commit}. "
        "Made by `python -m bench budget demo_sets`.",
    },
    "README.tr.md": {
        "head": "| fotoğraflar | komut | test doğruluğu | %95 aralık | komutun tümü |",
        "cats": "cats-vs-dogs: 20.002 dosya, 2 sınıf",
        "clothing": "clothing: 5.096 fotoğraf, 17 sınıf, bir gönderen tek bölümde",
        "digits": "digits: 8×8 boyutunda 1.797 çizim",
        "mean": "{count} tohumun ortalaması",
        "minutes": "{minutes:.1f} dk, {memory:.1f} GB",
        "percent": "%{:.1f}",
        "foot": "{cpu}, {cores} çekirdek, GPU yok; torch {torch}, Python {python}; commit {commit}. "
        "`python -m bench budget demo_sets` ile üretildi.",
    },
}


def results(readme: str) -> str:
    """The table of results in one README's language."""
    words = WORDS[readme]
    measured = HERE.parent / "bench" / "results"
    budget, sets = (json.loads((measured / f"{name}.json").read_text()) for name in ("budget", "demo_sets"))
    seeds = list(budget["result"]["seeds"].values())

    def row(what: str, command: str, accuracy: float, interval: str, runs: list[dict[str, float]]) -> str:
        minutes = sum(run["seconds"] for run in runs) / len(runs) / 60
        cost = words["minutes"].format(minutes=minutes, memory=max(run["peak_gb"] for run in runs))
        share = words["percent"].format(100 * accuracy)
        return f"| {words[what]} | `pati train {command}` | {share} | {interval} | {cost} |"

    def interval(run: dict[str, list[float]]) -> str:
        return "–".join(words["percent"].format(100 * value) for value in run["interval"])

    lines = [words["head"], "|---|---|---|---|---|"]
    mean = budget["result"]["mean_test_accuracy"]
    lines.append(row("cats", "cats-vs-dogs --budget 5m", mean, words["mean"].format(count=len(seeds)), seeds))
    for name, command in (("clothing", "clothing.zip --group-by sender_id"), ("digits", "digits")):
        run = sets["result"][name]
        lines.append(row(name, command, run["test_accuracy"], interval(run), [run]))
    if readme == "README.tr.md":  # Turkish writes a decimal comma
        lines = [re.sub(r"(?<=\d)\.(?=\d( |–|dk|$| \|))", ",", line) for line in lines]
    lines += ["", words["foot"].format(**budget["machine"], commit=budget["commit"])]
    return "\n".join(lines)


def with_results(readme: str) -> str:
    """The README with its table made anew."""
    text = (HERE.parent / readme).read_text(encoding="utf-8")
    table = f"<!-- results -->\n{results(readme)}\n<!-- /results -->"
    return re.sub(r"<!-- results -->.*<!-- /results -->", lambda _: table, text, flags=re.S)


PAGES = {"cli.md": cli, "reference.md": reference}

if __name__ == "__main__":
    for name, make in PAGES.items():
        (HERE / name).write_text(make(), encoding="utf-8")
    for name in WORDS:
        (HERE.parent / name).write_text(with_results(name), encoding="utf-8")
