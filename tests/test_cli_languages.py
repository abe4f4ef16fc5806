"""The command line in the user's language: how it is chosen, and that nothing is left in English."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from cyclopts.help import DefaultFormatter
from rich.console import Console

from pati.cli import catalogue, entry, program
from pati.locale import catalogues
from pati.locale.messages import Message
from tests.support.accented import CODE, escaped, write
from tests.support.accented import accented as with_accents
from tests.support.commands import pati, pati_process
from tests.support.photos import write_shapes

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]

SHAPES = ["circle", "square", "triangle"]
VERBS = sorted(name for name in program if not name.startswith("-"))
# What stays in every language: see docs/faq.md.
NAMES = {
    *VERBS, "pati", "find", "show", "augment", "list", "version", "help",
    # of options' values, files' columns, and what can be listed
    "models", "augmentations", "metrics", "explainers", "datasets", "presets", "formats", "fields", "table",
    "csv", "json", "onnx",
    "train", "validation", "test", "group", "report", "off",
    "keep", "join", "drop", "relabel", "en", "tr", "True", "False", "localhost", "none",
    # of models, methods and recipe fields
    "grad", "cam", "px", "McNemar", "muon",
    # of the pictures' classes, folders and runs
    "circle", "square", "triangle", "shapes", "run", "again", "copy", "trained",
}  # fmt: skip


@pytest.fixture
def unchosen(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As if nobody had chosen a language."""
    for name in ("PATI_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture(scope="module")
def locale(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a catalogue of accented English."""
    folder = tmp_path_factory.mktemp("locale")
    write(folder)
    return folder


@pytest.fixture
def accented(locale: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(catalogues, "FOLDER", locale)
    monkeypatch.setenv("PATI_LANG", CODE)
    for cached in (catalogues.languages, catalogues.catalogue):
        cached.cache_clear()
    yield
    for cached in (catalogues.languages, catalogues.catalogue):
        cached.cache_clear()


def turkish(text: str) -> str:
    return Message(text).shown("tr")


# How it is chosen --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        (["--lang", "tr"], {}),
        (["--lang=tr"], {"PATI_LANG": "en", "LC_ALL": "en_GB.UTF-8"}),
        (["--lang", "en", "--lang", "tr-TR"], {}),
        ([], {"PATI_LANG": "tr"}),
        ([], {"PATI_LANG": "tr_TR", "LC_ALL": "en_GB.UTF-8"}),
        ([], {"LC_ALL": "tr_TR.UTF-8"}),
        ([], {"LC_MESSAGES": "tr_TR.UTF-8", "LANG": "C"}),
        ([], {"LANG": "tr_TR"}),
    ],
)
def test_a_language_is_asked_for(words: list[str], environment: dict[str, str], unchosen: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        unchosen.setenv(name, value)
    shown = pati("train", *words, "--help")
    assert shown.returncode == 0
    assert (
        turkish(
            "Train from scratch, or from an earlier model: audit, split, train, score the test split once, report."
        )[:20]
        in shown.stdout
    )
    assert f"╭─ {turkish('Parameters')} ─" in shown.stdout
    done = pati(*words, "train", "/nowhere")
    assert done.returncode == 1
    assert "'/nowhere' adında bir dosya, klasör ya da hazır veri kümesi yok" in done.stderr
    assert pati("check", "digits", *words, "--epochs", "2").stderr.startswith(turkish("error:"))
    assert pati(*words, "check", "digits", "x").returncode == 2


@pytest.mark.parametrize("environment", [{}, {"LC_ALL": "xx_XX.UTF-8"}, {"LANG": "C.UTF-8"}, {"LC_ALL": "nonsense"}])
def test_english_is_the_rest(environment: dict[str, str], unchosen: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        unchosen.setenv(name, value)
    assert "no file, folder or built-in dataset '/nowhere'" in pati("train", "/nowhere").stderr


def test_a_process_speaks_it(unchosen: pytest.MonkeyPatch) -> None:
    unchosen.setenv("LC_ALL", "tr_TR.UTF-8")
    assert f"╭─ {turkish('Parameters')} ─" in pati_process("list", "--help").stdout
    assert "╭─ Parameters ─" in pati_process("list", "--lang", "en", "--help").stdout


@pytest.mark.parametrize("words", [["--help"], ["train", "x"], ["predict", "x.jpg", "--format", "json"]])
def test_an_unknown_one_is_a_mistake(words: list[str], unchosen: pytest.MonkeyPatch) -> None:
    for done in (pati(*words, "--lang", "xx"), pati("--lang=xx", *words)):
        assert done.returncode == 1
        assert done.stdout == ""
        assert "error: --lang is 'xx', which is not a known language" in done.stderr
        assert "hint: known languages: en (English), tr (Türkçe)" in done.stderr
    unchosen.setenv("PATI_LANG", "klingon")
    assert "error: PATI_LANG is 'klingon'" in pati(*words).stderr


def test_what_follows_two_hyphens_is_no_language(tmp_path: Path) -> None:
    done = pati("predict", "--", "--lang", "tr", cwd=tmp_path)
    assert "unknown option --lang" in done.stderr


def test_it_is_not_left_behind(unchosen: pytest.MonkeyPatch) -> None:
    pati("train", "/nowhere", "--lang", "tr")
    assert catalogues.current() == "en"
    assert catalogues.requested() is None


# Help --------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_english_help_is_what_cyclopts_draws(verb: str) -> None:
    def drawn() -> str:
        screen = io.StringIO()
        program.help_print([verb] if verb else [], console=Console(file=screen, width=90, force_terminal=True))
        return screen.getvalue()

    ours = drawn()
    with mock.patch.object(program, "help_formatter", DefaultFormatter()):
        assert drawn() == ours


@pytest.mark.usefixtures("accented")
def test_help_of_every_verb() -> None:
    for verb in ("", *VERBS):
        shown = pati(*([verb] if verb else []), "--help").stdout
        assert f"{with_accents('Usage')}: pati" in shown
        assert escaped(shown, NAMES) == [], verb


@pytest.mark.usefixtures("accented")
def test_lists() -> None:
    for what in (*catalogue.HOMES, "fields"):
        rows = dict(catalogue.rows(what))
        names = {word for name in rows for word in name.replace("-", " ").split()} | {"NAME"}
        shown = pati("list", what).stdout
        left = [word for word in escaped(shown, NAMES | names) if what != "fields" or f"[{word}]" not in shown]
        assert left == [], what
        assert {row["name"]: row["summary"] for row in json.loads(pati("list", what, "--json").stdout)} == rows


# Sentences ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("accented")
@pytest.mark.parametrize(
    "words",
    [
        ["train"], ["train", "--resume", "x", "--epochs", "3"], ["eval", "x", "--outside", "y", "--split", "test"],
        ["eval", "x", "--data", "y", "--split", "train"], ["predict"], ["explain", "--json", "x.jpg"], ["tune"],
        ["explain", "x.jpg", "--stage", "1", "--method", "occlusion"], ["compare", "x", "--out", "y.txt"],
        ["lr-find", "x", "--out", "y.txt"], ["train", "x", "--budget", "soon"], ["train", "--lang", "zz"],
        ["nonsense"], ["list"], ["list", "cars"], ["train", "x", "--epochs", "many"], ["train", "x", "y", "z"],
        ["train", "x", "--seed", "1", "--seed", "2"], ["train", "--out"], ["train", "--nonsense"],
        ["fetch", "x", "--timeout", "long"], ["train", "x", "--json=perhaps"],
    ],
)  # fmt: skip
def test_mistakes(words: list[str]) -> None:
    done = pati(*words)
    assert done.returncode in (1, 2)
    assert "éřřóř:" in done.stderr
    assert escaped(done.stderr, NAMES | {"occlusion", CODE, "cats", "vs", "dogs", *words, "perhaps", "English"}) == []


@pytest.mark.usefixtures("accented")
def test_results(trained: Path, tmp_path: Path) -> None:
    shapes = write_shapes(tmp_path / "shapes", per_class=20)
    (shapes / "circle" / "bad.jpg").write_bytes(b"")
    shutil.copy(shapes / "circle" / "1.jpg", shapes / "square" / "copy.jpg")
    run = shutil.copytree(trained, tmp_path / "run")
    for words in (
        ["check", shapes, "--out", tmp_path / "manifest.jsonl"],
        ["predict", run, shapes / "circle" / "1.jpg", shapes / "circle" / "bad.jpg"],
        ["eval", run],
        ["eval", run, "--data", shapes],
        ["eval", run, "--outside", shapes],
        ["explain", run, shapes / "circle" / "2.jpg", "--out", tmp_path],
        ["explain", run, shapes, "--check"],
        ["compare", run, shutil.copytree(run, tmp_path / "again")],
        ["clean", shapes, run],
        ["report", run],
    ):
        done = pati(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert escaped(done.stdout + done.stderr, NAMES) == [], words


@pytest.mark.usefixtures("accented")
def test_a_search(shapes: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    words = ["tune", shapes, "--trials", "2", "--epochs", "1", "--size", "32", "--set", "width=0.25", "growth=1"]
    done = pati(*words, "--search", "dropout", "--out", tmp_path / "search", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert escaped(done.stdout + done.stderr, NAMES | {"dropout", "width", "growth", "search"}) == []


@pytest.mark.parametrize("shape", ["csv", "json"])
def test_programs_read_the_same_in_every_language(shape: str, trained: Path, shapes: Path) -> None:
    (shapes / "circle" / "bad.jpg").write_bytes(b"\xff\xd8\xff" + bytes(100))
    words = ["predict", trained, shapes / "circle", "--format", shape]
    english, turkish = (pati(*words, "--lang", language).stdout for language in ("en", "tr"))
    assert english == turkish
    if shape == "csv":
        head, *_, last = csv.reader(io.StringIO(english))
        assert head == ["path", "prediction", "unsure", "out_of_distribution", "confidence", *SHAPES, "error"]
        assert last[-1].startswith("damaged")


def test_documents_are_english(shapes: Path, tmp_path: Path) -> None:
    (shapes / "notes.jpg").write_bytes(b"")  # it has no class, which is noted
    words = ["check", shapes, "--out", tmp_path / "manifest.jsonl"]
    english = json.loads(pati(*words, "--json").stdout)
    assert json.loads(pati(*words, "--json", "--lang", "tr").stdout) == english
    assert english["notes"] == ["1 photo beside the class folders has no class and is ignored"]
    told = pati(*words, "--lang", "tr").stdout
    assert "sınıf klasörlerinin yanındaki 1 fotoğrafın sınıfı yok; yok sayılıyor" in told
    assert f"%{100 * english['shares']['train']:.1f}".replace(".", ",") in told


# Report and page ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "variable", "language"),
    [([], "", None), (["--lang", "tr"], "", "tr"), ([], "en", "en"), (["--lang", "tr"], "en", "tr")],
)
def test_reports_and_pages_begin_with_what_was_asked_for(
    words: list[str], variable: str, language: str | None, unchosen: pytest.MonkeyPatch
) -> None:
    """The system's language is no reason: a report keeps its own, and the page has visitors."""
    unchosen.setenv("LC_ALL", "tr_TR.UTF-8")
    unchosen.setenv("PATI_LANG", variable)
    made = mock.Mock(return_value=(mock.Mock(), {}))
    unchosen.setattr("pati.workflows.report.report_again", made)
    assert pati("report", "x", *words).returncode == 0
    assert made.call_args.kwargs["language"] == language
    launched = mock.Mock()
    unchosen.setattr("pati.app.launch.launch", launched)
    assert pati("app", *words).returncode == 0
    assert launched.call_args.args[0].language == language


def test_words_of_an_option_are_found_anywhere() -> None:
    words = ["predict", "--lang", "tr", "a.jpg", "--lang=en", "--", "--lang", "tr"]
    assert entry._apart(words, "--lang") == (["--lang", "tr", "--lang=en"], ["predict", "a.jpg", "--", "--lang", "tr"])
