"""`pati explain`: draw explanations, or evaluate the method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pati.cli.entry import program
from pati.cli.options import Json, print_json, said_if_included, watching
from pati.errors import PatiError
from pati.locale import catalogues
from pati.locale.formats import printable
from pati.locale.messages import N_
from pati.system import extras


@program.command
def explain(
    *paths: Path,
    label: Annotated[str | None, Parameter(name=["--class", "--label"])] = None,
    method: str | None = None,
    stage: int | None = None,
    out: Path | None = None,
    check: Annotated[bool, Parameter(negative="")] = False,
    shuffled_labels: Annotated[bool, Parameter(negative="")] = False,
    boxes: Path | None = None,
    json: Json = False,
) -> None:
    """Explain predictions: photo, map, overlay and probabilities as one PNG per photo.

    Or, with --check or --boxes, evaluate the explanation method.

    Parameters
    ----------
    paths
        A model file or the folder of a run, then photos to explain: files, folders (searched recursively) or patterns.
        Without a model, the included model of cats and dogs is used.
    label
        The class to explain. Default: the predicted one.
    method
        A name from `pati list explainers`. Default: grad-cam; with --boxes, all of them.
    stage
        The stage of the network to explain, from 1. Default: the last one. Not for methods that work on pixels, such as
        occlusion.
    out
        Folder for the pictures. Default: the current folder.
    check
        Draw nothing: check on these photos and folders (100 photos at most) whether the maps depend on what the network
        has learnt, and whether they show what the prediction is based on better than baselines without a network.
    shuffled_labels
        With --check, for the folder of a run: also train a network with the run's recipe on its photos with shuffled
        labels, for as long as the run, and check whether the maps differ from the maps of that network.
    boxes
        Draw nothing: a CSV of photos and boxes (xmin, ymin, xmax, ymax in pixels): do the maps lie in the boxes?
    """
    from pati.cli.inputs import model_first

    if stage is not None and method is not None and not _looks_at_stages(method):
        raise PatiError(
            N_("{method} works on pixels, not on a stage", method=method),
            N_("omit --stage, or choose another --method"),
        )
    model, words = model_first([*map(str, paths)])
    if check or boxes is not None:
        others: dict[str, object] = {"class": label, "out": out}
        with extras.required("pati explain --check" if check else "pati explain --boxes"):
            _test_explanations(
                model, words, method, stage, boxes, others, check=check, shuffled_labels=shuffled_labels, json=json
            )
        return
    if shuffled_labels:
        raise PatiError(N_("--shuffled-labels is a part of --check"), N_("give both options"))
    if json:
        raise PatiError(N_("--json is for --check and --boxes"), N_("omit it: pictures are saved as PNG files"))
    from pati.cli.inputs import expand
    from pati.inference.load import load
    from pati.inference.predictor import Named, Refused, UnreadablePhoto
    from pati.report import pictures
    from pati.system import files, outputs
    from pati.terminal.console import fail, note, percent, say

    if not words:
        raise PatiError(N_("pati explain requires at least one photo"), N_("for example: pati explain cat.jpg"))
    classifier = load(said_if_included(model))
    written: set[Path] = set()
    for item in expand(words, []):
        if isinstance(item, Refused):
            fail(UnreadablePhoto(item.path, item.error.reason, item.error.message))
            continue
        photo = Path(item.path if isinstance(item, Named) else item)
        try:
            given = item.data if isinstance(item, Named) else photo
            explanation = classifier.explain(given, label=label, method=method or "grad-cam", stage=stage)
        except UnreadablePhoto as error:
            fail(error)
            continue
        target = (out or Path()) / f"{files.shortened(photo.stem)}.explained.png"
        while target in written:  # cat/1.jpg and dog/1.jpg
            target = target.with_name(f"{files.shortened(photo.parent.name, 40)}-{target.name}")
        written.add(target)
        outputs.write(target, pictures.explanation_page(explanation, language=catalogues.current()))
        if explanation.even:
            say(
                note(
                    N_(
                        "the map of {photo} for {label} is uniform: it does not highlight any region",
                        photo=photo,
                        label=explanation.label,
                    )
                )
            )
        predicted = explanation.prediction
        label_shown = printable(predicted.label) + "?" * predicted.unsure
        print(f"{printable(str(target))}  {label_shown} {percent(predicted.confidence)}")
    if not written:
        raise PatiError(N_("none of the photos could be read"), N_("the lines above say why"))


def _looks_at_stages(method: str) -> bool:
    if not extras.installed("torch"):
        return True  # exported models refuse both options
    from pati.explain.cams import looks_at_stages

    return looks_at_stages(method)


def _test_explanations(
    model: Path | None,
    words: Sequence[str],
    method: str | None,
    stage: int | None,
    boxes: Path | None,
    others: dict[str, object],
    *,
    check: bool,
    shuffled_labels: bool,
    json: bool,
) -> None:
    from pati import included
    from pati.cli.inputs import expand
    from pati.explain.cams import explainers
    from pati.inference.classifier import Classifier
    from pati.inference.predictor import Named
    from pati.system import machine
    from pati.terminal.console import bar, console
    from pati.terminal.explanations import show_checked, show_located
    from pati.workflows import explanation_tests
    from pati.workflows import shuffled_labels as workflow

    if check and boxes is not None:
        raise PatiError(N_("--check is for photos, --boxes is for a CSV of photos"), N_("give one of them only"))
    if shuffled_labels and not check:
        raise PatiError(N_("--shuffled-labels is a part of --check"), N_("give both options"))
    given = [name for name, value in others.items() if value is not None]
    if given:
        raise PatiError(N_("--{given} is for drawing; --check and --boxes draw nothing", given=given[0]), N_("omit it"))
    model = said_if_included(model) or included.model()
    classifier = Classifier.load(model).on(machine.device())  # thousands of predictions
    if boxes is not None:
        if words:
            raise PatiError(N_("the CSV of --boxes already names the photos"), N_("omit the other photos"))
        methods = [method] if method else list(explainers)
        with bar(N_("explaining"), unit="photos") as progress:
            located = explanation_tests.located(
                classifier, explanation_tests.boxes(boxes), methods, stage=stage, progress=progress
            )
        print_json(located) if json else show_located(located, console(stderr=False))
        return
    named = list(expand(words, []))
    if stored := next((item for item in named if isinstance(item, Named)), None):
        raise PatiError(
            N_("--check reads files, not {photo}", photo=stored.path), N_("unpack the photos into a folder")
        )
    paths = [Path(item) for item in named if isinstance(item, str)]
    if not paths:
        raise PatiError(
            N_("--check requires photos, or folders of photos"), N_("for example: pati explain photos/ --check")
        )
    used, control = method or "grad-cam", None
    if shuffled_labels:
        with watching() as listen:
            control = workflow.shuffled_labels(model, paths, used, stage=stage, listen=listen)
    with bar(N_("checking"), unit="photos") as progress:
        checked = explanation_tests.checked(classifier, paths, used, stage=stage, progress=progress)
    checked["unreadable"] += len(named) - len(paths)
    if control is not None:
        checked["shuffled_labels"] = control
    print_json(checked) if json else show_checked(checked, console(stderr=False))
