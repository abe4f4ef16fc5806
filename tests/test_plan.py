from __future__ import annotations

import pytest

from pati import plan
from pati.errors import PatiError
from pati.recipe import Recipe


def settle(recipe: Recipe, photos: int = 1000, size: int = 64, minimum_size: int = 16) -> Recipe:
    return plan.settle(recipe, photos=photos, size=size, mirrored=True, turned=True, minimum_size=minimum_size)


@pytest.mark.parametrize(
    ("found", "size"),
    [([(8, 8)], 32), ([(120, 160)] * 3, 96), ([(500, 374)], 96), ([(48, 64), (50, 50)], 48), ([], 96)],
)
def test_size_follows_the_photos(found: list[tuple[int, int]], size: int) -> None:
    assert plan.choose_size(found) == size


def test_default_budgets_are_sensible() -> None:
    assert plan.default_budget(1797, 32) <= 60
    assert 240 <= plan.default_budget(20_000, 96) <= 360
    assert plan.default_budget(10**7, 96) == 1800


def test_what_the_user_chose_stays() -> None:
    settled = settle(Recipe(epochs=3, batch=7, flip=0.25, rotate=5))
    assert (settled.epochs, settled.budget, settled.batch, settled.flip, settled.rotate) == (3, None, 7, 0.25, 5)
    assert settle(Recipe()).budget is not None


def test_digits_are_not_mirrored() -> None:
    settled = plan.settle(Recipe(), photos=100, size=32, mirrored=False, turned=False, minimum_size=16)
    assert settled.flip == 0


def test_a_size_below_the_models_is_refused() -> None:
    with pytest.raises(PatiError, match="at least 16 px"):
        settle(Recipe(), size=8)


def test_sizes_grow_and_stay_possible() -> None:
    made = plan.make(settle(Recipe(growth=(0.1, 0.5, 1.0), epochs=6)), photos=900, minimum_size=16, seconds=None)
    assert made.sizes == (32, 32, 64)
    assert [made.size_at(at) for at in (0, 0.34, 0.7, 1.0)] == [32, 32, 64, 64]
    assert made.progress(30, 10, 5.0) == 0.5
    timed = plan.make(settle(Recipe(budget=60)), photos=900, minimum_size=16, seconds=40.0)
    assert timed.progress(1, 10, 10.0) == 0.25
    assert timed.progress(1, 10, 100.0) == 1
