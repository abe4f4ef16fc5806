"""The command line: parse, call the pipeline, print.

Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 a user's error, 2
wrong usage, 130 interrupted and resumable. Heavy imports happen inside the verbs, so that
`pati --help` answers at once.
"""

from __future__ import annotations

import time

STARTED = time.perf_counter()  # a budget counts from here, before torch is imported

import atexit  # noqa: E402
import contextlib  # noqa: E402
import dataclasses  # noqa: E402
import gc  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
from collections.abc import Iterable, Iterator  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Annotated, Any, Literal  # noqa: E402

from cyclopts import App, Group, Parameter  # noqa: E402

from pati import __version__  # noqa: E402
from pati.errors import Interrupted, PatiError  # noqa: E402

if TYPE_CHECKING:
    from pati.data.sources.source import Columns
    from pati.inference.classifier import Prediction
    from pati.recipe import Recipe
    from pati.terminal.progress import Watch

app = App(
    name="pati",
    version=__version__,
    help="Train image classifiers from scratch on the machine you have, and say honestly what came out.",
)

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print one JSON document.")]
PathColumn = Annotated[str | None, Parameter(help="CSV column with the photos' paths, if not found by its name.")]
LabelColumn = Annotated[str | None, Parameter(help="CSV column with the classes.")]
Assignments = Annotated[list[str] | None, Parameter(name="--set", negative="", consume_multiple=True)]
SplitColumn = Annotated[str | None, Parameter(help="CSV column with train, validation or test.")]


