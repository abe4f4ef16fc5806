"""The program that the verbs are added to, and how it starts and ends."""

from __future__ import annotations

import atexit
import errno
import gc
import itertools
import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Group, Parameter

from pati.cli.help import EVERYWHERE, Formatter
from pati.errors import Interrupted, PatiError, from_os_error
from pati.locale import catalogues
from pati.locale.messages import N_, NC_
from pati.system import extras, files, machine, signals, streams
from pati.system.version import VERSION

ABOUT = N_("Train image classifiers from scratch on the machine you have, and say honestly what came out.")

program = App(
    name="pati",
    version=VERSION,
    help=ABOUT.text,
    help_formatter=Formatter(),
    print_error=False,
    exit_on_error=False,  # see `main`
)
program.meta.group_parameters = Group(EVERYWHERE.text)


def main() -> None:
    """Entry point: a user's mistake becomes `error:` and `hint:` lines, never a traceback."""
    with signals.on_stop(signals.interrupt):
        _main()


def _main() -> None:
    streams.any_names()
    machine.keep_blocks()
    machine.limit_threads()
    atexit.register(gc.freeze)  # or else Python looks through all of torch for garbage before it ends: 0.7 s
    try:
        files.spare_home()
        program.meta(plugins_first(_choose_language(sys.argv[1:])))
    except CycloptsError as error:
        from pati.cli.mistakes import as_error
        from pati.terminal.console import fail

        fail(as_error(error, program))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except (NotImplementedError, TypeError) as error:
        from pati.terminal.console import fail

        lacks = machine.lacks_operation(error)
        if lacks is None:
            raise
        fail(lacks)
        sys.exit(1)
    except (PatiError, OSError) as error:
        if isinstance(error, OSError) and _is_broken_pipe(error):
            # Whoever read our output has gone (`| head`): nothing is wrong, but Python would complain at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        from pati.terminal.console import fail

        signals.leave_lost_terminal()
        fail(from_os_error(error) if isinstance(error, OSError) else error)
        sys.exit(130 if isinstance(error, Interrupted) else 1)


def _is_broken_pipe(error: OSError) -> bool:
    return isinstance(error, BrokenPipeError) or (error.errno == errno.EINVAL and error.filename is None)  # on Windows


@program.meta.default
def launch(
    *words: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    plugin: Annotated[list[Path] | None, Parameter(negative="")] = None,
    lang: Annotated[str | None, Parameter(metavar="CODE")] = None,
) -> None:
    """Load the plugins, then do what the words say.

    Parameters
    ----------
    plugin
        A Python file that registers models or the like; can be given several times. It is executed: only use files you
        trust.
    lang
        The language of help, messages and reports, such as en or tr. Default: that of PATI_LANG, or of the system.
    """
    if plugin:
        from pati.plugins import load_plugin

        for path in plugin:
            load_plugin(path)
    with extras.required(" ".join(["pati", *words[:1]])):
        program(words)


def plugins_first(words: list[str]) -> list[str]:
    """The words with each `--plugin FILE` before the verb: `predict` would take them for names of photos."""
    first, rest = _apart(words, "--plugin")
    return [*first, *rest]


def _choose_language(words: list[str]) -> list[str]:
    """Set the language of this process by `--lang`, `PATI_LANG` or the system's; the words without `--lang`."""
    catalogues.choose(None)
    catalogues.follow_system()
    named = os.environ.get(catalogues.VARIABLE)
    if named and catalogues.known(named) is None:
        raise _unknown_language(catalogues.VARIABLE, named)
    first, rest = _apart(words, "--lang")
    if "--lang" in itertools.takewhile("--".__ne__, rest):
        raise PatiError(N_("{option} requires a value", option="--lang"))
    if first:
        name = first[-1].removeprefix("--lang=")
        if catalogues.known(name) is None:
            raise _unknown_language("--lang", name)
        catalogues.choose(catalogues.known(name))
    return rest


def _unknown_language(where: str, name: str) -> PatiError:
    own = NC_("name of the language", "English")
    names = [f"{code} ({own.shown(code)})" for code in catalogues.languages()]
    return PatiError(
        N_("{where} is {name!r}, which is not a known language", where=where, name=name),
        N_("known languages: {names}", names=names),
    )


def _apart(words: list[str], option: str) -> tuple[list[str], list[str]]:
    """An option's words, wherever they stand before a `--`, and the others."""
    end = words.index("--") if "--" in words else len(words)
    own: list[str] = []
    rest: list[str] = []
    at = 0
    while at < end:
        length = 2 if words[at] == option and at + 1 < end else 1
        named = length == 2 or words[at].startswith(f"{option}=")
        (own if named else rest).extend(words[at : at + length])
        at += length
    return own, [*rest, *words[end:]]
