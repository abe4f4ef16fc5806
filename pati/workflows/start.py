"""Start a training from an earlier model, or from pretrained weights, instead of random ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as deserialised

from pati import included, models
from pati.data.loader import RGB
from pati.data.manifest import Manifest
from pati.errors import PatiError, os_reason
from pati.evaluation.documents import Ancestor
from pati.inference import model_file
from pati.inference.model_file import ModelFile
from pati.locale.messages import N_
from pati.models import Net, timm
from pati.recipe import Recipe, SettledRecipe
from pati.runs.run import Run
from pati.runs.start import Start
from pati.system import tensors
from pati.training import network, transfer

LONGEST = 100_000  # epochs, for which every size is affordable
PRETRAINED = "pretrained"  # --weights: those that timm itself offers
TIMM = "timm/"


@dataclass(frozen=True)
class Opened:
    """A start and the bytes of its weights, before a run keeps them.

    `model`, `width`, `size`: of the network that they belong to; `shapes`: of its tensors; `recipe`: of its training.
    Pretrained weights have no size, shapes and recipe.
    """

    start: Start
    weights: bytes
    model: str
    width: float
    size: int = 0
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    recipe: SettledRecipe | None = None

    def applied(self, recipe: Recipe) -> Recipe:
        """The recipe with the network of the start. Raises `PatiError` if it names another one."""
        for name, ours in (("model", self.model), ("width", self.width)):
            theirs = getattr(recipe, name)
            if theirs not in (None, ours):
                raise PatiError(
                    N_(
                        "the recipe's {field} is {value}, but that of {name}, from which the training starts, is "
                        "{ours}",
                        field=name,
                        value=str(theirs),
                        name=self.start.parent["name"],
                        ours=str(ours),
                    ),
                    N_("omit it, or train without --from"),
                )
        if recipe.folds:
            raise PatiError(
                N_(
                    "--folds cannot be used with --from or --weights: the networks of a cross-validation are trained "
                    "from random weights, so they would not score this model"
                ),
                N_("omit --folds: the score then comes from a test split"),
            )
        return recipe.changed({"model": self.model, "width": self.width})

    def kept(self, run: Run) -> dict[Path, bytes]:
        """The files that a run keeps of it."""
        return {run.start_weights: self.weights, run.start: json.dumps(self.start.to_json()).encode()}


def opened(start: str | Path | None, weights: str | Path | None, recipe: Recipe) -> Opened | None:
    """What a training starts from: an earlier model, pretrained `weights`, or neither. Raises `PatiError`."""
    if start is not None and weights is not None:
        raise PatiError(N_("both an earlier model and pretrained weights are given"), N_("give one of the two"))
    if start is not None:
        return _model(start)
    if weights is not None:
        return _pretrained(weights, recipe)
    return None


def _model(name: str | Path) -> Opened:
    path = Path(name)
    if str(name) == included.NAME and not path.exists():
        path = included.model()
    file = path / "model.safetensors" if path.is_dir() else path
    stored = model_file.read(path)
    architecture = stored.facts["model"]
    shapes = {name: tuple(value.shape) for name, value in stored.net.state_dict().items()}
    return Opened(
        _known(file, stored), file.read_bytes(), architecture["name"], float(architecture["width"]),
        stored.preprocess.size, shapes, _recipe(path, stored),
    )  # fmt: skip


def _known(file: Path, stored: ModelFile) -> Start:
    """What is known of a model: all that its run knows, if it lies in one, or what the file states."""
    run, digest, manifest = Run(file.parent), tensors.digest(stored.net.state_dict()), None
    if file.name == run.start_weights.name and run.state.is_file():  # the copy of a run that started from it
        kept = Start.of(run)
        if kept is not None and kept.parent["sha256"] == digest:
            return kept
    if file.name == run.model.name and run.manifest.is_file() and run.state.is_file():
        manifest = Manifest.read(run.manifest)
        if manifest.hash() != stored.facts.get("manifest"):  # the model was put there from elsewhere
            manifest = None
    before = Start.of(run) if manifest is not None else None
    earlier = before.lineage if before is not None else tuple(_unknown(row) for row in _lineage(file, stored))
    parent: Ancestor = {
        "name": included.NAME if file == included.model() else file.parent.name if file == run.model else file.name,
        "pretrained": False,
        "sha256": digest,
        "classes": list(stored.classes),
        "source": stored.facts.get("data") if manifest is None else manifest.source,
        "training_photos": stored.facts.get("training_photos") if manifest is None else len(manifest.of_split("train")),
        "manifest": stored.facts.get("manifest"),
        "photos_known": manifest is not None,
    }
    start = Start((parent, *earlier), {} if before is None else before.photos)
    if manifest is not None:
        start = start.with_photos((entry.sha256, entry.split or "train") for entry in manifest.kept)
        start = replace(start, uncompared=str(run.folder.resolve()))
    return start


def _lineage(path: Path, stored: ModelFile) -> Sequence[Ancestor]:
    """The lineage in a model file, whose types are checked: it may come from anywhere."""
    rows = stored.facts.get("lineage", [])
    wanted = {"name": str, "pretrained": bool, "sha256": str, "classes": list}
    if not isinstance(rows, list) or not all(
        isinstance(row, dict)
        and row.keys() == Ancestor.__annotations__.keys()
        and all(isinstance(row[name], kind) for name, kind in wanted.items())  # type: ignore[literal-required]
        for row in rows
    ):
        raise PatiError(N_("the header of {path} can't be read: {error}", path=path, error="lineage"))
    return rows


def _unknown(ancestor: Ancestor) -> Ancestor:
    return {**ancestor, "photos_known": False}


def _recipe(path: Path, stored: ModelFile) -> SettledRecipe:
    """The recipe of a model, whose resolution a training goes on with."""
    try:
        return SettledRecipe.from_json(stored.facts.get("recipe"))
    except PatiError as error:
        raise PatiError(
            N_("the recipe of {path} can't be read: {error}", path=path, error=error.message),
            N_("it comes from another version of pati, or was not written by `pati train`"),
        ) from None


def _pretrained(weights: str | Path, recipe: Recipe) -> Opened:
    if recipe.model is None or not recipe.model.startswith(TIMM):
        raise PatiError(
            N_("--weights needs a timm network, but --model is {model}", model=recipe.model or N_("not given")),
            N_("add for example --model timm/resnet18; to start from a model of pati, use --from"),
        )
    network = recipe.model.removeprefix(TIMM)
    models.smallest_size(recipe.model)  # raises for a name that timm does not have
    if str(weights) == PRETRAINED and not Path(weights).exists():
        name, given = timm.pretrained_weights(network)
        data = tensors.serialised(given, {})
    else:
        name, data = Path(weights).name, _bytes(Path(weights))
        given = _tensors(Path(weights), data)
    try:
        timm.without_classifier(network, given)
    except PatiError as error:
        raise PatiError(N_("{path}: {error}", path=weights, error=error.message), error.hint) from None
    parent: Ancestor = {
        "name": name,
        "pretrained": True,
        "sha256": hashlib.sha256(data).hexdigest(),
        "classes": [],
        "source": None,
        "training_photos": None,
        "manifest": None,
        "photos_known": False,
    }
    return Opened(Start((parent,), {}), data, recipe.model, 1.0)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PatiError(
            N_("can't read the weights {path}: {reason}", path=path, reason=os_reason(error)),
            N_("expected a safetensors file, or --weights pretrained"),
        ) from None


def _tensors(path: Path, data: bytes) -> dict[str, torch.Tensor]:
    try:
        return deserialised(data)
    except (SafetensorError, ValueError) as error:
        raise PatiError(
            N_("{path} is not a safetensors file: {error}", path=path, error=error),
            N_("weights in other formats can contain code; convert them with safetensors.torch.save_file"),
        ) from None


# Training from it --------------------------------------------------------------------


def settled(opened: Opened, recipe: Recipe, settle: Callable[[Recipe], SettledRecipe]) -> SettledRecipe:
    """The recipe settled by `settle`, for a training that starts from `opened`.

    The photos are at least as large as those that the start was trained on, unless the recipe has a size, or the photos
    are smaller.
    """
    chosen, earlier = settle(recipe), opened.recipe
    if earlier is not None and recipe.size is None and chosen.size < earlier.size:
        same = {name: getattr(earlier, name) for name in ("size", "growth", "crop") if getattr(recipe, name) is None}
        natural = settle(recipe.changed({"budget": None, "epochs": LONGEST})).size
        chosen = settle(recipe.changed(same | {"size": min(earlier.size, natural)}))
    return chosen


def require_fitting(begun: Opened, recipe: SettledRecipe) -> None:
    """Raise `PatiError` if the network has other layers at the size of the recipe than at that of the start."""
    if begun.start.parent["pretrained"]:
        return
    classes, options = len(begun.start.parent["classes"]), network.options(recipe)
    with models.without_memory(recipe.model):
        ours = models.models[recipe.model](classes, options).state_dict()
    if {name: tuple(value.shape) for name, value in ours.items()} != begun.shapes:
        raise PatiError(
            N_(
                "at {size} px, {model} has other layers than at the {earlier} px of {name}",
                size=recipe.size,
                model=recipe.model,
                earlier=begun.size,
                name=begun.start.parent["name"],
            ),
            N_("add --size {earlier}", earlier=begun.size),
        )


def colours(start: Start | None, recipe: SettledRecipe) -> tuple[RGB, RGB] | None:
    """The colour statistics that pretrained weights expect; None: those of the training photos."""
    if start is None or not start.parent["pretrained"]:
        return None
    return timm.normalisation(recipe.model.removeprefix(TIMM))


def begin(net: Net, run: Run, start: Start, recipe: SettledRecipe, classes: Sequence[str]) -> None:
    """Give a fresh network the weights of the start, in place; new classes keep fresh rows of the last layer."""
    if start.parent["pretrained"]:
        given = _tensors(run.start_weights, _bytes(run.start_weights))
        net.load_state_dict(timm.without_classifier(recipe.model.removeprefix(TIMM), given), strict=False)
        return
    stored = model_file.read(run.start_weights)
    row = {name: number for number, name in enumerate(stored.classes)}
    transfer.shrink_and_perturb(
        net,
        stored.net.state_dict(),
        [row.get(name) for name in classes],
        by_class=models.by_class(recipe.model, network.options(recipe)),
    )