def main() -> None:
    """Entry point: a user's mistake becomes `error:` and `hint:` lines, never a traceback."""
    signal.signal(signal.SIGTERM, _interrupt)  # it ends a run as Ctrl-C does
    atexit.register(gc.freeze)  # or else Python looks through all of torch for garbage before it ends: 0.7 s
    try:
        app.meta(_plugins_first(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`): nothing is wrong, but Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (PatiError, OSError) as error:
        from pati.terminal.console import fail

        if isinstance(error, OSError):  # a full disk, a folder without permission: the user's to mend
            error = PatiError(": ".join(str(part) for part in (error.filename, error.strerror or error) if part))
        fail(error)
        sys.exit(130 if isinstance(error, Interrupted) else 1)


app.meta.group_parameters = Group("Options of every verb")


@app.meta.default
def launch(
    *words: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    plugin: Annotated[list[Path] | None, Parameter(negative="")] = None,
) -> None:
    """Load the plugins, then do what the words say.

    Parameters
    ----------
    plugin
        A Python file with models or the like of your own, any number of times. It is run: name only files you trust.
    """
    if plugin:
        from pati.plugins import load_plugin

        for path in plugin:
            load_plugin(path)
    app(words)


@app.command
def fetch(
    name: str, /, *, from_: Annotated[Path | None, Parameter(name="--from")] = None, timeout: float = 30.0
) -> None:
    """Bring a known set to this machine, and print where it lies.

    Parameters
    ----------
    name
        A name from `pati list datasets`.
    from_
        A zip file or folder that you downloaded yourself.
    timeout
        Seconds to wait for the network to answer.
    """
    from pati.data.sources.fetch import fetch as bring
    from pati.terminal.console import bar

    with bar("downloading", unit="bytes") as progress:
        path = bring(name, from_, timeout=timeout, progress=progress)
    print(path)


@app.command
def check(
    data: str,
    /,
    *,
    out: Path = Path("manifest.jsonl"),
    group_by: str | None = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    decisions: Path | None = None,
    json: Json = False,
) -> None:
    """Audit a data set: bad files, duplicates, classes, sizes, and the split. Changes nothing in it.

    Parameters
    ----------
    data
        Folder of class folders, pre-split folder, archive, CSV, or known name.
    out
        Where to write the manifest, one line a file.
    group_by
        CSV column whose equal values must stay in one split.
    decisions
        A CSV of photos to keep, drop or relabel: columns path, sha256 (as in the manifest), decision, new_label.
    """
    from pati.data.manifest import is_manifest
    from pati.recipe import Recipe
    from pati.terminal.console import console, say
    from pati.terminal.tables import (
        check_document,
        show_check,
    )
    from pati.workflows import pipeline

    if (out.exists() and not is_manifest(out)) or (out.parent / "run.json").exists():
        raise PatiError(f"--out {out} would overwrite something else", "name another file")
    columns = _columns(path_column, label_column, split_column)
    with _watch() as listen:
        found = pipeline.check(data, Recipe(group_by=group_by), columns=columns, decisions=decisions, listen=listen)
    found.write(out)
    if json:
        _print_json(check_document(found))
    else:
        show_check(found, console(stderr=False))
        say(f"manifest: {out}")


@app.command
def train(
    data: str | None = None,
    /,
    *,
    budget: str | None = None,
    epochs: int | None = None,
    model: str | None = None,
    size: int | None = None,
    out: Path | None = None,
    seed: int | None = None,
    group_by: str | None = None,
    balance: str | None = None,
    recipe: str | None = None,
    set_: Assignments = None,
    resume: Path | None = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    decisions: Path | None = None,
    json: Json = False,
) -> None:
    """Train from scratch: audit, split, train, score the test split once, report.

    Parameters
    ----------
    data
        Folder of class folders, pre-split folder, archive, CSV, or known name.
    budget
        Time for the whole command, such as 90s, 5m or 1h. Without it and --epochs, one that suits the data.
    epochs
        Passes over the training photos, in place of a budget; such runs resume bit-exactly.
    model
        A name from `pati list models`.
    size
        Side of the square that the net sees, in pixels.
    out
        The run's folder; the next free one in runs/ if left out.
    seed
        Seed of weights, order and augmentation. The split has its own: --set split_seed=N.
    group_by
        CSV column whose equal values must stay in one split.
    balance
        How rare classes are made to count: auto, or a method of the recipe's field `balance`.
    recipe
        A JSON file as a run's recipe.json, or a name from `pati list presets`.
    set_
        field=value of the recipe, any number of them.
    decisions
        A CSV of photos to keep, drop or relabel, as for `pati check`; the photos themselves stay as they are.
    resume
        A run's folder: go on where it stopped. Takes no other choices.
    """
    from pati.workflows import pipeline

    choices = (
        data, budget, epochs, model, size, out, seed, group_by, balance, recipe, set_, path_column, label_column,
        split_column, decisions,
    )  # fmt: skip
    if resume is not None:
        if any(choice is not None for choice in choices):
            raise PatiError("--resume goes on with the run's own data and recipe", "leave the other options out")
        with _watch() as listen:
            result = pipeline.resume(resume, started=STARTED, listen=listen)
    else:
        if data is None:
            raise PatiError(
                "pati train wants DATA: a folder, archive, CSV or known name", "for example: pati train photos/"
            )
        seconds = None if budget is None else _seconds(budget)
        common = {"model": model, "size": size, "seed": seed, "group_by": group_by, "balance": balance}
        chosen = _chosen(recipe, set_, epochs, seconds, common)
        columns = _columns(path_column, label_column, split_column)
        with _watch() as listen:
            result = pipeline.train(
                data, chosen, out=out, columns=columns, decisions=decisions, started=STARTED, listen=listen
            )
    from pati.terminal.tables import (
        show_result,
    )

    if json:
        _print_json({"run": str(result.run.folder), **result.metrics})
        return
    show_result(result.run, result.metrics)


@app.command(name="lr-find")
def lr_find(
    data: str,
    /,
    *,
    model: str | None = None,
    size: int | None = None,
    seed: int | None = None,
    group_by: str | None = None,
    balance: str | None = None,
    recipe: str | None = None,
    set_: Assignments = None,
    out: Path = Path("lr-find.png"),
    steps: int = 100,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    json: Json = False,
) -> None:
    """Find a learning rate: train a fresh net for some steps at rising rates, and draw its loss.

    Parameters
    ----------
    data
        Folder of class folders, pre-split folder, archive, CSV, or known name.
    model
        A name from `pati list models`.
    size
        Side of the square that the net sees, in pixels.
    seed
        Decides weights, order and augmentation; the split has a seed of its own (split_seed).
    group_by
        CSV column whose equal values must stay in one split.
    balance
        How rare classes are made to count: auto, or a method of the recipe's field balance.
    recipe
        A JSON file as a run's recipe.json, or a name from `pati list presets`.
    set_
        field=value of the recipe, any number of them.
    out
        Where to draw the curve, a PNG file.
    steps
        Steps of training, 20 or more.
    """
    from pati.report import figures
    from pati.system import files
    from pati.terminal.console import bar, say
    from pati.training.lr_find import search
    from pati.workflows import pipeline

    if out.suffix.lower() != ".png" or out.is_dir():
        raise PatiError(f"--out wants the name of a PNG file, got {out}", "for example --out lr-find.png")
    named = {"model": model, "size": size, "seed": seed, "group_by": group_by, "balance": balance}
    chosen = _chosen(recipe, set_, None, None, named)
    columns = _columns(path_column, label_column, split_column)
    with _watch() as listen:
        ready = pipeline.prepare(data, chosen, columns=columns, listen=listen)
    with bar("trying rates", unit="steps") as progress:
        found = search(
            ready.net(), ready.training, ready.preprocess, ready.recipe,
            device=ready.device, steps=steps, progress=progress,
        )  # fmt: skip
    files.write_bytes(out, figures.learning_rates(found.rates, found.losses, found.smoothed, found.suggestion))
    if json:
        choices = {name: getattr(ready.recipe, name) for name in ("model", "size", "batch", "optimizer")}
        _print_json({"learning_rate": found.suggestion, **choices, **dataclasses.asdict(found), "picture": str(out)})
        return
    say(f"the loss over the learning rate of {ready.recipe.optimizer}, {len(found.rates)} steps: {out}")
    print(f"--set learning_rate={found.suggestion:g}")


@app.command
def tune(
    data: str | None = None,
    /,
    *,
    trials: int | None = None,
    budget: str | None = None,
    epochs: int | None = None,
    trial_budget: str | None = None,
    model: str | None = None,
    size: int | None = None,
    out: Path | None = None,
    seed: int | None = None,
    group_by: str | None = None,
    balance: str | None = None,
    recipe: str | None = None,
    set_: Assignments = None,
    search: Annotated[list[str] | None, Parameter(negative="", consume_multiple=True)] = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    json: Json = False,
) -> None:
    """Search for better values of a recipe's fields, judged by the validation photos; the test photos wait.

    The same command goes on after any stop, and works beside itself in several processes.

    Parameters
    ----------
    data
        Folder of class folders, pre-split folder, archive, CSV, or known name. May be left out with an --out to go on
        with.
    trials
        How many trials are to be finished, by all processes and starts together.
    budget
        Time for this command, such as 30m or 2h, in place of --trials. The first trial is finished in any case.
    epochs
        Passes over the training photos in each trial.
    trial_budget
        Time for each trial, such as 60s, in place of --epochs. Without both, one that suits the data.
    model
        A name from `pati list models`.
    size
        Side of the square that the net sees, in pixels.
    out
        The search's folder; tune/NAME if left out. One that holds this search already is gone on with.
    seed
        Decides weights, order, augmentation and what is tried; the split has a seed of its own (split_seed).
    group_by
        CSV column whose equal values must stay in one split.
    balance
        How rare classes are made to count in the recipe to start from: auto, or a method of its field balance.
    recipe
        The recipe to start from: a JSON file as a run's recipe.json, or a name from `pati list presets`.
    set_
        field=value of the recipe, any number of them.
    search
        Fields of the recipe to search, any number of them; the usual ones if left out.
    """
    from pati.terminal.tables import (
        show_search,
    )
    from pati.workflows import tune as search_for

    seconds = None if budget is None else _seconds(budget)
    if data is None:
        others = (
            epochs, trial_budget, model, size, seed, group_by, balance, recipe, set_, search,
            path_column, label_column, split_column,
        )  # fmt: skip
        if out is None:
            raise PatiError(
                "pati tune wants DATA, or --out with a search to go on with", "pati tune photos/ --trials 20"
            )
        if any(choice is not None for choice in others):
            raise PatiError(
                "a search goes on with its own data and recipe", "leave the other options out, or name DATA"
            )
        with _watch() as listen:
            document = search_for.resume(out, trials=trials, budget=seconds, started=STARTED, listen=listen)
    else:
        pace = None if trial_budget is None else _seconds(trial_budget, "--trial-budget")
        named = {"model": model, "size": size, "seed": seed, "group_by": group_by, "balance": balance}
        chosen = _chosen(recipe, set_, epochs, pace, named)
        columns = _columns(path_column, label_column, split_column)
        with _watch() as listen:
            document = search_for.tune(
                data,
                chosen,
                trials=trials,
                budget=seconds,
                fields=search or (),
                out=out,
                columns=columns,
                started=STARTED,
                listen=listen,
            )
    if json:
        _print_json(document)
    else:
        show_search(document)


@app.command(name="eval")
def evaluate(
    run: Path,
    /,
    *,
    split: Literal["train", "validation", "test"] | None = None,
    data: str | None = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    outside: str | None = None,
    json: Json = False,
) -> None:
    """Score a run's model on one of its splits, or on another labelled set, with a report in the run's folder.

    Parameters
    ----------
    run
        A run's folder.
    split
        Which of the run's splits, test if left out; scoring that one again is counted and said.
    data
        Another folder, archive, CSV or known name with the same classes; test photos of the run among them count as a
        scoring of the test split.
    outside
        A folder, archive or known name of photos of something else: how well are they told from the test photos?
        The run keeps the figures, and its report shows them.
    """
    from pati.terminal.console import console, say
    from pati.terminal.tables import (
        show_outside,
        show_scores,
    )
    from pati.workflows import pipeline

    if outside is not None:
        if any(choice is not None for choice in (split, data, path_column, label_column, split_column)):
            raise PatiError("--outside shows the model photos of something else", "leave the other options out")
        with _watch() as listen:
            found = pipeline.outside(run, outside, listen=listen)
        if json:
            _print_json(found)
        else:
            show_outside(found)
        return
    columns = _columns(path_column, label_column, split_column)
    if data is not None and split is not None:
        raise PatiError("--split is of the run's own data, --data is another set", "give one of the two")
    if data is None and any((path_column, label_column, split_column)):
        raise PatiError("the run's own data has its columns already", "leave them out, or name another set with --data")
    with _watch() as listen:
        document = pipeline.score(run, split=split or "test", data=data, columns=columns, listen=listen)
    if json:
        _print_json(document)
        return
    show_scores(document, console(stderr=False))
    if document["unreadable"]:
        say(f"note: {document['unreadable']} files could not be read and are not counted")
    if document.get("test_scored", 1) > 1:
        some = f"{document['test_photos']} of these are the run's test photos: " * (data is not None)
        say(
            f"note: {some}this test split has now been scored {document['test_scored']} times; "
            "choices made by its score make the score too good"
        )
    if document["trained_on"]:
        say(f"warning: {document['trained_on']} of these photos were trained on, so the score is too good")
    if "report" in document:
        say(f"report: {document['report']}")


@app.command(name="report")
def report_(run: Path, /, *, lang: Literal["en", "tr"] | None = None, json: Json = False) -> None:
    """Write a run's report anew, more thoroughly measured than in training. Its photos must be where they were.

    Parameters
    ----------
    run
        A run's folder.
    lang
        The language shown first, that of before if left out; the page has a switch.
    """
    from pati.workflows import pipeline

    with _watch() as listen:
        made, document = pipeline.report_again(run, language=lang, listen=listen)
    if json:
        _print_json(document)
    else:
        print(made.report)


@app.command
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
        A model file or a run's folder, then photos to explain. Without a model, the one of cats and dogs that comes
        with pati answers.
    label
        The class to explain; the predicted one if left out.
    method
        A name from `pati list explainers`; grad-cam if left out, and with --boxes all of them.
    stage
        The net's stage to look at, from 1 on; the last one if left out. For all methods but occlusion and
        integrated-gradients, which look at pixels.
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
    from pati.explain.cams import OF_PIXELS
    from pati.inputs import model_first

    if stage is not None and method in OF_PIXELS:
        raise PatiError(f"{method} looks at pixels, at no stage", "leave out --stage, or choose another --method")
    model, words = model_first([*map(str, paths)])
    photos = tuple(map(Path, words))
    if check or boxes is not None:
        others: dict[str, object] = {"class": label, "out": out}
        _test_explanations(
            model, photos, method, stage, boxes, others, check=check, shuffled_labels=shuffled_labels, json=json
        )
        return
    if shuffled_labels:
        raise PatiError("--shuffled-labels is a part of --check", "give both")
    if json:
        raise PatiError("--json is for --check and --boxes", "leave it out: pictures are drawn as PNGs")
    from pati.inference.classifier import Classifier, UnreadablePhoto
    from pati.report import figures
    from pati.system.files import write_bytes
    from pati.system.rounding import percent
    from pati.terminal.console import fail

    if not photos:
        raise PatiError("pati explain wants at least one photo", "for example: pati explain cat.jpg")
    classifier = Classifier.load(_named(model))
    written: set[Path] = set()
    for photo in photos:
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
            print(
                f"note: the map of {photo} for {explanation.label} is even all over: it points nowhere", file=sys.stderr
            )
        answer = explanation.prediction
        print(f"{target}  {answer.label} {percent(answer.confidence)}")
    if not written:
        raise PatiError("none of the photos could be read", "the lines above say why")


def _test_explanations(
    model: Path | None,
    photos: tuple[Path, ...],
    method: str | None,
    stage: int | None,
    boxes: Path | None,
    others: dict[str, object],
    *,
    check: bool,
    shuffled_labels: bool,
    json: bool,
) -> None:
    from pati.explain.cams import explainers
    from pati.inference.classifier import Classifier
    from pati.inputs import expand
    from pati.system import machine
    from pati.terminal.console import bar, console
    from pati.terminal.explanations import show_checked, show_located
    from pati.workflows import explanation_tests
    from pati.workflows import shuffled_labels as control

    if check and boxes is not None:
        raise PatiError("--check looks at photos, --boxes at a CSV of them", "give one of the two")
    if shuffled_labels and not check:
        raise PatiError("--shuffled-labels is a part of --check", "give both")
    given = [name for name, value in others.items() if value is not None]
    if given:
        raise PatiError(f"--{given[0]} is for drawing, --check and --boxes draw nothing", "leave it out")
    model = _named(model)
    classifier = Classifier.load(model).on(machine.device())  # thousands of answers
    if boxes is None:
        named = list(expand([*map(str, photos)], []))
        found = [Path(item) for item in named if isinstance(item, str)]
        if not found:
            raise PatiError("--check wants photos, or folders of them", "for example: pati explain photos/ --check")
        used, more = method or "grad-cam", {}
        if shuffled_labels:
            with _watch() as listen:
                more["shuffled_labels"] = control.shuffled_labels(model, found, used, stage=stage, listen=listen)
        with bar("checking", unit="photos") as progress:
            document = explanation_tests.checked(classifier, found, used, stage=stage, progress=progress) | more
        document["unreadable"] += len(named) - len(found)
    elif photos:
        raise PatiError("--boxes names the photos itself", "leave the others out")
    else:
        methods = [method] if method else list(explainers)
        with bar("explaining", unit="photos") as progress:
            document = explanation_tests.located(
                classifier, explanation_tests.boxes(boxes), methods, stage=stage, progress=progress
            )
    if json:
        _print_json(document)
    elif boxes is None:
        show_checked(document, console(stderr=False))
    else:
        show_located(document, console(stderr=False))


@app.command
def clean(
    data: str,
    run: Path,
    /,
    *,
    folds: int = 0,
    budget: str | None = None,
    out: Path | None = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    json: Json = False,
) -> None:
    """List photos to look at: labels that are likely wrong, pictures in two classes, odd ones. Touches none of them.

    A table and a page to decide in; `pati train --decisions` follows.

    Parameters
    ----------
    data
        The run's data, or other photos of its classes.
    run
        A run's folder. Its net judges the photos that it has not trained on.
    folds
        Judge the training photos too, by so many trainings, each on the others: 3 is usual.
    budget
        Time for the whole command with --folds, such as 15m; without it each training takes as long as the run's.
    out
        Folder for table and page; clean in the run's folder if left out. Decisions in it are kept.
    """
    from pati.terminal.tables import (
        show_clean,
    )
    from pati.workflows import clean as cleaning

    seconds = None if budget is None else _seconds(budget)
    columns = _columns(path_column, label_column, split_column)
    with _watch() as listen:
        document = cleaning.clean(
            data, run, folds=folds, budget=seconds, columns=columns, out=out, started=STARTED, listen=listen
        )
    if json:
        _print_json(document)
    else:
        show_clean(document)


@app.command
def show_augment(
    data: str,
    /,
    *,
    out: Path = Path("augmentations.png"),
    recipe: str | None = None,
    set_: Assignments = None,
    photos: int = 1,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
) -> None:
    """Draw what augmentation does: each kind at rising strengths, and all that a recipe does, as a PNG.

    Parameters
    ----------
    data
        Folder of class folders, pre-split folder, archive, CSV, or known name.
    out
        Where to write the picture.
    recipe
        A JSON file as a run's recipe.json, or a name from `pati list presets`.
    set_
        field=value of the recipe, any number of them; another seed shows other photos.
    photos
        How many photos stand side by side.
    """
    if out.suffix.lower() != ".png":
        raise PatiError(f"--out {out} would not be known as a picture", "give it a name that ends in .png")
    from pati.system.files import write_bytes
    from pati.workflows import augmentation_preview

    chosen = _recipe(recipe).updated(set_ or [])
    columns = _columns(path_column, label_column, None)
    write_bytes(out, augmentation_preview.picture(data, chosen, photos=photos, columns=columns))
    print(out)


@app.command
def predict(
    *paths: Annotated[str, Parameter(allow_leading_hyphen=True)],
    risk: float | None = None,
    format: Literal["table", "json", "csv"] = "table",
) -> None:
    """Classify photos: one row for every input, in order; a row says why where a file can't be read.

    Answers that are not sure enough are marked: by a question mark in the table.

    Parameters
    ----------
    paths
        A model file or a run's folder, then files, folders (searched through), patterns such as "*.jpg", or - for a
        list on stdin. Without a model, the one of cats and dogs that comes with pati answers.
    risk
        The share of wrong answers that is put up with, by the validation photos; 0.01 if left out. The rest is unsure.
    format
        table, json (an array, one object a line), or csv.
    """
    from pati.inference.classifier import Classifier
    from pati.inputs import expand, model_first
    from pati.terminal import predictions

    model, photos = model_first(paths)
    if not photos:
        raise PatiError("pati predict wants at least one photo", "for example: pati predict cat.jpg")
    for path in photos:  # a lone hyphen is stdin, any other one is a mistyped option
        if path.startswith("-") and path != "-" and not Path(path).exists():
            raise PatiError(f"unknown option {path}", "see pati predict --help; a file of that name is ./" + path)
    classifier = Classifier.load(_named(model))
    write = predictions.writers[format]
    failed = [0, 0]

    def counted(predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        for prediction in predictions:
            failed[bool(prediction.error)] += 1
            yield prediction

    write(counted(classifier.predict_stream(expand(photos, sys.stdin), risk=risk)), classifier.classes)
    readable, unreadable = failed
    if not readable:
        what = f"none of the {unreadable} files could be read" if unreadable else "no file was found"
        raise PatiError(what, "each row says why" if unreadable else "look at the paths")


@app.command
def compare(
    *runs: Path, out: Path | None = None, unpaired: Annotated[bool, Parameter(negative="")] = False, json: Json = False
) -> None:
    """Compare finished runs: scores, costs, and which differences are more than chance.

    Parameters
    ----------
    runs
        Folders of two or more finished runs on the same data and split.
    out
        Where to draw accuracies and training times; its name ends in .png or .svg.
    unpaired
        Compare runs on different data too, without pairing their answers photo by photo: less sure.
    """
    from pati.report import figures
    from pati.system.files import write_bytes
    from pati.terminal.console import console, say
    from pati.terminal.tables import (
        show_comparison,
    )
    from pati.workflows import compare as comparing

    kind = out.suffix.lower().removeprefix(".") if out else ""
    if out and kind not in ("png", "svg"):
        raise PatiError(f"--out wants a name that ends in .png or .svg, got {out}", "for example --out compare.png")
    document = comparing.compare(runs, paired=not unpaired)
    if out:
        write_bytes(out, figures.comparison(document["runs"], by_class=document["by_class"], format=kind))
    if json:
        _print_json(document)
        return
    show_comparison(document, console(stderr=False))
    for note in comparing.notes(document):
        say(f"note: {note}")
    if out:
        say(f"figure: {out}")


@app.command(name="app")
def app_(
    where: Path | None = None,
    /,
    *,
    host: str = "localhost",
    port: int | None = None,
    root: Path | None = None,
    lang: Literal["en", "tr"] | None = None,
    browser: bool = True,
) -> None:
    """Open a page in the browser: try a model, train one, look at results, clean the photos.

    Parameters
    ----------
    where
        A model file or a run's folder to try first, or a folder of runs. If left out: the model of cats and dogs that
        comes with pati, and runs/.
    host
        The address to listen on; others than this machine's let everybody in who can reach it.
    port
        The port; the first free one from 8501 on if left out.
    root
        The folder below which photos may be chosen; where you are if left out.
    lang
        The language shown first; the browser's if left out. The page has a switch.
    browser
        Open it.
    """
    from pati.app.launch import launch
    from pati.app.settings import Settings

    launch(Settings.of(where, root, lang), host=host, port=port, browser=browser)


@app.command(name="list")
def list_(
    what: Literal["models", "augmentations", "metrics", "explainers", "datasets", "presets", "fields"],
    /,
    *,
    json: Json = False,
) -> None:
    """List what there is to choose from.

    Parameters
    ----------
    what
        The catalogue; fields are those that --set takes.
    """
    from rich.table import Table
    from rich.text import Text

    from pati import catalogue
    from pati.terminal.console import console

    rows = catalogue.rows(what)
    if json:
        _print_json([{"name": name, "summary": summary} for name, summary in rows])
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, summary in rows:
        table.add_row(name, Text(summary))
    console(stderr=False).print(table)


def _plugins_first(words: list[str]) -> list[str]:
    """The words with each `--plugin FILE` before the verb: `predict` would take them for names of photos."""
    end = words.index("--") if "--" in words else len(words)
    first: list[str] = []
    rest: list[str] = []
    at = 0
    while at < end:
        length = 2 if words[at] == "--plugin" and at + 1 < end else 1
        named = length == 2 or words[at].startswith("--plugin=")
        (first if named else rest).extend(words[at : at + length])
        at += length
    return [*first, *rest, *words[end:]]


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


# Helpers -----------------------------------------------------------------------------


@contextlib.contextmanager
def _watch() -> Iterator[Watch]:
    from pati.terminal.progress import Watch

    watch = Watch()
    try:
        yield watch
    finally:
        watch.close()


def _named(model: Path | None) -> Path:
    """The model to answer with: the included one, and saying so, where none was named."""
    from pati.models import included
    from pati.terminal.console import say

    if model is None:
        say(f"model: {included.NAME}, which comes with pati")
    return model or included.model()


def _columns(path: str | None, label: str | None, split: str | None) -> Columns:
    from pati.data.sources.source import Columns

    return Columns(path, label, split)


def _recipe(name: str | None) -> Recipe:
    from pati.recipe import Recipe, presets

    if name is None:
        return Recipe()
    return Recipe.read(Path(name)) if Path(name).is_file() or name.endswith(".json") else presets[name]()


def _chosen(
    recipe: str | None, assignments: list[str] | None, epochs: int | None, budget: float | None, common: dict[str, Any]
) -> Recipe:
    """The recipe of that name or file, with the options that were given."""
    changes = {name: value for name, value in common.items() if value is not None}
    if epochs is not None or budget is not None:  # in place of the recipe's own pace
        changes |= {"epochs": epochs, "budget": budget}
    return dataclasses.replace(_recipe(recipe), **changes).updated(assignments or [])


def _seconds(text: str, option: str = "--budget") -> float:
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], text[-1]) if text[-1:].lower() in units else (text, "s")
    try:
        return float(number) * units[unit.lower()]
    except ValueError:
        raise PatiError(f"{option} wants a time such as 90s, 5m or 1h, got {text!r}") from None


def _print_json(document: Any) -> None:
    import json

    print(json.dumps(document, indent=2, allow_nan=False))
