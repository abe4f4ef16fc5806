"""Data randomisation test of explanations: train a control network on shuffled labels, and compare its maps.

The control has the same recipe and photos. Its predictions are meaningless, so maps that stay the same do not depend on
the labels (Adebayo et al., 2018, https://arxiv.org/abs/1810.03292).
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from pati import plugins
from pati.errors import Interrupted
from pati.evaluation.documents import ShuffledLabels
from pati.events import EpochDone, Listen, Stage, StageBegan, TrainingEvent
from pati.explain import checks
from pati.explain.cams import explainer
from pati.inference.classifier import Classifier
from pati.locale.messages import N_
from pati.recipe import SettledRecipe
from pati.runs.run import Run
from pati.workflows import explanation_tests
from pati.workflows.fit import fit
from pati.workflows.prepare import prepare_again
from pati.workflows.stopping import stoppable


def shuffled_labels(
    folder: str | Path, photos: Sequence[Path], method: str, *, stage: int | None = None, listen: Listen
) -> ShuffledLabels:
    """Train the control for as long as the run, and compare its maps with those of the run's network.

    `stage`: number of the stage to use (default: the last). Returns the similarity of the two maps of each photo, for
    the class that the run's network predicts (see `checks.mean_similarity`); `depends`: whether they differ (true,
    false, or None if undecided); and facts about the control's training. Raises `Interrupted`.
    """
    explain = explainer(method)
    run = Run.open(folder)
    classifier, state = Classifier.load(folder), run.read_state()
    plugins.require_same(state.get("plugins", {}))
    net = classifier.cut(stage)
    pixels, _ = explanation_tests.readable(classifier, photos)
    inputs = [
        classifier.explainer_inputs(part) for part in torch.split(torch.from_numpy(pixels), explanation_tests.AT_ONCE)
    ]
    maps = [explain(net, images, classes) for images, classes in inputs]  # fails before minutes are spent on training
    ready = prepare_again(run, SettledRecipe.read(run.recipe), listen=listen)
    # There is nothing to learn, so early stopping would end it.
    ready = dataclasses.replace(ready, recipe=dataclasses.replace(ready.recipe, patience=0))
    labels = ready.training.labels
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)).to(labels.device)
    shuffled = dataclasses.replace(ready.training, labels=labels[order])
    listen(StageBegan(Stage.CONTROL))
    learnt = 0.0

    def log(event: TrainingEvent) -> None:
        nonlocal learnt
        if isinstance(event, EpochDone):
            learnt = event.epoch.train_accuracy
        listen(event)

    with tempfile.TemporaryDirectory() as checkpoints, stoppable() as stopped:
        try:
            control, end = fit(
                dataclasses.replace(ready, training=shuffled), Path(checkpoints), owner="control",
                seconds=state["plan"]["seconds"], stopped=stopped, log=log,
            )  # fmt: skip
        except Interrupted:
            raise Interrupted(N_("the training on shuffled labels is not saved")) from None
    other = (control if stage is None else control.cut(stage)).eval().to(next(net.parameters()).device)
    parts = [
        checks.similarity(before, explain(other, images, classes))
        for before, (images, classes) in zip(maps, inputs, strict=True)
    ]
    similarity = checks.mean_similarity(torch.cat(parts)[:, None])
    return {
        "likeness": similarity,
        "depends": checks.depends(similarity),
        "epochs": end.epoch,
        "seconds": round(end.seconds, 1),
        "train_accuracy": learnt,
    }
