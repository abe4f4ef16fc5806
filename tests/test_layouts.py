"""Folders as people have them: which are splits, which are classes, and when pati asks."""

from __future__ import annotations

import re
import shutil
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from pati.data import decode
from pati.data.entries import Entry
from pati.data.manifest import Manifest, class_order, require_trainable
from pati.data.sources import allowed, storage
from pati.data.sources.find import find_source
from pati.data.sources.source import Columns, Source, split_role
from pati.data.sources.tree import DEEPEST, STRAYS
from pati.errors import PatiError

JPEG = b"\xff\xd8\xff" + bytes(20)  # listed as a photo; never decoded here


def touch(root: Path, paths: Iterable[str]) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(JPEG)
    return root


def numbered(folder: str, count: int = 4, pattern: str = "{}.jpg") -> list[str]:
    return [f"{folder}/{pattern.format(number)}" for number in range(count)]


def labels(source: Source) -> dict[str, int]:
    return dict(Counter(item.label for item in source.items))


def splits(source: Source) -> set[str | None]:
    return {item.split for item in source.items}


def notes(source: Source) -> str:
    return "\n".join(map(str, source.notes))


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("training_set", "train"), ("seg_train", "train"), ("trainset", "train"), ("Train", "train"), ("t2", None),
        ("egitim", "train"), ("EĞİTİM", "train"), (unicodedata.normalize("NFD", "eğitim-seti"), "train"),
        ("test1", "test"), ("test_images", "test"), ("Sınama", "test"), ("holdout", "test"),
        ("valid", "validation"), ("valset", "validation"), ("doğrulama", "validation"), ("VALIDATE", "validation"),
        ("trains", None), ("train_station", None), ("with_test", None), ("offset", None), ("dataset", None), ("", None),
    ],
)  # fmt: skip
def test_names_of_splits(name: str, role: str | None) -> None:
    assert split_role(name) == role


