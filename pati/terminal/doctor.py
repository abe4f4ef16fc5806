"""What `pati doctor` prints."""

from __future__ import annotations

from typing import TypedDict

from rich.table import Table
from rich.text import Text

from pati.locale.formats import printable
from pati.locale.messages import N_, NC_, NP_, Message, as_is
from pati.system.doctor import Check, Diagnosis, Group, Verdict
from pati.terminal.console import put, tell

GROUPS = {
    Group.VERSIONS: NC_("group of checks", "Versions"),
    Group.EXTRAS: NC_("group of checks", "Extras"),
    Group.MACHINE: NC_("group of checks", "Machine"),
    Group.PLACES: NC_("group of checks", "Places"),
    Group.TERMINAL: NC_("group of checks", "Terminal"),
}
VERDICTS = {
    Verdict.OK: NC_("verdict of a check", "ok"),
    Verdict.ABSENT: as_is("–"),
    Verdict.WARNING: NC_("verdict of a check", "warning"),
    Verdict.PROBLEM: NC_("verdict of a check", "problem"),
}
COLOURS = {Verdict.OK: "green", Verdict.ABSENT: "dim", Verdict.WARNING: "yellow", Verdict.PROBLEM: "bold red"}


class CheckDocument(TypedDict):
    """A `Check` in JSON."""

    group: str
    name: str
    found: Message
    verdict: str
    wrong: Message | None
    hint: Message | None


class DiagnosisDocument(TypedDict):
    """A `Diagnosis` in JSON; `verdict`: the worst of all."""

    verdict: str
    checks: list[CheckDocument]


def document(diagnosis: Diagnosis) -> DiagnosisDocument:
    """For programs, and for bug reports."""
    return {
        "verdict": diagnosis.verdict.value,
        "checks": [
            {
                "group": check.group.value,
                "name": check.name,
                "found": check.found,
                "verdict": check.verdict.value,
                "wrong": check.wrong,
                "hint": check.hint,
            }
            for check in diagnosis.checks
        ],
    }


def show(diagnosis: Diagnosis) -> None:
    """A table of all checks on stdout, with what is wrong and what to do below each, and the sum of it."""
    table = Table(box=None, pad_edge=False, show_header=False)
    group: Group | None = None
    for check in diagnosis.checks:
        if check.group is not group:
            group = check.group
            table.add_row(Text(str(GROUPS[group]), "bold"))
        _add(table, check)
    put(table)
    problems, warnings = diagnosis.count(Verdict.PROBLEM), diagnosis.count(Verdict.WARNING)
    if not problems and not warnings:
        tell(N_("all is well"))
    if problems:
        tell(NP_("{n} problem", "{n} problems", n=problems))
    if warnings:
        tell(NP_("{n} warning", "{n} warnings", n=warnings))


def _add(table: Table, check: Check) -> None:
    verdict = Text(str(VERDICTS[check.verdict]), COLOURS[check.verdict])
    table.add_row(Text(f"  {check.title}"), verdict, Text(printable(str(check.found))))
    if check.wrong is not None:
        table.add_row("", "", Text(printable(str(check.wrong)), COLOURS[check.verdict]))
    if check.hint is not None:
        table.add_row("", "", Text(printable(str(check.hint)), "dim"))
