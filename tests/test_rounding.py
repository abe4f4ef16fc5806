"""Shares as people read them."""

from __future__ import annotations

import pytest

from pati.app import parts
from pati.inference.predictor import Prediction
from pati.locale import formats
from pati.locale.formats import careful_round
from pati.locale.messages import as_is
from pati.terminal import predictions


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0.9996, ("> ", "99.9")), (0.9994, ("", "99.9")), (1.0, ("", "100.0")), (1 - 1e-12, ("", "100.0")),
        (0.0004, ("< ", "0.1")), (0.0006, ("", "0.1")), (0.0, ("", "0.0")), (-0.0004, ("> -", "0.1")),
        (-0.25, ("-", "25.0")), (-0.9999, ("< -", "99.9")), (-1.0, ("-", "100.0")),
    ],
)  # fmt: skip
def test_rounding_makes_nothing_perfect(value: float, told: tuple[str, str]) -> None:
    assert careful_round(value, 100, 1) == told


def test_no_answer_is_sure(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [Prediction("a.jpg", "cat", share, {"cat": share, "dog": 1 - share}) for share in (0.99996, 0.9994, 0.5)] + [
        Prediction("b.jpg", "", float("nan"), {}, error=as_is("is empty"))
    ]
    predictions.table(rows, ["cat", "dog"])
    shown = capsys.readouterr().out.splitlines()
    assert shown[:3] == ["cat   > 99.9 %  a.jpg", "cat     99.9 %  a.jpg", "cat     50.0 %  a.jpg"]
    assert shown[3].index("b.jpg") == shown[0].index("a.jpg")


def test_the_page_and_the_pictures_round_in_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    assert formats.percent(0.996, "en", 0) == "> 99 %"
    assert formats.percent(0.5, "en", 0) == "50 %"
    for language, told in (
        ("en", ["> 99.9 %", "99.9 %", "100.0 %", "< 0.1 %"]),
        ("tr", ["> %99,9", "%99,9", "%100,0", "< %0,1"]),
    ):
        monkeypatch.setattr(parts, "language", lambda language=language: language)
        assert [parts.percent(share) for share in (0.9996, 0.9994, 1.0, 0.0004)] == told
