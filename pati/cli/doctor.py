"""`pati doctor`: what is installed, what the machine has, and what is wrong."""

from __future__ import annotations

import sys

from pati.cli.entry import program
from pati.cli.options import Json, print_json


@program.command
def doctor(*, json: Json = False) -> None:
    """Examine the installation and the machine: versions, processor, memory, disk, places to write to, terminal.

    Each line is ok, a warning, or a problem, with what is wrong and what to do; – is optional and not installed. The
    exit code is 1 if there is a problem. Nothing is changed, and nothing is sent.
    """
    from pati.system.doctor import Verdict, diagnose
    from pati.terminal.doctor import document, show

    diagnosis = diagnose()
    if json:
        print_json(document(diagnosis))
    else:
        show(diagnosis)
    if diagnosis.verdict is Verdict.PROBLEM:
        sys.exit(1)
