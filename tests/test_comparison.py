"""Runs side by side: the statistics against independent references, the command as a user types it."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import f1_score
from torch import nn

import pati
from pati.data.manifest import Manifest
from pati.errors import PatiError
from pati.evaluation import intervals, metrics
from pati.evaluation.clusters import Clusters
from pati.evaluation.intervals import paired_interval, unpaired_interval
from pati.evaluation.significance import design_effect, fisher, holm, mcnemar, sign_flips
from pati.models import Net, Options, build
from pati.models.counting import cost_of
from pati.recipe import Recipe
from pati.workflows import compare
from pati.workflows.compare import macro_f1_interval
from pati.workflows.train import train
from tests.support.commands import pati as run_command
from tests.support.commands import undrawn
from tests.support.photos import write_shapes

pytestmark = pytest.mark.slow

Change = Callable[[dict[str, Any], dict[str, np.ndarray]], None]


def altered(trained: Path, folder: Path, change: Change = lambda document, arrays: None) -> Path:
    """A copy of the run with its metrics.json and predictions.npz changed, and the scores measured anew."""
    shutil.copytree(trained, folder)
    document = json.loads((folder / "metrics.json").read_text())
    with np.load(folder / "predictions.npz") as stored:
        arrays = dict(stored)
    change(document, arrays)
    logits, labels = torch.from_numpy(arrays["test_logits"]), torch.from_numpy(arrays["test_labels"])
    document["test"] = metrics.summary(logits, labels, tuple(document["classes"]))
    np.savez(folder / "predictions.npz", **arrays)
    (folder / "metrics.json").write_text(json.dumps(document))
    return folder


def grown(count: int, wrong: range) -> Change:
    """As if the test split had `count` photos, all answered right but those numbered `wrong`."""

    def change(document: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        labels = np.arange(count) % 3
        answers = labels.copy()
        answers[wrong] = (labels[wrong] + 1) % 3
        arrays["test_labels"] = labels
        arrays["test_logits"] = 4 * np.eye(3, dtype=np.float32)[answers]
        arrays["test_sha256"] = np.array([f"{number:064x}" for number in range(count)])

    return change


@pytest.fixture(scope="module")
def second(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the same data with another seed and net."""
    recipe = Recipe(epochs=1, size=32, growth=(1.0,), width=0.25, split_seed=1, seed=1, model="scratch")
    with undrawn():
        return train(trained.parent / "shapes", recipe, out=tmp_path_factory.mktemp("second") / "other").run.folder


def command(*arguments: object, width: int = 80) -> subprocess.CompletedProcess[str]:
    with mock.patch.dict(os.environ, {"COLUMNS": str(width)}):
        return run_command("compare", *arguments)


# Statistics --------------------------------------------------------------------------


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_counts_ways(one: int, other: int) -> None:
    ways = sum(math.comb(one + other, fewer) for fewer in range(min(one, other) + 1))
    expected = min(Fraction(1), Fraction(2 * ways, 2 ** (one + other)))
    assert mcnemar(one, other) == pytest.approx(float(expected), rel=1e-9, abs=1e-12)
    assert mcnemar(one, other) == mcnemar(other, one)


def test_mcnemar_by_hand() -> None:
    assert mcnemar(0, 0) == 1
    assert mcnemar(5, 5) == 1
    assert mcnemar(6, 1) == pytest.approx(2 * (1 + 7) / 2**7)
    assert mcnemar(0, 10) == pytest.approx(2 / 2**10)
    assert 0 <= mcnemar(0, 100_000) < 1e-300


@given(st.integers(1, 200), st.integers(1, 200), st.randoms(use_true_random=False))
def test_fisher_counts_tables(count: int, other: int, rng: random.Random) -> None:
    one, two = rng.randint(0, count), rng.randint(0, other)
    hits = one + two
    ways = {
        k: math.comb(count, k) * math.comb(other, hits - k) for k in range(max(0, hits - other), min(hits, count) + 1)
    }
    expected = Fraction(sum(way for way in ways.values() if way <= ways[one]), math.comb(count + other, hits))
    assert fisher(one, count, two, other) == pytest.approx(float(expected), rel=1e-6, abs=1e-12)


