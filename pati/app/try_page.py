"""*Try*: photos in, predictions out, with explanation maps."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from pati import included
from pati.app import parts
from pati.app.parts import classifier, plain, reason, settings, t
from pati.app.photos import photo_of, readable_root
from pati.data.entries import Entries
from pati.data.manifest import Manifest
from pati.errors import PatiError
from pati.explain.palette import OPACITY
from pati.included import class_named
from pati.inference.documents import ModelScores
from pati.inference.lineage import origin
from pati.inference.load import SUFFIX, included_model, with_torch
from pati.inference.predictor import Explanation, Prediction, Predictor, UnreadablePhoto
from pati.locale.formats import printable
from pati.locale.messages import N_, NP_, Message, as_is
from pati.report import pictures
from pati.runs.run import Run
from pati.terminal import predictions

INTRODUCTION = N_(
    "Add a photo to see the model's prediction, its confidence and where it looked. Nothing leaves this machine."
)
SOURCES = {"upload": N_("Upload"), "camera": N_("Camera"), "sample": N_("Sample")}
UNSURE = N_("Unsure")
INCLUDED = N_("Cats and dogs (included in pati)")
PAGE = 24  # photos shown at once
SAMPLES = 8  # test photos to pick from


@dataclass(frozen=True)
class Given:
    """A photo that the visitor gave; `key` tells it from others in this session; `truth`: its label, if known."""

    key: str
    name: str
    data: bytes
    truth: str = ""


def page() -> None:
    """The page."""
    st.title(t(N_("What is in the photo?")))
    st.write(t(INTRODUCTION))
    model = _choose_model()
    clf = classifier(model)
    _tell(model, clf)
    how = st.segmented_control(
        t(N_("Photo")),
        list(SOURCES),
        key="source",
        default="upload",
        required=True,
        format_func=lambda name: t(SOURCES[name]),
        label_visibility="collapsed",
    )
    given = {"upload": _uploaded, "camera": _taken, "sample": _sampled}[how](model, clf)
    _forget_others({photo.key for photo in given})
    if len(given) == 1:
        _one(model, clf, given[0])
    elif given:
        _many(model, clf, given)


# The model ----------------------------------------------------------------------------


def _choose_model() -> Path:
    """The one chosen: that of the start, the included one, or a finished run's."""
    runs = {run.model: run.folder.name for run in parts.finished(settings().runs)}
    if not with_torch():
        runs = {model: name for model, name in runs.items() if model.with_suffix(SUFFIX).is_file()}
    first = settings().model
    names = {first: t(_named(first)), **runs}
    names |= {included_model(): t(INCLUDED)}
    options = list(names)
    wanted = st.session_state.pop("try_model", None)  # set by another page
    if wanted is not None and Path(wanted) in names:
        st.session_state["model"] = Path(wanted)
    if st.session_state.get("model") not in options:
        st.session_state["model"] = options[0]
    if len(options) == 1:
        return options[0]
    return st.selectbox(t(N_("Model")), options, key="model", format_func=names.__getitem__)


def _named(model: Path) -> Message:
    """The included model's name, a run's, or a file's."""
    if model.parent == included.FOLDER:
        return INCLUDED
    name = as_is(model.parent.name if model.stem == "model" else model.stem)
    exported = with_torch() and model.suffix.lower() == SUFFIX  # or else all of them are
    return N_("{name} (exported model)", name=name) if exported else name


def _tell(model: Path, clf: Predictor) -> None:
    """The model's test accuracy, in one line."""
    name = _named(model)
    scores = clf.facts.get("metrics", ModelScores())
    if "accuracy_interval" in scores:
        low, high = scores["accuracy_interval"]
        text = NP_(
            "{name}: {origin}; accuracy in cross-validation {accuracy:percent} on {n} photo (95 % CI "
            "{low:percent_number}–{high:percent_number} %).",
            "{name}: {origin}; accuracy in cross-validation {accuracy:percent} on {n} photos (95 % CI "
            "{low:percent_number}–{high:percent_number} %).",
            n=scores["photos"], name=name, accuracy=scores["accuracy"], low=low, high=high,
            origin=origin(clf.facts.get("lineage", [])),
        ) if scores.get("folds") else NP_(
            "{name}: {origin}; accuracy {accuracy:percent} on {n} test photo (95 % CI "
            "{low:percent_number}–{high:percent_number} %).",
            "{name}: {origin}; accuracy {accuracy:percent} on {n} test photos (95 % CI "
            "{low:percent_number}–{high:percent_number} %).",
            n=scores["photos"], name=name, accuracy=scores["accuracy"], low=low, high=high,
            origin=origin(clf.facts.get("lineage", [])),
        )  # fmt: skip
    else:
        text = N_("{name}. Classes: {classes}", name=name, classes=list(map(class_named, clf.classes[:20])))
    st.caption(plain(t(text)))