@pytest.mark.parametrize(
    "folders",
    [
        ("training_set/training_set", "test_set/test_set"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("trainset", "testset"),
        ("egitim", "doğrulama", "test"),
        ("train/images", "val/images", "test/images"),
        ("data/archive/train", "data/archive/test"),
    ],
)
def test_folders_named_like_splits_are_splits(folders: tuple[str, ...], tmp_path: Path) -> None:
    for folder in folders:
        touch(tmp_path / "d", numbered(f"{folder}/cat") + numbered(f"{folder}/dog"))
    source = find_source(tmp_path / "d")
    assert source.presplit
    assert labels(source) == {"cat": 4 * len(folders), "dog": 4 * len(folders)}
    assert len(splits(source)) == len(folders)
    assert "the splits are read from the folders" in notes(source)


def test_photos_without_a_label_are_left_out_and_counted(tmp_path: Path) -> None:
    touch(tmp_path / "d", [*numbered("train/cat"), *numbered("train/dog"), *numbered("test", 7)])
    source = find_source(tmp_path / "d")
    assert labels(source) == {"cat": 4, "dog": 4}
    assert not source.presplit  # one labelled split: the others are pati's to make
    assert "7 photos in test have no labels" in notes(source)
    touch(tmp_path / "d", numbered("seg_pred/seg_pred", 3))
    assert "3 photos in seg_pred/seg_pred have no labels" in notes(find_source(tmp_path / "d"))


def test_classes_in_the_names_of_files(tmp_path: Path) -> None:
    touch(
        tmp_path / "d", [*numbered("train", 5, "cat.{}.jpg"), *numbered("train", 3, "dog.{}.jpg"), *numbered("test1")]
    )
    source = find_source(tmp_path / "d")
    assert labels(source) == {"cat": 5, "dog": 3}
    assert "names of the files: cat (5), dog (3)" in notes(source)
    assert "4 photos in test1 have no labels" in notes(source)
    flat = touch(
        tmp_path / "flat", [*numbered(".", 4, "German_shepherd_{:03}.jpg"), *numbered(".", 4, "beagle ({}).png")]
    )
    assert labels(find_source(flat)) == {"German_shepherd": 4, "beagle": 4}


@pytest.mark.parametrize(
    "patterns",
    [("IMG_{}.jpg", "cat_{}.jpg"), ("{}.jpg",), ("cat_{}.jpg",), ("a{}b.jpg", "cat_{}.jpg"), ("2024-{}.jpg",)],
)
def test_names_of_files_that_are_no_classes(patterns: tuple[str, ...], tmp_path: Path) -> None:
    touch(tmp_path / "d", [path for pattern in patterns for path in numbered(".", 5, pattern)])
    with pytest.raises(PatiError, match="photos and no folders: their classes are not known"):
        find_source(tmp_path / "d")


@pytest.mark.parametrize(
    "folders", [("control", "test"), ("bus", "car", "train"), ("test", "train", "tram"), ("train", "training", "test")]
)
def test_where_splits_and_classes_cannot_be_told_apart_an_option_decides(
    folders: tuple[str, ...], tmp_path: Path
) -> None:
    touch(tmp_path / "d", [path for folder in folders for path in numbered(folder)])
    with pytest.raises(PatiError, match="splits or classes") as caught:
        find_source(tmp_path / "d")
    assert "--classes-level 1" in str(caught.value.hint)
    assert all(folder in str(caught.value) for folder in folders)
    assert labels(find_source(tmp_path / "d", Columns(classes_level=1))) == dict.fromkeys(folders, 4)


def test_folders_that_hold_the_same_folders(tmp_path: Path) -> None:
    for top in ("cat", "dog"):
        touch(tmp_path / "d", numbered(f"{top}/indoor") + numbered(f"{top}/outdoor"))
    with pytest.raises(PatiError, match="which of them are the classes") as caught:
        find_source(tmp_path / "d")
    assert "--classes-level 2" in str(caught.value.hint)
    assert labels(find_source(tmp_path / "d", Columns(classes_level=1))) == {"cat": 8, "dog": 8}
    assert labels(find_source(tmp_path / "d", Columns(classes_level=2))) == {"indoor": 8, "outdoor": 8}
    for level, told in ((0, "--classes-level is 0"), (3, "no photos 3 folders down")):
        with pytest.raises(PatiError, match=told):
            find_source(tmp_path / "d", Columns(classes_level=level))


def test_classes_below_splits_and_groups(tmp_path: Path) -> None:
    for split in ("train", "test"):
        touch(tmp_path / "d", numbered(f"{split}/2023/cat") + numbered(f"{split}/2024/dog") + [f"{split}/loose.jpg"])
    source = find_source(tmp_path / "d", Columns(classes_level=3))
    assert labels(source) == {"cat": 8, "dog": 8}
    assert splits(source) == {"train", "test"}
    assert "2 photos above the folders of the classes" in notes(source)


def test_folders_of_several_levels(tmp_path: Path) -> None:
    touch(tmp_path / "d", numbered("animals/cat") + numbered("animals/dog") + numbered("vehicles/bus"))
    with pytest.raises(PatiError, match=r"animals, vehicles, and these contain cat, dog, bus: which of them"):
        find_source(tmp_path / "d")
    assert labels(find_source(tmp_path / "d", Columns(classes_level=2))) == {"cat": 4, "dog": 4, "bus": 4}
    touch(tmp_path / "e", numbered("NORMAL/patient 1") + numbered("NORMAL/patient 2") + numbered("PNEUMONIA/patient 3"))
    source = find_source(tmp_path / "e")
    assert labels(source) == {"NORMAL": 8, "PNEUMONIA": 4}
    assert "the folders in them, such as patient 1, patient 2" in notes(source)
    touch(tmp_path / "f", [*numbered("cats"), *numbered("cats/black"), *numbered("dogs/big"), *numbered("dogs/small")])
    assert labels(find_source(tmp_path / "f")) == {"cats": 8, "dogs": 8}


def test_classes_in_the_names_of_files_in_a_folder_of_any_name(tmp_path: Path) -> None:
    touch(tmp_path / "d", [*numbered("all_images", 4, "cat_{}.jpg"), *numbered("all_images", 3, "dog_{}.jpg")])
    assert labels(find_source(tmp_path / "d")) == {"cat": 4, "dog": 3}
    touch(tmp_path / "e", [*numbered("cats", 4, "tabby_{}.jpg"), *numbered("cats", 3, "siamese_{}.jpg")])
    source = find_source(tmp_path / "e")
    assert labels(source) == {"cats": 7}  # one class, which is refused later
    assert "in cats begin with siamese, tabby: if these are the classes, give this folder as DATA" in notes(source)
    assert labels(find_source(tmp_path / "e" / "cats")) == {"siamese": 3, "tabby": 4}


def test_masks_and_annotations_are_no_classes(tmp_path: Path) -> None:
    touch(tmp_path / "d", [*numbered("images", 4, "cat_{}.jpg"), *numbered("images", 4, "dog_{}.jpg")])
    touch(tmp_path / "d", numbered("annotations/trimaps", 4, "cat_{}.png"))
    source = find_source(tmp_path / "d")
    assert labels(source) == {"cat": 4, "dog": 4}
    assert "annotations are ignored: annotations" in notes(source)
    touch(tmp_path / "e", [*numbered("mask"), *numbered("no_mask")])
    assert labels(find_source(tmp_path / "e")) == {"mask": 4, "no_mask": 4}  # classes by these names stay classes
    touch(tmp_path / "g", [*numbered("Images/n1-cat"), *numbered("Images/n2-dog")])
    for name in ("n1-cat", "n2-dog"):
        (tmp_path / "g" / "Annotation" / name).mkdir(parents=True)
        (tmp_path / "g" / "Annotation" / name / "0").write_text("<annotation/>")
    assert labels(find_source(tmp_path / "g")) == {"n1-cat": 4, "n2-dog": 4}


def test_a_folder_that_repeats_itself(tmp_path: Path) -> None:
    for top in ("x", "x/x"):
        for split in ("train", "test"):
            touch(tmp_path, numbered(f"{top}/{split}/cat") + numbered(f"{top}/{split}/dog"))
    source = find_source(tmp_path / "x")
    assert labels(source) == {"cat": 8, "dog": 8}
    assert "the folder x repeats the folder that it is in" in notes(source)


@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_one_name_in_two_unicode_forms_is_one_class(kind: str, tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        touch(
            tmp_path / "d", [path for name in ("köpek", "kuş") for path in numbered(unicodedata.normalize(form, name))]
        )
    root = tmp_path / "d"
    if kind == "zip":
        root = tmp_path / "d.zip"
        with zipfile.ZipFile(root, "w") as archive:
            for path in (tmp_path / "d").rglob("*.jpg"):
                archive.write(path, path.relative_to(tmp_path / "d"))
    source = find_source(root)
    assert labels(source) == {"köpek": 8, "kuş": 8}
    assert "look the same but are written with different characters are joined" in notes(source)
    assert len({item.path for item in source.items}) == 16  # the files keep their names


@pytest.mark.parametrize(
    "other", ["Roma\u00a0Tomato", "Roma  Tomato", "Roma Tomato ", "Roma Tomato\u200b", "Roma\u2009Tomato"]
)
def test_names_that_look_the_same_are_one_class(other: str, tmp_path: Path) -> None:
    names = [f"{number}.jpg" for number in range(8)]
    touch(tmp_path / "d", names)
    classes = ["Roma Tomato", other, "Pepper", "Pepper"] * 2
    (tmp_path / "d" / "t.csv").write_text(
        "file,label\n" + "".join(f'{name},"{label}"\n' for name, label in zip(names, classes, strict=True)),
        encoding="utf-8",
    )
    assert labels(find_source(tmp_path / "d")) == {"Pepper": 4, "Roma Tomato": 4}
    touch(tmp_path / "e", numbered("Roma Tomato") + numbered(other) + numbered("Pepper"))
    assert labels(find_source(tmp_path / "e")) == {"Pepper": 4, "Roma Tomato": 8}


@pytest.mark.parametrize(("one", "other"), [("kedi", "KEDİ"), ("kedi", "KEDI"), ("ışık", "IŞIK"), ("köpek", "Köpek")])
def test_names_that_differ_in_case_in_english_or_turkish(one: str, other: str, tmp_path: Path) -> None:
    touch(tmp_path / "d", numbered(one) + numbered(other)[:3] + numbered("fare"))
    with pytest.raises(PatiError, match="differ only in case"):
        find_source(tmp_path / "d")
    assert labels(find_source(tmp_path / "d", columns=Columns(class_case="join"))) == {one: 7, "fare": 4}
    assert labels(find_source(tmp_path / "d", columns=Columns(class_case="keep"))) == {one: 4, other: 3, "fare": 4}
    touch(tmp_path / "e", numbered("ılık") + numbered("ilik"))  # two words
    assert labels(find_source(tmp_path / "e")) == {"ılık": 4, "ilik": 4}


def test_links_are_followed_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = touch(tmp_path / "blobs", numbered("cat") + numbered("dog"))
    for label in ("cat", "dog"):
        (tmp_path / "files" / label).mkdir(parents=True)
        for number in range(4):
            (tmp_path / "files" / label / f"{number}.jpg").symlink_to(blobs / label / f"{number}.jpg")
    (tmp_path / "folders").mkdir()
    for label in ("cat", "dog"):
        (tmp_path / "folders" / label).symlink_to(blobs / label)
    for name, count in (("files", 8), ("folders", 2)):
        source = find_source(tmp_path / name)
        assert labels(source) == {"cat": 4, "dog": 4}
        assert f"{count} links to files or folders outside" in notes(source)
    monkeypatch.setenv(allowed.VARIABLE, "")  # put back afterwards
    allowed.restrict([tmp_path])
    closed = find_source(tmp_path / "files")
    assert labels(closed) == {"cat": 4, "dog": 4}  # they lead elsewhere, but not out of the allowed folder
    allowed.restrict([tmp_path / "files", tmp_path / "folders"])
    for name, count in (("files", 8), ("folders", 2)):
        closed = find_source(tmp_path / name)
        assert not closed.items
        assert f"{count} links are ignored: they lead out of the folders that may be read" in notes(closed)


def test_a_table_names_no_photos_outside_the_folders_that_may_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = touch(tmp_path / "secret", numbered("cat"))
    photos = touch(tmp_path / "open" / "photos", numbered("cat") + numbered("dog"))
    rows = [f"photos/{path},{path[:3]}" for path in numbered("cat") + numbered("dog")]
    rows += [f"../secret/{numbered('cat')[0]},cat", f"{secret / numbered('cat')[1]},dog"]
    (tmp_path / "open" / "table.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    assert len(find_source(tmp_path / "open" / "table.csv").items) == 10  # a table of one's own may point anywhere
    monkeypatch.setenv(allowed.VARIABLE, "")  # put back afterwards
    allowed.restrict([tmp_path / "open"])
    source = find_source(tmp_path / "open" / "table.csv")
    assert labels(source) == {"cat": 4, "dog": 4}
    assert "2 rows of table.csv have no photo" in notes(source)
    with pytest.raises(PatiError, match="outside the folders that may be read"):
        find_source(secret)
    store = storage.at(photos)
    with pytest.raises(decode.Unreadable, match="outside"):
        store.read("../../secret/" + numbered("cat")[0])
    assert store.start("../../secret/" + numbered("cat")[0]) == b""
    assert not store.holds("../../secret")


def test_links_that_lead_in_a_circle_are_read_once(tmp_path: Path) -> None:
    touch(tmp_path / "d", numbered("cat") + numbered("dog"))
    (tmp_path / "d" / "cat" / "up").symlink_to(tmp_path / "d")
    (tmp_path / "d" / "dog" / "self").symlink_to(tmp_path / "d" / "dog")
    source = find_source(tmp_path / "d")
    assert labels(source) == {"cat": 4, "dog": 4}
    assert "2 links are ignored" in notes(source)


def test_what_pati_wrote_is_not_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, numbered("cat") + numbered("dog") + numbered("runs/1/figures"))
    for name in ("recipe.json", "run.json"):
        (tmp_path / "runs" / "1" / name).write_text("{}")
    touch(tmp_path / ".pati" / "cache", numbered("x"))
    touch(tmp_path / "cache", numbered("packs"))
    (tmp_path / "cache" / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n")
    monkeypatch.chdir(tmp_path)
    source = find_source(".")
    assert labels(source) == {"cat": 4, "dog": 4}
    assert "the folder runs/1 was written by pati" in notes(source)


def test_strays_are_counted_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pati.data.sources.tree.STRAYS", 10)
    touch(tmp_path / "d", numbered("cat") + numbered("dog"))
    for number in range(30):
        (tmp_path / "d" / "cat" / f"{number}.txt").write_text("x")
    source = find_source(tmp_path / "d")
    assert len(source.items) == 8 + 10
    assert "20 files without a photo's extension are not read: 20 .txt" in notes(source)
    assert STRAYS >= 1000


def test_deep_folders_end(tmp_path: Path) -> None:
    touch(tmp_path / "d", numbered("cat") + numbered("dog"))
    touch(tmp_path / "d" / "cat", ["x/" * 150 + "deep.jpg"])
    source = find_source(tmp_path / "d")
    assert labels(source) == {"cat": 4, "dog": 4}
    assert f"more than {DEEPEST} levels deep" in notes(source)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            lambda root: [(root / name).write_bytes(b"PK") for name in ("cat.zip", "dog.zip")],
            "contains archives, cat.zip",
        ),
        (lambda root: touch(root, [*numbered("test/cat"), *numbered("val/cat")]), "splits or classes"),
    ],
)
def test_what_cannot_be_told_is_said(make: Callable[[Path], object], told: str, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    make(tmp_path / "d")
    with pytest.raises(PatiError, match=told):
        find_source(tmp_path / "d")


def test_photos_that_are_elsewhere_are_counted(tmp_path: Path) -> None:
    touch(tmp_path / "d", numbered("cat") + numbered("dog"))
    for number in range(3):
        (tmp_path / "d" / "cat" / f".{number + 10}.jpg.icloud").write_bytes(b"bplist00")
    source = find_source(tmp_path / "d")
    assert len(source.items) == 8
    assert "3 photos are in iCloud only" in notes(source)


class Raw(zipfile.ZipInfo):
    """A member whose name is written as the given bytes, without the mark for UTF-8."""

    raw = b""

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802
        return self.raw, self.flag_bits & ~0x800


def raw_zip(path: Path, names: Iterable[bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for number, name in enumerate(names):
            member = Raw(f"{number}")
            member.raw = name
            archive.writestr(member, b"" if name.endswith((b"/", b"\\")) else JPEG)
    return path


@pytest.mark.parametrize(
    ("encoding", "form", "classes"),
    [
        ("cp857", "NFC", ("kuş", "köpek", "ağaç", "İnek", "kapı")),  # Explorer in Turkish
        ("cp857", "NFC", ("kapı", "köpek")),
        ("cp437", "NFC", ("Vögel", "café")),
        ("cp850", "NFC", ("São", "Águia")),
        ("utf-8", "NFC", ("kuş", "köpek")),  # zip on Linux, Java
        ("utf-8", "NFD", ("kuş", "köpek")),  # macOS
    ],
)
def test_names_in_zips_of_other_systems(encoding: str, form: str, classes: tuple[str, ...], tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, f"{label}/{number}.jpg") for label in classes for number in range(3)]
    source = find_source(raw_zip(tmp_path / "d.zip", [name.encode(encoding) for name in names]))
    assert labels(source) == {unicodedata.normalize(form, label): 3 for label in classes}
    assert ("are not marked as UTF-8" in notes(source)) == (encoding != "utf-8")
    assert {storage.at(source.root).read(item.path) for item in source.items} == {JPEG}


def test_folders_of_zips_may_end_in_a_backslash(tmp_path: Path) -> None:
    names = [b"photos\\", b"photos\\cat\\", b"photos\\dog\\"]
    names += [f"photos\\{label}\\{number}.jpg".encode() for label in ("cat", "dog") for number in range(3)]
    assert labels(find_source(raw_zip(tmp_path / "d.zip", names))) == {"cat": 3, "dog": 3}


def test_archives_are_known_by_their_content(tmp_path: Path) -> None:
    data = touch(tmp_path / "d", numbered("cat") + numbered("dog"))
    for kind, suffix in (("zip", ".tar"), ("tar", ".zip"), ("gztar", ".zip"), ("zip", ".dat")):
        made = Path(shutil.make_archive(str(tmp_path / f"{kind}-made"), kind, data))
        wrong = made.rename(tmp_path / f"{kind}{suffix}")
        assert labels(find_source(wrong)) == {"cat": 4, "dog": 4}


@pytest.mark.parametrize(
    ("start", "told"),
    [
        (b"Rar!\x1a\x07\x01\0" + bytes(100), "is a RAR archive"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(100), "is a 7z archive"),
        (b"<!DOCTYPE html><html>", "is a web page, not an archive"),
        (b"PK\3\4" + bytes(100), "its end is missing"),
    ],
)
def test_files_that_are_no_archives_are_named(start: bytes, told: str, tmp_path: Path) -> None:
    for name in ("d.zip", "d.tar.gz"):
        (tmp_path / name).write_bytes(start)
        with pytest.raises(PatiError, match=told):
            find_source(tmp_path / name)


def test_folders_without_photos_beside_the_classes_are_ignored(tmp_path: Path) -> None:
    touch(tmp_path / "d", numbered("cat") + numbered("dog"))
    for path in ("notes/todo.md", "code/src/train.py", "labels/old.csv"):
        (tmp_path / "d" / path).parent.mkdir(parents=True)
        (tmp_path / "d" / path).write_text("")
    (tmp_path / "d" / "empty").mkdir()
    source = find_source(tmp_path / "d")
    assert "4 folders contain no photos and are not classes: code, empty, labels, notes" in notes(source)

    def manifest(source: Source) -> Manifest:
        entries = [
            Entry(item.path, item.label, "kept" if item.path.endswith("jpg") else "quarantined", split=split)
            for item in source.items for split in ("train", "validation", "test")
        ]  # fmt: skip
        return Manifest("", "", class_order(entries), tuple(entries), {})

    assert manifest(source).classes == ("cat", "dog")
    require_trainable(manifest(source))
    (tmp_path / "d" / "raw").mkdir()
    (tmp_path / "d" / "raw" / "1.cr2").write_bytes(b"II*\0raw")
    with pytest.raises(PatiError, match="too few in: 'raw'"):  # a class whose photos can't be read is not dropped
        require_trainable(manifest(find_source(tmp_path / "d")))


def test_a_part_of_a_split_archive_is_named(tmp_path: Path) -> None:
    for name in ("d.z01", "d.zip.001", "d.7z.002", "d.part2.rar"):
        (tmp_path / name).write_bytes(b"PK\3\4" + bytes(1000))
        with pytest.raises(PatiError, match="is one part of a split archive"):
            find_source(tmp_path / name)


def test_a_table_names_the_classes_where_folders_do_not(tmp_path: Path) -> None:
    touch(tmp_path / "d", numbered("train", 6) + numbered("test", 2, "t{}.jpg"))
    rows = "".join(f"train/{number}.jpg,{'cat' if number % 2 else 'dog'}\n" for number in range(6))
    (tmp_path / "d" / "labels.csv").write_text(f"path,label\n{rows}")
    source = find_source(tmp_path / "d")
    assert labels(source) == {"cat": 3, "dog": 3}
    assert "2 photos have no row in labels.csv and are left out, for example test/t0.jpg" in notes(source)
    (tmp_path / "d" / "labels.csv").write_text("path,sender\ntrain/0.jpg,1\n")  # it says nothing of the classes
    with pytest.raises(PatiError, match="splits or classes"):
        find_source(tmp_path / "d", Columns(group="sender"))


def test_names_that_differ_in_case_are_joined_or_kept(tmp_path: Path) -> None:
    touch(
        tmp_path / "d",
        [*numbered("train/Cat", 5), *numbered("train/Dog"), *numbered("val/cat", 3), *numbered("val/DOG", 6)],
    )
    with pytest.raises(PatiError, match=r"differ only in case: Cat \(5\), cat \(3\)") as caught:
        find_source(tmp_path / "d")
    assert "--class-case join" in str(caught.value.hint)
    joined = find_source(tmp_path / "d", Columns(class_case="join"))
    assert labels(joined) == {"Cat": 8, "DOG": 10}  # as most photos have it
    assert "differ in case only are joined: Cat, DOG" in notes(joined)
    assert labels(find_source(tmp_path / "d", Columns(class_case="keep"))) == {"Cat": 5, "cat": 3, "Dog": 4, "DOG": 6}


def test_data_that_is_elsewhere_is_told(tmp_path: Path) -> None:
    (tmp_path / "photos.dvc").write_text("outs:\n- path: photos\n")
    (tmp_path / "fotos").mkdir()
    for name, told in (
        ("https://example.com/cats.zip", "download the data"),
        (tmp_path / "photos", "dvc pull"),
        (tmp_path / "photos.dvc", "dvc pull"),
        (tmp_path / "foto", "did you mean .*fotos"),
        ("cats-and-dogs", "built-in datasets"),
    ):
        with pytest.raises(PatiError) as caught:
            find_source(name)
        assert re.search(told, str(caught.value.hint))