def test_intervals_of_published_examples() -> None:
    """A table of Cavo et al. (2012), as worked in the R package contingencytables; Newcombe's own 56/70 and 48/80."""
    assert paired_interval(59, 6, 16, 80) == pytest.approx((-0.1186, -0.0046), abs=5e-5)
    assert unpaired_interval(56, 70, 48, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@given(*[st.integers(0, 50)] * 4)
def test_a_paired_interval_is_the_mirror_of_the_swapped_one(both: int, one: int, other: int, neither: int) -> None:
    count = both + one + other + neither
    if not count:
        return
    low, high = paired_interval(both, one, other, neither)
    assert -1 <= low <= (one - other) / count <= high <= 1
    assert paired_interval(both, other, one, neither) == pytest.approx((-high, -low))


def test_paired_intervals_hold_the_true_difference_nineteen_times_of_twenty() -> None:
    rng = np.random.default_rng(0)
    sampling_weights = np.array([0.85, 0.07, 0.03, 0.05])
    drawn = rng.multinomial(200, sampling_weights, size=2000)
    held = [low <= 0.04 <= high for low, high in (paired_interval(*map(int, row)) for row in drawn)]
    assert 0.93 < np.mean(held) < 0.98


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1, 1])
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_macro_f1_interval_equals_a_slow_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [100, 60, 25])
    answers, others = (np.where(generator.random(185) < share, labels, (labels + 1) % 3) for share in (0.85, 0.7))
    low, high = macro_f1_interval(labels, answers, others, 3)
    drawn = []
    for _ in range(1000):
        chosen = np.concatenate([generator.choice(part, len(part)) for part in np.split(np.arange(185), [100, 160])])
        one, two = (f1_score(labels[chosen], part[chosen], average="macro") for part in (answers, others))
        drawn.append(one - two)
    np.testing.assert_allclose((low, high), np.percentile(drawn, [2.5, 97.5]), atol=0.015)
    assert low < f1_score(labels, answers, average="macro") - f1_score(labels, others, average="macro") < high
    low_of_none, high_of_none = macro_f1_interval(labels, answers, answers, 3)
    assert -0.2 < low_of_none < -0.02  # of the 25 photos of the rarest class
    assert 0.02 < high_of_none < 0.2
    monkeypatch.setattr(intervals, "_CELLS", 185 * 30)
    np.testing.assert_allclose(macro_f1_interval(labels, answers, others, 3), (low, high), atol=0.015)


def test_uneven_classes_lead_with_scores_by_class(tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "data", per_class=60, classes=("circle", "square"))
    write_shapes(tmp_path / "data", per_class=15, classes=("triangle",))
    runs = []
    for balance in ("none", "sampling"):
        recipe = Recipe(epochs=1, size=32, growth=(1.0,), width=0.25, balance=balance)
        runs.append(train(data, recipe, out=tmp_path / balance).run.folder)
    document = pati.compare(runs)
    assert document["by_class"]
    (pair,) = document["pairs"]
    first, second = document["runs"]
    assert pair["macro_f1_difference"] == first["macro_f1"] - second["macro_f1"]
    done = command(*runs, "--out", tmp_path / "c.svg")
    assert done.returncode == 0, done.stderr
    assert done.stdout.index("macro F1") < done.stdout.index("accuracy %")
    assert "macro F1: no significant difference" in done.stdout or "macro F1: a significant" in done.stdout
    assert "Macro F1 with 95 % CI" in (tmp_path / "c.svg").read_text()


def test_cost_by_hand_and_without_touching_the_net() -> None:
    net = Net(
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=8, stride=2)),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)),
        minimum_size=1,
    )
    parameters, multiply_adds = cost_of(net, 16)
    assert parameters == (27 * 8 + 8) + (9 * 8 + 8) + (8 * 5 + 5)
    assert multiply_adds == 16 * 16 * 27 * 8 + 8 * 8 * 9 * 8 + 8 * 5
    assert net.training
    assert all(tensor.device.type == "cpu" for tensor in net.state_dict().values())
    wide = build("pati", 2, Options(width=2.0))
    assert cost_of(wide, 64)[1] == 4 * cost_of(wide, 32)[1] - 3 * 256 * 2  # all but the last layer goes with the pixels


# Documents ---------------------------------------------------------------------------


def test_the_same_answers_are_no_difference(trained: Path, tmp_path: Path) -> None:
    document = pati.compare([trained, altered(trained, tmp_path / "copy")])
    (pair,) = document["pairs"]
    assert pair["p"] == 1
    assert pair["difference"] == 0
    assert pair["verdict"] == f"no significant difference between {trained.name} and copy (p = 1)"
    stored = json.loads((trained / "metrics.json").read_text())["test"]
    for row in document["runs"]:
        assert row["accuracy"] == stored["accuracy"]
        assert row["macro_f1_interval"] == stored["macro_f1_interval"]
        assert row["parameters"] == sum(weight.numel() for weight in pati.load(trained).net.parameters())
        assert row["photos_per_second"] > 0


