"""The program that the verbs are added to, and how it starts and ends."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Group, Parameter

from pati.errors import Interrupted, PatiError, of_system
from pati.system import machine
from pati.system.version import VERSION

program = App(
    name="pati",
    version=VERSION,
    help="Train image classifiers from scratch on the machine you have, and say honestly what came out.",
)
program.meta.group_parameters = Group("Options of every verb")


def main() -> None:
    """Entry point: a user's mistake becomes `error:` and `hint:` lines, never a traceback."""
    signal.signal(signal.SIGTERM, _interrupt)  # it ends a run as Ctrl-C does
    machine.keep_blocks()
    atexit.register(gc.freeze)  # or else Python looks through all of torch for garbage before it ends: 0.7 s
    try:
        program.meta(plugins_first(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`): nothing is wrong, but Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (PatiError, OSError) as error:
        from pati.terminal.console import fail

        fail(of_system(error) if isinstance(error, OSError) else error)
        sys.exit(130 if isinstance(error, Interrupted) else 1)


@program.meta.default
def launch(
    *words: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    plugin: Annotated[list[Path] | None, Parameter(negative="")] = None,
) -> None:
    """Load the plugins, then do what the words say.

    Parameters
    ----------
    plugin
        A Python file with models or the like of your own, any number of times. It is run: name only files you trust.
    """
    if plugin:
        from pati.plugins import load_plugin

        for path in plugin:
            load_plugin(path)
    program(words)


def plugins_first(words: list[str]) -> list[str]:
    """The words with each `--plugin FILE` before the verb: `predict` would take them for names of photos."""
    end = words.index("--") if "--" in words else len(words)
    first: list[str] = []
    rest: list[str] = []
    at = 0
    while at < end:
        length = 2 if words[at] == "--plugin" and at + 1 < end else 1
        named = length == 2 or words[at].startswith("--plugin=")
        (first if named else rest).extend(words[at : at + length])
        at += length
    return [*first, *rest, *words[end:]]


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
