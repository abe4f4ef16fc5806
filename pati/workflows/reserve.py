"""What a budget must hold beside training, measured on this machine before training begins."""

from __future__ import annotations

import statistics

import torch

from pati.errors import PatiError
from pati.evaluation import out_of_distribution
from pati.inference import forward
from pati.inference.classifier import Classifier
from pati.inference.splits import FEWEST_SCORED
from pati.recipe import SettledRecipe
from pati.report import pages
from pati.runs.elapsed import Elapsed
from pati.training import budget as budgets
from pati.training import plan
from pati.training.budget import Budget
from pati.training.speed import of_python
from pati.workflows import measure
from pati.workflows.prepare import Prepared

SCORING_SHARE = 0.05  # of a budget, for scoring more validation photos, and more photos for the scope
LEAST_TRAINING = 0.2  # of a budget: with less a run is refused
TIMED, TIMES = 32, 2  # photos answered, and how often, to know what scoring takes
MOMENTS = 0.9  # of an answer's time, without its mirror image: the last stage is not needed for them


def reserve(ready: Prepared, untrained: Classifier, testing: int, elapsed: Elapsed) -> Budget | None:
    """The recipe's budget with what must follow training on so many test photos; None for a recipe with epochs.

    Raises `PatiError` where too little would be left for training.
    """
    recipe = ready.recipe
    if recipe.budget is None:
        return None
    one, ratio = time_answers(untrained, ready)
    answers, more = answers_needed(recipe, len(ready.training), len(ready.validation), testing)
    probing = measure.probing_seconds(len(ready.validation), one, measure.SHARE * recipe.budget)
    spare = probing + min(more * one, SCORING_SHARE * recipe.budget)
    # Reading and scoring may leave too little; the report never does, though in a very short budget it ends late.
    most, needed = (1 - LEAST_TRAINING) * recipe.budget, elapsed.seconds() + answers * one
    if needed > most and elapsed.begin_anew():  # a sitting that was killed must not make the run impossible
        needed = elapsed.seconds() + answers * one
    if needed > most:
        raise PatiError(
            f"a budget of {recipe.budget:.0f} s leaves {max(0, recipe.budget - needed):.0f} s for training: "
            f"reading and scoring take the rest",
            f"give it --budget {needed / (1 - LEAST_TRAINING) / 60:.1f}m or more; the photos are decoded now, so "
            "try again at once",
        )
    drawing = min(pages.seconds_to_draw(len(ready.found.classes)), most - needed)
    return Budget(
        recipe.budget,
        answers=answers,
        answer_seconds=one,
        answer_cost=ratio * plan.cost(recipe.size, recipe.width, recipe.model),
        report=drawing,
        python=statistics.median(of_python() for _ in range(budgets.LOOKS)),
        spare=min(spare, most - needed - drawing),
    )


def answers_needed(recipe: SettledRecipe, training: int, validation: int, testing: int) -> tuple[int, int]:
    """How many answers take as long as scoring does with so many photos: at least, and those for which time may be
    short."""
    scoped = MOMENTS / (2 if recipe.mirror else 1)
    least = min(validation, FEWEST_SCORED) + scoped * min(training, out_of_distribution.FEWEST_PHOTOS)
    most = validation + scoped * min(training, out_of_distribution.PHOTOS)
    return round(least) + testing + measure.EXPLAINING, round(most - least)


def time_answers(classifier: Classifier, ready: Prepared) -> tuple[float, float]:
    """What scoring takes for a photo on this machine, and how many times what a validation pass takes for one of that
    size; timed in turns, so that both meet the same machine."""
    some = ready.training.some(TIMED)
    pixels, _ = some.at(torch.arange(len(some)))

    def validate(pixels: torch.Tensor) -> None:  # of the same photos
        precision = ready.recipe.precision
        forward.logits_of(classifier.net, some, ready.preprocess, device=ready.device, precision=precision)

    photos = pixels.cpu().numpy()
    taken = [[measure.seconds_to_answer(ask, photos) for ask in (classifier.answers, validate)] for _ in range(TIMES)]
    answer, validation = (max(min(seconds), budgets.LEAST) for seconds in zip(*taken, strict=True))
    return answer / len(some), answer / validation
