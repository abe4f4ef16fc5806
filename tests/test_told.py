"""What the library says, in Turkish in reports and on the page: nothing left out, nothing that it no longer says."""

from __future__ import annotations

import ast
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from pati.data.decode import FLAGS, REASONS
from pati.data.sources.tables import USED
from pati.report.told import TURKISH, told

PATI = Path(__file__).parent.parent / "pati"
SOURCES = [
    f"data/sources/{name}.py" for name in ("archives", "find", "folders", "known_sets", "paths", "storage", "tables")
]
WORKFLOWS = [
    f"workflows/{name}.py"
    for name in ("clean", "compare", "prepare", "report", "reserve", "score", "stopping", "train")
]
# Whose mistakes the page can come to show.
REACHED = [
    "errors.py", "plugins.py", "app/jobs.py", "app/work.py", "data/audit/judge.py", "data/audit/pool.py",
    "data/decisions.py", "data/manifest.py", "data/pack.py", *SOURCES, "explain/cams.py", "inference/classifier.py",
    "inference/model_file.py", "runs/run.py", "system/files.py", "system/locks.py", "system/machine.py", *WORKFLOWS,
]  # fmt: skip
# Said to users of the command line and of Python alone.
ELSEWHERE = {
    # `pati predict`, `eval` and `outside`, and a Classifier in Python
    "a risk of {}", "expected a share of wrong answers from 0 to below 1, such as 0.01",
    "this model knows nothing of its risks", "train it again with this version of pati",
    "this model knows nothing of its scope", "there is no split {}", "expected train, validation or test",
    "none of the {} photos could be read", "{} has classes that the model does not know: {}",
    "the model's classes: {}", "put them back as they were, or score another set with --data",
    "{} photos changed or are gone since the run, for example {}",
    # a plugin's file, which is loaded where the page is started
    "a plugin is a Python file, got {}", "for example --plugin my_nets.py", "can't read the plugin {}: {}",
    "another plugin named {} is loaded already", "runs know plugins by name: rename one", "{}: {}",
    # options of `pati clean` and `pati compare`
    "pati compare RUN RUN …",
    "expected a number from 2 to {}", "for example --folds 3 --budget 15m",
    # an error that nobody foresaw, with its own English words
    "{}",
}  # fmt: skip


def templates(node: ast.AST) -> Iterator[str]:
    """The sentences in an expression, with {} for what is filled in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    elif isinstance(node, ast.IfExp):
        yield from templates(node.body)
        yield from templates(node.orelse)


def said(path: Path) -> Iterator[str]:
    """What a module says in its errors."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "PatiError":
            for value in [*node.args, *(word.value for word in node.keywords)]:
                yield from templates(value)


def notes(path: Path) -> Iterator[str]:
    """What a module notes about the data."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        assigned = isinstance(node, ast.Assign | ast.AugAssign) and "notes" in ast.unparse(node).split("=")[0]
        if assigned or (isinstance(node, ast.Call) and ast.unparse(node.func) == "notes.append"):
            for part in ast.walk(node):
                if isinstance(part, ast.JoinedStr):
                    yield from templates(part)


def test_every_note_reason_and_flag_is_translated() -> None:
    noted = {note for path in (PATI / "data").rglob("*.py") for note in notes(path)} | set(USED.values())
    assert len(noted) >= 10
    assert not noted - TURKISH.keys()
    for text in (*REASONS.values(), *FLAGS.values()):
        assert told(text, "tr") != text


@pytest.mark.parametrize("name", REACHED)
def test_every_mistake_that_the_page_can_show_is_translated(name: str) -> None:
    lacking = {one for one in said(PATI / name) if one and not one.startswith("--")} - TURKISH.keys() - ELSEWHERE
    assert not lacking


@pytest.mark.slow
def test_only_what_the_library_says_is_translated() -> None:
    literal = set()
    for path in PATI.rglob("*.py"):
        if path.name != "told.py":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                literal.update(templates(node))
    assert not TURKISH.keys() - literal
    assert not ELSEWHERE - literal


def test_what_is_filled_in_is_kept() -> None:
    for english, turkish in TURKISH.items():
        count = english.count("{}")
        assert all(int(name) < count for _, name, _, _ in string.Formatter().parse(turkish) if name)
        filled = english.format(*(f"<{number}>" for number in range(count)))
        assert told(filled, "en") == filled
        assert told(filled, "tr") == turkish.format(*(f"<{number}>" for number in range(count)))


def test_a_sentence_within_a_sentence() -> None:
    archive = "3 members of the archive are left out: names that came twice, perhaps in another case"
    assert told(archive, "tr") == (
        "arşivin 3 üyesi dışarıda bırakıldı: iki kez gelen adlar, belki büyük-küçük harf farkıyla"
    )
    assert told("something new", "tr") == "something new"
    assert "{x}" in told("no photo found in /photos/{x}", "tr")
