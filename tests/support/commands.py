"""The command line: in this process, or in one of its own."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import torch

from pati import cli
from pati.locale import catalogues
from pati.report import figures
from pati.system import machine


def pati(*arguments: object, stdin: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command in this process, which takes seconds less than one that must import torch."""
    words, out, err = ["pati", *map(str, arguments)], io.StringIO(), io.StringIO()
    threads = torch.get_num_threads()
    with (
        contextlib.chdir(cwd or Path.cwd()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", words),
        mock.patch.object(sys, "stdin", io.StringIO(stdin)),
        mock.patch.object(machine, "keep_blocks"),  # which can't be taken back
        mock.patch("atexit.register"),
        mock.patch.multiple(catalogues, _chosen=None, _default=catalogues.SOURCE),  # put back afterwards
    ):
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        finally:
            torch.set_num_threads(threads)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def undrawn() -> Iterator[None]:
    """Reports without figures inside: drawing them takes a third of a small training, and nobody looks at them."""
    with mock.patch.object(figures, "_svg", return_value="<svg></svg>"):
        yield


def pati_process(
    *arguments: object, stdin: str | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """A command as a user starts it."""
    return subprocess.run(
        [sys.executable, "-m", "pati", *map(str, arguments)],
        input=stdin, capture_output=True, text=True, cwd=cwd, timeout=300,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
