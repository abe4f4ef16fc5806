"""`pati explain`: draw explanations, or put them to the test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pati.cli.entry import program
from pati.cli.options import Json, model_or_included, print_json, watching
from pati.errors import PatiError


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
    """Draw where the model found its reasons: photo, map, overlay and probabilities as a PNG each.

    Or, with --check or --boxes, put such maps to the test.

    Parameters
    ----------
    paths
        A model file or a run's folder, then photos to explain: files, folders (searched through), or patterns. Without
        a model, the one of cats and dogs that comes with pati answers.
    label
        The class to explain; the predicted one if left out.
    method
        A name from `pati list explainers`; grad-cam if left out, and with --boxes all of them.
    stage
        The net's stage to look at, from 1 on; the last one if left out. Not for methods that look at pixels, such as
        occlusion.
    out
        Folder for the pictures; beside where you are if left out.
    check
        Draw nothing: check on these photos and folders (100 photos at most) whether the maps depend on what the net has
        learnt, and whether they point at what its answer rests on better than maps that know no net.
    shuffled_labels
        With --check, for a run's folder: also train a net of the run's recipe on its photos with the labels shuffled,
        for as long as the run, and check whether the maps differ from that net's.
    boxes
        Draw nothing: a CSV of photos and boxes (xmin, ymin, xmax, ymax in pixels): do the maps lie in them?
    """
    from pati.cli.inputs import model_first
    from pati.explain.cams import looks_at_stages

    if stage is not None and method is not None and not looks_at_stages(method):
        raise PatiError(f"{method} looks at pixels, at no stage", "leave out --stage, or choose another --method")
    model, words = model_first([*map(str, paths)])
    if check or boxes is not None:
        others: dict[str, object] = {"class": label, "out": out}
        _test_explanations(
            model, words, method, stage, boxes, others, check=check, shuffled_labels=shuffled_labels, json=json
        )
        return
    if shuffled_labels:
        raise PatiError("--shuffled-labels is a part of --check", "give both")
    if json:
        raise PatiError("--json is for --check and --boxes", "leave it out: pictures are drawn as PNGs")
    from pati.cli.inputs import expand
    from pati.inference.classifier import Classifier, Refused, UnreadablePhoto
    from pati.report import figures
    from pati.system.files import printable, write_bytes
    from pati.system.rounding import percent
    from pati.terminal.console import fail, say

    if not words:
        raise PatiError("pati explain wants at least one photo", "for example: pati explain cat.jpg")
    classifier = Classifier.load(model_or_included(model))
    written: set[Path] = set()
    for item in expand(words, []):
        if isinstance(item, Refused):
            fail(UnreadablePhoto(item.path, item.reason))
            continue
        photo = Path(item)
        try:
            explanation = classifier.explain(photo, label=label, method=method or "grad-cam", stage=stage)
        except UnreadablePhoto as error:
            fail(error)
            continue
        target = (out or Path()) / f"{photo.stem}.explained.png"
        while target in written:  # cat/1.jpg and dog/1.jpg
            target = target.with_name(f"{photo.parent.name}-{target.name}")
        written.add(target)
        write_bytes(target, figures.explanation_page(explanation))
        if explanation.even:
            say(f"note: the map of {photo} for {explanation.label} is even all over: it points nowhere")
        answer = explanation.prediction
        print(f"{target}  {printable(answer.label)} {percent(answer.confidence)}")
    if not written:
        raise PatiError("none of the photos could be read", "the lines above say why")


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
    from pati.cli.inputs import expand
    from pati.explain.cams import explainers
    from pati.inference.classifier import Classifier
    from pati.system import machine
    from pati.terminal.console import bar, console
    from pati.terminal.explanations import show_checked, show_located
    from pati.workflows import explanation_tests
    from pati.workflows import shuffled_labels as workflow

    if check and boxes is not None:
        raise PatiError("--check looks at photos, --boxes at a CSV of them", "give one of the two")
    if shuffled_labels and not check:
        raise PatiError("--shuffled-labels is a part of --check", "give both")
    given = [name for name, value in others.items() if value is not None]
    if given:
        raise PatiError(f"--{given[0]} is for drawing, --check and --boxes draw nothing", "leave it out")
    model = model_or_included(model)
    classifier = Classifier.load(model).on(machine.device())  # thousands of answers
    if boxes is not None:
        if words:
            raise PatiError("--boxes names the photos itself", "leave the others out")
        methods = [method] if method else list(explainers)
        with bar("explaining", unit="photos") as progress:
            located = explanation_tests.located(
                classifier, explanation_tests.boxes(boxes), methods, stage=stage, progress=progress
            )
        print_json(located) if json else show_located(located, console(stderr=False))
        return
    named = list(expand(words, []))
    found = [Path(item) for item in named if isinstance(item, str)]
    if not found:
        raise PatiError("--check wants photos, or folders of them", "for example: pati explain photos/ --check")
    used, control = method or "grad-cam", None
    if shuffled_labels:
        with watching() as listen:
            control = workflow.shuffled_labels(model, found, used, stage=stage, listen=listen)
    with bar("checking", unit="photos") as progress:
        checked = explanation_tests.checked(classifier, found, used, stage=stage, progress=progress)
    checked["unreadable"] += len(named) - len(found)
    if control is not None:
        checked["shuffled_labels"] = control
    print_json(checked) if json else show_checked(checked, console(stderr=False))
