"""One HTML page that classifies photos in a browser, without network, server or installation. Made without torch.

The page holds an exported ONNX model, if possible with its weights in half precision, and ONNX Runtime Web (MIT,
https://onnxruntime.ai), both compressed, and loads nothing. `page/preprocess.js` is `Preprocess` in JavaScript; what
follows is computed by the model.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from pati.errors import PatiError
from pati.evaluation.calibration import Calibration
from pati.evaluation.out_of_distribution import LEVEL
from pati.explain.palette import OPACITY, viridis
from pati.included import class_named
from pati.inference.documents import ExportDocument, ModelScores
from pati.inference.export import Format, Tolerance, formats
from pati.inference.export.pictures import made_pictures
from pati.inference.lineage import origin
from pati.inference.onnx_classifier import OnnxClassifier, with_document
from pati.locale import catalogues
from pati.locale.formats import marked, printable, signed
from pati.locale.messages import N_, NC_, NP_, Message
from pati.system.version import VERSION

if TYPE_CHECKING:
    from pati.inference.classifier import Classifier

RUNTIME = "1.30.0"  # version of ONNX Runtime Web in page/
_FOLDER = Path(__file__).parent / "page"
_MODEL = re.compile(rb'<script type="text/plain" id="model">\s*([A-Za-z0-9+/=]+)\s*</script>')
_EXPORTS = re.compile(r"export\{([^{}]*)\};\s*(//# sourceMappingURL=\S*)?\s*$")
_ROUNDING = 0.01  # of a weight, relative to the root mean square of its tensor: more is left in single precision
_LARGE = 1024  # numbers in a tensor whose precision is worth halving
_COMPARED = 48  # pictures


def _field(name: str) -> str:
    """A field of a text that the page fills in."""
    return "{" + name + "}"


# The texts that page.js shows. A field of the page itself stays one.
TEXTS: Mapping[str, Message] = {
    "language": NC_("name of the language", "English"),
    "choose language": N_("Language"),
    "title": N_("What is in the photo?"),
    "introduction": N_(
        "Add a photo to see the model's prediction, its confidence and where it looked. Photos stay on this device, "
        "and no internet connection is needed."
    ),
    "starting": N_("Loading the model …"),
    "choose": N_("Choose photos"),
    "drop": N_("or drop them anywhere on this page, or paste them"),
    "start camera": N_("Use the camera"),
    "no camera": N_(
        "The camera can't be used: the browser denied it, or there is none. Some browsers allow cameras only for pages "
        "with a web address, not for files. Choosing photos works, and on a phone it can take one."
    ),
    "take": N_("Keep this photo"),
    "stop": N_("Stop the camera"),
    "camera": N_("Camera"),
    "rate": N_("{rate} predictions per second", rate=_field("rate")),
    "working": N_("Classifying …"),
    "progress": N_("{done} of {photos} photos classified", done=_field("done"), photos=_field("photos")),
    "unreadable": N_("This browser can't read the file as a photo"),
    "protected": N_(
        "The model can't be used in this browser: against being recognised, it adds noise to the pixels that pages "
        "read. Allow this page to read them, or use another browser."
    ),
    "failed": N_("The model can't be run in this browser: {error}", error=_field("error")),
    "prediction": N_("Prediction: {label}", label=_field("label")),
    "unsure": N_("Unsure"),
    "confidence": N_("Confidence: {share}", share=_field("share")),
    "below": N_(
        "The most likely class is {label}, but its confidence of {share} is below the threshold of {threshold}.",
        label=_field("label"), share=_field("share"), threshold=_field("threshold"),
    ),
    "odd": N_(
        "The photo is out of distribution: unlike the training photos. The model knows only {classes}; its most likely "
        "class is {label} ({share}).",
        classes=_field("classes"), label=_field("label"), share=_field("share"),
    ),
    "probabilities": N_("Calibrated probabilities"),
    "photo of": N_("Photo: {name}", name=_field("name")),
    "look": N_("Show where the model looked"),
    "uniform": N_("The map is uniform: it does not highlight any region."),
    "remove": N_("Remove"),
    "about": N_("About this model"),
    "card": N_("Model card"),
    "licences": N_("Licences"),
}  # fmt: skip


@formats.register("web")
class Web(Format):
    """One HTML file that classifies photos and camera pictures in a browser, without a network."""

    suffix = ".html"
    # Half precision changes a weight by up to 0.0005 of it.
    tolerance = Tolerance(probability=0.02, spread=0.1, rounding=1e-3, distance=0.01, correlation=0.99)

    @staticmethod
    def written(classifier: Classifier, document: ExportDocument) -> bytes:
        """See `Format`."""
        from pati.inference.export.onnx import Onnx

        return page(compact(Onnx.written(classifier, document), document), document)

    @staticmethod
    def stated(data: bytes, document: ExportDocument) -> bytes:
        """See `Format`."""
        return page(with_document(model_of(data), document), document)

    @staticmethod
    def read(data: bytes) -> OnnxClassifier:
        """See `Format`."""
        return OnnxClassifier(model_of(data), "model.html")


def compact(data: bytes, document: ExportDocument) -> bytes:
    """An exported ONNX model with its weights in half precision, or as it is if that changes its predictions.

    A change of half of the tolerance for a probability is too much: other photos may differ more.
    """
    half, photos = halved(data, document), tuple(made_pictures(_COMPARED))
    ours, theirs = (
        np.array([list(row.probabilities.values()) for row in OnnxClassifier(one).predict(photos)])
        for one in (with_document(data, document), half)
    )
    alike = float(np.abs(ours - theirs).max()) <= Web.tolerance.limit(ours) / 2
    return half if alike else with_document(data, document)


def is_halved(data: bytes) -> bool:
    """Whether weights of an ONNX model are stored in half precision."""
    import onnx

    model = onnx.load_model_from_string(data)
    return any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer)


def halved(data: bytes, document: ExportDocument) -> bytes:
    """An exported ONNX model with the weights of its layers stored in half precision; it computes in single precision.

    Those of the out-of-distribution detector are left as they are, and so are tensors that half precision would change
    by more than rounding.
    """
    import onnx

    model = onnx.load_model_from_string(data)
    casts = []
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < _LARGE or tensor.name.startswith("detector."):
            continue
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        if np.abs(halves.astype(np.float32) - values).max() > _ROUNDING * np.sqrt(np.square(values).mean()):
            continue
        name = f"{tensor.name}.half"
        casts.append(onnx.helper.make_node("Cast", [name], [tensor.name], to=onnx.TensorProto.FLOAT))
        tensor.CopyFrom(onnx.numpy_helper.from_array(halves, name))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return with_document(model.SerializeToString(), document)


def from_onnx(data: bytes) -> bytes:
    """The page for a model that `pati export --to onnx` wrote, given the contents of the file."""
    document = OnnxClassifier(data).document
    document.pop("parity", None)  # it is that of weights in single precision
    return page(compact(data, document), document)


def page(data: bytes, document: ExportDocument) -> bytes:
    """The page for an exported ONNX model."""
    files = {name: (_FOLDER / name).read_text(encoding="utf-8") for name in _FILES}
    # Chromium starts no modules as workers from a file: the module becomes a script.
    runtime = _EXPORTS.sub(_as_object, files["onnxruntime.mjs"]).replace("import.meta.url", "self.location.href")
    parts = {
        "language": catalogues.current().replace("_", "-"),
        "css": files["page.css"],
        "page": files["page.js"],
        "about": _about(document, half=is_halved(data)),
        "facts": _script(json.dumps(_facts(document), ensure_ascii=False)),
        "palette": _packed(viridis().tobytes()),
        "runtime": _packed((_FOLDER / "onnxruntime.wasm.gz").read_bytes()),
        "model": _packed(gzip.compress(data, 9, mtime=0)),
        "worker": _script("\n".join((runtime, files["preprocess.js"].replace("export function", "function"),
                                     files["worker.js"]))),
    }  # fmt: skip
    return re.sub(r"\{\{ (\w+) \}\}", lambda match: parts[match[1]], files["page.html"]).encode()


_FILES = ("onnxruntime.mjs", "page.css", "page.html", "page.js", "preprocess.js", "worker.js")


def model_of(data: bytes) -> bytes:
    """The exported ONNX model in a page. Raises `PatiError` for any other file."""
    match = _MODEL.search(data)
    try:
        if match is not None:
            return gzip.decompress(base64.b64decode(match[1], validate=True))
    except (ValueError, OSError, EOFError, zlib.error):
        pass
    raise PatiError(
        N_("the file is not a page that pati exported"), N_("expected a file written by `pati export RUN --to web`")
    )


def _packed(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _script(text: str) -> str:
    """A text that may stand within `<script>`."""
    return re.sub(r"<(?=/script|!--|script)", r"\\u003c", text, flags=re.IGNORECASE)


def _as_object(match: re.Match[str]) -> str:
    """Instead of a module's exports, an object of them: {a as b} is {b: a}."""
    pairs = (part.strip().split(" as ") for part in match[1].split(","))
    return f"const ort = {{{', '.join(f'{pair[-1]}: {pair[0]}' for pair in pairs)}}};"


