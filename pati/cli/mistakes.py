"""A wrong command line in our own words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Literal, get_args, get_origin

from cyclopts import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
    ValidationError,
)
from cyclopts.exceptions import ConsumeMultipleError

from pati.cli.help import placeholders
from pati.errors import PatiError
from pati.locale.formats import with_point
from pati.locale.messages import N_, NP_, Message, as_is

EVERYWHERE = ("--help", "--lang", "--plugin")


def as_error(error: CycloptsError, commands: Iterable[str]) -> PatiError:
    """What was wrong, and what was probably meant; `commands`: those that there are."""
    match error:
        case UnknownOptionError():
            names = [name for argument in error.argument_collection if argument.parse for name in argument.names]
            return _unknown_option(error, error.token.keyword or error.token.value, names)
        case UnknownCommandError() if error.unused_tokens:
            name = error.unused_tokens[0]
            if name.startswith("-"):
                return _unknown_option(error, name, ["--version"])
            known = [command for command in commands if not command.startswith("-")]
            if name == "help":
                return PatiError(N_("there is no command {name!r}", name=name), N_("see pati --help"))
            return PatiError(
                N_("there is no command {name!r}", name=name), _near(name, known) or N_("known: {names}", names=known)
            )
        case ConsumeMultipleError():
            return PatiError(as_is(str(error)), _help(error))
        case MissingArgumentError() if error.argument:
            name = error.keyword or error.argument.name
            if name.startswith("-"):
                return PatiError(N_("{option} requires a value", option=name), _help(error))
            return PatiError(N_("the argument {name} is missing", name=placeholders(name)), _help(error))
        case CoercionError() if error.token and error.argument:
            return _not_converted(error, error.token.keyword or placeholders(error.argument.name), error.token.value)
        case RepeatArgumentError():
            return PatiError(N_("{option} is given more than once", option=error.token.keyword), N_("give it once"))
        case UnusedCliTokensError() if error.unused_tokens:
            words = error.unused_tokens
            return PatiError(
                NP_("unexpected argument: {words}", "unexpected arguments: {words}", n=len(words), words=words),
                _help(error),
            )
        case ValidationError() if error.argument and error.exception_message:
            return PatiError(
                N_("{name}: {reason}", name=placeholders(error.argument.name), reason=error.exception_message),
                _help(error),
            )
        case _:
            return PatiError(as_is(str(error)), _help(error))


def _unknown_option(error: CycloptsError, word: str, names: list[str]) -> PatiError:
    option = word.partition("=")[0]
    near = _near(option, [*EVERYWHERE, *names])
    return PatiError(N_("unknown option {option}", option=option), near or _help(error))


def _not_converted(error: CoercionError, name: str, value: str) -> PatiError:
    if get_origin(error.target_type) is Literal:
        choices = [str(choice) for choice in get_args(error.target_type)]
        message = N_("{name} is {value!r}, expected one of {choices}", name=name, value=value, choices=choices)
        return PatiError(message, _near(value, choices))
    if error.target_type is bool:
        return PatiError(N_("{option} takes no value, got {value!r}", option=name, value=value), _help(error))
    if error.target_type is int:
        return PatiError(N_("{name} is {value!r}, expected an integer", name=name, value=value), _help(error))
    if error.target_type is float:
        point = with_point(value)
        return PatiError(
            N_("{name} is {value!r}, expected a number", name=name, value=value),
            _help(error) if point is None else N_("decimals need a point: {number}", number=point),
        )
    return PatiError(as_is(str(error)), _help(error))


def _near(word: str, known: list[str]) -> Message | None:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return N_("did you mean {names}?", names=near) if near else None


def _help(error: CycloptsError) -> Message:
    return N_("see {command}", command=" ".join(["pati", *(error.command_chain or ()), "--help"]))
