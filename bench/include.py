"""`python -m bench.include RUN COMMAND`: put the model of a finished run, its export and its card into the package.

`COMMAND`: how it was trained, and on what, for the card. The weights and all that the model knows of itself stay as the
run left them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pati import __version__, included
from pati.inference.classifier import Classifier
from pati.runs.run import Run
from pati.system import files
from pati.workflows.export import export


def include(folder: Path, command: str) -> None:
    run = Run.open(folder)
    made = Classifier.load(folder)
    made.facts["versions"]["pati"] = __version__  # where it was trained pati was run from its checkout
    made.save(included.model())
    card = run.card.read_text(encoding="utf-8")
    begin, end = card.index("`pati predict"), card.index("The file holds")
    use = '`pati predict PHOTO…`, or `pati.load().predict("photo.jpg")` in Python, where no other model is named. '
    card = card.replace(card[begin:end], use).replace("pati not installed", f"pati {__version__}")
    card = f"# {included.NAME}\n" + card[card.index("\n") + 1 :]
    card = card.replace("\n\n## Figures", f" {command}\n\n## Figures").replace(" All choices: `recipe.json`.", "")
    files.write_text(included.card(), card + "\n")
    export(included.model(), out=included.exported())  # with the card


if __name__ == "__main__":
    include(Path(sys.argv[1]), sys.argv[2])