class Facts(TypedDict):
    """What page.js needs to know; by language: the names of the classes, and the texts."""

    size: int
    resize: str
    colour: str
    threshold: float
    level: float
    opacity: float
    language: str
    names: dict[str, list[str]]
    texts: dict[str, dict[str, str]]


def _facts(document: ExportDocument) -> Facts:
    preprocess, calibration = document["preprocess"], document["calibration"]
    return {
        "size": preprocess["size"],
        "resize": preprocess["resize"],
        "colour": preprocess.get("colour", "stored"),
        "threshold": 0.0 if calibration is None else Calibration.from_json(calibration).threshold(),
        "level": LEVEL,
        "opacity": OPACITY,
        "language": catalogues.current(),
        "names": {
            language: [printable(class_named(name).shown(language)) for name in document["classes"]]
            for language in catalogues.languages()
        },
        "texts": {
            language: {name: text.shown(language) for name, text in TEXTS.items()}
            | {"decimal mark": marked(".", language), "percentage": signed(_field("number"), language)}
            for language in catalogues.languages()
        },
    }


def _about(document: ExportDocument, *, half: bool) -> str:
    """What the model is, in each language, its model card, and the licences."""
    facts = _described(document, half=half)
    tables = "\n".join(
        f'<table lang="{language.replace("_", "-")}">{"".join(_rows(facts, language))}</table>'
        for language in catalogues.languages()
    )
    card = document.get("card", "")
    shown = (
        f'<details><summary data-text="card"></summary><pre lang="">{html.escape(card)}</pre></details>' if card else ""
    )
    licences = html.escape((_FOLDER / "LICENCES.txt").read_text(encoding="utf-8"))
    return (
        f'{tables}\n{shown}\n<details><summary data-text="licences"></summary><pre lang="en">{licences}</pre></details>'
    )


