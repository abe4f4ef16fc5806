"""Exported models: they answer as their source does, without torch; and what does not is never written."""

from __future__ import annotations

import importlib.util
import io
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pati.data.preprocess import Photo, Preprocess
from pati.errors import PatiError
from pati.evaluation.calibration import Calibration
from pati.evaluation.out_of_distribution import OutOfDistributionDetector
from pati.inference.classifier import Classifier
from pati.inference.export import Tolerance, export, parity
from pati.inference.export import onnx as onnx_format
from pati.inference.export.pictures import made_pictures
from pati.inference.forward import SecondView
from pati.inference.load import load
from pati.inference.onnx_classifier import OnnxClassifier
from pati.models import Net, Options, build, models
from tests.support.commands import pati as run
from tests.support.photos import draw, jpeg

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("onnxscript") is None, reason="onnxscript is not installed"),
]

CLASSES = ("circle", "square", "triangle")


def classifier(name: str, *, size: int = 32, mirror: bool = True, center_crop: float = 0.8) -> Classifier:
    """A network with random weights, calibrated; its answers differ from picture to picture."""
    preprocess = Preprocess(size=size, mean=(0.4, 0.5, 0.6))
    pixels = torch.from_numpy(np.stack([preprocess(photo) for photo in made_pictures(200)]))
    torch.manual_seed(0)
    net = build(name, len(CLASSES), Options(width=0.25, size=size), seed=1)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the statistics are those of the pictures
            module.weight.data.uniform_(-0.5, 1.5)
            module.bias.data.normal_(0, 0.1)
    with torch.no_grad():
        net.train()(preprocess.normalise(pixels))
    document: Any = {"model": {"name": name, "width": 0.25, "dropout": 0.0}}
    made = Classifier(net, preprocess, CLASSES, mirror=mirror, center_crop=center_crop, facts=document)
    logits = made.in_float32().logits(pixels)
    linear = [layer for layer in net.head.modules() if isinstance(layer, torch.nn.Linear)][-1]
    linear.bias.data = (linear.bias.data - logits.mean(0)) * 2 / logits.std(0)
    linear.weight.data *= (2 / logits.std(0))[:, None]
    made = Classifier(net, preprocess, CLASSES, mirror=mirror, center_crop=center_crop, facts=document)
    logits, moments = made.in_float32().answers(pixels)
    made.calibration = Calibration(1.7, ((0.01, 0.9), (0.1, 0.5)), 200)
    made.detector = OutOfDistributionDetector.of(moments[:100], moments[100:], made.calibrated(logits[100:]).amax(1))
    return made


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Classifier, OnnxClassifier]:
    made = classifier("pati")
    written = export(made, tmp_path_factory.mktemp("onnx") / "model.onnx")
    return made, OnnxClassifier.load(written.path)


@pytest.mark.parametrize("count", [1, 2, 3, 63, 64, 65])
def test_any_number_of_photos(count: int, exported: tuple[Classifier, OnnxClassifier]) -> None:
    made, model = exported
    pixels = np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    probabilities, p_values = model.answer(pixels)
    expected, expected_p_values = made.in_float32().answer(pixels)
    assert probabilities.shape == (count, 3)
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    np.testing.assert_allclose(p_values, expected_p_values, atol=2 / 100)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("name", ["scratch", "resnet18", "efficientnet-b0", "convnext-tiny", "vgg11"])
def test_families(name: str, tmp_path: Path) -> None:
    written = export(classifier(name, mirror=False), tmp_path / "model.onnx")
    found = written.parity
    assert found["same_class"] == found["photos"] == parity.MADE
    assert found["probability"] <= 1e-4
    linear = name not in ("scratch", "convnext-tiny")  # VGG has a small head for small photos
    assert (found["map_correlation"] is not None) == linear
    if linear:
        assert found["map_correlation"] >= 0.999
    else:
        with pytest.raises(PatiError, match="has no saliency map"):
            OnnxClassifier.load(written.path).explain(draw("circle", 1))


def test_every_registered_network_says_whether_it_has_maps() -> None:
    with_maps = {
        name for name in models if onnx_format.linear_weights(build(name, 3, Options(width=0.25, size=64))) is not None
    }
    assert with_maps >= {"pati", "pati-deep", "resnet18", "resnet50", "efficientnet-b0"}
    assert not with_maps & {"scratch", "mobilenetv3-small", "convnext-tiny"}


