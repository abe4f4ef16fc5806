"""The planner: what it chooses for data, machine and time."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import pytest

from pati.errors import PatiError
from pati.recipe import Recipe, SettledRecipe
from pati.training import budget, plan, speed
from pati.training.budget import Budget, Pace
from pati.training.plan import Plan

MACHINE = {"precision": "float32", "speed": 1500.0, "reading": 0.0005}


def settle(recipe: Recipe, photos: int = 1000, natural: int = 160, minimum_size: int = 16, invariant: bool = True,
           speed: float = 1500.0) -> SettledRecipe:  # fmt: skip
    return plan.settle(
        recipe, photos=photos, natural=natural, minimum_size=minimum_size,
        flip_invariant=invariant, rotation_invariant=invariant, **MACHINE | {"speed": speed},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("found", "size"),
    [
        ([(8, 8)], 32),
        ([(120, 100)] * 3, 96),
        ([(5000, 3740)], plan.LARGEST),
        ([(48, 64), (50, 50)], 48),
        ([], plan.LARGEST),
    ],
)
def test_size_follows_the_photos(found: list[tuple[int, int]], size: int) -> None:
    assert plan.natural_size(found) == size


def test_default_budgets_are_sensible() -> None:
    assert plan.default_budget(1797, 32) <= 60
    assert 120 <= plan.default_budget(200, 160) <= plan.default_budget(2000, 160) <= 150
    assert 240 <= plan.default_budget(20_000, 160) <= 360
    assert plan.default_budget(10**7, 96) == 1800


def test_what_the_user_chose_stays() -> None:
    chosen = Recipe(epochs=3, batch=7, flip=0.25, rotate=5, size=80, width=0.5, growth=(1.0,), precision="bfloat16")
    settled = settle(chosen)
    for name in ("epochs", "budget", "batch", "flip", "rotate", "size", "width", "growth", "precision"):
        assert getattr(settled, name) == getattr(chosen, name)
    assert settle(Recipe()).budget is not None


def test_nothing_stays_open() -> None:
    settled = settle(Recipe(budget=60))
    assert [name for name, value in dataclasses.asdict(settled).items() if value is None] == [
        "epochs", "group_by", "near_duplicates", "folds",  # None: as the data needs it
    ]  # fmt: skip


def test_digits_are_not_mirrored() -> None:
    assert settle(Recipe(), natural=32, invariant=False).flip == 0


def test_predictions_are_averaged_over_a_second_view() -> None:
    usual = settle(Recipe(epochs=30))
    assert (usual.mirror, usual.center_crop, usual.views) == (True, plan.CENTER_CROP, 2)
    for given, second in ((True, 2), (False, 1)):  # what is asked for, and nothing else
        chosen = settle(Recipe(epochs=30, mirror=given))
        assert (chosen.mirror, chosen.center_crop, chosen.views) == (given, 1.0, second)
    assert settle(Recipe(epochs=30, mirror=False, center_crop=0.7)).views == 2
    drawings = settle(Recipe(epochs=30), natural=32, invariant=False)
    assert drawings.views == 1


def test_a_size_below_the_models_is_refused() -> None:
    with pytest.raises(PatiError, match="at least 16 px"):
        settle(Recipe(size=8))


@pytest.mark.parametrize("photos", [100, 16_000, 200_000])
@pytest.mark.parametrize("natural", [32, 160])
def test_more_time_never_buys_less(photos: int, natural: int) -> None:
    budgets = (20, 60, 120, 300, 600, 1800, 3600)
    plans = [settle(Recipe(budget=budget), photos=photos, natural=natural) for budget in budgets]
    costs = [plan.cost_of(settled, settled.size) for settled in plans]
    assert costs == sorted(costs)
    assert all(16 <= (settled.size or 0) <= natural for settled in plans)


def test_no_pooling_of_the_house_net_leaves_out_an_edge() -> None:
    for tier in plan.TIERS:
        recipe = settle(Recipe(budget=60, size=tier.size, growth=tier.growth))
        made = plan.make(
            recipe, photos=900, classes=2, validation=90, minimum_size=16, budget=Budget(40.0), speed=1500.0
        )
        assert all(size % 16 == 0 for size in (tier.size, *made.sizes))


def test_small_images_are_not_pooled_to_nothing() -> None:
    def chosen(natural: int, **fields: Any) -> Recipe:
        return settle(Recipe(**{"budget": 600} | fields), photos=20_000, natural=natural)

    assert [chosen(natural).model for natural in (32, 48, 64, 160)] == ["pati-thumbnail"] * 2 + ["pati", "pati"]
    assert chosen(32).crop == 0.8
    assert chosen(160, size=32).model == "pati-thumbnail"
    assert chosen(32, size=96).model == "pati"
    assert chosen(32, model="resnet18").model == "resnet18"
    assert chosen(32, budget=20).model == "pati"  # it takes more time


def test_a_slower_machine_and_more_photos_buy_less() -> None:
    fast, slow = settle(Recipe(budget=300), photos=20_000), settle(Recipe(budget=300), photos=20_000, speed=100.0)
    many = settle(Recipe(budget=300), photos=200_000)
    assert (slow.size or 0) < (fast.size or 0)
    assert (many.size or 0) < (fast.size or 0)


def test_epochs_alone_decide_where_there_is_no_budget() -> None:
    few, many = settle(Recipe(epochs=1)), settle(Recipe(epochs=100))
    assert (few.size or 0) < (many.size or 0)
    assert settle(Recipe(epochs=100), speed=1.0) == many


def test_other_models_keep_their_width() -> None:
    assert settle(Recipe(model="scratch", budget=1e6)).width == 1
    assert settle(Recipe(model="pati", budget=1e6), photos=20_000).width > 1


def test_the_learning_rate_is_lower_in_long_runs_on_many_photos() -> None:
    def rate(photos: int, **fields: Any) -> float:
        return settle(Recipe(**{"epochs": 30} | fields), photos=photos).learning_rate

    assert rate(200) == rate(2000) == rate(7000) == rate(20_000, epochs=1) > rate(20_000)
    assert rate(200, optimizer="sgd") == plan.LEARNING_RATES["sgd"]
    assert rate(200, learning_rate=0.03) == 0.03


def test_few_photos_get_a_small_network_and_many_epochs() -> None:
    for seconds in (300, 3600):
        few, many = settle(Recipe(budget=seconds), photos=900), settle(Recipe(budget=seconds), photos=2000)
        assert (few.model, few.width, few.size, few.batch) == ("pati", 1.0, 96, 32)
        assert plan.cost_of(few, few.size) < plan.cost_of(many, many.size)


def test_the_deep_house_net_is_for_long_runs() -> None:
    assert settle(Recipe(budget=60), photos=20_000).model == "pati"
    assert settle(Recipe(budget=3600), photos=20_000).model == "pati-deep"
    assert settle(Recipe(budget=3600, model="pati"), photos=20_000).model == "pati"


def made(recipe: Recipe, seconds: float | None = None, photos: int = 900) -> Plan:
    budget = None if seconds is None else Budget(seconds)
    return plan.make(
        settle(recipe), photos=photos, classes=2, validation=500, minimum_size=16, budget=budget, speed=1500.0
    )


def test_sizes_grow_and_stay_possible() -> None:
    sizes = made(Recipe(growth=(0.1, 0.5, 1.0), epochs=6, size=64))
    assert sizes.sizes == (32, 32, 64)
    assert [sizes.size_at(at) for at in (0, 0.34, 0.7, 1.0)] == [32, 32, 64, 64]
    assert sizes.validated == 500


def test_looking_at_validation_photos_stays_cheap() -> None:
    short, long = made(Recipe(budget=60), 40, photos=16_000), made(Recipe(budget=6000), 5900, photos=16_000)
    assert plan.FEWEST_VALIDATED <= short.validated <= 500
    assert short.validated <= long.validated


def test_a_run_by_epochs_counts_steps() -> None:
    paced = Plan(batch=8, sizes=(32,), costs=(1.0,), validated=10, epochs=2)
    pace, progress = Pace(), 0.0
    for step in range(1, 201):
        pace, progress = paced.after_step(
            pace, progress, taken=random.random(), photos=8, size=32, steps=step, steps_per_epoch=100
        )
        assert progress == step / 200


def test_a_plan_is_kept_and_read() -> None:
    for paced in (made(Recipe(epochs=6)), made(Recipe(budget=60), 40)):
        assert Plan.from_document(json.loads(json.dumps(paced.document()))) == paced


def test_short_epochs_are_not_all_validated() -> None:
    paced = made(Recipe(budget=60), 40)
    assert not paced.validates(Pace(spent=10.1, validated_at=10.0), 0.2)
    assert paced.validates(Pace(spent=10.3, validated_at=10.0), 0.2)
    assert paced.validates(Pace(spent=10.1, validated_at=10.0), 1.0)
    assert made(Recipe(epochs=6)).validates(Pace(), 0.2)


def test_the_time_left_is_told() -> None:
    by_budget = Plan(8, (32,), (1.0,), 10, budget=Budget(100.0, report=5.0))
    assert by_budget.left(0.25, 25, Pace(spent=30)) == 70
    assert by_budget.left(0.95, 25, Pace(spent=30)) == pytest.approx(25 * 0.05 / 0.95 + 5)
    by_epochs = Plan(8, (32,), (1.0,), 10, epochs=4)
    assert by_epochs.left(0.25, 25, Pace()) == 75


@pytest.mark.parametrize("precision", list(plan.COST))
def test_constants_are_those_that_were_measured(precision: str) -> None:
    name = "cost" if precision == "bfloat16" else f"cost_{precision}"
    found = json.loads((Path(__file__).parent.parent / "bench" / "results" / f"{name}.json").read_text())["result"]
    assert found["precision"] == precision
    for model, parts in plan.COST[precision].items():
        assert pytest.approx(found["COST"][model], rel=0.15) == list(parts)
    assert pytest.approx(found["FORWARD"], rel=0.15) == budget.FORWARD
    assert pytest.approx(found["LOOP_SHARE"], rel=0.15) == speed.LOOP_SHARE
    if precision == "bfloat16":  # has nothing to do with reading
        assert pytest.approx(found["READ_SHARE"], rel=0.15) == speed.READ_SHARE
    rows = [(model, row) for model, rows in found["rows"].items() for row in rows]
    standard = next(row["step"] for _, row in rows if (row["size"], row["width"]) == (plan.STANDARD, 1.0))
    for model, row in rows:
        expected = pytest.approx(row["step"] / standard, rel=0.25)
        assert plan.cost(row["size"], row["width"], model, precision) == expected
