"""What people hold: predictions, the model file, and its refusals."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import random
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

import pati
from pati.errors import PatiError
from pati.inference import model_file
from pati.inference.forward import SecondView, batch_logits
from pati.models import Net, Options, models, without_memory
from pati.models.counting import Memory, memory_of
from pati.system import machine
from tests.support.memory import peak
from tests.support.model_files import edited, parts, signed
from tests.support.photos import draw, jpeg


def probabilities(prediction: pati.Prediction) -> np.ndarray:
    return np.array(list(prediction.probabilities.values()))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg(draw("square", 500, 80)))
    return path


@pytest.mark.slow
def test_same_probabilities_from_any_form_alone_or_in_a_batch(trained: Path, photo: Path) -> None:
    classifier = pati.load(trained)
    alone = probabilities(classifier.predict(photo))
    assert alone.sum() == pytest.approx(1)
    image = Image.open(photo)
    forms = [str(photo), photo.read_bytes(), image, np.asarray(image)]
    crowd = [draw("circle", number) for number in range(50)]
    for form in forms:
        np.testing.assert_allclose(probabilities(classifier.predict(form)), alone, atol=1e-5)
        batch = classifier.predict([*crowd, form, *crowd])
        np.testing.assert_allclose(probabilities(batch[50]), alone, atol=1e-5)


def test_unreadable_photos(trained: Path, photo: Path, tmp_path: Path) -> None:
    classifier = pati.load(trained)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(photo.read_bytes()[:200])
    rows = classifier.predict([photo, broken, tmp_path / "gone.jpg", photo])
    assert [bool(row.error) for row in rows] == [False, True, True, False]
    assert [row.path for row in rows] == [str(photo), str(broken), str(tmp_path / "gone.jpg"), str(photo)]
    with pytest.raises(PatiError, match="truncated"):
        classifier.predict(broken)


def test_streaming_reads_ahead_only_a_little(trained: Path) -> None:
    taken = 0

    def source() -> Any:
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield np.asarray(draw("circle", number % 5, 32))

    stream = pati.load(trained).predict_stream(source())
    next(stream)
    assert taken <= 256
    assert sum(1 for _ in stream) == 999


def test_it_learned_something(trained: Path) -> None:
    classifier = pati.load(trained)
    shapes = [(shape, number) for shape in classifier.classes for number in range(900, 920)]
    answers = classifier.predict([draw(*shape) for shape in shapes])
    assert sum(answer.label == shape for answer, (shape, _) in zip(answers, shapes, strict=True)) >= 45


def test_save_and_load_are_exact(trained: Path, photo: Path, tmp_path: Path) -> None:
    classifier = pati.load(trained)
    classifier.save(tmp_path / "copy.safetensors")
    again = pati.load(tmp_path / "copy.safetensors")
    assert again.classes == classifier.classes
    assert again.preprocess == classifier.preprocess
    assert again.facts == classifier.facts
    assert again.second_view == classifier.second_view
    assert again.calibration == classifier.calibration
    assert again.detector is not None
    assert classifier.detector is not None
    for name, value in again.detector.tensors().items():
        assert torch.equal(value, classifier.detector.tensors()[name])
    for name, value in classifier.net.state_dict().items():
        assert torch.equal(value, again.net.state_dict()[name])
    assert again.predict(photo) == classifier.predict(photo)
    assert {"model", "recipe", "metrics", "manifest", "versions"} <= set(again.facts)


def test_probabilities_are_those_at_the_calibrated_temperature(trained: Path, photo: Path) -> None:
    classifier = pati.load(trained)
    assert classifier.calibration is not None
    temperature = classifier.calibration.temperature
    assert temperature != 1
    pixels = classifier.preprocess(photo)[None]
    expected = (classifier.logits(torch.tensor(pixels)).double() / temperature).softmax(1)[0]
    np.testing.assert_allclose(probabilities(classifier.predict(photo)), expected, rtol=1e-5)


def test_answers_below_the_risks_threshold_are_unsure(trained: Path, photo: Path) -> None:
    classifier = pati.load(trained)
    sure = classifier.predict(photo).confidence
    above, below = sure + 1e-4, sure - 1e-4  # what a batch changes is less
    for thresholds, asked, unsure in (
        (((0.005, above), (0.02, below)), None, True),
        (((0.005, above), (0.01, below)), None, False),
        (((0.005, above), (0.02, below)), 0.02, False),
        (((0.03, 0.0),), None, True),  # a risk of 1 % can't be had
    ):
        assert classifier.calibration is not None
        classifier.calibration = dataclasses.replace(classifier.calibration, thresholds=thresholds)
        answers = classifier.predict([photo, photo], risk=asked)
        assert [answer.unsure for answer in answers] == [unsure] * 2
        assert answers[0].label == classifier.predict(photo).label
    with pytest.raises(PatiError, match="--risk is 1"):
        classifier.predict(photo, risk=1.0)


def test_a_model_without_calibration_is_read_and_says_what_it_lacks(trained: Path, photo: Path, tmp_path: Path) -> None:
    old = pati.load(older(trained, tmp_path / "old.safetensors", lambda document: document.pop("calibration")))
    assert old.calibration is None
    assert not old.predict(photo).unsure
    expected = old.logits(torch.tensor(old.preprocess(photo)[None])).double().softmax(1)[0]
    np.testing.assert_allclose(probabilities(old.predict(photo)), expected, rtol=1e-5)
    with pytest.raises(PatiError, match="no calibration, which --risk needs"):
        old.predict(photo, risk=0.1)


def test_odd_photos_are_unsure(trained: Path, photo: Path) -> None:
    classifier = pati.load(trained)
    assert classifier.detector is not None
    assert classifier.calibration is not None
    classifier.calibration = dataclasses.replace(classifier.calibration, thresholds=((0.0, 0.0),))
    count = 1000
    nearest, surest = torch.zeros(count), torch.full((count,), 1.1)
    farthest, least_sure = torch.full((count,), 1e9), torch.zeros(count)
    for distances, confidences, odd in ((nearest, surest, True), (farthest, least_sure, False)):
        classifier.detector = dataclasses.replace(classifier.detector, distances=distances, confidences=confidences)
        answer = classifier.predict(photo)
        assert (answer.out_of_distribution, answer.unsure) == (odd, odd)
        assert answer.ood_p_value == pytest.approx(1.0 if not odd else (1 + 2 * math.log(count + 1)) / (count + 1) ** 2)


def test_a_model_without_a_scope_is_read_and_finds_nothing_odd(trained: Path, photo: Path, tmp_path: Path) -> None:
    made = pati.load(trained)
    made.detector = None
    made.save(tmp_path / "old.safetensors")
    old = pati.load(tmp_path / "old.safetensors")
    assert old.detector is None
    answer, before = old.predict(photo), pati.load(trained).predict(photo)
    assert (answer.out_of_distribution, answer.label, answer.confidence) == (False, before.label, before.confidence)
    assert math.isnan(answer.ood_p_value)


def test_explanations(trained: Path, photo: Path) -> None:
    classifier = pati.load(trained)
    explanation = classifier.explain(photo)
    assert explanation.photo.shape == (80, 80, 3)
    assert explanation.map.ndim == 2
    assert explanation.map.min() >= 0
    assert explanation.map.max() in (0, 1)
    assert explanation.label == explanation.prediction.label == classifier.predict(photo).label
    assert classifier.explain(photo, label="triangle").label == "triangle"
    with pytest.raises(PatiError, match="no class 'dog'"):
        classifier.explain(photo, label="dog")
    with pytest.raises(PatiError, match="no explainer 'gradcam'"):
        classifier.explain(photo, method="gradcam")
    stages = len(classifier.net.stages)
    assert classifier.explain(photo, stage=1).map.shape > explanation.map.shape
    np.testing.assert_array_equal(classifier.explain(photo, stage=stages).map, explanation.map)
    for stage in (0, stages + 1):
        with pytest.raises(PatiError, match=f"no stage {stage}"):
            classifier.explain(photo, stage=stage)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda d, t: d.update(format=99), "update pati"),
        (lambda d, t: d.update(format=1), "format 1, this pati reads 3"),
        (lambda d, t: d.update(format="two"), "format 'two'"),
        (lambda d, t: d.update(kind="other"), "not a pati model"),
        (lambda d, t: d.pop("classes"), "the header has no 'classes'"),
        (lambda d, t: d.pop("preprocess"), "the header has no 'preprocess'"),
        (lambda d, t: d.pop("model"), "the header has no 'model'"),
        (lambda d, t: d.update(classes=["a", "b"]), "expected F32, [2,"),
        (lambda d, t: d["model"].update(name="vgg99"), "no model 'vgg99'"),
        (lambda d, t: d["model"].update(width=1e9), "can't be read"),
        (lambda d, t: d["model"].update(drop_path=1.0), "can't be read"),
        (lambda d, t: d.update(center_crop=0.01), "can't be read"),  # nothing would be left of a small photo
        (lambda d, t: d.update(center_crop=math.nan), "can't be read"),
        (lambda d, t: d["calibration"].update(temperature=0), "can't be read"),
        (lambda d, t: d["calibration"].update(thresholds=[[0.1, 2]]), "can't be read"),
        (lambda d, t: d["calibration"].update(thresholds=[0.1]), "can't be read"),
        (lambda d, t: d["calibration"].pop("photos"), "the header has no 'photos'"),
        (lambda d, t: d["scope"].pop("features"), "the header has no 'features'"),
        (lambda d, t: d["scope"].update(features=10**12), "can't be read"),
        (lambda d, t: d["scope"].update(directions=0), "can't be read"),
        (lambda d, t: d["scope"].update(quantiles=d["scope"]["quantiles"] - 1), "scope.distances is F32"),
        (lambda d, t: d.pop("scope"), "unknown tensor 'scope."),
        (lambda d, t: t.pop("scope.rest"), "has no tensor 'scope.rest'"),
        (lambda d, t: t.pop(next(iter(t))), "has no tensor '"),
        (lambda d, t: t.update(extra=torch.zeros(2)), "unknown tensor 'extra'"),
        (lambda d, t: t.update({"head.3.bias": torch.zeros(7)}), "[7]"),
        (lambda d, t: t.update({"head.3.bias": torch.zeros(3).double()}), "F64"),
    ],
)
def test_wrong_model_files_are_refused_each_with_its_message(
    trained: Path, tmp_path: Path, change: Callable[..., None], told: str
) -> None:
    path = edited(trained / "model.safetensors", tmp_path / "m.safetensors", change)
    with pytest.raises(PatiError) as caught:
        pati.load(path)
    assert told in str(caught.value)


def older(trained: Path, target: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A sound model file as an older pati wrote it."""
    header, tensors = parts(trained / "model.safetensors")
    document = json.loads(header["__metadata__"]["pati"])
    change(document)
    header["__metadata__"]["pati"] = json.dumps(document)
    target.write_bytes(signed(header, tensors))
    return target


