"""A finished run's report, written anew."""

from __future__ import annotations

from pathlib import Path

from pati import plugins
from pati.errors import PatiError
from pati.evaluation import metrics
from pati.evaluation.documents import Analysis, Probed, RunDocument
from pati.events import Advanced, Listen, Stage, StageBegan, Work, silent
from pati.inference.classifier import Classifier
from pati.recipe import SettledRecipe
from pati.runs.predictions import Predictions
from pati.runs.run import Run, RunStage
from pati.system import files
from pati.workflows import measure
from pati.workflows.prepare import audited, source_of


def report_again(
    folder: str | Path, *, language: str | None = None, thorough: bool = True, listen: Listen = silent
) -> tuple[Run, RunDocument]:
    """Write a finished run's report anew from what it keeps and its photos; `thorough`: measured on more of them than
    in training. `language`: the one shown first; that of before if left out.

    No test photo is scored: the answers are those that were given. Returns the run and the document of metrics.json.
    """
    run = Run.open(folder)
    recipe, state = SettledRecipe.read(run.recipe), run.read_state()
    made = Classifier.load(run.folder)
    if run.stage is not RunStage.DONE:
        again = plugins.command("train", "--resume", str(run.folder))
        raise PatiError(f"the run {run.folder} is not finished", f"go on with it: {again}")
    if made.calibration is None or made.scope is None:
        raise PatiError("this run is of an older pati, which kept less", "train it again with this version")
    language = language or state.get("language", "en")
    with run.alone():
        run.update(language=language)
        found, packed = audited(source_of(run, recipe), recipe, listen, run)
        answers, document = Predictions.read(run), run.read_metrics()
        listen(StageBegan(Stage.REPORT))
        probes = _probed(document["analysis"])
        if thorough:
            probes = measure.probed(
                made, found, packed, progress=lambda what, done, total: listen(Advanced(done, total, Work(what)))
            )
        document["analysis"] = {**measure.analysed(made, found, packed, answers), **probes}
        validation, test = (  # an older pati may have kept less of them
            metrics.summary(part.logits, part.labels, found.classes) for part in (answers.validation, answers.test)
        )
        document["validation"] = {**document["validation"], **validation}
        document["test"] = {**document["test"], **test}
        if thorough:
            files.write_json(run.metrics, document)
        drawing = measure.drawn(run, made, found, packed, document, answers)
        measure.write(run, found, packed, recipe, document, drawing, language=language)
    return run, document


def _probed(before: Analysis) -> Probed:
    """What was measured on as many photos as there was time for."""
    found: Probed = {}
    if "robustness" in before:
        found["robustness"] = before["robustness"]
    if "explanations" in before:
        found["explanations"] = before["explanations"]
    return found
