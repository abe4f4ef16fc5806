"""The network of a recipe, with random weights."""

from __future__ import annotations

from pati import models
from pati.models import Net, Options
from pati.recipe import SettledRecipe


def options(recipe: SettledRecipe) -> Options:
    """The options that the network is built with."""
    return Options(width=recipe.width, dropout=recipe.dropout, drop_path=recipe.drop_path, size=recipe.size)


def built(recipe: SettledRecipe, classes: int) -> Net:
    """A new network, initialised from the seed of the recipe."""
    return models.build(recipe.model, classes, options(recipe), seed=recipe.seed)