def test_a_model_file_from_before_the_crop_of_the_centre_has_the_mirror_image_alone(
    trained: Path, tmp_path: Path
) -> None:
    def change(document: dict[str, Any]) -> None:
        document["format"] = 2
        del document["center_crop"]

    made = pati.load(older(trained, tmp_path / "m.safetensors", change))
    assert made.second_view == SecondView(pati.load(trained).second_view.mirror)


def test_a_model_file_from_before_drop_path_is_read(trained: Path, tmp_path: Path) -> None:
    path = older(trained, tmp_path / "m.safetensors", lambda document: document["model"].pop("drop_path"))
    before, after = pati.load(trained), pati.load(path)
    for one, two in zip(before.net.parameters(), after.net.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"\x80\x04K\x01.",
        bytes(100),
        b"\xff" * 100,
        struct.pack("<Q", 10**18) + b"{}",
        b"\x02" + bytes(7) + b"{}",
        *(struct.pack("<Q", len(text)) + text for text in (b"5", b"null", b"[]", b'"text"', b'{"__metadata__": 5}')),
    ],
)
def test_foreign_files_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.safetensors").write_bytes(data)
    with pytest.raises(PatiError, match="not a pati model"):
        pati.load(tmp_path / "m.safetensors")


def test_missing_and_cut_models(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(PatiError, match="can't read"):
        pati.load(tmp_path / "none.safetensors")
    with pytest.raises(PatiError, match="contains no model"):
        pati.load(tmp_path)
    data = (trained / "model.safetensors").read_bytes()
    for wrong in (data[:-10], data + b"x"):
        (tmp_path / "m.safetensors").write_bytes(wrong)
        with pytest.raises(PatiError, match="it is incomplete"):
            pati.load(tmp_path / "m.safetensors")


def overlap(header: dict[str, Any]) -> None:
    first, second = [entry for name, entry in header.items() if name != "__metadata__"][:2]
    second["data_offsets"] = [first["data_offsets"][0], first["data_offsets"][0] + 4 * int(np.prod(second["shape"]))]


def huge(header: dict[str, Any]) -> None:
    for name, entry in header.items():
        if name != "__metadata__":
            entry["data_offsets"] = [0, 2**60]


def deep(header: dict[str, Any]) -> None:
    header["__metadata__"]["pati"] = "[" * 100_000


LIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "overlapping tensors": overlap,
    "offsets far outside": huge,
    "deeply nested": deep,
    "a tensor that is no table": lambda h: h.update({"head.1.bias": 5}),
    "negative shape": lambda h: next(e for n, e in h.items() if n != "__metadata__").update(shape=[-1]),
    "a class for every atom": lambda h: h["__metadata__"].update(
        pati=json.dumps(json.loads(h["__metadata__"]["pati"]) | {"classes": [str(n) for n in range(200_000)]})
    ),
    "a checksum that is no text": lambda h: h["__metadata__"].update({"was": "x", "sha256": "\ud800"}),
    "infinite width": lambda h: h["__metadata__"].update(
        pati=h["__metadata__"]["pati"].replace('"width": ', '"width": 1e999, "was": ')
    ),
    "a preprocessing of 10^12 pixels": lambda h: h["__metadata__"].update(
        pati=h["__metadata__"]["pati"].replace('"size": 32', '"size": 1000000')
    ),
    "a preprocessing of 4096 pixels": lambda h: h["__metadata__"].update(
        pati=h["__metadata__"]["pati"].replace('"size": 32', '"size": 4096')
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_hostile_headers_are_refused_at_once_in_bounded_memory(trained: Path, tmp_path: Path, lie: str) -> None:
    """Also with a checksum that fits: it guards against accidents, the other checks against malice."""
    header, tensors = parts(trained / "model.safetensors")
    path = tmp_path / "m.safetensors"
    LIES[lie](header)
    path.write_bytes(signed(header, tensors, header["__metadata__"].get("sha256", "")))
    before, started = peak(), time.monotonic()
    with pytest.raises(PatiError):
        pati.load(path)
    assert time.monotonic() - started < 1
    assert peak() - before < 100_000  # kilobytes


@pytest.mark.parametrize("width", [0.5, 1.0, 8.0])
def test_a_large_photo_takes_the_memory_that_is_stated(width: float) -> None:
    """A network for photos of 1,024 px is refused, or predicts so few at once that they take a part of the limit."""
    for name in ("pati", "vgg19"):
        with without_memory(name):
            net = models[name](10, Options(size=1024, width=width))
        memory = memory_of(net, 1024)
        if memory.all > model_file.MEMORY:
            with pytest.raises(PatiError, match="GB of memory for a photo of 1024 px"):
                model_file._fitting(Path("m"), net, 1024)
        else:
            at_once = model_file._fitting(Path("m"), net, 1024)
            assert at_once < 30
            assert at_once == 1 or at_once * memory.most <= model_file.MEMORY / 8
            assert net.cut(1).at_once == net.at_once


def test_memory_is_counted_from_the_outputs_of_layers() -> None:
    stages, head = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1)), nn.Sequential(nn.Flatten(), nn.Linear(8 * 16 * 16, 2))
    counted = memory_of(Net(stages, head, minimum_size=16).to("meta"), 16)
    feature_map = 4 * 8 * 16 * 16  # bytes
    assert counted == Memory(2 * feature_map, 2 * feature_map + 8)