def test_a_true_difference_is_named_with_its_better_run(trained: Path, tmp_path: Path) -> None:
    best = altered(trained, tmp_path / "best", grown(300, range(10)))
    good = altered(trained, tmp_path / "good", grown(300, range(5, 20)))
    poor = altered(trained, tmp_path / "poor", grown(300, range(40)))
    document = pati.compare([poor, best, good])
    told = {(pair["first"], pair["second"]): pair for pair in document["pairs"]}
    assert set(told) == {("poor", "best"), ("poor", "good"), ("best", "good")}
    pair = told["poor", "best"]
    assert (pair["only_first_right"], pair["only_second_right"]) == (0, 30)
    assert pair["p_alone"] == 2 / 2**30
    assert pair["p"] == 3 * pair["p_alone"]
    assert pair["verdict"] == "best is more accurate than poor (p < 0.0001)"
    assert pair["difference"] == pytest.approx(-0.1)
    assert pair["interval"][0] < -0.1 < pair["interval"][1] < 0
    assert told["best", "good"]["verdict"].startswith("no significant difference")


def test_more_runs_than_four_are_compared_with_the_first(trained: Path, tmp_path: Path) -> None:
    runs = [altered(trained, tmp_path / str(number)) for number in range(5)]
    document = pati.compare(runs)
    assert [(pair["first"], pair["second"]) for pair in document["pairs"]] == [("0", name) for name in "1234"]
    assert any("first one only" in str(note) for note in compare.notes(document))


def grouped(run: Path, size: int) -> None:
    """Put the run's test photos into groups of `size`; the split, and with it the manifest's hash, stays."""
    found = Manifest.read(run / "manifest.jsonl")
    order = {entry.path: number for number, entry in enumerate(found.of_split("test"))}
    entries = [
        dataclasses.replace(entry, group=f"{order[entry.path] // size}") if entry.path in order else entry
        for entry in found.entries
    ]
    dataclasses.replace(found, entries=tuple(entries)).write(run / "manifest.jsonl")


