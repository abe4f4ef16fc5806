"""`pati demo`: two minutes of training on the best data at hand, and what to do next."""

from __future__ import annotations

import shlex

from pati.cli.entry import program
from pati.cli.options import watching
from pati.cli.start import STARTED
from pati.errors import PatiError
from pati.locale.messages import N_, Message

BUDGET = {"cats-vs-dogs": 120.0, "digits": 60.0}  # seconds


@program.command
def demo() -> None:
    """Train on cats and dogs for two minutes, and show the result.

    If the photos are neither here nor can be downloaded, the built-in digits are used instead.
    """
    from pati.recipe import Recipe
    from pati.system import command
    from pati.terminal.tables import show_result, tell_pairs
    from pati.workflows.train import train  # before anything is downloaded: it may not be installed

    name = _data()
    with watching() as listen:
        result = train(name, Recipe(budget=BUDGET[name]), started=STARTED, listen=listen)
    show_result(result.run, result.metrics)
    pati, photos = command.shown(), N_("YOUR/PHOTOS")
    commands: list[tuple[str, Message]] = [
        (f"{pati} open {shlex.quote(str(result.run.folder))}", N_("the report in the browser")),
        (f"{pati} train {name} --budget 5m", N_("a better model")),
        (f"{pati} check {name}", N_("what is in the data")),
        (f"{pati} train {photos}", N_("one folder per class")),
        (f"{pati} --help", N_("all commands")),
    ]
    width = max(len(command) for command, _ in commands)
    lines = [f"{command:{width}}  {what}" for command, what in commands]
    tell_pairs([(N_("next:"), lines[0]), *((None, line) for line in lines[1:])])


def _data() -> str:
    """cats-vs-dogs if it is here or can be fetched at once; else the digits that are built in."""
    from pati.data.sources.builtin_datasets import locate
    from pati.data.sources.fetch import fetch
    from pati.terminal.console import bar, note, say

    if locate("cats-vs-dogs"):
        return "cats-vs-dogs"
    say(N_("cats-vs-dogs is not on this machine; trying to download it …"))
    try:
        with bar(N_("downloading"), unit="bytes") as progress:
            fetch("cats-vs-dogs", timeout=5.0, attempts=1, progress=progress)
    except PatiError as error:
        say(error.message)
        say(note(N_("the demo uses the built-in digits instead")))
        return "digits"
    return "cats-vs-dogs"
