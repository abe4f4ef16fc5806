"""The photos of Microsoft Cats vs Dogs: what the audit finds in them, a short training, and the included model."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import pati
from pati.data.manifest import Manifest
from pati.data.sources import storage
from pati.data.sources.find import find_source
from pati.data.sources.source import Columns
from pati.recipe import Recipe
from pati.workflows.check import check
from pati.workflows.train import train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def audited(photos: Callable[[str], Path], cache: Path) -> Manifest:
    photos("cats-vs-dogs")
    started = time.monotonic()
    found = check("cats-vs-dogs", Recipe())
    assert time.monotonic() - started < 120, "a bound against quadratic Python, not a benchmark"
    return found


def test_the_audit(audited: Manifest) -> None:
    """Exactly the two empty photos and the two Thumbs.db are quarantined; duplicates never straddle."""
    assert {entry.path: entry.reason for entry in audited.entries if not entry.kept} == {
        "Cat/666.jpg": "empty",
        "Dog/11702.jpg": "empty",
        "Cat/Thumbs.db": "system-file",
        "Dog/Thumbs.db": "system-file",
    }
    assert len(audited.kept) == 19_998
    assert not audited.leaks()
    assert 10 <= len(audited.duplicate_groups()) <= 100
    assert all(abs(audited.shares()[name] - 0.1) < 0.01 for name in ("validation", "test"))


def test_the_included_model_is_as_good_as_its_card_says(audited: Manifest) -> None:
    """The photos that it was tested on are found again by the split. Here an eighth of them is answered, by
    `python -m bench included` each one."""
    classifier = pati.load()
    assert audited.hash() == classifier.facts["manifest"]
    entries, place = audited.of_split("test")[::8], storage.at(Path(audited.root))
    answers = classifier.predict_stream(place.read(entry.path) for entry in entries)
    right = sum(answer.label == entry.label for answer, entry in zip(answers, entries, strict=True))
    assert abs(right / len(entries) - classifier.facts["metrics"]["accuracy"]) <= 0.015


@pytest.mark.usefixtures("undrawn")
def test_end_to_end(photos: Callable[[str], Path], tmp_path: Path) -> None:
    """An epoch of a narrow net: far from its best, but no accident; and one answer on every path."""
    photos("cats-vs-dogs")
    result = train("cats-vs-dogs", Recipe(epochs=1, size=48, width=0.5), out=tmp_path / "run")
    assert result.metrics["test"]["accuracy"] > 0.7
    originals = find_source(photos("originals"), Columns())
    with zipfile.ZipFile(photos("originals")) as archive:
        archive.extractall(tmp_path)
    paths = [tmp_path / "originals" / item.path for item in originals.items[::20]]
    answers = [row.probabilities for row in result.classifier.predict(paths)]
    for path, together in zip(paths, answers, strict=True):
        for alone in (result.classifier.predict(path), result.classifier.predict(path.read_bytes())):
            assert all(abs(alone.probabilities[name] - together[name]) <= 1e-5 for name in together)