def test_a_sound_file_signed_by_the_test_is_taken(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(signed(*parts(trained / "model.safetensors")))
    assert pati.load(tmp_path / "m.safetensors").classes == pati.load(trained).classes


def test_huge_files_are_not_read(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes((trained / "model.safetensors").read_bytes())
    os.truncate(path, 50_000_000_000)  # sparse
    started = time.monotonic()
    with pytest.raises(PatiError, match="it is incomplete"):
        pati.load(path)
    assert time.monotonic() - started < 1
    for name in ("m.pt", "folder"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PatiError, match="not a pati model"):
        pati.load(tmp_path / "pipe")


@pytest.mark.slow
def test_single_bit_flips_are_found(trained: Path, tmp_path: Path) -> None:
    data = (trained / "model.safetensors").read_bytes()
    path = tmp_path / "m.safetensors"
    rng = random.Random(0)
    start = parts(trained / "model.safetensors")[1]
    places = [rng.randrange(len(data)) for _ in range(150)] + [
        rng.randrange(len(data) - len(start)) for _ in range(150)
    ]
    for place in places:
        flipped = bytearray(data)
        flipped[place] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(PatiError):
            pati.load(path)


def test_model_file_is_plain_safetensors(trained: Path) -> None:
    data = io.BytesIO((trained / "model.safetensors").read_bytes()).getvalue()
    made = pati.load(trained)
    assert made.detector is not None
    assert set(safetensors.torch.load(data)) == {
        *made.net.state_dict(),
        *(f"scope.{n}" for n in made.detector.tensors()),
    }


def test_on_another_device_is_a_copy(trained: Path) -> None:
    made = pati.load(trained)
    other = made.on(torch.device("cpu"))
    with torch.no_grad():
        next(other.net.parameters()).zero_()
    assert next(made.net.parameters()).any()


def test_predicting_leaves_the_host_process_as_it_is(
    trained: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_tune", lambda *settings: pytest.fail("the allocator was changed"))
    generator = torch.get_rng_state()
    made = pati.load(trained)
    made.predict(photo)
    made.explain(photo)
    assert torch.equal(torch.get_rng_state(), generator)


def test_the_second_view_is_the_enlarged_centre() -> None:
    ramp = torch.arange(40.0).expand(2, 3, 20, 40)
    crop, mirrored = SecondView(crop=0.8).of(ramp), SecondView(mirror=True, crop=0.8).of(ramp)
    assert crop.shape == ramp.shape
    inner = crop[0, 0, 10, 2:-2]  # enlarging repeats the last pixels
    torch.testing.assert_close(inner.diff(), torch.full((35,), 0.8))
    assert inner.mean() == pytest.approx(19.5, abs=1e-4)
    torch.testing.assert_close(mirrored, crop.flip(3))
    torch.testing.assert_close(SecondView(mirror=True).of(ramp), ramp.flip(3))
    assert not SecondView()


def test_logits_are_averaged_over_both_views() -> None:
    net = models["pati"](3, Options(size=32, width=0.25)).eval()
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    second = SecondView(mirror=True, crop=0.75)
    with torch.inference_mode():
        expected = (net(images) + net(F.interpolate(images[:, :, 4:28, 4:28], 32, mode="bilinear").flip(3))) / 2
        torch.testing.assert_close(batch_logits(net, images, second), expected)
