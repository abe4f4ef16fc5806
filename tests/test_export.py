"""Exported models: they answer as their source does, without torch; and what does not is never written."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pati.data.preprocess import Preprocess
from pati.errors import PatiError
from pati.evaluation.calibration import Calibration
from pati.evaluation.out_of_distribution import OutOfDistributionDetector
from pati.inference.classifier import Classifier
from pati.inference.export import export, parity
from pati.inference.export import onnx as onnx_format
from pati.inference.load import load
from pati.inference.onnx_classifier import OnnxClassifier
from pati.models import Options, build, models
from tests.support.commands import pati as run
from tests.support.photos import draw, jpeg

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("onnxscript") is None, reason="onnxscript is not installed"),
]

CLASSES = ("circle", "square", "triangle")


def classifier(name: str, *, size: int = 32, mirror: bool = True) -> Classifier:
    """A network with random weights, calibrated; its answers differ from picture to picture."""
    preprocess = Preprocess(size=size, mean=(0.4, 0.5, 0.6))
    pixels = torch.from_numpy(np.stack([preprocess(photo) for photo in parity.made_pictures(200)]))
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
    made = Classifier(net, preprocess, CLASSES, mirror=mirror, facts=document)
    logits = made.in_float32().logits(pixels)
    linear = [layer for layer in net.head.modules() if isinstance(layer, torch.nn.Linear)][-1]
    linear.bias.data = (linear.bias.data - logits.mean(0)) * 2 / logits.std(0)
    linear.weight.data *= (2 / logits.std(0))[:, None]
    made = Classifier(net, preprocess, CLASSES, mirror=mirror, facts=document)
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
            self.mirror = not self.mirror
        elif what == "temperature":
            self.temperature = 1.0
        elif what == "map":
            self.weights = -self.weights
        elif what == "detector":
            self.detector.centre += 1

    monkeypatch.setattr(onnx_format.Graph, "__init__", damaged)
    if what == "resize":
        to_json = Preprocess.to_json
        monkeypatch.setattr(Preprocess, "to_json", lambda self: {**to_json(self), "resize": "crop"})


@pytest.mark.parametrize("what", ["normalisation", "channels", "mirror", "temperature", "map", "detector", "resize"])
def test_an_export_that_answers_otherwise_is_refused(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = classifier("pati")
    defect(made, what, monkeypatch)
    with pytest.raises(PatiError, match="does not answer as its source does"):
        export(made, tmp_path / "model.onnx")
    assert not any(tmp_path.iterdir())


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


@pytest.mark.parametrize("content", [b"", b"\x08\x01", b"not a model" * 100, bytes(1000)])
def test_other_files_are_no_models(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    with pytest.raises(PatiError, match="not a model that pati exported"):
        load(path)
    with pytest.raises(PatiError, match="can't read"):
        load(tmp_path / "gone.onnx")


def test_photos_that_cannot_be_read_are_left_out_of_the_check(tmp_path: Path) -> None:
    photos = [b"no photo", parity.made_pictures(1)[0]]
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
    unknown = run("export", trained, "--to", "tflite")
    assert unknown.returncode == 1
    assert "there is no export format 'tflite'" in unknown.stderr
