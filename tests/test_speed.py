"""What is measured of the machine before a plan is made."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from pati.errors import PatiError
from pati.inference.classifier import Classifier
from pati.system import machine
from pati.training import speed
from tests.support.photos import draw, jpeg

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("avx512", "amx", "vendor", "chosen"),
    [
        (True, False, "AuthenticAMD", "bfloat16"),
        (True, False, "", "bfloat16"),
        (True, False, "GenuineIntel", "float32"),  # half as many instructions per cycle
        (True, True, "GenuineIntel", "bfloat16"),
        (False, False, "AuthenticAMD", "float32"),
    ],
)
def test_precision_follows_the_processor(
    avx512: bool, amx: bool, vendor: str, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "processor_vendor", lambda: vendor)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert machine.faster_precision() == chosen


@pytest.mark.parametrize(
    ("cpuinfo", "described", "vendor"),
    [
        ("processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\n", "x86_64", "AuthenticAMD"),
        (None, "Intel64 Family 6 Model 143 Stepping 8, GenuineIntel", "GenuineIntel"),
        ("processor\t: 0\nBogoMIPS\t: 50.00\n", "", ""),
        (None, "arm", ""),
    ],
)
def test_the_vendor_is_what_the_processor_says(
    cpuinfo: str | None, described: str, vendor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_text(path: Path) -> str:
        if cpuinfo is None:
            raise FileNotFoundError(path)
        return cpuinfo

    monkeypatch.setattr(machine.Path, "read_text", read_text)
    monkeypatch.setattr(machine.platform, "processor", lambda: described)
    assert machine.processor_vendor.__wrapped__() == vendor


def test_training_speed_counts_photos_of_standard_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(100))
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks) * 0.5)
    found = speed.of_training("pati", "float32", CPU)
    assert found == pytest.approx(speed.LOOP_SHARE * 32 / 0.5)


def test_reading_speed_is_by_the_first_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    photos = [b"no photo", *(jpeg(draw("circle", number, 64)) for number in range(3))]
    found = speed.of_reading(photos)
    assert 0 < found < 0.5
    assert speed.of_reading([]) < 0.01


def test_what_answers_is_in_the_faster_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    from pati import models
    from pati.data.preprocess import Preprocess

    net = models.build("pati", 2, models.Options(width=0.5))
    pixels = torch.randint(0, 256, (9, 32, 32, 3), dtype=torch.uint8)
    found = {}
    for name in ("float32", "bfloat16"):
        monkeypatch.setattr(machine, "faster_precision", lambda device, name=name: name)
        made = Classifier(net, Preprocess(size=32), ["a", "b"], mirror=True, facts={})
        found[name] = made.logits(pixels)
        one_by_one = torch.cat([made.logits(photo[None]) for photo in pixels])
        torch.testing.assert_close(one_by_one, found[name], rtol=0, atol=1e-5)
    assert not torch.equal(found["float32"], found["bfloat16"])
    torch.testing.assert_close(found["float32"], found["bfloat16"], rtol=0, atol=0.02)


def test_errors_for_want_of_memory_say_what_to_do() -> None:
    with (
        pytest.raises(PatiError, match="not enough memory for this model and a batch of 64 photos") as caught,
        machine.enough_memory(64),
    ):
        torch.empty(2**55, dtype=torch.float64)
    assert "--set batch=32" in str(caught.value.hint)
    with pytest.raises(RuntimeError, match="mat1"), machine.enough_memory(64):
        torch.ones(2, 2) @ torch.ones(3, 3)
