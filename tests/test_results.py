"""What is measured after training, on as many photos as there is time for, and the report written anew."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

import pati
from pati import cli
from pati.data.decode import FLAGS, REASONS
from pati.data.entries import Entry
from pati.data.manifest import Manifest
from pati.data.mapped import Mapped
from pati.data.pack import Pack, Rows
from pati.errors import PatiError
from pati.evaluation import analysis
from pati.evaluation.calibration import Calibration
from pati.evaluation.out_of_distribution import FEWEST
from pati.inference.classifier import Classifier
from pati.locale.messages import N_, NP_
from pati.recipe import Recipe
from pati.report import pages
from pati.report.markup import interval, m, share, t, tp
from pati.report.pages import GROUPS, pick_examples
from pati.runs.history import epochs
from pati.runs.run import Run
from pati.terminal.tables import show_scores
from pati.workflows import measure
from pati.workflows.report import report_again
from pati.workflows.score import outside, score
from pati.workflows.train import train
from tests.support.photos import jpeg, write_shapes
from tests.test_duplicates import scene

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]

# Sentences that stand on a page only where they are true: what `t` makes of them is in every language.
DEPENDENT = t(
    "Some of these photos are not independent, so the confidence intervals resample whole groups (cluster bootstrap)."
)
UNSEEN = t("None of these photos was used for training.")
AUROC = t(
    "AUROC is the area under the ROC curve: how often, of an out-of-distribution photo and one of the run, the former "
    "has the higher out-of-distribution score; 50 % is chance. It holds for such photos only: others may be harder to "
    "detect."
)
NOT_OUTSIDE = t(
    "The detection of out-of-distribution photos, that is, of photos unlike the training photos, has not been "
    "measured. To measure it:"
)


def scored_again(times: int) -> str:
    return tp(
        "The test split has been scored {n} time. Choosing by its score makes the score optimistic.",
        "The test split has been scored {n} times. Choosing by its score makes the score optimistic.",
        times,
    )


def trained_on(photos: int) -> str:
    return tp(
        "{n} of these photos was trained on (the same file or a near copy), which makes the score optimistic.",
        "{n} of these photos were trained on (the same files or near copies), which makes the score optimistic.",
        photos,
    )


def noise(trained: Path, count: int) -> tuple[Classifier, Manifest, Pack]:
    """The run's classifier with so many validation photos of noise."""
    made = pati.load(trained)
    entries = tuple(
        Entry(f"{number}.png", made.classes[number % 3], "kept", sha256=str(number), split="validation")
        for number in range(count)
    )
    side = made.preprocess.size
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)
    packed = Pack(Mapped([pixels]), Rows(np.arange(count).astype("S64"), np.arange(count)))
    return made, Manifest("noise", "", made.classes, entries, {}), packed


@pytest.fixture(scope="module")
def many(trained: Path) -> tuple[Classifier, Manifest, Pack]:
    return noise(trained, 22)


def test_counts_suit_what_was_trained(many: tuple[Classifier, Manifest, Pack]) -> None:
    assert measure.probed(*many, trained=1000) == {}
    found = measure.probed(*many, trained=21_000)
    assert list(found) == ["robustness"]
    assert found["robustness"]["photos"] == 21
    found = measure.probed(*many, trained=10**9)
    assert {name: part["photos"] for name, part in found.items()} == {"robustness": 22, "explanations": 22}