def _rows(facts: Sequence[tuple[Message, Message]], language: str) -> Iterator[str]:
    for name, value in facts:
        head, text = (html.escape(part.shown(language)) for part in (name, value))
        yield f'<tr><th scope="row">{head}</th><td>{text}</td></tr>'


def _described(document: ExportDocument, *, half: bool) -> list[tuple[Message, Message]]:
    """What the model is, and what its page is, as names and values."""
    network, parity = document.get("model"), document.get("parity")
    rows = [(N_("Classes"), N_("{classes}", classes=list(map(class_named, document["classes"]))))]
    if (scores := _score(document)) is not None:
        rows.append((N_("Accuracy"), scores))
    if "data" in document and "training_photos" in document:
        trained = NP_(
            "{origin}, on {n:,} photo of {data}", "{origin}, on {n:,} photos of {data}",
            n=document["training_photos"], data=document["data"], origin=origin(document.get("lineage", [])),
        )  # fmt: skip
        rows.append((N_("Training"), trained))
    if network is not None:
        size = document["preprocess"]["size"]
        rows.append((N_("Network"), N_("{name} at {size} px", name=network["name"], size=size)))
    rows.append((N_("Weights"), N_("stored in half precision") if half else N_("stored in single precision")))
    if parity is not None:
        compared = NP_(
            "on {n} photo, it predicts the same class as the original for {same}, and no probability differs by more "
            "than {largest:.4f}",
            "on {n} photos, it predicts the same class as the original for {same}, and no probability differs by more "
            "than {largest:.4f}",
            n=parity["photos"], same=parity["same_class"], largest=parity["probability"],
        )  # fmt: skip
        rows.append((N_("Comparison"), compared))
    rows.append((N_("Model file"), N_("SHA-256 {hash}", hash=document["source"])))
    versions = N_("pati {version}, ONNX Runtime Web {runtime}", version=VERSION, runtime=RUNTIME)
    rows.append((N_("Versions"), versions))
    return rows


def _score(document: ExportDocument) -> Message | None:
    """The accuracy on photos that the model was not trained on, if it is known."""
    scores = document.get("metrics", ModelScores())
    if "accuracy_interval" not in scores:
        return None
    low, high = scores["accuracy_interval"]
    if scores.get("folds"):
        return NP_(
            "{accuracy:percent} on {n:,} photo, in cross-validation (95 % CI {low:percent_number}–"
            "{high:percent_number} %)",
            "{accuracy:percent} on {n:,} photos, in cross-validation (95 % CI {low:percent_number}–"
            "{high:percent_number} %)",
            n=scores["photos"], accuracy=scores["accuracy"], low=low, high=high,
        )  # fmt: skip
    return NP_(
        "{accuracy:percent} on {n:,} test photo (95 % CI {low:percent_number}–{high:percent_number} %)",
        "{accuracy:percent} on {n:,} test photos (95 % CI {low:percent_number}–{high:percent_number} %)",
        n=scores["photos"], accuracy=scores["accuracy"], low=low, high=high,
    )  # fmt: skip
