"""Random bytes and random values where files are read: the answer, or the one error that is meant for it.

A bounded run; `make fuzz` does the same for an hour, guided by coverage.
"""

from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pati
from pati.data import decode
from pati.data.entries import Entry
from pati.data.manifest import Manifest, class_order, join, with_split
from pati.errors import PatiError
from pati.locale import catalogues
from pati.locale.messages import N_, NP_, Message, as_is
from pati.recipe import Recipe
from tests.support.bad_files import FILES, KINDS
from tests.support.model_files import parts, signed

pytestmark = pytest.mark.slow

# The same inputs every time: new ones are for `make fuzz`.
MANY = settings(max_examples=1500, derandomize=True, suppress_health_check=list(HealthCheck))
LIMITS = decode.Limits(bytes=1_000_000, pixels=1_000_000)

edits = st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=6), st.integers(0, 6)), min_size=1, max_size=6)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)


def edited(data: bytes, changes: list[tuple[float, bytes, int]]) -> bytes:
    """`data` with some bytes put in at a share of its length, in place of others."""
    for where, put, dropped in changes:
        at = int(where * len(data))
        data = data[:at] + put + data[at + dropped :]
    return data


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    found = []
    for name, kind in KINDS.items():
        folder = tmp_path_factory.mktemp(name) / "data" / "class"
        folder.mkdir(parents=True)
        for number in range(FILES):
            path = kind.write(folder, number)
            if path.is_file() and path.stat().st_size < 50_000:
                found.append(path.read_bytes())
    return found


def test_any_bytes_are_a_photo_or_unreadable(seeds: list[bytes]) -> None:
    @MANY
    @given(st.integers(0, len(seeds) - 1), edits)
    def check(number: int, changes: list[tuple[float, bytes, int]]) -> None:
        try:
            found = decode.decode(edited(seeds[number], changes), LIMITS)
        except decode.Unreadable as error:
            assert error.reason in decode.REASONS  # noqa: PT017
            return
        assert found.pixels.shape[2] == 3
        assert found.pixels.dtype == "uint8"
        assert set(found.flags) <= set(decode.FLAGS)

    check()


def test_any_header_is_a_model_or_an_error(trained: Path, tmp_path: Path) -> None:
    data = (trained / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header, path = data[8 : 8 + length], tmp_path / "m.safetensors"

    @settings(MANY, max_examples=400)
    @given(edits)
    def check(changes: list[tuple[float, bytes, int]]) -> None:
        text = edited(header, changes)
        try:
            made = signed(json.loads(text), data[8 + length :])
        except (ValueError, KeyError, TypeError):
            made = struct.pack("<Q", len(text)) + text + data[8 + length :]
        path.write_bytes(made)
        with contextlib.suppress(PatiError):
            assert len(pati.load(path).classes) > 1

    check()


def test_single_fields_of_a_header_may_hold_anything(trained: Path, tmp_path: Path) -> None:
    header, tensors = parts(trained / "model.safetensors")
    document = json.loads(header["__metadata__"]["pati"])
    path = tmp_path / "m.safetensors"

    @settings(MANY, max_examples=400)
    @given(st.sampled_from(sorted(document)), json_values)
    def check(name: str, value: object) -> None:
        header["__metadata__"]["pati"] = json.dumps(document | {name: value})
        path.write_bytes(signed(header, tensors))
        with contextlib.suppress(PatiError):
            assert len(pati.load(path).classes) > 1

    check()


@settings(MANY, max_examples=500)
@given(json_values | st.dictionaries(st.sampled_from(sorted(Recipe().to_json())), json_values))
def test_any_json_is_a_recipe_or_an_error(value: object) -> None:
    with contextlib.suppress(PatiError):
        assert Recipe.from_json(Recipe.from_json(value).to_json()) == Recipe.from_json(value)


BYTES = "".join(map(chr, range(0xDC80, 0xDD00)))  # Python's names of those that are not text
letters = st.characters(exclude_categories=["Cs"], include_characters=BYTES, exclude_characters="\0/")
names = st.text(letters, min_size=1, max_size=12)
values = names | st.integers() | st.floats(allow_nan=False) | st.lists(names) | st.builds(as_is, names)
said = values.map(lambda value: N_("photos of {value!r}", value=value)) | st.builds(
    lambda count, value: NP_("{n} photo of {value!r}", "{n} photos of {value!r}", n=count, value=value),
    st.integers(), values,
)  # fmt: skip
TEXTS = ["{a} and {b}", "{a:percent} of {n:d}", "{n:duration} {{a}}", "{a!r} {b:+,.3f}", "{a.__class__} {b[0]} {:9}"]
texts = st.sampled_from(TEXTS) | st.text(max_size=8)
# Mostly of the right form, since other JSON is refused at once.
documents = st.recursive(
    json_values | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.fixed_dictionaries(
        {"text": texts},
        optional={
            "arguments": st.dictionaries(st.sampled_from(["a", "b", "n"]), inner), "plural": texts, "context": texts,
        },
    ),
)  # fmt: skip


@settings(MANY, max_examples=500)
@given(documents)
def test_any_json_is_a_message_or_an_error(document: Any) -> None:
    try:
        found = Message.from_json(document)
    except ValueError:
        return
    again = Message.from_json(json.loads(json.dumps(found.to_json())))
    for language in catalogues.languages():
        assert found.shown(language) == again.shown(language)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    paths = draw(st.lists(names, min_size=1, max_size=20, unique=True))
    entries = [
        Entry(
            path=path,
            label=draw(names),
            status="kept",
            sha256=f"{draw(st.integers(0, 30)):064x}",
            bytes=draw(st.integers(0, 2**40)),
            width=draw(st.integers(1, 9000)),
            height=draw(st.integers(1, 9000)),
            group=draw(st.none() | names),
        )
        if draw(st.booleans())
        else Entry(path=path, label=draw(names), status="quarantined", reason="empty", detail=draw(said))
        for path in paths
    ]
    placed = with_split(join(entries, []), seed=draw(st.integers(0, 99)), validation=0.2, test=0.2, given=False)
    return Manifest("name", "/root", class_order(placed), tuple(placed), {"seed": 1}, draw(st.tuples(said)))


def test_manifest_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"

    @settings(MANY, max_examples=200)
    @given(manifests())
    def check(found: Manifest) -> None:
        found.write(path)
        again = Manifest.read(path)
        assert again == found
        assert again.hash() == found.hash()

    check()


def test_a_damaged_manifest_is_refused_or_the_same(tmp_path: Path) -> None:
    entries = [Entry(f"{n}.jpg", "ab"[n % 2], "kept", sha256=f"{n:064d}") for n in range(12)]
    placed = with_split(entries, seed=0, validation=0.2, test=0.2, given=False)
    found = Manifest("name", "/root", class_order(placed), tuple(placed), {}, ())
    path = tmp_path / "m.jsonl"
    found.write(path)
    whole = path.read_bytes()

    @settings(MANY, max_examples=400)
    @given(edits)
    def check(changes: list[tuple[float, bytes, int]]) -> None:
        path.write_bytes(edited(whole, changes))
        with contextlib.suppress(PatiError):
            assert Manifest.read(path).hash() == found.hash()

    check()