def defect(made: Classifier, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damage the way from a photo to an answer in the exported model only."""
    graph = onnx_format.Graph.__init__

    def damaged(self: Any, source: Classifier) -> None:
        graph(self, source)
        if what == "normalisation":
            self.shift = self.shift + 0.1
        elif what == "channels":
            self.shift, self.scale = self.shift.flip(0), self.scale.flip(0)
        elif what == "mirror":
            self.second_view = SecondView(not self.second_view.mirror, self.second_view.crop)
        elif what == "center crop":
            self.second_view = SecondView(self.second_view.mirror)
        elif what == "temperature":
            self.temperature = 1.0
        elif what == "map":
            self.weights = -self.weights
        elif what == "detector":
            self.detector.centre += 0.1
        elif what == "float16":
            for weights in self.net.parameters():
                weights.data = weights.data.half().float()

    monkeypatch.setattr(onnx_format.Graph, "__init__", damaged)
    if what == "resize":
        to_json = Preprocess.to_json
        monkeypatch.setattr(Preprocess, "to_json", lambda self: {**to_json(self), "resize": "crop"})
    elif what == "thresholds":
        calibration_json = Calibration.to_json
        monkeypatch.setattr(
            Calibration, "to_json", lambda self: {**calibration_json(self), "thresholds": [(0.01, 0.5)]}
        )


@pytest.mark.parametrize(
    "what",
    [
        "normalisation",
        "channels",
        "mirror",
        "center crop",
        "temperature",
        "map",
        "detector",
        "resize",
        "thresholds",
        "float16",
    ],
)
def test_an_export_that_answers_otherwise_is_refused(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = classifier("pati")
    defect(made, what, monkeypatch)
    with pytest.raises(PatiError, match="does not answer as its source does"):
        export(made, tmp_path / "model.onnx")
    assert not any(tmp_path.iterdir())


def without_orientation(data: bytes) -> bytes:
    return data.replace(b"Exif", b"Exit")


def without_profile(data: bytes) -> bytes:
    return data.replace(b"ICC_PROFILE", b"ICC_NOTHING")


def as_pillow(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")  # black where transparent, and white from 8 bits on


@pytest.mark.parametrize("change", [without_orientation, without_profile, as_pillow])
def test_an_exported_model_that_decodes_otherwise_is_refused(
    change: Callable[[bytes], Photo], exported: tuple[Classifier, OnnxClassifier], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, model = exported
    parity.checked(made, model, [])
    read = model._pixels
    monkeypatch.setattr(model, "_pixels", lambda photo: read(change(photo)))
    with pytest.raises(PatiError, match="does not answer as its source does"):
        parity.checked(made, model, [])


@pytest.mark.parametrize("at", [0, 5, -1])
def test_what_is_not_a_number_is_refused(
    at: int, exported: tuple[Classifier, OnnxClassifier], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, model = exported
    answer = model.answer

    def broken(pixels: Any) -> Any:
        probabilities, p_values = answer(pixels)
        p_values[at % len(p_values)] = np.nan
        return probabilities, p_values

    monkeypatch.setattr(model, "answer", broken)
    with pytest.raises(PatiError, match="a p-value differs by nan"):
        parity.checked(made, model, [])


@pytest.mark.parametrize(("rounding", "refused"), [(1e-6, False), (1e-3, True)])
def test_p_values_are_compared_up_to_rounding(rounding: float, refused: bool) -> None:
    made = classifier("pati").in_float32()
    assert made.detector is not None
    pixels = [made.preprocess(photo) for photo in made_pictures(parity.MADE)]
    answers = made.predict(pixels)
    # All validation photos are as sure as a photo: rounding decides between the first rank and the last.
    middle = sorted(answer.confidence for answer in answers)[parity.MADE // 2]
    ours, theirs = (
        replace(made.detector, confidences=torch.full((100,), middle + shift))
        for shift in (-rounding / 2, rounding / 2)
    )
    made.detector = theirs
    excess = parity._beyond_rounding(made, ours, pixels, made.predict(pixels), Tolerance())
    assert (excess > 0.06) == refused


def test_many_photos_take_the_memory_of_a_few(
    exported: tuple[Classifier, OnnxClassifier], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, counts, compute = exported[1], [], exported[1]._run
    monkeypatch.setattr(model, "_run", lambda pixels: counts.append(len(pixels)) or compute(pixels))
    model.predict([np.zeros((32, 32, 3), np.uint8)] * 100)
    assert sum(counts) == 100
    assert max(counts) <= 16


def test_explanations_are_those_of_the_source(exported: tuple[Classifier, OnnxClassifier]) -> None:
    made, model = exported
    for number, shape in enumerate(("circle", "square", "triangle", "circle")):
        photo = draw(shape, number, size=80).resize((120, 80))
        ours, theirs = made.in_float32().explain(photo), model.explain(photo)
        assert ours.label == theirs.label
        np.testing.assert_allclose(ours.map, theirs.map, atol=1e-3)
        assert ours.covered == theirs.covered
        assert ours.photo.shape == theirs.photo.shape == (80, 120, 3)
    other = next(name for name in CLASSES if name != theirs.label)
    for asked, words in (
        ({"label": other}, "the predicted class only"),
        ({"method": "occlusion"}, "Grad-CAM of the last stage only"),
        ({"stage": 1}, "Grad-CAM of the last stage only"),
        ({"label": "hexagon"}, "no class 'hexagon'"),
    ):
        with pytest.raises(PatiError, match=words):
            model.explain(photo, **asked)


def test_the_model_states_what_it_is(exported: tuple[Classifier, OnnxClassifier]) -> None:
    made, model = exported
    assert model.classes == made.classes
    assert model.preprocess == made.preprocess
    assert model.facts["model"]["name"] == "pati"
    assert model.document["source"] == made.weights()
    assert model.document["parity"]["photos"] == parity.MADE
    assert model.threshold() == made.threshold() == 0.9


class Choice(nn.Module):
    """Depends on the values."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values * 2 if values.mean() > 0 else values


class Loop(nn.Module):
    """Depends on the number of photos."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return torch.stack([photo * 1.5 for photo in values])


class Unknown(nn.Module):
    """Uses an operation that ONNX does not have."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values + torch.special.bessel_j0(values)


class Squares(nn.Sequential):
    """Has the layers of a linear head, and computes something else."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = super().forward(values * values)
        return found


def made_of(stages: nn.Module, head: type[nn.Sequential] = nn.Sequential) -> Classifier:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), stages)
    net = Net(layers, head(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)), minimum_size=8)
    document: Any = {"model": {"name": "own", "width": 1.0, "dropout": 0.0}}
    return Classifier(net, Preprocess(size=32), CLASSES, mirror=False, facts=document)


@pytest.mark.parametrize("layer", [Choice, Loop, Unknown])
def test_a_network_that_onnx_does_not_have_is_refused_in_one_line(
    layer: type[nn.Module], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(PatiError, match="this network cannot be written as ONNX") as refused:
        export(made_of(layer()), tmp_path / "model.onnx")
    assert "\n" not in str(refused.value.message)
    assert not any(tmp_path.iterdir())
    assert "def forward" not in capfd.readouterr().err


def test_a_head_that_only_looks_linear_has_no_maps(tmp_path: Path) -> None:
    assert export(made_of(nn.Identity(), Squares), tmp_path / "model.onnx").parity["map_correlation"] is None


def test_a_damaged_file_is_refused(exported: tuple[Classifier, OnnxClassifier], tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    data = made_file(exported[0], tmp_path).read_bytes()
    document = exported[1].document
    good = onnx_format.Onnx.stated(data, document)
    OnnxClassifier(good)
    weights = max(onnx.load_model_from_string(good).graph.initializer, key=lambda one: len(one.raw_data)).raw_data
    at = good.index(weights) + len(weights) // 2
    with pytest.raises(PatiError, match="is damaged: its checksum does not match"):
        OnnxClassifier(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    with (tmp_path / "large.onnx").open("wb") as file:
        file.truncate(3 * 2**30)
    (tmp_path / "endless.onnx").symlink_to("/dev/zero")
    for name in ("pipe.onnx", "large.onnx", "endless.onnx"):
        with pytest.raises(PatiError, match="not a model that pati exported"):
            load(tmp_path / name)


def test_a_model_that_cannot_be_computed(exported: tuple[Classifier, OnnxClassifier], tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper, size = onnx.helper, 32
    # Asks for exabytes as soon as it is run, by an amount that depends on the number of photos.
    nodes = [
        helper.make_node("Shape", ["pixels"], ["photos"], end=1),
        helper.make_node("Mul", ["photos", "many"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["huge"]),
        helper.make_node("ReduceMean", ["huge"], ["mean"], keepdims=1),
        helper.make_node("Expand", ["mean", "wanted"], ["probabilities"]),
    ]
    numbers = [("many", [2**30, 2**30]), ("wanted", [1, 3])]
    graph = helper.make_graph(
        nodes, "graph",
        [helper.make_tensor_value_info("pixels", onnx.TensorProto.UINT8, ["n", size, size, 3])],
        [helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor(name, onnx.TensorProto.INT64, [2], values) for name, values in numbers],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    document: Any = {**exported[1].document, "detector": False, "map": False}
    loaded = OnnxClassifier(onnx_format.Onnx.stated(model.SerializeToString(), document), "huge.onnx")
    with pytest.raises(PatiError, match=r"huge\.onnx cannot be computed"):
        loaded.predict(np.zeros((size, size, 3), np.uint8))


@pytest.mark.parametrize("content", [b"", b"\x08\x01", b"not a model" * 100, bytes(1000)])
def test_other_files_are_no_models(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    with pytest.raises(PatiError, match="not a model that pati exported"):
        load(path)
    with pytest.raises(PatiError, match="can't read"):
        load(tmp_path / "gone.onnx")


def test_photos_that_cannot_be_read_are_left_out_of_the_check(tmp_path: Path) -> None:
    photos = [b"no photo", made_pictures(1)[0]]
    assert export(classifier("scratch"), tmp_path / "model.onnx", photos=photos).parity["own_photos"] == 1


def test_a_model_names_no_other_files(
    exported: tuple[Classifier, OnnxClassifier], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_model_from_string(made_file(exported[0], tmp_path).read_bytes())
    tensor = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    (tmp_path / "secret").write_bytes(bytes(len(tensor.raw_data)))
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key = "location"
    monkeypatch.chdir(tmp_path)
    for location in (str(tmp_path / "secret"), "secret", f"../{tmp_path.name}/secret"):
        entry.value = location
        (tmp_path / "other.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(PatiError, match="not a model that pati exported"):
            load(tmp_path / "other.onnx")


def test_a_model_whose_document_does_not_fit_is_refused(
    exported: tuple[Classifier, OnnxClassifier], tmp_path: Path
) -> None:
    data = made_file(exported[0], tmp_path).read_bytes()
    document = exported[1].document
    for change in (
        {"kind": "other"}, {"classes": ["a"]}, {"classes": list("abcd")}, {"classes": 3}, {"at_once": "many"},
        {"classes": [1, 2, 3]}, {"classes": list("aab")}, {"classes": "abc"},
        {"preprocess": {**document["preprocess"], "size": 48}}, {"calibration": {"temperature": 0}},
    ):  # fmt: skip
        changed: Any = {**document, **change}
        with pytest.raises(PatiError, match="not a model that pati exported"):
            OnnxClassifier(onnx_format.Onnx.stated(data, changed))
    with pytest.raises(PatiError, match="has format 9, this pati reads 1"):
        OnnxClassifier(onnx_format.Onnx.stated(data, {**document, "format": 9}))


def made_file(classifier: Classifier, folder: Path) -> Path:
    path = folder / "made.onnx"
    document: Any = {"detector": True}
    path.write_bytes(onnx_format.Onnx.written(classifier, document))
    return path


def test_a_run_is_exported_by_command(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "shapes.onnx"
    done = run("export", trained, "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(out)
    assert "the same class for all" in done.stderr
    model = load(out)
    assert isinstance(model, OnnxClassifier)
    assert model.document["parity"]["own_photos"] > 0
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(jpeg(draw("circle", 7)))
    rows = [
        run("predict", one, photo, "--format", "csv").stdout.splitlines()[1].split(",")[:2] for one in (trained, out)
    ]
    assert rows[0] == rows[1]
    assert run("export", trained, "--out", out).returncode == 0  # an export is written again
    other = tmp_path / "mine.onnx"
    other.write_bytes(b"something of mine")
    again = run("export", trained, "--out", other)
    assert again.returncode == 1
    assert "was not written by pati" in again.stderr
    assert other.read_bytes() == b"something of mine"
    nameless = run("export", trained, "--out", tmp_path / "shapes.v2")
    assert nameless.returncode == 1
    assert "shapes.v2 does not end in .onnx" in nameless.stderr
    unknown = run("export", trained, "--to", "tflite")
    assert unknown.returncode == 1
    assert "there is no export format 'tflite'" in unknown.stderr
