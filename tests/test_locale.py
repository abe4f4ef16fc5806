"""Messages and their translations: what is shown, what is read from files, and that the catalogues are complete."""

from __future__ import annotations

import ast
import io
import json
import re
import string
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from babel.messages import Catalog, mofile, pofile
from babel.messages.catalog import Message as Entry

from pati.data.manifest import Manifest
from pati.errors import PatiError
from pati.locale import catalogues
from pati.locale.messages import FORMATS, N_, NC_, NESTED, NP_, Message, as_is, either
from pati.system import files
from tests.support.catalogues import messages, tool

PATI = Path(catalogues.__file__).parents[1]
TRANSLATED = catalogues.languages()[1:]

# Format -> examples: a value, in English, in Turkish.
SHOWN: dict[str, list[tuple[float, str, str]]] = {
    "percent": [
        (0.924, "92.4 %", "%92,4"), (0.9996, "> 99.9 %", "> %99,9"), (0.0004, "< 0.1 %", "< %0,1"),
        (-0.05, "-5.0 %", "-%5,0"), (1, "100.0 %", "%100,0"), (0, "0.0 %", "%0,0"),
    ],
    "percent0": [(0.924, "92 %", "%92"), (0.996, "> 99 %", "> %99"), (0.004, "< 1 %", "< %1")],
    "percent_number": [(0.924, "92.4", "92,4"), (0.9996, "> 99.9", "> 99,9"), (12.345, "1234.5", "1234,5")],
    "rate": [(0.92345, "0.923", "0,923"), (0.9996, "> 0.999", "> 0,999"), (1e-5, "< 0.001", "< 0,001")],
    "duration": [
        (0.4, "0 s", "0 sn"), (99.4, "99 s", "99 sn"), (130, "2.2 min", "2,2 dk"), (300, "5 min", "5 dk"),
        (7200, "2 h", "2 sa"), (7800, "2 h 10 min", "2 sa 10 dk"), (360000, "100 h", "100 sa"),
    ],
    "": [(3, "3", "3"), (0.5, "0.5", "0,5"), (1e-7, "1e-07", "1e-07")],
    ",": [(1234567, "1,234,567", "1.234.567"), (1234.5, "1,234.5", "1.234,5")],
    "d": [(12, "12", "12")],
    ".1f": [(2.24, "2.2", "2,2"), (7, "7.0", "7,0")],
    "+.3f": [(0.5, "+0.500", "+0,500"), (-0.5, "-0.500", "-0,500")],
    "g": [(0.0001, "0.0001", "0,0001"), (1e-7, "1e-07", "1e-07")],
    ".2g": [(0.0123, "0.012", "0,012")],
    ",.2f": [(1234.5, "1,234.50", "1.234,50")],
}  # fmt: skip


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without a language."""
    for name in (catalogues.VARIABLE, "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("_chosen", None), ("_default", catalogues.SOURCE)):
        monkeypatch.setattr(catalogues, name, value)
    return monkeypatch


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, Catalog], None]]:
    """Adds a catalogue of a language to an otherwise empty folder of them."""

    def add(language: str, catalogue: Catalog) -> None:
        path = tmp_path / language / "LC_MESSAGES" / "pati.mo"
        path.parent.mkdir(parents=True)
        path.write_bytes(tool.compiled(catalogue))
        forget()

    def forget() -> None:
        catalogues.languages.cache_clear()
        catalogues.catalogue.cache_clear()

    monkeypatch.setattr(catalogues, "FOLDER", tmp_path)
    forget()
    yield add
    monkeypatch.undo()
    forget()


# What is shown -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "value", "english", "turkish"), [(form, *row) for form, rows in SHOWN.items() for row in rows]
)
def test_numbers_are_in_the_notation_of_the_language(form: str, value: float, english: str, turkish: str) -> None:
    message = Message("{value:" + form + "}" if form else "{value}", {"value": value})
    assert (message.shown("en"), message.shown("tr")) == (english, turkish)


def test_every_format_that_is_used_has_an_example() -> None:
    used = {form for entry in messages() for text in texts(entry.id) for _, _, form in fields(text)}
    assert not {re.sub(r"\d", "0", form) for form in used | FORMATS.keys()} - {re.sub(r"\d", "0", one) for one in SHOWN}


def test_a_sentence_and_its_arguments() -> None:
    message = N_("cannot read {path}: {reason}", path=Path("a b.jpg"), reason="no such file")
    assert message == N_("cannot read {path}: {reason}", path="a b.jpg", reason="no such file")
    assert str(message) == message.shown("en") == "cannot read a b.jpg: no such file"
    assert N_("{text!r} in {{braces}}", text="it's").shown("en") == '"it\'s" in {braces}'
    assert N_("{a}, {b}", a=None, b=(1, "x", 0.5)).shown("tr") == "None, 1, x, 0,5"
    assert N_("{names}", names={"a": 1, "b": 2}).shown("en") == "a, b"
    assert N_("{shares:percent}", shares=[0.5, 0.25]).shown("tr") == "%50,0, %25,0"
    assert N_("{path}", path="a\nb\x1b[31m\udcff.jpg").shown("en") == r"a b\x1b[31m\xff.jpg"


def test_what_is_filled_in_is_not_filled_again() -> None:
    assert N_("predicted: {label}", label="{label!r}{x.__class__}").shown("tr") == "tahmin: {label!r}{x.__class__}"


def test_numbers_of_numpy_are_numbers() -> None:
    message = NP_("{n} of {share:percent}, {x:.1f}", "", n=np.int64(1), share=np.float32(0.5), x=np.float64(2))
    assert message.shown("en") == "1 of 50.0 %, 2.0"
    assert json.loads(json.dumps(message.to_json()))["arguments"] == {"n": 1, "share": 0.5, "x": 2.0}


def test_a_plural() -> None:
    photos = [NP_("{n} photo was read", "{n} photos were read", n=number).shown("en") for number in (0, 1, 2)]
    assert photos == ["0 photos were read", "1 photo was read", "2 photos were read"]
    assert [NP_("{n} epoch", "{n} epochs", n=number).shown("tr") for number in (1, 2)] == ["1 dönem", "2 dönem"]


def test_a_language_may_have_more_plurals(made: Callable[[str, Catalog], None]) -> None:
    polish = Catalog(locale="pl")
    assert polish.num_plurals > 2
    polish.add(("{n} photo", "{n} photos"), ("{n} zdjęcie", "{n} zdjęcia", "{n} zdjęć"))
    made("pl", polish)
    shown = [NP_("{n} photo", "{n} photos", n=number).shown("pl") for number in (1, 3, 5, 22)]
    assert shown == ["1 zdjęcie", "3 zdjęcia", "5 zdjęć", "22 zdjęcia"]


def test_equal_messages_count_once_in_a_set() -> None:
    """Also with lists in them: manifests are compared as sets of their entries."""
    assert len({N_("classes: {names}", names=["a"]), N_("classes: {names}", names=["a"]), N_("other: {n}", n=1)}) == 2


def test_a_context_has_its_own_translation() -> None:
    assert NC_("decimal mark", ".").shown("tr") == ","
    assert N_(".").shown("tr") == "."
    assert [NC_("name of the language", "English").shown(one) for one in ("en", "tr")] == ["English", "Türkçe"]


def test_messages_within_messages_are_in_the_same_language() -> None:
    inner = N_("no space left on the disk: {file}", file="a.jpg")
    message = N_("{where}: {error}", where=["x", inner], error=inner)
    assert "diskte" in inner.shown("tr")
    assert message.shown("tr") == f"x, {inner.shown('tr')}: {inner.shown('tr')}"
    assert message.shown("en") == f"x, {inner.shown('en')}: {inner.shown('en')}"


def test_alternatives() -> None:
    assert [either(["a", "b", "c"][:count]).shown("en") for count in (1, 2, 3)] == ["a", "a or b", "a, b or c"]


def test_what_a_catalogue_lacks_is_in_english(made: Callable[[str, Catalog], None]) -> None:
    german = Catalog(locale="de")
    german.add("yes", "ja")
    made("de", german)
    assert catalogues.languages() == ("en", "de")
    assert [N_(word).shown("de") for word in ("yes", "no")] == ["ja", "no"]
    assert N_("{share:percent}", share=0.5).shown("de") == "50.0 %"


# Messages in files -------------------------------------------------------------------------

SAMPLES = [
    N_("no photos"),
    NC_("a context", "{x}", x=0.5),
    NP_("{n} photo of {label!r}", "{n} photos of {label!r}", n=2, label="a"),
    N_("{where}: {error}", where=["a", 1, N_("{path}", path="p")], error=as_is("broken {braces}")),
    as_is(""),
]


@pytest.mark.parametrize("message", SAMPLES)
def test_a_message_in_a_file_is_the_same(message: Message) -> None:
    again = Message.from_json(json.loads(json.dumps(message.to_json())))
    assert again == message
    assert again.shown("tr") == message.shown("tr")


def test_a_sentence_of_an_older_version_is_shown_as_it_is() -> None:
    message = Message.from_json("no photo found in {x}: 100 %s")
    assert message.shown("en") == message.shown("tr") == "no photo found in {x}: 100 %s"


def nested(levels: int) -> object:
    """A message that holds `levels` others inside each other."""
    document: object = {"text": "end"}
    for _ in range(levels):
        document = {"text": "{x}", "arguments": {"x": document}}
    return document


HARMLESS = [
    ("{x.__class__}{x[0]}{0}{x!s}{}", {"x": 1}, "{x.__class__}{x[0]}{0}{x!s}{}"),  # no fields of ours
    ("{x:999999999}{x:0>99999d}{x:.99f}{x:{y}}", {"x": 1, "y": 2}, "{x:999999999}{x:0>99999d}{x:.99f}{x:2}"),
    ("{x} and {y}", {"x": 1}, "1 and {y}"),  # an argument that is missing
    ("{x:percent}, {y:,d}", {"x": "a", "y": {"text": "b"}}, "a, b"),  # formats of numbers
    ("{", {"x": 1}, "{"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "arguments", "shown"), HARMLESS)
def test_texts_from_files_reach_nothing(text: str, arguments: dict[str, object], shown: str) -> None:
    assert Message.from_json({"text": text, "arguments": arguments}).shown("tr") == shown  # type: ignore[typeddict-item]


WRONG: list[object] = [
    None, 5, [], ["text"], {}, {"text": None}, {"text": 5}, {"text": ["a"]}, {"text": "a", "arguments": ["x"]},
    {"text": "a", "arguments": "x"}, {"text": "{x}", "arguments": {"x": None}}, {"text": "{x}", "arguments": {"x": {}}},
    {"text": "{x}", "arguments": {"x": [[None]]}}, {"text": "a", "context": 5}, {"text": "a", "plural": 5},
    {"text": "{n}", "plural": "{n}"}, {"text": "{n}", "plural": "{n}", "arguments": {"n": "1"}},
    {"text": "{n}", "plural": "{n}", "arguments": {"n": 1.0}}, {"text": "{n:d}", "arguments": {"n": 1.5}},
    {"text": "{n:.1d}", "arguments": {"n": 1}}, {"text": "{n:++d}", "arguments": {"n": 1}},
    {"text": "{x:duration}", "arguments": {"x": float("inf")}}, {"text": "{x:percent}", "arguments": {"x": 10**400}},
    {"text": "{x}{x}", "arguments": {"x": "a"}}, {"text": "a", "plural": "{n}{n}", "arguments": {"n": 2}},
    nested(NESTED + 1), nested(3000), {"text": "{x}", "arguments": {"x": [[[[[[[[[1]]]]]]]]]}},
]  # fmt: skip


@pytest.mark.parametrize("document", WRONG)
def test_other_documents_are_wrong_values(document: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        Message.from_json(document)  # type: ignore[arg-type]


def test_as_many_levels_as_are_allowed() -> None:
    assert Message.from_json(nested(NESTED)).shown("en") == "end"  # type: ignore[arg-type]


@pytest.mark.parametrize("document", [None, {"text": 5}, {"text": "{n}", "plural": "{n}"}, nested(200)])
@pytest.mark.parametrize("place", ["notes", "detail"])
def test_a_manifest_with_a_wrong_message_is_damaged(document: object, place: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    Manifest("photos", "/photos", (), (), {}, (N_("a note"),)).write(path)
    header = json.loads(path.read_text())
    lines = [header | {"notes": [document]}] if place == "notes" else [header, {"path": "a", "detail": document or 5}]
    files.write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(PatiError, match=r"the manifest .* is damaged"):
        Manifest.read(path)


def test_a_manifest_of_an_older_version_has_sentences(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    Manifest("photos", "/photos", (), (), {}, (N_("a note"),)).write(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"notes": ["files left out: 3"]}) + "\n")
    assert Manifest.read(path).notes == (as_is("files left out: 3"),)


# Which language ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("tr", "tr"), ("tr_TR", "tr"), ("tr_TR.UTF-8", "tr"), ("tr-TR", "tr"), ("TR", "tr"), ("tr_CY@euro", "tr"),
        ("tr.ISO-8859-9", "tr"), ("en", "en"), ("en_GB.UTF-8", "en"), ("C", "en"), ("C.UTF-8", "en"), ("POSIX", "en"),
        ("xx", None), ("xx_TR", None), ("trv_TW", None), ("", None), ("../tr", None), ("tr/LC_MESSAGES", None),
    ],
)  # fmt: skip
def test_names_of_locales(name: str, language: str | None) -> None:
    assert catalogues.known(name) == language


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, "en"),
        ({"LANG": "tr_TR.UTF-8"}, "tr"),
        ({"LANG": "tr_TR.UTF-8", "LC_MESSAGES": "en_GB.UTF-8"}, "en"),
        ({"LANG": "en_GB.UTF-8", "LC_MESSAGES": "tr_TR.UTF-8"}, "tr"),
        ({"LANG": "en_GB.UTF-8", "LC_MESSAGES": "C", "LC_ALL": "tr_TR"}, "tr"),
        ({"LANG": "tr_TR.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "tr_TR.UTF-8", "LC_ALL": ""}, "tr"),  # as if it were not set
        ({"LANG": "xx_XX.UTF-8"}, "en"),
    ],
)
def test_the_language_of_the_system(environment: dict[str, str], language: str, unset: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        unset.setenv(name, value)
    assert catalogues.system_language() == language
    assert catalogues.current() == "en"  # a library does not follow it by itself
    catalogues.follow_system()
    assert catalogues.current() == language
    assert catalogues.requested() is None


def test_the_language_of_the_process(unset: pytest.MonkeyPatch) -> None:
    message = N_("{share:percent}", share=0.5)
    assert (catalogues.requested(), catalogues.current(), str(message)) == (None, "en", "50.0 %")
    unset.setenv("PATI_LANG", "tr_TR.UTF-8")
    assert (catalogues.requested(), catalogues.current(), str(message)) == ("tr", "tr", "%50,0")
    catalogues.choose("en")
    assert (catalogues.requested(), catalogues.current(), str(message)) == ("en", "en", "50.0 %")
    catalogues.choose(None)
    assert str(PatiError(message, message)) == "%50,0\n%50,0"
    unset.setenv("PATI_LANG", "xx")
    assert (catalogues.requested(), catalogues.current()) == (None, "en")


# The catalogues ----------------------------------------------------------------------------


def texts(words: str | tuple[str, ...] | list[str]) -> tuple[str, ...]:
    return (words,) if isinstance(words, str) else tuple(words)


def fields(text: str) -> list[tuple[str, str | None, str]]:
    """Name, conversion and format of each placeholder; fails where `text` is no template."""
    return [(name, quoted, form) for _, name, form, quoted in string.Formatter().parse(text) if name is not None]


def read(language: str) -> tuple[Catalog, Path]:
    path = catalogues.FOLDER / language / "LC_MESSAGES" / "pati.po"
    with path.open("rb") as file:
        return pofile.read_po(file, locale=language, abort_invalid=True), path


def key(entry: Entry) -> tuple[str | None, tuple[str, ...]]:
    return entry.context, texts(entry.id)


def test_every_sentence_can_be_shown() -> None:
    """Its placeholders are those that a message fills, each once, with formats that it knows."""
    known = {*FORMATS, "", ",", "g", "d"}
    for entry in messages():
        for text in texts(entry.id):
            names = [name for name, _, _ in fields(text)]
            assert len(names) == len(set(names)), text
            assert all(name.isidentifier() and quoted in (None, "r") for name, quoted, _ in fields(text)), text
            assert all(form in known or re.fullmatch(r"\+?,?\.\d[fg]", form) for *_, form in fields(text)), text
            shown = Message(text, dict.fromkeys(names, 1)).shown("en")
            assert "{" not in shown.replace("{{", ""), text


@pytest.mark.parametrize("language", TRANSLATED)
def test_a_catalogue_holds_every_sentence_and_no_other(language: str) -> None:
    catalogue, _ = read(language)
    assert {key(entry) for entry in catalogue if entry.id} == {key(entry) for entry in messages() if entry.id}
    assert not catalogue.obsolete, "run `make messages`"


@pytest.mark.parametrize("language", TRANSLATED)
def test_a_catalogue_is_translated(language: str) -> None:
    catalogue, _ = read(language)
    entries = [entry for entry in catalogue if entry.id]
    assert [key(entry) for entry in entries if entry.fuzzy] == []
    assert [key(entry) for entry in entries if not all(texts(entry.string))] == []
    assert [key(one) for one in entries if one.pluralizable and len(texts(one.string)) != catalogue.num_plurals] == []


@pytest.mark.parametrize("language", TRANSLATED)
def test_translations_have_the_placeholders_of_the_sentence(language: str) -> None:
    catalogue, _ = read(language)
    for entry in catalogue:
        expected = sorted(fields(texts(entry.id)[-1]), key=str) if entry.id else []
        for text in texts(entry.string) if entry.id else ():
            found = sorted(fields(text), key=str)
            if entry.pluralizable:  # a form of one number may leave it out
                found, expected = ([one for one in all_ if one[0] != "n"] for all_ in (found, expected))
            assert found == expected, (entry.id, text)


@pytest.mark.parametrize("language", TRANSLATED)
def test_a_compiled_catalogue_is_that_of_its_text(language: str) -> None:
    catalogue, path = read(language)
    assert path.with_suffix(".mo").read_bytes() == tool.compiled(catalogue), "run `make messages`"
    assert path.read_bytes() == tool.as_text(tool.updated(path, messages())), "run `make messages`"
    compiled = mofile.read_mo(io.BytesIO(path.with_suffix(".mo").read_bytes()))
    assert len(compiled) == len(catalogue)


@pytest.mark.parametrize("language", TRANSLATED)
def test_a_catalogue_names_its_language(language: str) -> None:
    assert NC_("name of the language", "English").shown(language) != "English"


# The code ----------------------------------------------------------------------------------

MARKS = {"N_": (0,), "NP_": (0, 1), "NC_": (0, 1)}  # which arguments are words
SAYING = {"PatiError", "Interrupted", "Diverged", "UnreadablePhoto", "Noted", "Warned", "say", "tell", "from_os_error"}


def calls(*names: str) -> Iterator[tuple[str, ast.Call]]:
    """Calls of functions in the code, and where they are."""
    for path in sorted(PATI.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                function = node.func
                name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
                if name in names:
                    yield f"{path.relative_to(PATI)}:{node.lineno}", node


def composed(node: ast.expr) -> bool:
    """Whether an expression is a text, rather than a message."""
    match node:
        case ast.Constant(value=value):
            return isinstance(value, str)
        case ast.JoinedStr() | ast.BinOp():
            return True
        case (
            ast.Call(func=ast.Attribute(attr="format" | "join" | "shown")) | ast.Call(func=ast.Name(id="str" | "repr"))
        ):
            return True
        case ast.IfExp():
            return composed(node.body) or composed(node.orelse)
        case ast.BoolOp():
            return any(map(composed, node.values))
    return False


def words(node: ast.AST) -> Iterator[str]:
    """English between spaces in an expression, but for messages in it and keys of dictionaries."""
    match node:
        case ast.Call(func=ast.Name(id="N_" | "NP_" | "NC_" | "as_is")) | ast.Subscript():
            return
        case ast.Constant(value=str(value)):
            yield from re.findall(r"(?:^|\s)[a-z]+\s|\s[a-z]+(?:\s|$)", value)
    for child in ast.iter_child_nodes(node):
        yield from words(child)


def test_the_words_of_a_message_are_literals() -> None:
    """Babel reads them without running the code."""
    found = 0
    for where, call in calls(*MARKS):
        assert isinstance(call.func, ast.Name), where
        for place in MARKS[call.func.id]:
            assert isinstance(call.args[place], ast.Constant), where
            assert isinstance(call.args[place].value, str), where
        assert len(call.args) == len(MARKS[call.func.id]), where
        found += 1
    assert found > 800


def test_every_placeholder_has_its_argument() -> None:
    for where, call in calls(*MARKS):
        given = {keyword.arg for keyword in call.keywords}
        name = call.func.id
        sentences = call.args[1:] if name == "NC_" else call.args
        wanted = {field for sentence in sentences for field, _, _ in fields(sentence.value)}
        assert "n" in given or name != "NP_" or None in given, where
        if None in given:  # `**arguments`
            assert given - {None} <= wanted, where
        else:
            assert given | ({"n"} & wanted) == wanted | ({"n"} & given), where
            assert name == "NP_" or given == wanted, where


def test_what_people_are_told_is_a_message() -> None:
    found = 0
    for where, call in calls(*SAYING):
        values = [*call.args, *(keyword.value for keyword in call.keywords)]
        assert not any(map(composed, values)), where
        found += 1
    assert found > 300


def test_no_sentence_is_made_of_parts() -> None:
    """No English words are in what is filled in, nor in what is the same in all languages."""
    for where, call in calls(*MARKS, "as_is"):
        values = [keyword.value for keyword in call.keywords]
        values += call.args if call.func.id == "as_is" else []
        assert not [word for value in values for word in words(value)], where
