"""The command line: one verb a file, each a thin shell over a function of `pati.workflows` or its like.

Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 a user's error, 2 wrong usage, 130 interrupted and
resumable. Heavy imports happen inside the verbs, so that `pati --help` answers at once.
"""

# ruff: noqa: A004, F401  (importing a verb adds it to the program)

from pati.cli.start import STARTED as STARTED  # first of all

# isort: split
from pati.cli import (
    app,
    check,
    clean,
    compare,
    completion,
    demo,
    doctor,
    eval,
    explain,
    export,
    fetch,
    learning_curve,
    list,
    lr_find,
    open,
    predict,
    report,
    runs,
    serve,
    show_augment,
    train,
    tune,
)
from pati.cli.entry import main as main
from pati.cli.entry import program as program
