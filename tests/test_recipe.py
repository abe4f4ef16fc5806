from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pati.errors import PatiError
from pati.recipe import Recipe, presets


def value_of(field: dataclasses.Field[object]) -> st.SearchStrategy[object]:
    low, high, among = (field.metadata[key] for key in ("low", "high", "among"))
    if "tuple" in str(field.type):
        return st.lists(st.floats(low, high), min_size=1, max_size=4).map(tuple)
    if "str" in str(field.type):
        text = st.sampled_from(among) if among else st.text(min_size=1)
    elif "bool" in str(field.type):
        text = st.booleans()
    elif "int" in str(field.type):
        text = st.integers(int(low), int(high))
    else:
        text = st.floats(low, high)
    return st.none() | text if "None" in str(field.type) else text


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    values = {field.name: draw(value_of(field)) for field in dataclasses.fields(Recipe)}
    if values["epochs"] is not None:
        values["budget"] = None
    if values["folds"] == 1:
        values["folds"] = 0
    return Recipe(**values)


@pytest.mark.slow
@given(recipes())
def test_json_round_trip(recipe: Recipe) -> None:
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_every_field_has_help_and_a_valid_default() -> None:
    for field in dataclasses.fields(Recipe):
        assert field.metadata["help"]
    assert Recipe() == Recipe.from_json({})


@pytest.mark.parametrize("name", list(presets))
def test_presets_make_recipes(name: str) -> None:
    assert isinstance(presets[name](), Recipe)


def test_set_takes_numbers_texts_lists_and_none() -> None:
    recipe = Recipe().updated(["dropout=.3", "model=scratch", "growth=.5,1.", "flip=none", "batch=32"])
    assert (recipe.dropout, recipe.model, recipe.growth, recipe.flip, recipe.batch) == (
        0.3, "scratch", (0.5, 1.0), None, 32,
    )  # fmt: skip


def test_none_and_auto_are_names_where_a_field_has_them() -> None:
    assert Recipe().updated(["balance=auto"]).balance == "auto"
    assert Recipe(balance="focal").updated(["balance=none"]).balance == "none"


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("droput=0.3", "dropout"),
        ("dropout=2", "from 0 to 0.95"),
        ("batch=1.5", "an integer"),
        ("optimizer=adam", "muon, sgd or adamw"),
        ("dropout", "field=value"),
        ("model=3", "expected text"),
        ("label_smoothing=nan", "a number"),
    ],
)
def test_wrong_assignments_say_what_was_expected(assignment: str, told: str) -> None:
    with pytest.raises(PatiError) as caught:
        Recipe().updated([assignment])
    assert told in str(caught.value)


def test_epochs_and_budget_exclude_each_other() -> None:
    with pytest.raises(PatiError, match=r"both epochs .* and a budget"):
        Recipe(epochs=3, budget=60)


@pytest.mark.parametrize("document", [[], "x", {"format": 99}, {"nonsense": 1}])
def test_foreign_documents_are_refused(document: object) -> None:
    with pytest.raises(PatiError):
        Recipe.from_json(document)