def test_groups_are_resampled_and_counted_as_a_whole(trained: Path, tmp_path: Path) -> None:
    runs = [altered(trained, tmp_path / str(number)) for number in range(2)]
    before = pati.compare(runs)
    assert not any("of a group are not independent" in str(note) for note in compare.notes(before))
    for run in runs:
        grouped(run, 4)
    after = pati.compare(runs)
    assert any("of a group are not independent" in str(note) for note in compare.notes(after))
    assert any("intervals are unreliable" in str(note) for note in compare.notes(after))
    assert (before["test"], after["test"]) == ("McNemar, exact", "McNemar of groups: sign flips, exact")
    (one, two), (pair,) = after["runs"], after["pairs"]
    assert one["clusters"] == -(-one["photos"] // 4) == two["clusters"]
    assert pair["interval"][0] <= pair["difference"] <= pair["interval"][1]
    assert pati.compare(runs, paired=False)["test"] == "Fisher, counts divided by the design effect"


@pytest.mark.parametrize("gains", [[1] * 9 + [-1] * 3, [3, 1, -2, 0, 4], [2, 2, 2, -1, -1, -1], []])
def test_sign_flips_count_ways(gains: list[int]) -> None:
    ways = [
        abs(sum(sign * gain for sign, gain in zip(signs, gains, strict=True))) >= abs(sum(gains))
        for signs in itertools.product((-1, 1), repeat=len(gains))
    ]
    assert sign_flips(np.array(gains, int)) == pytest.approx(sum(ways) / len(ways))
    if set(map(abs, gains)) == {1}:
        assert sign_flips(np.array(gains)) == pytest.approx(mcnemar(gains.count(1), gains.count(-1)))


def test_copies_of_all_photos_say_nothing_new() -> None:
    """Every photo twice: intervals and p-values of grouped photos are those of the photos once."""
    rng = np.random.default_rng(0)
    right, other = rng.random(60) < 0.8, rng.random(60) < 0.7
    clusters = Clusters(np.repeat(np.arange(60), 2))
    assert design_effect(np.repeat(right, 2), clusters) == pytest.approx(2, rel=0.05)
    gains = np.repeat(right.astype(float) - other, 2)
    by_group = sign_flips(clusters.sums(gains).round().astype(int))
    assert by_group == pytest.approx(mcnemar(int((right & ~other).sum()), int((other & ~right).sum())))


def test_names_are_told_apart(trained: Path, tmp_path: Path) -> None:
    runs = [altered(trained, tmp_path / parent / "run") for parent in ("a", "b")]
    assert [row["name"] for row in pati.compare(runs)["runs"]] == [str(Path("a", "run")), str(Path("b", "run"))]


def test_other_data_is_refused_or_unpaired(trained: Path, tmp_path: Path) -> None:
    other = altered(trained, tmp_path / "other", lambda document, arrays: document.update(manifest="0" * 64))
    with pytest.raises(PatiError, match="different data or splits") as caught:
        pati.compare([trained, other])
    assert "--unpaired" in str(caught.value.hint)
    document = pati.compare([trained, other], paired=False)
    assert document["test"] == "Fisher, exact"
    assert "only_first_right" not in document["pairs"][0]
    assert "as if tested on different photos" in str(compare.notes(document)[0])

    def reorder(document: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        arrays["test_sha256"] = arrays["test_sha256"][::-1]

    with pytest.raises(PatiError, match="not tested on the same photos"):
        pati.compare([trained, altered(trained, tmp_path / "order", reorder)])
    renamed = altered(trained, tmp_path / "cats", lambda document, arrays: document.update(classes=["a", "b", "c"]))
    with pytest.raises(PatiError, match="different classes"):
        pati.compare([trained, renamed], paired=False)


def test_what_is_no_finished_run_is_refused(trained: Path, tmp_path: Path) -> None:
    unfinished = altered(trained, tmp_path / "unfinished")
    state = json.loads((unfinished / "run.json").read_text())
    (unfinished / "run.json").write_text(json.dumps(state | {"stage": "training"}))
    with pytest.raises(PatiError, match="is not finished") as caught:
        pati.compare([trained, unfinished])
    assert "--resume" in str(caught.value.hint)
    with pytest.raises(PatiError, match="is not the folder of a run"):
        pati.compare([trained, tmp_path])
    with pytest.raises(PatiError, match="is given twice"):
        pati.compare([trained, trained.parent / "." / trained.name])
    with pytest.raises(PatiError, match="at least two runs to compare, got 1"):
        pati.compare([trained])
    for name, data in (("predictions.npz", b"PK\x03\x04"), ("predictions.npz", b""), ("metrics.json", b"{}")):
        damaged = altered(trained, tmp_path / f"{name}-{len(data)}")
        (damaged / name).write_bytes(data)
        with pytest.raises(PatiError, match="can't read the scores"):
            pati.compare([trained, damaged])


# The command -------------------------------------------------------------------------


def test_two_runs_and_a_figure(trained: Path, second: Path, tmp_path: Path) -> None:
    done = command(trained, second, "--out", tmp_path / "c.png")
    assert done.returncode == 0, done.stderr
    for told in ("accuracy %", "macro F1", "parameters", "multiply-adds", "scratch", second.name):
        assert told in done.stdout
    assert "McNemar" in done.stderr
    with Image.open(tmp_path / "c.png") as picture:
        picture.load()
        assert picture.format == "PNG"
        assert len(set(picture.convert("RGB").resize((90, 30)).tobytes())) > 10  # something is drawn
    assert command(trained, second, "--out", tmp_path / "c.svg").returncode == 0
    drawn = (tmp_path / "c.svg").read_text()
    assert drawn.startswith("<svg")
    assert second.name in drawn
    done = command(trained, second, "--out", tmp_path / "c.jpg")
    assert done.returncode == 1
    assert "must end in .png or .svg" in done.stderr


@pytest.mark.parametrize("count", [3, 8])
@pytest.mark.parametrize("width", [80, 120])
def test_tables_of_many_runs_are_whole_at_any_width(trained: Path, tmp_path: Path, count: int, width: int) -> None:
    names = [f"run-{number}" for number in range(count)]
    done = command(*[altered(trained, tmp_path / name) for name in names], width=width)
    assert done.returncode == 0, done.stderr
    table = done.stdout[: done.stdout.index("no significant difference")]
    assert max(map(len, table.splitlines())) <= width
    assert [word for word in table.split() if word in names] == names
    assert sum(line.startswith("  95 %") for line in table.splitlines()) == 2 * table.count("parameters")
    rows = [line.split() for line in table.splitlines() if line.startswith("accuracy %")]
    assert sum(len(row) - 2 for row in rows) == count


def test_json_is_one_document(trained: Path, second: Path) -> None:
    done = command(trained, second, "--json")
    document = json.loads(done.stdout)
    assert document == json.loads(json.dumps(pati.compare([trained, second])))
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [([], "at least two runs to compare, got 0"), (["nowhere", "x"], "is not the folder of a run")],
)
def test_mistakes(arguments: list[str], told: str) -> None:
    done = command(*arguments)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
