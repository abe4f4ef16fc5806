"""Writes the parts of the docs that come from code: `make docs`. A test compares them.

docs/cli.md        help of every verb
docs/reference.md  catalogues, recipe fields, reasons and flags of files
"""

from __future__ import annotations

import io
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


PAGES = {"cli.md": cli, "reference.md": reference}

if __name__ == "__main__":
    for name, make in PAGES.items():
        (HERE / name).write_text(make(), encoding="utf-8")
