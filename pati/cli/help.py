"""Help in the user's language: cyclopts draws it, and its sentences are looked up in the catalogue by their English."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pati.locale import catalogues
from pati.locale.messages import N_, NC_, Message

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from cyclopts.help.specs import ColumnSpec
    from rich.console import Console, ConsoleOptions, RenderableType

EVERYWHERE = N_("Options of every command")
# Those of cyclopts.
_SENTENCES = (
    N_("Commands"),
    N_("Arguments"),
    N_("Parameters"),
    N_("Display this message and exit."),
    N_("Display application version."),
)
# Names of arguments and kinds of values, as they stand in capitals.
_PLACEHOLDERS = {
    message.text: message
    for message in (
        NC_("placeholder", "COMMAND"),
        NC_("placeholder", "OPTIONS"),
        NC_("placeholder", "ARGS"),
        NC_("placeholder", "DATA"),
        NC_("placeholder", "RUN"),
        NC_("placeholder", "RUNS"),
        NC_("placeholder", "MODEL"),
        NC_("placeholder", "PATHS"),
        NC_("placeholder", "NAME"),
        NC_("placeholder", "WHAT"),
        NC_("placeholder", "WHERE"),
        NC_("placeholder", "PATH"),
        NC_("placeholder", "FOLDER"),
        NC_("placeholder", "STR"),
        NC_("placeholder", "INT"),
        NC_("placeholder", "FLOAT"),
        NC_("placeholder", "CHOICE"),
        NC_("placeholder", "CODE"),
    )
}
_FLAGS = {"True": NC_("default of an option", "True"), "False": NC_("default of an option", "False")}


class Formatter:
    """Draws help as cyclopts does, in the language of this process."""

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Draw a panel."""
        from cyclopts.help import DefaultFormatter

        if catalogues.current() == catalogues.SOURCE:
            DefaultFormatter()(console, options, panel)
            return
        title = sentence(panel.title) if isinstance(panel.title, str) else panel.title
        here = panel.copy(title=title, entries=[_entry(entry) for entry in panel.entries])
        DefaultFormatter(column_specs=_columns if panel.format == "parameter" else None)(console, options, here)

    def render_usage(self, console: Console, options: ConsoleOptions, usage: object) -> None:
        """Draw the line that begins with `Usage:`."""
        from cyclopts.help import DefaultFormatter
        from cyclopts.help.specs import DefaultStyled
        from rich.text import Text

        if catalogues.current() == catalogues.SOURCE or not usage:
            DefaultFormatter().render_usage(console, options, usage)
            return
        line = N_("Usage: {usage}", usage=placeholders(str(usage).strip()))
        console.print(DefaultStyled(Text(f"{line}\n", style="cyclopts.usage")))

    def render_description(self, console: Console, options: ConsoleOptions, description: RenderableType) -> None:
        """Draw what a command does."""
        console.print(_translated(description))


def sentence(text: str) -> str:
    """A paragraph of a docstring, or what is in `_SENTENCES`, in the language of this process."""
    return str(Message(" ".join(text.split()))) if text.strip() else text


def placeholders(text: str) -> str:
    """The words in capitals of a line such as `pati train [OPTIONS] [ARGS]` in the language of this process."""
    return re.sub(r"[A-Z]+", lambda match: str(_PLACEHOLDERS.get(match[0], match[0])), text)


def _entry(entry: HelpEntry) -> HelpEntry:
    default = entry.default
    if default is not None and entry.type is bool:
        default = str(_FLAGS.get(default, default))
    return entry.copy(
        description=_translated(entry.description),
        metavar=entry.metavar and placeholders(entry.metavar),
        positional_label=entry.positional_label and placeholders(entry.positional_label),
        default=default,
    )


def _translated(description: RenderableType) -> RenderableType:
    """Markdown, as cyclopts made it of a docstring, paragraph by paragraph."""
    from cyclopts.help import InlineText
    from rich.markdown import Markdown

    if catalogues.current() == catalogues.SOURCE or not isinstance(description, InlineText):
        return description
    if not isinstance(description.primary_renderable, Markdown):
        return description
    paragraphs = re.split(r"\n\s*\n", description.primary_renderable.markup)
    text = "\n\n".join(map(sentence, paragraphs))
    return InlineText(Markdown(text), force_empty_end=description.force_empty_end)


def _columns(console: Console, options: ConsoleOptions, entries: list[HelpEntry]) -> tuple[ColumnSpec, ...]:
    from cyclopts.help.specs import get_default_parameter_columns

    *before, last = get_default_parameter_columns(console, options, entries)
    return *before, last.copy(renderer=_described)


def _described(entry: HelpEntry) -> RenderableType:
    """The description, then choices, default and whether it is required, as cyclopts shows them."""
    from cyclopts.help import InlineText
    from rich.text import Text

    facts = []
    if entry.choices:
        facts.append((N_("[choices: {choices}]", choices=entry.choices), "cyclopts.choices"))
    if entry.default is not None:
        facts.append((N_("[default: {default}]", default=entry.default), "cyclopts.default"))
    if entry.required:
        facts.append((N_("[required]"), "cyclopts.required"))
    text = entry.description if isinstance(entry.description, InlineText) else InlineText(Text())
    for message, style in facts:
        text.append(Text(str(message), style))
    return text
