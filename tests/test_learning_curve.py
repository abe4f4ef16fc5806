"""`pati learning-curve`: the fit holds on simulated sets, subsets are nested and stratified, a killed call goes on."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pati.errors import Interrupted, PatiError
from pati.evaluation import learning_curves
from pati.evaluation.clusters import Clusters
from pati.evaluation.documents import CurvePrediction, LearningCurveDocument
from pati.evaluation.learning_curves import Point
from pati.events import Event, NetworkBegan, silent
from pati.recipe import Recipe
from pati.runs.learning_curves import found, read
from pati.runs.overview import overview
from pati.workflows import learning_curve as curves
from tests.support.commands import pati
from tests.support.photos import write_shapes

FOLDS = 5


def simulated(
    error: Callable[[float, float], float], photos: int, seed: int, sizes: tuple[curves.Size, ...] = curves.SIZES
) -> tuple[list[Point], NDArray[np.int64]]:
    """Answers of networks whose error follows a law, with noise between trainings; some photos are harder for all."""
    generator = np.random.default_rng(seed)
    folds = np.arange(photos) % FOLDS
    ease = generator.normal(0, 1, photos)
    points = []
    for size in sizes:
        trained = size.share * photos * (FOLDS - 1) / FOLDS
        share = error(trained, size.length)
        odds = np.log(share / (1 - share)) + generator.normal(0, learning_curves.TRAINING_SPREAD, FOLDS)
        share_of = 1 / (1 + np.exp(-odds[folds]))
        # Photos that are wrong: those whose rank in a mix of their own ease and chance is lowest.
        mixed = (ease + generator.normal(0, 1, photos)).argsort().argsort() / photos
        points.append(Point(trained, size.length, mixed >= share_of))
    return points, folds


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning_curves, "DRAWS", 60_000)
    monkeypatch.setattr(learning_curves, "KEPT", 4_000)


@pytest.mark.usefixtures("quick")
def test_intervals_hold_the_truth_of_simulated_curves() -> None:
    """Of laws as the prior expects them: 95 % intervals for two and four times the photos, and for twice the time."""
    generator = np.random.default_rng(0)
    held: list[bool] = []
    misses: list[float] = []
    for seed in range(40):
        level, slope, speed = (
            0.08 + 0.25 * generator.random(),
            *np.array([0.5, 0.2]) * np.exp(generator.normal(0, 0.35, 2)),
        )
        floor = 1 / (1 + np.exp(-generator.normal(1.35, 0.6)))

        def error(photos: float, length: float, law: tuple[float, ...] = (level, floor, slope, speed)) -> float:
            level, floor, slope, speed = law
            straight = level * ((1 - floor) * (photos / 400) ** -slope + floor * length**-speed)
            return float((straight**-4 + 0.5**-4) ** -0.25)

        points, folds = simulated(error, 500, seed)
        curve = learning_curves.fit(points, folds, classes=2, epochs=32)
        for photos, length in ((500, 1.0), (1000, 1.0), (2000, 1.0), (500, 2.0)):
            estimate, truth = curve.accuracy(photos, length), 1 - error(photos, length)
            held.append(estimate.low <= truth <= estimate.high)
            misses.append(abs(estimate.value - truth))
    assert np.mean(held) >= 0.92
    assert np.mean(misses) <= 0.02


@pytest.mark.usefixtures("quick")
def test_groups_widen_the_intervals() -> None:
    """Each photo ten times says as much as each once."""
    points, folds = simulated(lambda photos, length: 0.2 * (photos / 400) ** -0.3, 200, 0)
    alone = learning_curves.fit(points, folds, classes=2, epochs=32).accuracy(200)
    copied = [Point(point.photos, point.length, np.repeat(point.right, 10)) for point in points]
    clusters = Clusters(np.repeat(np.arange(200), 10))
    together = learning_curves.fit(copied, np.repeat(folds, 10), classes=2, epochs=32, clusters=clusters).accuracy(200)
    blind = learning_curves.fit(copied, np.repeat(folds, 10), classes=2, epochs=32).accuracy(200)
    assert together.high - together.low == pytest.approx(alone.high - alone.low, rel=0.1)
    assert blind.high - blind.low < 0.8 * (alone.high - alone.low)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("right", [True, False])
def test_all_right_or_all_wrong_can_be_fitted(right: bool) -> None:
    points = [Point(photos, 1.0, np.full(50, right)) for photos in (10, 20, 40)]
    curve = learning_curves.fit(points, np.arange(50) % 5, classes=3, epochs=100)
    for photos in (10, 50, 200):
        estimate = curve.accuracy(photos)
        assert 0 <= estimate.low < estimate.value < estimate.high <= 1
        assert (estimate.low > 0.8) if right else (estimate.low < 1 / 3)


def test_the_sentences_in_both_languages() -> None:
    def prediction(photos: int, accuracy: float, gain: float, length: float = 1.0) -> CurvePrediction:
        interval, gains = [accuracy - 0.03, accuracy + 0.03], [gain - 0.02, gain + 0.02]
        return {
            "photos": photos, "length": length, "accuracy": accuracy, "interval": interval, "gain": gain,
            "gain_interval": gains,
        }  # fmt: skip

    document: LearningCurveDocument = {
        "folder": "", "source": "", "photos": 400, "classes": 2, "scored": 400, "folds": 5, "networks": 25,
        "length": 40.0, "by_time": True, "points": [], "now": prediction(400, 0.8, 0.0),
        "more_photos": [prediction(800, 0.84, 0.04), prediction(1600, 0.87, 0.07)],
        "more_time": prediction(400, 0.81, 0.01, 2.0), "curve": [], "dependent": {}, "effective_clusters": None,
        "report": "", "seed": 0, "manifest": "", "versions": {}, "seconds": 1.0,
    }  # fmt: skip
    assert [text.shown("en") for text in learning_curves.findings(document)] == [
        "predicted for a network trained on all 400 photos: about 80 % (77 % to 83 %)",
        "twice the photos: about 84 % (81 % to 87 %)",
        "four times the photos: about 87 % (84 % to 90 %)",
        "twice the time: no clear difference",
    ]
    assert [text.shown("tr") for text in learning_curves.findings(document)][1:] == [
        "iki kat fotoğrafla: yaklaşık %84 (%81 ile %87 arası)",
        "dört kat fotoğrafla: yaklaşık %87 (%84 ile %90 arası)",
        "iki kat süreyle: belirgin bir fark yok",
    ]
    assert learning_curves.setting(document).shown("en").startswith("25 networks, trained for 40 s each")
    document["now"] = prediction(400, 0.52, 0.0)
    (only,) = learning_curves.findings(document)
    assert "not measurably better than guessing" in only.shown("en")


# The command --------------------------------------------------------------------------

OPTIONS = ("--epochs", "2", "--size", "32", "--set", "width=0.25", "batch=8", "growth=1.0", "model=pati")
RECIPE = Recipe(epochs=2, size=32, width=0.25, batch=8, growth=(1.0,), model="pati")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_shapes(tmp_path_factory.mktemp("curve") / "photos", per_class=20)
    for name in ("0", "1", "2"):  # copies, which stay with their photo
        (folder / "circle" / f"copy{name}.jpg").write_bytes((folder / "circle" / f"{name}.jpg").read_bytes())
    return folder


@pytest.mark.usefixtures("folded")
def test_subsets_are_nested_and_stratified_and_keep_copies_together(photos: Path, cache: Path) -> None:
    from pati.workflows.check import check

    manifest = check(photos, Recipe())
    entries = manifest.of_split("train")
    copies = [
        {index for index, entry in enumerate(entries) if entry.duplicate == name}
        for name in {entry.duplicate for entry in entries if entry.duplicate}
    ]
    assert copies
    dealt = curves.folds_of(manifest, 3, seed=0)
    assert sorted(np.concatenate([fold.held.numpy() for fold in dealt])) == list(range(len(entries)))
    for fold in dealt:
        subsets = [set(fold.subset(share).tolist()) for share in (1 / 8, 1 / 4, 1 / 2, 1)]
        for less, more in itertools.pairwise(subsets):
            assert less < more
        assert subsets[-1] == set(range(len(entries))) - set(fold.held.tolist())
        for subset in subsets:
            assert all(group <= subset or not group & subset for group in copies)
            counts = [sum(entries[index].label == name for index in subset) for name in manifest.classes]
            assert max(counts) - min(counts) <= 4


@pytest.mark.usefixtures("folded")
def test_the_command_measures_and_predicts(photos: Path, tmp_path: Path, cache: Path) -> None:
    out = tmp_path / "curve"
    done = pati("learning-curve", photos, *OPTIONS, "--out", out, "--json")
    document = json.loads(done.stdout)
    assert document["photos"] == document["scored"] == 63
    assert document["networks"] == 25
    assert [row["length"] for row in document["points"]] == [1, 1, 1, 1, 0.5]
    assert [row["photos"] for row in document["more_photos"]] == [126, 252]
    for row in [document["now"], *document["more_photos"], document["more_time"], *document["points"]]:
        assert row["interval"][0] <= row["accuracy"] <= row["interval"][1]
    assert "network 25 of 25: training on" in done.stderr
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "More photos, or more time?" in page
    assert "Daha çok fotoğraf mı, daha çok süre mi?" in page
    # The same call has nothing left to train; in Turkish, in words.
    again = pati("--lang", "tr", "learning-curve", photos, *OPTIONS, "--out", out)
    assert "eğitiliyor" not in again.stderr
    assert "ağ: bütün fotoğraflarla 2 dönemdeki kadar adım" in again.stdout
    other = pati("learning-curve", photos, *OPTIONS, "--seed", 3, "--out", out)
    assert other.returncode == 1
    assert "with other settings" in other.stderr


def test_a_stopped_call_goes_on_and_comes_to_the_same(
    photos: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(curves, "FOLDS", 2)
    whole = curves.learning_curve(photos, RECIPE, out=tmp_path / "whole", listen=silent)
    begun: list[int] = []

    def stop(event: Event) -> None:
        if isinstance(event, NetworkBegan):
            begun.append(event.number)
            if event.number == 4:
                raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="the same command resumes"):
        curves.learning_curve(photos, RECIPE, listen=stop)
    rest = curves.learning_curve(photos, RECIPE, listen=lambda event: stop(event) if len(begun) > 99 else None)
    assert begun == [1, 2, 3, 4]
    assert Path(rest["folder"]) == Path("runs/learning-curve-1")
    assert rest["points"] == whole["points"]
    assert rest["more_photos"] == whole["more_photos"]
    assert found(Path("runs"), rest["manifest"]) == read(Path("runs/learning-curve-1"))
    assert curves.learning_curve(photos, RECIPE, listen=silent)["folder"] == "runs/learning-curve-2"
    assert overview(Path("runs")) == []  # none of them is a run


@pytest.mark.usefixtures("folded")
def test_mistakes_are_told(photos: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PatiError, match="of the 15 networks") as error:
        curves.learning_curve(photos, Recipe(budget=12.0), listen=silent)
    assert "use --budget" in str(error.value)
    assert not list(Path("runs").glob("*"))  # nothing is left of what was refused
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(PatiError, match="is not empty"):
        curves.learning_curve(photos, RECIPE, out=tmp_path / "full", listen=silent)
    few = write_shapes(tmp_path / "few", per_class=3, classes=("circle",))
    write_shapes(few, per_class=3, classes=("square",))
    assert curves.learning_curve(few, RECIPE, out=tmp_path / "tiny", listen=silent)["photos"] == 6
