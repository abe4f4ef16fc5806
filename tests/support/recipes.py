"""Recipes as the workflows hand them to the loop."""

from __future__ import annotations

import dataclasses

from pati.recipe import Recipe, SettledRecipe
from pati.training import plan


def settled(recipe: Recipe, photos: int = 100, size: int = 32) -> SettledRecipe:
    """The recipe as the pipeline would hand it to the loop."""
    return plan.settle(
        dataclasses.replace(recipe, size=recipe.size or size), photos=photos, natural=size, minimum_size=8,
        flip_invariant=True, rotation_invariant=True, precision="float32", speed=1000.0, reading=0.001,
    )  # fmt: skip