def test_counts_suit_the_time(
    trained: Path, many: tuple[Classifier, Manifest, Pack], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert measure.probed(*many, seconds=1e-6) == {}
    found = measure.probed(*many, seconds=1e6)
    assert {name: part["photos"] for name, part in found.items()} == {"robustness": 22, "explanations": 22}

    def timed(name: str, seconds: float) -> measure.Probe:
        """A probe that takes so long a photo, on a clock of its own."""

        def take(made: Classifier, photos: object, labels: torch.Tensor, seed: int) -> dict[str, torch.Tensor]:
            clock[0] += seconds * len(labels)
            return {"labels": labels}

        def summary(found: dict[str, torch.Tensor], clusters: object) -> dict[str, object]:
            return {"photos": len(found["labels"])}

        return dataclasses.replace(measure.PROBES[name], measure=take, summary=summary, answers=seconds)

    clock = [0.0]
    monkeypatch.setattr(measure, "seconds_to_answer", lambda ask, photos: len(photos))
    monkeypatch.setattr(measure.clock, "now", lambda: clock[0])
    monkeypatch.setattr(
        measure, "PROBES", {"robustness": timed("robustness", 0.1), "explanations": timed("explanations", 1.0)}
    )
    many = noise(trained, 60)
    # Robustness has 3 of 10 seconds, at a tenth of a second a photo, and what the explanations have no use for: these
    # take a second, and tell nothing by fewer than 8.
    for budget, counts in (
        (1.9, {}),
        (5.0, {"robustness": 50}),
        (9.0, {"robustness": 60}),
        (12.5, {"robustness": 45, "explanations": 8}),
        (20.3, {"robustness": 60, "explanations": 14}),
        (1000.0, {"robustness": 60, "explanations": 60}),
    ):
        before = clock[0]
        found = measure.probed(*many, seconds=budget)
        assert {name: part["photos"] for name, part in found.items()} == counts
        assert clock[0] - before <= budget


def test_explanations_are_checked_for_the_classes_answered(
    many: tuple[Classifier, Manifest, Pack], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _, packed = many
    monkeypatch.setattr(measure, "PROBES", {"explanations": measure.PROBES["explanations"]})
    found = measure.probed(*many)["explanations"]
    assert found["method"] == "grad-cam"
    assert set(found["measures"]) == {"insertion", "deletion", "road"}
    images, classes = made.explainer_inputs(torch.from_numpy(packed.pixels[:]))
    assert torch.equal(classes, made.logits(torch.from_numpy(packed.pixels[:])).argmax(1))
    assert images.shape == (22, 3, made.preprocess.size, made.preprocess.size)


@pytest.mark.parametrize(("language", "thorough"), [("en", True), ("tr", False)])
def test_a_report_is_written_anew_without_scoring(trained: Path, tmp_path: Path, language: str, thorough: bool) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    before = json.loads((run / "metrics.json").read_text())
    (run / "report.html").unlink()
    made, document = report_again(run, language=language, thorough=thorough)
    page = made.report.read_text(encoding="utf-8")
    assert f'<html lang="{language}" data-lang="{language}">' in page
    assert document["test"] == before["test"]
    assert json.loads((run / "run.json").read_text())["test_scored"] == 1
    for name in ("calibration", "curves", "slices", "suspects"):
        assert document["analysis"][name] == before["analysis"][name], name
    assert json.loads((run / "metrics.json").read_text()) == json.loads(json.dumps(document))
    assert not re.search(r"(src|href)=.https?:", page)


def test_the_model_card_holds_the_reports_figures(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    outside(run, trained.parent / "shapes")
    _, document = report_again(run, thorough=False)
    card = (run / "model-card.md").read_text(encoding="utf-8")
    low, high = document["test"]["accuracy_interval"]
    accuracy = document["test"]["accuracy"]
    assert f"| Accuracy | {100 * accuracy:.1f} % | {100 * low:.1f} % – {100 * high:.1f} % |" in card
    for part in ("circle, square, triangle", document["manifest"], "scored once", "180 photos of shapes"):
        assert part in card
    assert "None" not in card
    assert "{" not in card


def test_the_model_card_is_in_the_reports_language(trained: Path, tmp_path: Path) -> None:
    """With the same numbers, in that language's notation."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    outside(run, trained.parent / "shapes")
    english = (report_again(run, language="en", thorough=False)[0]).card.read_text(encoding="utf-8")
    _, document = report_again(run, language="tr", thorough=False)
    card = (run / "model-card.md").read_text(encoding="utf-8")
    accuracy, ends = document["test"]["accuracy"], document["test"]["accuracy_interval"]
    assert f"| Doğruluk | %{100 * accuracy:.1f}".replace(".", ",") in card
    assert interval(ends, "tr") in card
    assert len(card.splitlines()) == len(english.splitlines())
    for one, other in zip(english.splitlines(), card.splitlines(), strict=True):
        if one and not re.fullmatch(r"# run|\| ROC.*|[|-]+", one):
            assert one != other
        digits = [sorted(re.findall(r"\d+", line)) for line in (one, other)]
        assert digits[0] == digits[1]


def test_photos_that_are_alike_are_told(tmp_path: Path, cache: Path) -> None:
    """Where photos come in groups, or some are copies, whole groups are resampled, and the reader knows."""
    shapes = write_shapes(tmp_path / "shapes", per_class=30)
    for number in range(0, 30, 3):
        shutil.copy(shapes / "circle" / f"{number}.jpg", shapes / "circle" / f"again-{number}.jpg")
    rows = [
        f"{path},{path.parent.name},{path.parent.name}-{int(path.stem.split('-')[-1]) // 3}"
        for path in sorted(shapes.rglob("*.jpg"))
    ]
    (tmp_path / "photos.csv").write_text("path,label,sender\n" + "\n".join(rows) + "\n")
    recipe = Recipe(epochs=1, size=32, growth=(1.0,), width=0.25, test=0.45)
    with_groups = train(tmp_path / "photos.csv", dataclasses.replace(recipe, group_by="sender"), out=tmp_path / "a").run
    plain = train(shapes, recipe, out=tmp_path / "b").run
    photos_come = "The photos come in {n} group.", "The photos come in {n} groups."
    are_copies = (
        "{n} photo is an exact or near duplicate of another one.",
        "{n} photos are exact or near duplicates of others.",
    )
    for run, grouped in ((with_groups, True), (plain, False)):
        lines = [json.loads(line) for line in run.manifest.read_text().splitlines()[1:]]
        test = [Path(line["path"]) for line in lines if line["split"] == "test"]
        copies = sum(path.stem.startswith("again") for path in test)
        groups = {(path.parent.name, int(path.stem.split("-")[-1]) // 3) for path in test}
        assert copies  # or the split has changed
        page, card = run.report.read_text(encoding="utf-8"), run.card.read_text(encoding="utf-8")
        expected = [DEPENDENT, *([tp(*photos_come, len(groups))] if grouped else []), tp(*are_copies, copies)]
        document = run.read_metrics()["test"]
        clusters = document["clusters"]
        assert clusters == (len(groups) if grouped else len(test) - copies)
        assert document["interval_method"] == "cluster bootstrap"
        effective = document["effective_clusters"]
        assert effective is not None
        if effective < 10:
            expected.append(
                t(
                    "So few groups (they say as much as {count:.1f} of equal size) make the intervals unreliable.",
                    count=effective,
                )
            )
        assert f"<p>{' '.join(expected)}</p>" in page
        sentence = NP_(*are_copies, copies).shown("en")
        assert f"(cluster bootstrap). {NP_(*photos_come, len(groups)).shown('en')} {sentence}" in card or not grouped
        assert f"(cluster bootstrap). {sentence}" in card or grouped
        scored = Path(score(run.folder)["report"]).read_text(encoding="utf-8")
        assert f"<p>{' '.join(expected)}</p>" in scored
    assert DEPENDENT not in Path(
        score(plain.folder, data=write_shapes(tmp_path / "new", per_class=4, first=700))["report"]
    ).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("photos", "thresholds", "told", "card"),
    [
        (20, ((0.2, 0.5),), {"few", "no scope", "none"}, ("Every prediction is marked *unsure*", "16.1 %")),
        (60, ((0.0, 1.0),), {"few", "scope", "all"}, ("is below 100.0 %, or where", "6.0 %")),
        (5000, ((0.0, 0.4),), {"scope"}, ("is below 40.0 %, or where",)),
    ],
)
def test_what_few_validation_photos_cannot_show_is_told(
    trained: Path,
    tmp_path: Path,
    photos: int,
    thresholds: tuple[tuple[float, float], ...],
    told: set[str],
    card: tuple[str, ...],
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    made = pati.load(run)
    made.calibration = Calibration(1.0, thresholds, photos)
    made.save(run / "model.safetensors")
    report, document = report_again(run, thorough=False)
    page, text = report.report.read_text(encoding="utf-8"), report.card.read_text(encoding="utf-8")
    few = NP_(
        "The threshold was chosen on only {n} held-out photo: even with no wrong prediction among so few, the share "
        "of wrong predictions may be as high as {bound:percent}.",
        "The threshold was chosen on only {n} held-out photos: even with no wrong prediction among so few, the share "
        "of wrong predictions may be as high as {bound:percent}.",
        photos, bound=document["analysis"]["calibration"]["risk_bound"],
    )  # fmt: skip
    no_scope = NP_(
        "Out-of-distribution photos cannot be detected: that takes at least {n} held-out photo.",
        "Out-of-distribution photos cannot be detected: that takes at least {n} held-out photos.",
        FEWEST,
    )
    sentences = {
        "few": few,
        "no scope": no_scope,
        "scope": N_(
            "Out-of-distribution photos are marked unsure too: those more unlike the training photos than 99 % of the "
            "held-out photos are, by the features in the network's stages and by the confidence."
        ),
        "none": N_("No threshold achieves this on the held-out photos: every prediction is marked unsure."),
        "all": N_("No photo here is both predicted with enough confidence and in distribution: all are marked unsure."),
    }
    assert {name for name, sentence in sentences.items() if m(sentence) in page} == told
    for part in card:
        assert part in text
    for name in ("few", "no scope"):
        assert (sentences[name].shown("en") in text) == (name in told)


def test_any_name_is_itself_in_markdown() -> None:
    assert pages._markdown("a_b*[c](d) `e` <f> | \\") == r"a\_b\*\[c\](d) \`e\` \<f\> \| \\"
    assert pages._code("a b") == "`a b`"
    assert pages._code("`a``b") == "``` `a``b ```"


def test_copies_in_training_are_told_and_nothing_else_is_claimed(tmp_path: Path, cache: Path) -> None:
    data = tmp_path / "data"
    for number, part in enumerate(("train", "validation", "test")):
        write_shapes(data / part, per_class=16, first=100 * number)
    for number, part in enumerate(("validation", "test", "test")):
        shutil.copy(data / "train" / "circle" / f"{number}.jpg", data / part / "circle" / f"copy-{number}.jpg")
    run = train(data, Recipe(epochs=1, size=32, growth=(1.0,), width=0.25), out=tmp_path / "run").run
    page, card = run.report.read_text(encoding="utf-8"), run.card.read_text(encoding="utf-8")
    leaked = NP_(
        "{n} test photo has a duplicate, or another photo of its group, in the training split, which makes the score "
        "optimistic.",
        "{n} test photos have a duplicate, or another photo of their group, in the training split, which makes the "
        "score optimistic.",
        2,
    )
    assert m(leaked) in page
    assert leaked.shown("en") in card
    assert (
        tp(
            "{n} of the photos examined has a duplicate, or another photo of its group, in the training split: the "
            "model may only repeat the label it was trained with.",
            "{n} of the photos examined have a duplicate, or another photo of their group, in the training split: the "
            "model may only repeat the labels it was trained with.",
            3,
        )
        in page
    )
    assert UNSEEN not in page


def test_showing_something_else_is_told_at_once(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    for text, expected in (((run / "report.html"), NOT_OUTSIDE), (run / "model-card.md", "not been measured")):
        assert expected in text.read_text(encoding="utf-8")
    outside(run, write_shapes(tmp_path / "strange", per_class=4, first=900))
    page, card = ((run / name).read_text(encoding="utf-8") for name in ("report.html", "model-card.md"))
    assert NOT_OUTSIDE not in page
    assert AUROC in page
    assert "Of 12 photos of strange" in card
    assert "not been measured" not in card


def test_the_gallery_shows_the_answers_that_were_given(trained: Path, tmp_path: Path) -> None:
    """Not those of the net as it answers today, as on another machine."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    with np.load(run / "predictions.npz") as stored:
        arrays = dict(stored)
    arrays["test_logits"] = np.eye(3, dtype=np.float32)[(arrays["test_labels"] + 1) % 3]
    np.savez(run / "predictions.npz", **arrays)
    made = pati.load(run)
    assert made.calibration is not None
    heat = made.calibration.temperature
    confidence = f"{100 / (1 + 2 * np.exp(-1 / heat)):.1f}"
    page = report_again(run, thorough=False)[0].report.read_text(encoding="utf-8")
    captions = re.findall(r"<figcaption><span class=\"bad\">.*?</figcaption>", page.split(t("Grad-CAM examples"))[-1])
    assert len(captions) == 12  # six most confident mistakes, six least confident ones; none is right
    classes = made.classes
    for caption in captions:
        for language, pattern in (
            ("en", r"predicted: (\w+) \(([\d.]+)\xa0%\), true class: (\w+)"),
            ("tr", r"tahmin: (\w+) \(%([\d,]+)\), gerçek sınıf: (\w+)"),
        ):
            found = re.search(rf'<span lang="{language}">{pattern}</span>', caption)
            assert found
            assert found[2].replace(",", ".") == confidence
            assert classes.index(found[1]) == (classes.index(found[3]) + 1) % 3


def test_a_report_of_an_older_run_has_all_that_its_answers_tell(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    report_again(run, thorough=False)
    document = json.loads((run / "metrics.json").read_text())
    del document["test"]["log_loss_interval"], document["analysis"]["calibration"]["before"]["error_interval"]
    (run / "metrics.json").write_text(json.dumps(document))
    before = (run / "report.html").read_bytes()
    report_again(run, thorough=False)
    assert (run / "report.html").read_bytes() == before


def test_slices_of_some_photos_are_told(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some = "Measured on {n} evenly spaced photo of {all}.", "Measured on {n} evenly spaced photos of {all}."
    assert "evenly spaced" not in (trained / "report.html").read_text(encoding="utf-8")
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    monkeypatch.setattr(analysis, "MOST_SLICED", 9)
    made, document = report_again(run, thorough=False)
    assert tp(*some, 9, all=document["test"]["photos"]) in made.report.read_text(encoding="utf-8")


@pytest.mark.parametrize("loss", [0.0, 0.2])
def test_the_card_calls_damage_harmful_only_where_that_can_be_told(trained: Path, tmp_path: Path, loss: float) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    document = json.loads((run / "metrics.json").read_text())
    right = torch.ones(50, 1 + len(analysis.CORRUPTION_LEVELS), dtype=torch.float64)
    right[: int(50 * loss), 3] = 0  # the first kind at its strongest
    document["analysis"]["robustness"] = analysis.robustness(right)
    (run / "metrics.json").write_text(json.dumps(document))
    made, _ = report_again(run, thorough=False)
    card, page = made.card.read_text(encoding="utf-8"), made.report.read_text(encoding="utf-8")
    assert ("Corrupted photos are predicted less accurately" in card) == (loss > 0)
    assert ("cannot be determined from 50 held-out photos" in card) == (loss == 0)
    section = page.split(f"{t('Robustness to corruptions')}</h2>")[1].split("</table>")[0]
    assert section.count(t("not significant")) == len(analysis.CORRUPTION_LEVELS) - (loss > 0)


def test_nothing_is_said_of_photos_that_are_not_alike(trained: Path) -> None:
    assert Manifest.read(trained / "manifest.jsonl").dependent() == {}
    assert DEPENDENT not in (trained / "report.html").read_text(encoding="utf-8")
    assert "independent" not in (trained / "model-card.md").read_text(encoding="utf-8")


def test_a_second_scoring_is_told_in_the_report(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    page, metrics = (run / "report.html").read_text(), (run / "metrics.json").read_bytes()
    assert scored_again(1) not in page
    document = score(run)
    assert document["test_scored"] == 2
    for written in (run / "report.html", run / "eval" / "test.html"):
        assert scored_again(2) in written.read_text(encoding="utf-8")
    assert "has been scored 2 times" in (run / "model-card.md").read_text(encoding="utf-8")
    assert (run / "metrics.json").read_bytes() == metrics
    assert document["accuracy"] == json.loads(metrics)["test"]["accuracy"]
    assert document["report"] == str(run / "eval" / "test.html")


def test_another_set_gets_a_report_too(trained: Path, tmp_path: Path) -> None:
    run, data = tmp_path / "run", tmp_path / "new.photos"
    shutil.copytree(trained, run)
    write_shapes(data, per_class=12, first=500)
    before = (run / "report.html").read_bytes()
    document = score(run, data=data)
    assert document["trained_on"] == 0
    assert "test_scored" not in document
    assert (run / "report.html").read_bytes() == before
    page = Path(document["report"]).read_text(encoding="utf-8")
    assert share(document["accuracy"]) in page
    assert "trained on (the same file" not in page
    assert not re.search(r"(src|href)=.https?:", page)


def test_photos_that_were_trained_on_are_told(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    data = tmp_path / "shapes"
    shutil.copytree(trained.parent / "shapes", data)
    write_shapes(data, per_class=1, first=900)
    document = score(run, data=data)
    assert document["trained_on"] == len(Manifest.read(run / "manifest.jsonl").of_split("train"))
    assert trained_on(document["trained_on"]) in Path(document["report"]).read_text(encoding="utf-8")


def test_test_photos_in_another_set_are_a_scoring_of_the_test_split(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = tmp_path / "run", write_shapes(tmp_path / "new", per_class=4, first=500)
    shutil.copytree(trained, run)
    found = Manifest.read(run / "manifest.jsonl")
    first = score(run, data=data)
    assert "test_scored" not in first
    copies = found.of_split("test")[:3]
    for entry in copies:
        name = f"other name {Path(entry.path).name}"
        shutil.copy(Path(found.root) / entry.path, data / entry.label / name)
    cli.program(["eval", str(run), "--data", str(data)], result_action="return_value")
    told = " ".join(capsys.readouterr().err.split())
    assert "3 of these photos are test photos of the run: this test split has now been scored 2 times" in told
    (page,) = [one.read_text(encoding="utf-8") for one in (run / "eval").glob("data-new-*.html")]
    assert (
        tp(
            "{n} of these photos is a test photo of the run (the same file or a near copy), so this counts as a "
            "scoring of the test "
            "split.",
            "{n} of these photos are test photos of the run (the same files or near copies), so this counts as a "
            "scoring of the test "
            "split.",
            3,
        )
        in page
    )
    for told_in in (page, (run / "report.html").read_text(encoding="utf-8")):
        assert scored_again(2) in told_in
    elsewhere = write_shapes(tmp_path / "elsewhere" / "new", per_class=2, first=700)
    assert score(run, data=elsewhere)["report"] != first["report"]  # of one name, but another set
    score(run)
    rows = Run.open(run).rows("scoring")
    assert [(row["data"], row["test_photos"], row["time"]) for row in rows] == [
        ("test", len(found.of_split("test")), 1), ("new", 3, 2), ("test", len(found.of_split("test")), 3),
    ]  # fmt: skip
    assert Run.open(run).read_state()["test_scored"] == 3


def test_photos_saved_again_are_found_and_told(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test photo in another format or size is a scoring of the test split, a training photo no honest test."""
    for number in range(2 * 24):
        path = tmp_path / "data" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(scene(number).resize((128, 96)), 92))
    run = train(tmp_path / "data", Recipe(epochs=1, size=32, growth=(1.0,), width=0.25), out=tmp_path / "run").run
    found = Manifest.read(run.manifest)
    chosen = {"test": found.of_split("test")[:3], "train": found.of_split("train")[:4]}
    copies: dict[str, list[tuple[str, str]]] = {"test": [], "train": []}
    for name, entries in chosen.items():
        for number, entry in enumerate(entries):
            again = Path(entry.label) / f"{name}-{number}.{('png', 'webp', 'jpg')[number % 3]}"
            (tmp_path / "new" / again).parent.mkdir(parents=True, exist_ok=True)
            image = Image.open(tmp_path / "data" / entry.path)
            image.resize((90, 68) if number % 2 else image.size).save(tmp_path / "new" / again, quality=60)
            copies[name].append((str(again), entry.path))
    for number in range(6):
        (tmp_path / "new" / "ab"[number % 2] / f"{number}.jpg").write_bytes(jpeg(scene(900 + number)))
    document = score(run.folder, data=tmp_path / "new")
    for name, rows in (("test", document["test_copies"]), ("train", document["training_copies"])):
        assert sorted((row["path"], row["of"]) for row in rows) == sorted(copies[name])
        assert not any(row["same_file"] for row in rows)
    assert (document["test_photos"], document["trained_on"], document["test_scored"]) == (3, 4, 2)
    rest = document["without_training_photos"]
    assert rest is not None
    assert rest["photos"] == 9 == document["photos"] - 4
    page = Path(document["report"]).read_text(encoding="utf-8")
    assert copies["train"][0][0] in page
    (tmp_path / "data").rename(tmp_path / "moved")  # what the cache knows is enough
    cli.program(["eval", str(run.folder), "--data", str(tmp_path / "new")], result_action="return_value")
    told = " ".join(capsys.readouterr().err.split())
    assert "3 of these photos are test photos of the run: this test split has now been scored 3 times" in told
    assert all(f"{new} is {old}" in told for new, old in copies["train"])
    assert "without them: accuracy" in told
    monkeypatch.setenv("PATI_CACHE", str(tmp_path / "empty"))
    cli.program(["eval", str(run.folder), "--data", str(tmp_path / "new")], result_action="return_value")
    assert "only exact copies of them can be found" in " ".join(capsys.readouterr().err.split())
    assert run.read_state()["test_scored"] == 3


def test_training_and_validation_photos_are_no_honest_test(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    document = score(run, split="train")
    assert document["trained_on"] == document["photos"]
    document = score(run, split="validation")
    assert document["trained_on"] == 0
    assert "fitted on these very photos" in Path(document["report"]).read_text(encoding="utf-8")


def test_scoring_again_keeps_the_reports_language(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    report_again(run, language="tr", thorough=False)
    score(run)
    assert '<html lang="tr"' in (run / "report.html").read_text(encoding="utf-8")


def test_an_unfinished_run_has_no_report_to_write_anew(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    Run.open(run).update(stage="scored")
    (run / "metrics.json").unlink()
    with pytest.raises(PatiError, match="is not finished"):
        report_again(run)


def test_examples_are_the_worst_the_least_sure_and_others() -> None:
    generator = torch.Generator().manual_seed(0)
    probabilities = (3 * torch.randn(200, 4, generator=generator)).double().softmax(1)
    labels = torch.randint(4, (200,), generator=generator)
    chosen = pick_examples(probabilities, labels)
    groups = {group: [number for name, number in chosen if name == group] for group in GROUPS}
    assert all(len(numbers) == 6 for numbers in groups.values())
    assert len({number for _, number in chosen}) == 18
    sureness, wrong = probabilities.max(1).values, probabilities.argmax(1) != labels
    assert wrong[groups["surest_mistakes"]].all()
    assert sureness[groups["surest_mistakes"]].min() >= sureness[wrong].topk(6).values.min()
    rest = torch.tensor([number for number in range(200) if number not in groups["surest_mistakes"]])
    assert sureness[groups["least_sure"]].max() == sureness[rest].topk(6, largest=False).values.max()
    assert not wrong[groups["others"]].any()


def test_examples_of_few_photos() -> None:
    labels = torch.tensor([0, 1])
    assert pick_examples(torch.tensor([[0.9, 0.1], [0.4, 0.6]]), labels) == [("least_sure", 1), ("least_sure", 0)]
    assert pick_examples(torch.tensor([[0.1, 0.9], [0.4, 0.6]]), labels) == [("surest_mistakes", 0), ("least_sure", 1)]


def test_photos_that_are_gone_are_told(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    state = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(state | {"data": str(tmp_path / "nowhere")}))
    with pytest.raises(PatiError, match="no longer at"):
        report_again(run)
    assert (run / "report.html").exists()


def test_every_file_that_is_odd_or_set_aside_is_named(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path / "run")
    shutil.copytree(trained, run.folder)
    found = Manifest.read(run.manifest)
    tiny = [dataclasses.replace(entry, status="flagged", flags=("tiny",)) for entry in found.entries]
    tiny[7] = dataclasses.replace(tiny[7], flags=("tiny", "in-two-classes"))
    broken = [Entry(f"circle/{name}.bad", "circle", "quarantined", reason=name) for name in REASONS]
    note = NP_(
        "{n} file beside the class folders has no class and is ignored",
        "{n} files beside the class folders have no class and are ignored",
        3,
    )
    changed = dataclasses.replace(found, entries=(*tiny, *broken), notes=(note,))
    document = run.read_metrics()
    document["analysis"]["suspects"]["first"] = []

    def lists() -> list[str]:
        drawing = pages.draw(document, epochs(run), [], language="en")
        pages.write(run, changed, Recipe(), document, epochs(run), drawing, [], language="en")
        return re.findall(r"<details.*?</details>", run.report.read_text(encoding="utf-8"), re.S)

    def more(count: int) -> str:
        return tp(
            "{n} more is in manifest.jsonl, beside this page.",
            "{n} more are in manifest.jsonl, beside this page.",
            count,
        )

    monkeypatch.setattr(pages, "MOST_LISTED", len(broken))
    aside, odd = lists()[-5:-3]
    assert all(f"{name}.bad" in aside and m(text) in aside for name, text in REASONS.items())
    assert more(1) not in aside
    names = re.findall(r'<th scope="row" class="path">(.*?)</th>', odd)
    assert names == [tiny[7].path, *(entry.path for entry in tiny if entry is not tiny[7])][: len(broken)]
    assert f"<summary>{t('Flagged but used ({number})', number=len(tiny))}</summary>" in odd
    assert more(len(tiny) - len(broken)) in odd
    assert m(note) in run.report.read_text(encoding="utf-8")
    assert all(m(FLAGS[flag]) in odd for flag in ("tiny", "in-two-classes"))
    monkeypatch.setattr(pages, "MOST_LISTED", len(broken) - 1)
    assert more(1) in lists()[-5]


def test_a_share_below_zero_has_its_sign_first(trained: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    shutil.copytree(trained, run.folder)
    document = run.read_metrics()
    document["analysis"]["suspects"]["first"] = []
    better = {
        "strength": 0.1,
        "accuracy": 0.936,
        "interval": [0.9, 0.95],
        "lost": -0.036,
        "lost_interval": [-0.05, 0.01],
    }
    whole = {"accuracy": 0.9, "interval": [0.85, 0.92]}
    document["analysis"]["robustness"] = {"photos": 500, "undamaged": whole, "kinds": {"blur": [better] * 3}}
    drawing = pages.draw(document, epochs(run), [], language="en")
    pages.write(run, Manifest.read(run.manifest), Recipe(), document, epochs(run), drawing, [], language="en")
    page = run.report.read_text(encoding="utf-8")
    assert '<span lang="en">−3.6</span><span lang="tr">−3,6</span>' in page
    ends = '<span class="shares" lang="{}">{}</span>'
    assert ends.format("en", "−5.0\xa0– 1.0") + ends.format("tr", "−5,0\xa0– 1,0") in page


def test_data_that_comes_with_splits_is_scored_by_its_test_part(trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    for number, part in enumerate(("train", "test")):
        write_shapes(tmp_path / "new" / part, per_class=4 + number, first=900 + 100 * number)
    told: list[str] = []
    document = score(run, data=tmp_path / "new", listen=lambda event: told.append(str(getattr(event, "text", ""))))
    assert document["photos"] == 15
    assert any("the 15 photos of its test split are scored, the 12 others are not" in text for text in told)


def test_classes_without_photos_are_named(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    data = write_shapes(tmp_path / "new", per_class=4, first=1200)
    for name in ("circle", "square"):
        shutil.rmtree(data / name)
    document = score(run, data=data)
    show_scores(document, None, Console(width=200))
    told = "2 classes have no photos here, so these scores say nothing about them: circle, square"
    assert told in capsys.readouterr().out
    assert told in Path(document["report"]).read_text(encoding="utf-8")
