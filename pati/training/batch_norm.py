"""The statistics of batch norm for predictions.

In training, batch norm keeps moving averages of its statistics: of augmented photos, such as crops, at the training
size. Predictions see other images, whole photos that are often larger, and would be normalised by statistics that are
not theirs. So they are computed anew after training, with the final weights, from training photos as they are seen in
predictions ("precise batch norm": Wu & Johnson, 2021, https://arxiv.org/abs/2105.07576; for other sizes at the test:
Touvron et al., 2019, https://arxiv.org/abs/1906.06423). What it gains is in LOG.md.
"""

from __future__ import annotations

import math

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from pati.data import loader
from pati.data.loader import Samples
from pati.data.preprocess import Preprocess
from pati.inference.forward import BATCH, SecondView
from pati.models import Net
from pati.recipe import SettledRecipe
from pati.system.ranks import ALONE, Ranks
from pati.training.plan import statistics_photos


@torch.no_grad()
def recompute(
    net: Net,
    training: Samples,
    preprocess: Preprocess,
    recipe: SettledRecipe,
    device: torch.device,
    ranks: Ranks = ALONE,
) -> None:
    """Set the running statistics of all batch norms in `net` to those of training photos, in the views of predictions.

    They are averages over batches of a fixed random subset of the photos, which several ranks share. Leaves the network
    in evaluation mode.
    """
    net.eval()
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the average over all batches
        norm.train()
    second = SecondView(recipe.mirror, recipe.center_crop)
    numbers = loader.order(0, 0, len(training))[: statistics_photos(len(training), training.classes)]
    with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        batches = numbers.tensor_split(math.ceil(len(numbers) / BATCH))  # of equal size, as they count equally
        for batch in batches[ranks.part(len(batches))]:
            images = preprocess.normalise(training.at(batch)[0].to(device))
            net(images)
            if second:
                net(second.of(images))
    if ranks.size > 1:
        for norm in norms:
            _average(norm, ranks)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    net.eval()


def _average(norm: _BatchNorm, ranks: Ranks) -> None:
    """Set the running statistics to their averages over the batches of all ranks."""
    counted = norm.num_batches_tracked
    assert counted is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    share = float(counted) / ranks.total(float(counted))[0]
    for values in (norm.running_mean, norm.running_var):
        ranks.sum(values.mul_(share))
    counted.copy_(torch.tensor(round(ranks.total(float(counted))[0])))
