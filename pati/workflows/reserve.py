"""Reserve the part of a budget needed outside training, from timings on this machine before training starts."""

from __future__ import annotations

import math
import statistics

import torch

from pati.errors import PatiError
from pati.evaluation import out_of_distribution
from pati.inference import forward
from pati.inference.classifier import Classifier
from pati.inference.splits import FEWEST_SCORED
from pati.locale.messages import N_
from pati.recipe import SettledRecipe
from pati.report import pages
from pati.runs.elapsed import Elapsed
from pati.training import budget as budgets
from pati.training import plan
from pati.training.budget import Budget
from pati.training.speed import of_python
from pati.workflows import measure
from pati.workflows.prepare import Prepared

SCORING_SHARE = 0.05  # of a budget, for more validation photos and a better out-of-distribution detector
LEAST_TRAINING = 0.2  # of a budget, for training: with less, a run is refused,
ENOUGH_TRAINING = 3  # and this many times what else it needs is advised: two thirds are left for training
TIMED, TIMES = 32, 2  # photos, and repetitions, for timing the predictions
MOMENTS = 0.9  # time for moments relative to a prediction of one image: they don't need the last stage


def reserve(
    ready: Prepared, untrained: Classifier, testing: int, elapsed: Elapsed, *, begun: bool = False
) -> Budget | None:
    """The recipe's budget with the work that follows training; None for a recipe with epochs.

    `testing`: number of test photos. Raises `PatiError` if too little would be left for training, unless it has `begun`
    with the folds.
    """
    recipe = ready.recipe
    if recipe.budget is None:
        return None
    one, ratio = time_predictions(untrained, ready)
    answers, more = predictions_needed(recipe, len(ready.training), len(ready.validation), testing)
    probing = measure.probing_seconds(len(ready.manifest.probing()), one, measure.SHARE * recipe.budget)
    spare = probing + min(more * one, SCORING_SHARE * recipe.budget)
    # Reading and scoring may leave too little for training; the report may not: in a very short budget it ends late.
    most, needed = (1 - LEAST_TRAINING) * recipe.budget, elapsed.seconds() + answers * one
    if needed > most and elapsed.reset():  # time lost in a killed session must not make the run impossible
        needed = elapsed.seconds() + answers * one
    if needed > most and not begun:
        raise PatiError(
            N_(
                "a budget of {budget:.0f} s leaves {training:.0f} s for training: reading and scoring take the rest",
                budget=recipe.budget,
                training=max(0, recipe.budget - needed),
            ),
            N_(
                "use --budget {enough} or more; the photos are now decoded, so the next run starts faster",
                enough=as_option(ENOUGH_TRAINING * needed),
            ),
        )
    rest = max(0.0, most - needed)
    drawing = min(pages.seconds_to_draw(len(ready.manifest.classes)), rest)
    return Budget(
        recipe.budget,
        answers=answers,
        answer_seconds=one,
        answer_cost=ratio * plan.cost_of(recipe, recipe.size),
        report=drawing,
        python=statistics.median(of_python() for _ in range(budgets.PYTHON_TIMINGS)),
        spare=min(spare, rest - drawing),
    )


def as_option(seconds: float) -> str:
    """A time of at least these seconds as `--budget` takes it, such as 40s or 2m."""
    if seconds <= 60:
        return f"{max(10, math.ceil(seconds / 10) * 10)}s"
    return f"{math.ceil(seconds / 60)}m"


def predictions_needed(recipe: SettledRecipe, training: int, validation: int, testing: int) -> tuple[int, int]:
    """The work of scoring, as a number of predictions: the minimum, and how many more if there is time."""
    scoped = MOMENTS / recipe.views
    least = min(validation, FEWEST_SCORED) + scoped * min(training, out_of_distribution.FEWEST_PHOTOS)
    most = validation + scoped * min(training, out_of_distribution.PHOTOS)
    return round(least) + testing + measure.EXPLAINING, round(most - least)


def time_predictions(classifier: Classifier, ready: Prepared) -> tuple[float, float]:
    """Seconds per prediction on this machine, and the ratio to a validation photo of the same size.

    Timed alternately, so that both see the same load.
    """
    some = ready.training.some(TIMED)
    pixels, _ = some.at(torch.arange(len(some)))

    def validate(pixels: torch.Tensor) -> None:  # on the same photos
        precision = ready.recipe.precision
        forward.logits_of(classifier.net, some, ready.preprocess, device=ready.device, precision=precision)

    photos = pixels.cpu().numpy()
    taken = [[measure.seconds_to_answer(ask, photos) for ask in (classifier.answers, validate)] for _ in range(TIMES)]
    answer, validation = (max(min(seconds), budgets.LEAST) for seconds in zip(*taken, strict=True))
    return answer / len(some), answer / validation