# Photos -------------------------------------------------------------------------------


def _uploaded(model: Path, clf: Predictor) -> list[Given]:
    files = st.file_uploader(
        t(N_("Photos (JPEG, HEIC, PNG, WebP, AVIF, GIF, BMP, TIFF)")), accept_multiple_files=True, key="upload"
    )
    return [Given(file.file_id, file.name, file.getvalue()) for file in files]


def _taken(model: Path, clf: Predictor) -> list[Given]:
    shot = st.camera_input(t(N_("Take a photo")), key="camera")
    return [Given(shot.file_id, shot.name, shot.getvalue())] if shot else []


def _sampled(model: Path, clf: Predictor) -> list[Given]:
    samples = list(_samples(model))
    if not samples:
        gone = N_("No sample photos: the photos of this run have been moved or deleted.")
        st.info(t(gone if Run(model.parent).manifest.exists() else N_("No sample photos: this model is not in a run.")))
        return []
    if samples[0].truth and clf.facts.get("metrics", ModelScores()).get("folds"):
        text = N_("These are photos of this run: the model was trained on them, so it should know them.")
    elif samples[0].truth:
        text = N_("These are test photos of this run: the model was not trained on them.")
    else:
        text = N_("The model knows cats and dogs only. For anything else it should be unsure, but it is not always.")
    st.caption(t(text))
    chosen = st.session_state.get("sample")
    for row in range(0, len(samples), 4):
        for number, (column, photo) in enumerate(
            zip(st.columns(4, wrap=False), samples[row : row + 4], strict=False), row
        ):
            with column:
                pixels = parts.pixels_of(photo.data)
                if pixels is not None:
                    parts.picture(pictures.at_most(pixels, 180), photo.name)
                if st.button(t(N_("Choose")), key=f"sample-{number}", width="stretch"):
                    chosen = st.session_state["sample"] = photo.key
    return [photo for photo in samples if photo.key == chosen]


def _samples(model: Path) -> Iterator[Given]:
    """Test photos of the model's run; for the included model, photos that come with the page."""
    if model.parent == included.FOLDER:
        # All are in the public domain (CC0); the model should be unsure of the last two, and is of one of them.
        photos = {"cat.jpg": N_("a cat"), "rocket.jpg": N_("a rocket"), "coffee.jpg": N_("a cup of coffee")}
        for file, name in photos.items():
            yield Given(file, t(name), (Path(__file__).parent / "samples" / file).read_bytes())
        return
    manifest = Run(model.parent).manifest
    if not manifest.exists():
        return
    entries, root = _tested(str(manifest), manifest.stat().st_mtime_ns)
    for entry in entries:
        data = photo_of(root, entry.path)
        if data is not None:
            yield Given(entry.sha256, entry.path, data, truth=entry.label)


