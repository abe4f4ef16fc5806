"""`make demo`: two minutes of training on the best data at hand, and what to do next."""

from __future__ import annotations

import sys
from pathlib import Path

from pati.cli.start import STARTED
from pati.data.sources.builtin_datasets import locate
from pati.data.sources.fetch import fetch
from pati.errors import Interrupted, PatiError
from pati.locale import catalogues
from pati.locale.messages import N_, Message
from pati.recipe import Recipe

BUDGET = 120.0


def choose() -> str:
    """cats-vs-dogs if it is here or can be fetched at once; else the digits that are built in."""
    if locate("cats-vs-dogs"):
        return "cats-vs-dogs"
    print(N_("cats-vs-dogs is not on this machine; trying to download it …"), file=sys.stderr)
    try:
        fetch("cats-vs-dogs", timeout=5.0, attempts=1)
    except PatiError as error:
        print(error.message, file=sys.stderr)
        print(N_("the demo uses the built-in digits instead"), file=sys.stderr)
        return "digits"
    return "cats-vs-dogs"


def main() -> None:
    """Train, print the result table, where things lie, and the next commands."""
    from pati.terminal.console import fail
    from pati.terminal.progress import Watch
    from pati.terminal.tables import show_result, tell_pairs
    from pati.workflows.train import train

    catalogues.follow_system()
    name = choose()
    budget = BUDGET if name == "cats-vs-dogs" else BUDGET / 2
    watch = Watch()
    try:
        result = train(name, Recipe(budget=budget), started=STARTED, listen=watch)
    except PatiError as error:
        watch.close()
        fail(error)
        sys.exit(130 if isinstance(error, Interrupted) else 1)
    watch.close()
    show_result(result.run, result.metrics)
    pati = Path(sys.executable).parent / "pati"
    here = Path.cwd()
    shown = pati.relative_to(here) if pati.is_relative_to(here) else pati
    photos = N_("YOUR/PHOTOS")
    commands: list[tuple[str, Message]] = [
        (f"{shown} train {name} --budget 5m", N_("a better model")),
        (f"{shown} check {name}", N_("what is in the data")),
        (f"{shown} train {photos}", N_("one folder per class")),
        (f"{shown} --help", N_("all commands")),
    ]
    width = max(len(command) for command, _ in commands)
    lines = [f"{command:{width}}  {what}" for command, what in commands]
    tell_pairs([(N_("next:"), lines[0]), *((None, line) for line in lines[1:])])


if __name__ == "__main__":
    main()
