"""`pati --install-completion`: Tab completes commands, options, paths, and the values that an option takes."""

from __future__ import annotations

from typing import Literal

from pati.cli.entry import program
from pati.errors import PatiError
from pati.locale.formats import printable
from pati.locale.messages import N_

_BASH = "complete -F _pati pati"


@program.command(name="--install-completion")
def install_completion(*, shell: Literal["bash", "fish", "powershell", "zsh"] | None = None) -> None:
    """Let Tab complete commands, options and paths in your shell.

    It writes a script to where the shell looks for it, prints where that is, and has the shell load it: in bash, zsh
    and PowerShell by a line in its start file.

    Parameters
    ----------
    shell
        The shell. Default: the one in which you are.
    """
    from cyclopts.completion.detect import ShellDetectionError

    from pati.terminal.console import say

    try:
        path = program.install_completion(shell=shell)
    except ShellDetectionError:
        raise PatiError(
            N_("it is not clear which shell this is"), N_("name it: pati --install-completion --shell bash")
        ) from None
    script = path.read_text(encoding="utf-8")
    if _BASH in script:
        path.write_text(_with_paths(script), encoding="utf-8")
    print(printable(str(path)))
    say(N_("open a new shell for it"))


def _with_paths(script: str) -> str:
    """The script for bash, in which bash itself completes paths: it enters folders, and knows names with blanks."""
    return script.replace('COMPREPLY=( $(compgen -f -- "${cur}") )', "COMPREPLY=()").replace(
        _BASH, _BASH.replace("complete", "complete -o default")
    )
