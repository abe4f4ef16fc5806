"""Regenerate the report of a finished run."""

from __future__ import annotations

from pathlib import Path

from pati import plugins
from pati.errors import PatiError
from pati.evaluation.documents import Analysis, Measurements, RunDocument
from pati.events import Advanced, Listen, Stage, StageBegan, Work, silent
from pati.inference.classifier import Classifier
from pati.locale import catalogues
from pati.locale.messages import N_
from pati.recipe import SettledRecipe
from pati.runs.attempts import Attempts
from pati.runs.predictions import Predictions
from pati.runs.run import Run, RunStage
from pati.system import files
from pati.workflows import measure
from pati.workflows.opening import source_of
from pati.workflows.prepare import audited
from pati.workflows.relocate import relocate


def report_again(
    folder: str | Path,
    *,
    data: str | Path | None = None,
    language: str | None = None,
    thorough: bool = True,
    listen: Listen = silent,
) -> tuple[Run, RunDocument]:
    """Regenerate a finished run's report from its files and photos.

    `data`: where the data of the run is now, if it has moved. `thorough`: measure on more photos than during training.
    `language`: the one shown first; None: as before. No test photo is scored: the stored predictions are used. Returns
    the run and the contents of metrics.json. Raises `PatiError`.
    """
    run = Run.open(folder)
    recipe, state = SettledRecipe.read(run.recipe), run.read_state()
    classifier = Classifier.load(run.folder)
    if run.stage is not RunStage.DONE:
        again = plugins.command("train", "--resume", str(run.folder))
        raise PatiError(
            N_("the run {folder} is not finished", folder=run.folder), N_("resume it with: {again}", again=again)
        )
    if classifier.calibration is None or classifier.detector is None:
        raise PatiError(
            N_("this run was made by an older version, which saved less"),
            N_("train it again with this version of pati"),
        )
    language = language or catalogues.known(state.get("language", "")) or catalogues.current()
    with run.alone():
        run.update(language=language)
        if data is not None:
            relocate(run, data)
        manifest, packed = audited(source_of(run, recipe), recipe, listen, run)
        answers, document = Predictions.of(run, classifier.weights()), run.read_metrics()
        listen(StageBegan(Stage.REPORT))
        attempt = Attempts(run, listen, again=True)
        probes = _probed(document["analysis"])
        if thorough:
            probes = attempt(
                "robustness, explanations",
                lambda: measure.probed(
                    measure.probing(run, classifier, manifest),
                    manifest,
                    packed,
                    progress=lambda what, done, total: listen(Advanced(done, total, Work(what))),
                ),
                probes,
            )
        document["analysis"] = {**measure.analyse(classifier, manifest, packed, answers, attempt), **probes}
        # An older version may have stored less.
        validation, test = measure.summaries(manifest, answers, document.get("folds", []), document["epochs"])
        if validation is not None:
            document["validation"] = {**(document["validation"] or validation), **validation}
        document["test"] = {**document["test"], **test}
        if thorough:
            files.write_json(run.metrics, document)
        drawing = measure.drawn(
            run, classifier, manifest, packed, document, answers, language=language, attempt=attempt
        )
        measure.write(run, manifest, packed, recipe, document, drawing, language=language, attempt=attempt)
    return run, document


def _probed(before: Analysis) -> Measurements:
    """The measurements that depend on the available time, from an earlier analysis."""
    kept: Measurements = {}
    if "robustness" in before:
        kept["robustness"] = before["robustness"]
    if "explanations" in before:
        kept["explanations"] = before["explanations"]
    return kept
