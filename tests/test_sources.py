"""DATA in all its forms: folders, archives, CSVs, known names."""

from __future__ import annotations

import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from pati.data.sources import storage
from pati.data.sources.archives import stem
from pati.data.sources.find import find_photos, find_source
from pati.data.sources.paths import open_path
from pati.data.sources.source import Columns, Source, natural, split_role
from pati.errors import PatiError
from tests.support.photos import draw, jpeg, write_shapes


def labels(source: Source) -> dict[str, int]:
    return dict(Counter(item.label for item in source.items))


def test_folder_of_class_folders(shapes: Path) -> None:
    source = find_source(shapes)
    assert labels(source) == {"circle": 30, "square": 30, "triangle": 30}
    assert [item.path for item in source.items] == sorted(item.path for item in source.items)


def test_photos_whatever_their_classes(shapes: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    photos = [shutil.copy(path, flat / f"{number:x}.jpg") for number, path in enumerate(sorted(shapes.rglob("*.jpg")))]
    (flat / "notes.txt").write_text("rainy days")
    shutil.make_archive(str(tmp_path / "flat"), "zip", flat)
    shutil.copytree(flat, tmp_path / "mixed" / "train" / "a")
    shutil.copytree(flat, tmp_path / "mixed" / "other" / "b" / "c")
    shutil.copy(photos[0], tmp_path / "mixed")
    for data, count in (("flat", 90), ("flat.zip", 90), ("mixed", 181), ("flat/1.jpg", 1)):
        source = find_photos(tmp_path / data)
        assert len(source.items) == count, data
        assert len(source.classes) == 1
        assert all(storage.at(source.root).read(item.path) for item in source.items)
    with pytest.raises(PatiError, match="no file, folder"):
        find_photos(tmp_path / "nothing")


def test_wrapping_and_hidden_folders(tmp_path: Path) -> None:
    write_shapes(tmp_path / "outer" / "inner", per_class=3)
    for stray in (".ipynb_checkpoints", "__MACOSX"):
        (tmp_path / "outer" / "inner" / stray).mkdir()
        (tmp_path / "outer" / "inner" / stray / "a.jpg").write_bytes(b"x")
    source = find_source(tmp_path / "outer")
    assert set(labels(source)) == {"circle", "square", "triangle"}
    assert any(".ipynb_checkpoints" in str(note) for note in source.notes)


def test_the_publishers_zip_with_papers_beside_the_photos(tmp_path: Path) -> None:
    write_shapes(tmp_path / "given" / "PetImages", per_class=3)
    for name in ("readme[1].txt", "MSR-LA - 3467.docx"):
        (tmp_path / "given" / name).write_text("licence")
    shutil.make_archive(str(tmp_path / "kagglecatsanddogs"), "zip", tmp_path / "given")
    assert labels(find_source(tmp_path / "kagglecatsanddogs.zip")) == {"circle": 3, "square": 3, "triangle": 3}


@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz"])
def test_archives(shapes: Path, tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"photos.{suffix}"
    if suffix == "zip":
        shutil.make_archive(str(tmp_path / "photos"), "zip", shapes.parent, "shapes")
    else:
        with tarfile.open(target, f"w:{suffix.partition('.')[2]}") as archive:
            archive.add(shapes, "PetImages")
    assert labels(find_source(target)) == {"circle": 30, "square": 30, "triangle": 30}


@pytest.mark.parametrize("parts", [("train", "val", "test"), ("Training", "Validation"), ("train", "test")])
def test_presplit_folders(tmp_path: Path, parts: tuple[str, ...]) -> None:
    for number, part in enumerate(parts):
        write_shapes(tmp_path / "data" / part, per_class=4, first=10 * number)
    source = find_source(tmp_path / "data")
    assert source.presplit
    assert labels(source) == {shape: 4 * len(parts) for shape in ("circle", "square", "triangle")}
    assert {item.split for item in source.items} == {split_role(part) for part in parts}


def test_csv_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(4):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(jpeg(draw("circle", number)))
    table = tmp_path / "list.csv"
    table.write_text("Image,Category,fold\n" + "".join(f"photos/{n}.jpg,{'xy'[n % 2]},f{n}\n" for n in range(4)))
    source = find_source(table, Columns(group="fold"))
    assert labels(source) == {"x": 2, "y": 2}
    assert [item.group for item in source.items] == ["f0", "f1", "f2", "f3"]


def test_csv_with_semicolons(tmp_path: Path) -> None:
    (tmp_path / "a, b.jpg").write_bytes(jpeg(draw("circle", 1)))
    (tmp_path / "list.csv").write_text('path;label\na, b.jpg;"cat; small"\n')
    (item,) = open_path(tmp_path / "list.csv").items
    assert (item.path, item.label) == ("a, b.jpg", "cat; small")


def test_csv_with_named_columns_and_splits(tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(jpeg(draw("circle", 1)))
    table.write_text("where,kind,part\na.jpg,x,train\nb.jpg,y,test\n")
    source = find_source(table, Columns(path="where", label="kind", split="part"))
    assert source.presplit
    assert [item.split for item in source.items] == ["train", "test"]


def test_csv_inside_a_folder_gives_groups(shapes: Path) -> None:
    lines = [f"{item.path},{item.label},{number % 5}" for number, item in enumerate(find_source(shapes).items)]
    (shapes / "meta.csv").write_text("file,label,sender\n" + "\n".join(lines) + "\n")
    source = find_source(shapes, Columns(group="sender"))
    assert {item.group for item in source.items} == set("01234")


def test_csv_beside_a_flat_folder(tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    for number in range(6):
        (tmp_path / "flat" / f"{number}.jpg").write_bytes(jpeg(draw("square", number)))
    (tmp_path / "flat" / "labels.csv").write_text(
        "filename,class\n" + "".join(f"{n}.jpg,{'ab'[n % 2]}\n" for n in range(6))
    )
    assert labels(find_source(tmp_path / "flat")) == {"a": 3, "b": 3}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a,b\n1,2\n", "no path column"), ("file,b,c\n1,2,3\n", "no label column"), ("file,label\n", "no rows"),
        ("file,label\n\xff.jpg,x\n", "names no photo that is here"), ("", "it is empty"),
    ],
)  # fmt: skip
def test_broken_csv(tmp_path: Path, text: str, told: str) -> None:
    table = tmp_path / "x.csv"
    table.write_text(text)
    with pytest.raises(PatiError, match=told):
        find_source(table)


def test_grouping_by_an_unknown_column(shapes: Path) -> None:
    with pytest.raises(PatiError, match="no CSV"):
        find_source(shapes, Columns(group="sender"))
    (shapes / "meta.csv").write_text("file,label,sender\ncircle/0.jpg,circle,1\n")
    with pytest.raises(PatiError, match="no column 'owner'"):
        find_source(shapes, Columns(group="owner"))
    with pytest.raises(PatiError, match="89 photos have no row"):
        find_source(shapes, Columns(group="sender"))
    with pytest.raises(PatiError, match="no CSV, so no columns"):
        find_source("digits", Columns(group="sender"))


def test_several_csvs_of_which_one_fits(shapes: Path) -> None:
    rows = "".join(f"{item.path},{number % 5}\n" for number, item in enumerate(find_source(shapes).items))
    (shapes / "a-notes.csv").write_bytes("file,label\ncaf\xe9.jpg,x\n".encode("latin-1"))
    (shapes / "b-labels.csv").write_text("file,label\ncircle/0.jpg,circle\n")
    (shapes / "c-senders.csv").write_text(f"file,sender\n{rows}")
    source = find_source(shapes, Columns(group="sender"))
    assert {item.group for item in source.items} == set("01234")


def test_contradicting_rows_are_refused(shapes: Path) -> None:
    (shapes / "meta.csv").write_text("file,label\ncircle/0.jpg,circle\ncircle/0.jpg,square\n")
    with pytest.raises(PatiError, match="two different rows"):
        find_source(shapes)


def test_bare_names_count_only_where_they_are_unique(shapes: Path) -> None:
    (shapes / "circle" / "only.jpg").write_bytes(jpeg(draw("circle", 77)))
    (shapes / "meta.csv").write_text("file,label\n1.jpg,square\nonly.jpg,triangle\n")
    found = {item.path: item.label for item in find_source(shapes, Columns(label="label")).items}
    assert found == {"circle/only.jpg": "triangle"}


def test_splits_beside_other_folders_are_not_guessed_at(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write_shapes(tmp_path / "d" / part, per_class=3)
    (tmp_path / "d" / "empty").mkdir()
    assert find_source(tmp_path / "d").presplit
    write_shapes(tmp_path / "d" / "test1", per_class=3)
    with pytest.raises(PatiError, match="splits or classes"):
        find_source(tmp_path / "d")


def test_unknown_data() -> None:
    with pytest.raises(PatiError, match="built-in dataset 'cats-vs-dog'"):
        find_source("cats-vs-dog")


def test_classes_are_in_natural_order() -> None:
    assert sorted(["10", "2", "0", "b", "a10", "a9"], key=natural) == ["0", "2", "10", "a9", "a10", "b"]
    assert sorted(["1", "001", "01"], key=natural) == ["001", "01", "1"]  # never left to chance


def test_digits_are_built_in() -> None:
    source = find_source("digits")
    assert len(source.items) == 1797
    assert source.classes == tuple("0123456789")
    assert not source.flip_invariant


def test_known_photos(photos: Callable[[str], Path]) -> None:
    photos("cats-vs-dogs")
    source = find_source("cats-vs-dogs")
    assert len(source.items) == 20_002
    assert source.classes == ("Cat", "Dog")
    clothes = find_source(photos("clothing"), Columns(group="sender_id"))
    assert len(clothes.items) == 5096
    assert len({item.group for item in clothes.items}) == 344
    # CSVs that name neither class nor group nor split are no tables of ours.
    assert len(find_source(photos("originals")).items) == 400
    assert labels(find_source(photos("pet-heads"))) == {"cat": 97, "dog": 51}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("photos", "photos"), ("my.photos.zip", "my.photos"), ("my.photos.tar.gz", "my.photos"), ("v1.2", "v1.2"),
        ("list.csv", "list"), (".photos", "photos"), ("...", "data"),
    ],
)  # fmt: skip
def test_the_name_of_data(name: str, told: str) -> None:
    assert stem(name) == told


def test_a_table_beside_an_archive_with_dots_in_its_name(shapes: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "my.photos"), "zip", shapes.parent, "shapes"))
    rows = [f"{item.path},{number % 3}" for number, item in enumerate(find_source(shapes).items)]
    (tmp_path / "my.photos.csv").write_text("path,sender\n" + "\n".join(rows))
    source = find_source(archive, Columns(group="sender"))
    assert {item.group for item in source.items} == {"0", "1", "2"}