@st.cache_resource(max_entries=8, show_spinner=False)
def _tested(path: str, changed: int) -> tuple[Entries, Path | None]:
    """Some scored photos in a manifest, and where they lie."""
    manifest = Manifest.read(Path(path))
    entries = manifest.scored()
    return entries[:: max(1, len(entries) // SAMPLES)][:SAMPLES], readable_root(manifest)


# One photo ----------------------------------------------------------------------------


def _one(model: Path, clf: Predictor, photo: Given) -> None:
    # The prediction is computed before anything is shown: a browser that draws meanwhile takes the processor from it.
    try:
        answer, explanation = _explained(clf, photo)
    except UnreadablePhoto as error:
        _say_unreadable(photo, error.reason)
        return
    except PatiError as error:  # a model or a method of one's own that don't fit
        st.error(plain(t(N_("This model cannot be explained with this method: {error}", error=error.message))))
        answer = clf.predict(photo.data)
        verdict(clf, answer, photo.truth)
        parts.bars(answer)
        _ask(clf)
        _download_answers([(photo, answer)], clf, key="csv-one")
        return
    picture = None if explanation is None else parts.overlaid(explanation, st.session_state.get("opacity", OPACITY))
    left, right = st.columns([3, 2], gap="large")
    with left:
        if explanation is None or picture is None:
            pixels = parts.pixels_of(photo.data)
            if pixels is not None:
                parts.picture(pictures.at_most(pixels, parts.SHOWN), printable(photo.name))
            st.caption(t(N_("This exported model has no explanation map.")))
        else:
            label = class_named(explanation.label)
            parts.picture(picture, t(N_("The photo under the explanation map for {label}", label=label)))
            if explanation.even:
                text = N_("The map for {label} is uniform: it does not highlight any region.", label=label)
            else:
                text = N_("Yellow regions contribute most to the class {label}.", label=label)
            st.caption(plain(t(text)))
    with right:
        verdict(clf, answer, photo.truth)
        parts.bars(answer)
        if explanation is not None:
            _ask(clf)
        with st.container(horizontal=True):
            if picture is not None:
                st.download_button(
                    t(N_("Download the overlay")),
                    lambda: parts.png(picture),
                    file_name="pati-overlay.png",
                    mime="image/png",
                    on_click="ignore",
                )
            _download_answers([(photo, answer)], clf, key="csv-one")


def _explained(clf: Predictor, photo: Given) -> tuple[Prediction, Explanation | None]:
    """The prediction, and its explanation as it was last asked for, below; None for a model without a map."""
    if not clf.has_map:
        return clf.predict(photo.data), None
    label, method, stage = (st.session_state.get(name) for name in ("why_class", "why_method", "why_stage"))
    explanation = clf.explain(
        photo.data,
        label=label if clf.any_class and label in clf.classes else None,
        method=method if method in clf.methods else clf.methods[0],
        stage=stage if stage in range(1, clf.stages) else None,
    )
    return explanation.prediction, explanation


def _ask(clf: Predictor) -> None:
    """What to explain and how, as far as this model leaves a choice: class, method, stage, and the map's opacity."""
    stages = range(clf.stages, 0, -1)
    with st.expander(t(N_("Explanation options"))):
        st.slider(t(N_("Opacity of the map")), 0.0, 1.0, OPACITY, 0.05, key="opacity")
        if not clf.any_class:
            st.caption(t(N_("An exported model explains the predicted class only, by Grad-CAM of its last stage.")))
            return
        st.selectbox(
            t(N_("Class to explain")), [None, *clf.classes], key="why_class",
            format_func=lambda name: t(N_("the predicted class") if name is None else class_named(name)),
        )  # fmt: skip
        st.selectbox(t(N_("Method")), list(clf.methods), key="why_method")
        st.selectbox(
            t(N_("Stage of the network")), list(stages), key="why_stage",
            format_func=lambda number: t(N_("{number} (last)", number=number)) if number == stages[0] else str(number),
        )  # fmt: skip


def verdict(clf: Predictor, answer: Prediction, truth: str = "") -> None:
    """The prediction in words: a class, or that the model is unsure and why."""
    label, share = class_named(answer.label), answer.confidence
    if not answer.unsure:
        head, why = N_("Prediction: {label}", label=label), N_("Confidence: {share:percent}", share=share)
    elif answer.out_of_distribution:
        head = UNSURE
        why = N_(
            "The photo is out of distribution: unlike the training photos. The model knows only {classes}; its most "
            "likely class is {label} ({share:percent}).",
            classes=list(map(class_named, clf.classes[:10])),
            label=label,
            share=share,
        )
    else:
        head = UNSURE
        why = N_(
            "The most likely class is {label}, but its confidence of {share:percent} is below the threshold of "
            "{threshold:percent}.",
            label=label,
            share=share,
            threshold=clf.calibration.threshold() if clf.calibration else 0.0,
        )
    parts.heading(head, why, *([N_("True label: {label}", label=class_named(truth))] if truth else []))


def _say_unreadable(photo: Given, code: str) -> None:
    st.error(plain(t(N_("{name} cannot be read: {reason}", name=photo.name, reason=reason(code)))))


# Many photos --------------------------------------------------------------------------


def _many(model: Path, clf: Predictor, given: list[Given]) -> None:
    answers = _answered(model, clf, given)
    counts = Counter("unreadable" if row.error else "unsure" if row.unsure else "predicted" for row in answers)
    text = N_(
        "{predicted} predicted, {unsure} unsure, {unreadable} unreadable",
        predicted=counts["predicted"],
        unsure=counts["unsure"],
        unreadable=counts["unreadable"],
    )
    st.write(t(text))
    _download_answers(list(zip(given, answers, strict=True)), clf, key="csv-many")
    pages = -(-len(given) // PAGE)
    at = PAGE * (st.number_input(t(N_("Page")), 1, pages, key="many_page") - 1) if pages > 1 else 0
    with st.container(key="grid-many"):
        for start in range(at, min(at + PAGE, len(given)), 4):
            row = range(start, min(start + 4, at + PAGE, len(given)))
            for column, number in zip(st.columns(4), row, strict=False):
                with column:
                    _small(given[number], answers[number], number)
    chosen = st.session_state.get("closer")
    closer = next((photo for photo in given if photo.key == chosen), None)
    if closer is not None:
        st.divider()
        _one(model, clf, closer)


def _small(photo: Given, answer: Prediction, number: int) -> None:
    if answer.error:
        _say_unreadable(photo, answer.reason)
        return
    st.image(_thumbnail(photo), alt=printable(photo.name), width="stretch")
    label, share = class_named(answer.label), answer.confidence
    if answer.unsure:
        text = N_("Unsure: {label} {share:percent} · {name}", label=label, share=share, name=photo.name)
    else:
        text = N_("{label} {share:percent} · {name}", label=label, share=share, name=photo.name)
    st.caption(plain(t(text)))
    if st.button(t(N_("Details")), key=f"closer-{number}", width="stretch"):
        st.session_state["closer"] = photo.key


def _answered(model: Path, clf: Predictor, given: list[Given]) -> list[Prediction]:
    """Predictions for all, those of earlier clicks kept; shows the progress."""
    kept: dict[tuple[str, str], Prediction] = st.session_state.setdefault("answers", {})
    keys = [(f"{model} {clf.facts.get('manifest')}", photo.key) for photo in given]
    new = [photo for photo, key in zip(given, keys, strict=True) if key not in kept]
    if new:
        shown = st.progress(0.0)
        stream = clf.predict_stream(photo.data for photo in new)
        for done, (photo, answer) in enumerate(zip(new, stream, strict=True), start=1):
            kept[(keys[0][0], photo.key)] = answer
            shown.progress(
                done / len(new),
                t(NP_("Classifying {done} of {n} photo", "Classifying {done} of {n} photos", n=len(new), done=done)),
            )
        shown.empty()
    return [kept[key] for key in keys]


def _thumbnail(photo: Given) -> bytes:
    """A small picture of it, made once."""
    kept: dict[str, bytes] = st.session_state.setdefault("thumbnails", {})
    if photo.key not in kept:
        pixels = parts.pixels_of(photo.data)
        kept[photo.key] = b"" if pixels is None else pictures.thumbnail(pictures.at_most(pixels, 320), 180)
    return kept[photo.key]


def _forget_others(keys: set[str]) -> None:
    """Keep nothing of photos that are no longer there: a page may be open for weeks."""
    answers, thumbnails = (st.session_state.get(name, {}) for name in ("answers", "thumbnails"))
    for key in [key for key in answers if key[1] not in keys]:
        del answers[key]
    for key in [key for key in thumbnails if key not in keys]:
        del thumbnails[key]


def _download_answers(rows: list[tuple[Given, Prediction]], clf: Predictor, *, key: str) -> None:
    def text() -> str:
        to = io.StringIO()
        named = [Prediction(**{**vars(answer), "path": printable(photo.name)}) for photo, answer in rows]
        predictions.comma_separated(named, clf.classes, to)
        return to.getvalue()

    st.download_button(
        t(N_("Download the predictions (CSV)")),
        text,
        file_name="pati-answers.csv",
        mime="text/csv",
        on_click="ignore",
        key=key,
    )
