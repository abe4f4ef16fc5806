"""Tables as people have them: what they are read as, which photos they mean, and when pati asks."""

from __future__ import annotations

import json
import shutil
import tracemalloc
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from pati.data.sources import allowed
from pati.data.sources.archives import ArchiveLimits
from pati.data.sources.find import find_source
from pati.data.sources.source import Columns, Source
from pati.errors import PatiError
from pati.system.csv_text import read_csv
from tests.support.commands import pati

JPEG = b"\xff\xd8\xff" + bytes(20)  # listed as a photo; never decoded here
ROWS = [(f"{label}{number}", label) for label in ("cat", "dog") for number in range(8)]
BOTH = {"cat": 8, "dog": 8}


def touch(root: Path, paths: Iterable[str]) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(JPEG)
    return root


def flat(root: Path, folder: str = "img", suffix: str = ".jpg") -> Path:
    return touch(root, [f"{folder}/{name}{suffix}" for name, _ in ROWS])


def table(head: str, row: str, count: int = len(ROWS)) -> str:
    """`row`: a format of the name, label and number."""
    return head + "".join(row.format(name=name, label=label, n=n) for n, (name, label) in enumerate(ROWS[:count]))


def labels(source: Source) -> dict[str, int]:
    return dict(Counter(item.label for item in source.items))


def right(source: Source) -> bool:
    """Whether every photo has the label that its name begins with, and is there."""
    return all(
        item.label == item.path.rpartition("/")[2][:3].lower() and (source.root / item.path).is_file()
        for item in source.items
    )


def notes(source: Source) -> str:
    return "\n".join(map(str, source.notes))


def refused(data: Path, columns: Columns = Columns()) -> str:
    with pytest.raises(PatiError) as caught:
        find_source(data, columns)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (table("filename,label\n", "{name}.jpg,{label}\n"), ""),
        (table("id,breed\n", "{name},{label}\n"), "column 'breed'"),
        (table("dosya;sınıf;puan\n", "{name}.jpg;{label};{n},5\n"), "column 'sınıf'"),
        (table("dosya,etiket\n", "img/{name}.jpg,{label}\n"), ""),
        (table("path\tlabel\n", "img/{name}.jpg\t{label}\n"), ""),
        (table("path|label\n", "img/{name}.jpg|{label}\n"), ""),
        (table("sep=;\npath;label\n", "img/{name}.jpg;{label}\n"), ""),
        (table("filename;label;\n", "{name}.jpg;{label};\n"), ""),
        (table("filename,note,label\n", '{name}.jpg,"one\ntwo, three",{label}\n'), ""),
        (table("Unnamed: 0,filename,breed\n", "{n},{name}.jpg,{label}\n"), "column 'breed'"),
        (table(", path, label\n", "{n}, img/{name}.jpg, {label}\u00a0\n") + ",,\n,,\n", ""),
        (table('"filename","label"\n', '"{n}","{name}.jpg","{label}"\n'), ""),  # of R
        (table("", "img/{name}.jpg,{label}\n"), "no header"),
        (table("", "{name};{label}\n"), "no header"),
        (table("My photos;;\n\nfilename;label;\n", "{name}.jpg;{label};\n"), "above its header is ignored: My photos"),
        (table("filename,label\r", "{name}.jpg,{label}\r"), ""),
        (table("filename,labels\n", "{name}.jpg,['{label}']\n"), "['cat'] are read as cat"),
        (table("FileName,Class\n", "IMG\\{name}.JPG,{label}\n"), ""),
        (table("path,label\n", "C:\\Users\\ayşe\\Desktop\\old\\{name}.jpg,{label}\n"), "old/cat0.jpg is img/cat0.jpg"),
        (table("path,label\n", "../input/data/img/{name}.jpg,{label}\n"), "data/img/cat0.jpg is img/cat0.jpg"),
        (table("path,label\n", "img/{name}.png,{label}\n"), "cat0.png is img/cat0.jpg"),
        (table("url,label\n", "https://x.org/a/{name}.jpg,{label}\n"), "a/cat0.jpg is img/cat0.jpg"),
        (table("image,id,label\n", "https://x.org/{n}.png,{name},{label}\n"), ""),
        (table("id,image,label\n", "{n},{name}.jpg,{label}\n"), ""),
        (table("filename,label\n", "{name}.jpg,{label}\n" * 2), ""),
    ],
)
def test_tables_that_can_be_read(text: str, told: str, tmp_path: Path) -> None:
    flat(tmp_path / "d")
    (tmp_path / "d" / "labels.csv").write_text(text, newline="")
    source = find_source(tmp_path / "d")
    assert labels(source) == BOTH
    assert right(source)
    assert told in notes(source)
    source = find_source(tmp_path / "d" / "labels.csv")  # the table by itself
    assert labels(source) == BOTH
    assert right(source)


@pytest.mark.parametrize(
    ("encoding", "told"),
    [("utf-8-sig", ""), ("utf-16", ""), ("utf-16-le", ""), ("utf-16-be", ""), ("cp1254", "it is read as Windows-1254")],
)
def test_encodings(encoding: str, told: str, tmp_path: Path) -> None:
    flat(tmp_path / "d")
    text = table("filename;label\r\n", "{name}.jpg;{label}\r\n").replace(";cat", ";kuş").replace(";dog", ";köpek")
    (tmp_path / "d" / "etiketler.csv").write_bytes(text.encode(encoding))
    source = find_source(tmp_path / "d")
    assert labels(source) == {"kuş": 8, "köpek": 8}
    assert told in notes(source)


def test_names_in_two_unicode_forms_and_numbers_without_zeros(tmp_path: Path) -> None:
    touch(
        tmp_path / "d", [unicodedata.normalize("NFD", f"img/{name}{n}.jpg") for name in ("kuş", "köpek") for n in "12"]
    )
    rows = "".join(f"img/{name}{n}.jpg,{name}\n" for name in ("kuş", "köpek") for n in "12")
    (tmp_path / "d" / "labels.csv").write_text(f"path,label\n{rows}")
    for data in (tmp_path / "d", tmp_path / "d" / "labels.csv"):
        assert labels(find_source(data)) == {"kuş": 2, "köpek": 2}
    touch(tmp_path / "e", [f"img/{n:05}.jpg" for n in range(8)])
    (tmp_path / "e" / "labels.csv").write_text("id,label\n" + "".join(f"{n},{'ab'[n % 2]}\n" for n in range(8)))
    source = find_source(tmp_path / "e")
    assert {item.path: item.label for item in source.items}["img/00003.jpg"] == "b"
    assert "matched by number: 0 is img/00000.jpg" in notes(source)


def test_json_lines(tmp_path: Path) -> None:
    flat(tmp_path / "d", "train")
    lines = [json.dumps({"file_name": f"{name}.jpg", "label": int(label == "dog")}) for name, label in ROWS]
    (tmp_path / "d" / "train" / "metadata.jsonl").write_text("\n".join(lines))
    assert labels(find_source(tmp_path / "d")) == {"0": 8, "1": 8}
    lines = [json.dumps({"file_name": f"{name}.jpg", "text": f"a photo of {name}"}) for name, _ in ROWS]
    (tmp_path / "d" / "train" / "metadata.jsonl").write_text("\n".join(lines))
    with pytest.raises(PatiError, match=r"no class folders, and .* metadata.jsonl: it has no label column"):
        find_source(tmp_path / "d")


def test_lists_of_paths_and_labels(tmp_path: Path) -> None:
    flat(tmp_path / "d", "my photos")
    (tmp_path / "d" / "train.txt").write_text(table("", "my photos/{name}.jpg {label}\n"))
    (tmp_path / "d" / "README.txt").write_text("Photos of cats.\nAnd of dogs, too.\n")
    source = find_source(tmp_path / "d")
    assert labels(source) == BOTH
    assert "README" not in notes(source)
    (tmp_path / "d" / "test.txt").write_text("photos/bird1.jpg bird\n")
    assert "test.txt is not used: its 1 row names no photo that is here" in notes(find_source(tmp_path / "d"))


@pytest.mark.parametrize(
    ("head", "row", "told"),
    [
        ("filename, cat, dog\n", "{name}.jpg, {cat}, {dog}\n", "columns cat, dog of labels.csv, one per class"),
        ("filename,width,cat,dog,bird\n", "{name}.jpg,{n}00,{cat}.0,{dog}.0,0.0\n", "columns cat, dog, bird"),
        ("filename,cropped,cat,dog,bird\n", "{name}.jpg,{odd},{cat},{dog},0\n", "'cropped' is not one of the classes"),
    ],
)
def test_one_column_per_class(head: str, row: str, told: str, tmp_path: Path) -> None:
    flat(tmp_path / "d")
    rows = [
        row.format(name=name, n=n + 1, odd=n % 2, cat=int(label == "cat"), dog=int(label == "dog"))
        for n, (name, label) in enumerate(ROWS)
    ]
    (tmp_path / "d" / "labels.csv").write_text(head + "".join(rows))
    source = find_source(tmp_path / "d")
    assert labels(source) == BOTH
    assert right(source)
    assert told in notes(source)


def test_several_labels_per_photo_are_named(tmp_path: Path) -> None:
    flat(tmp_path / "d")
    path = tmp_path / "d" / "labels.csv"
    rows = [f"{name}.jpg,{int(label == 'cat')},{n % 2},{n % 3 // 2}\n" for n, (name, label) in enumerate(ROWS)]
    path.write_text("filename,cat,outdoor,night\n" + "".join(rows))
    assert "multi-label" in refused(tmp_path / "d")
    assert labels(find_source(tmp_path / "d", Columns(label="cat"))) == {"0": 8, "1": 8}
    path.write_text(table("filename,labels\n", "{name}.jpg,{label}\n").replace("cat1.jpg,cat", "cat1.jpg,cat|dog"))
    assert "multi-label" in refused(tmp_path / "d")
    path.write_text(table("filename,label\n", "{name}.jpg,{label}\n") + "cat1.jpg,dog\ncat2.jpg,dog\n")
    assert "2 photos have two different rows in labels.csv, for example cat1.jpg" in refused(tmp_path / "d")


def test_labels_that_are_numbers_or_missing(tmp_path: Path) -> None:
    flat(tmp_path / "d")
    path = tmp_path / "d" / "labels.csv"
    path.write_text(
        "path,label\n" + "".join(f"{name}.jpg,{n % 2}{['', '.0'][n % 3 == 0]}\n" for n, (name, _) in enumerate(ROWS))
    )
    source = find_source(tmp_path / "d")
    assert labels(source) == {"0": 8, "1": 8}
    assert "labels such as 0.0 are read as 0" in notes(source)
    path.write_text(table("path,label\n", "{name}.jpg,{label}\n").replace("cat1.jpg,cat", "cat1.jpg,NaN"))
    source = find_source(tmp_path / "d")
    assert labels(source) == {"cat": 7, "dog": 8}
    assert "1 row of labels.csv has no label" in notes(source)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("split", "Training", "VALIDATE", "Test"), {"train", "validation", "test"}),
        (("bölüm", "eğitim", "doğrulama", "sınama"), {"train", "validation", "test"}),
        (("usage2", "train", "val", "test"), {"train", "validation", "test"}),
        (("is_valid", "False", "True", "True"), {"train", "validation"}),
        (("split", "train", "train", "train"), {None}),  # the others are for pati to make
        (("partition", "0", "1", "2"), {None}),  # what these mean is not known
    ],
)
def test_columns_of_splits(words: tuple[str, str, str, str], expected: set[str | None], tmp_path: Path) -> None:
    flat(tmp_path / "d")
    rows = [f"{name}.jpg,{label},{words[1 + (n % 8 > 4) + (n % 8 > 6)]}\n" for n, (name, label) in enumerate(ROWS)]
    path = tmp_path / "d" / "labels.csv"
    path.write_text(f"path,label,{words[0]}\n" + "".join(rows))
    source = find_source(tmp_path / "d")
    assert {item.split for item in source.items} == expected
    assert ("splits are read from column" in notes(source)) == (expected != {None})
    assert ("belong to the split train" in notes(source)) == (words[1:] == ("train",) * 3)
    assert ("0, 1, 2 are no splits" in notes(source)) == (words[0] == "partition")
    path.write_text(path.read_text().replace("cat0.jpg,cat,train", "cat0.jpg,cat,tarin"))
    if words[1] == "train":
        assert "unknown split 'tarin' for cat0.jpg" in refused(tmp_path / "d", Columns(split=words[0]))


def split_tables(root: Path, names: tuple[str, str], row: str = "{path},{label}\n") -> None:
    for part, name in zip(("train", "test"), names, strict=True):
        rows = [(f"{part}/{label}{number}{part}.jpg", label) for label in ("cat", "dog") for number in range(4)]
        touch(root, [path for path, _ in rows])
        lines = [row.format(path=path, name=path.rpartition("/")[2], label=label) for path, label in rows]
        (root / name).write_text("path,label\n" + "".join(lines))


@pytest.mark.parametrize(
    ("names", "row"),
    [
        (("train.csv", "test.csv"), "{path},{label}\n"),
        (("train.csv", "test.csv"), "{name},{label}\n"),
        (("train/metadata.csv", "test/metadata.csv"), "{name},{label}\n"),
        (("eğitim.csv", "sınama_verisi.csv"), "{path},{label}\n"),
    ],
)
def test_tables_named_like_splits_are_read_together(names: tuple[str, str], row: str, tmp_path: Path) -> None:
    split_tables(tmp_path / "d", names, row)
    source = find_source(tmp_path / "d")
    assert source.presplit
    assert labels(source) == BOTH
    assert all(item.split == item.path.partition("/")[0] for item in source.items)
    assert f"read from the tables {names[0]} (train), {names[1]} (test)" in notes(source)
    one = find_source(tmp_path / "d", Columns(table=names[0]))
    assert labels(one) == {"cat": 4, "dog": 4}
    assert not one.presplit
    assert "8 photos have no row" in notes(one)


def test_several_tables_are_not_guessed_at(tmp_path: Path) -> None:
    flat(tmp_path / "d")
    (tmp_path / "d" / "a.csv").write_text(table("filename,label\n", "{name}.jpg,{label}\n"))
    (tmp_path / "d" / "b.csv").write_text(table("filename,fur\n", "{name}.jpg,short\n"))
    told = refused(tmp_path / "d")
    assert "a.csv (16 photos; columns filename, label), b.csv (16 photos; columns filename, fur)" in told
    assert "--table a.csv" in told
    assert labels(find_source(tmp_path / "d", Columns(table="b.csv"))) == {"short": 16}
    (tmp_path / "d" / "a.csv").rename(tmp_path / "d" / "train.csv")
    (tmp_path / "d" / "b.csv").rename(tmp_path / "d" / "test.csv")  # named like splits, but of the same photos
    assert "contains several tables" in refused(tmp_path / "d")


def test_forms_for_predictions_and_tables_without_labels_are_no_labels(tmp_path: Path) -> None:
    flat(tmp_path / "d", "train")
    touch(tmp_path / "d", [f"test/{number}.jpg" for number in range(6)])
    (tmp_path / "d" / "labels.csv").write_text(table("id,breed\n", "{name},{label}\n"))
    (tmp_path / "d" / "sample_submission.csv").write_text("id,label\n" + "".join(f"{n},cat\n" for n in range(6)))
    (tmp_path / "d" / "test.csv").write_text("id\n" + "".join(f"{n}\n" for n in range(6)))
    source = find_source(tmp_path / "d")
    assert labels(source) == BOTH
    assert "sample_submission.csv is not used: it is a form for predictions" in notes(source)
    assert "test.csv is not used: it has no label column; its columns: id" in notes(source)
    assert "6 photos have no row in labels.csv and are left out, for example test/0.jpg" in notes(source)


def test_the_same_ids_in_the_training_and_the_test_folder(tmp_path: Path) -> None:
    touch(tmp_path / "d", [f"{part}/{number}.jpg" for part in ("train", "test") for number in range(8)])
    rows = "id,label\n" + "".join(f"{number},{'ab'[number % 2]}\n" for number in range(8))
    (tmp_path / "d" / "train.csv").write_text(rows)
    assert {item.path.partition("/")[0] for item in find_source(tmp_path / "d").items} == {"train"}
    (tmp_path / "d" / "train.csv").rename(tmp_path / "d" / "labels.csv")
    assert "its rows fit photos in test, train" in refused(tmp_path / "d")


def test_rows_without_photos_and_photos_without_rows_are_counted(tmp_path: Path) -> None:
    flat(tmp_path / "d")
    touch(tmp_path / "d", ["img/bird0.jpg", "thumbnails/bird9.jpg", "thumbnails/cat0.jpg"])
    (tmp_path / "d" / "labels.csv").write_text(
        table("path,label\n", "img/{name}.jpg,{label}\n") + "img/bird9.jpg,bird\nimg/bird8.jpg,bird\n"
    )
    source = find_source(tmp_path / "d")
    assert labels(source) == BOTH  # bird9 of another folder is another photo
    assert right(source)
    assert "2 rows of labels.csv have no photo, for example img/bird9.jpg" in notes(source)
    assert "3 photos have no row in labels.csv and are left out" in notes(source)


def test_a_table_of_few_photos_beside_class_folders(tmp_path: Path) -> None:
    touch(tmp_path / "d", [f"{label}/{number}.jpg" for label in ("cat", "dog") for number in range(4)])
    (tmp_path / "d" / "notes.csv").write_text("path,label\ncat/0.jpg,sharp\ndog/0.jpg,blurred\n")
    told = refused(tmp_path / "d")
    assert "notes.csv labels 2 photos of 8, but the folders name classes too: cat, dog" in told
    assert labels(find_source(tmp_path / "d", Columns(table="notes.csv"))) == {"sharp": 1, "blurred": 1}
    source = find_source(tmp_path / "d", Columns(classes_level=1))
    assert labels(source) == {"cat": 4, "dog": 4}
    assert "the labels of notes.csv are not used" in notes(source)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("l.csv", b"PK\3\4" + bytes(99), "it is not text but Excel"),
        ("l.xlsx", b"PK\3\4" + bytes(99), "l.xlsx: pati does not read this format"),
        ("l.csv", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n", "run git lfs pull"),
        ("l.csv", b"<!DOCTYPE html><html>", "it is a web page"),
        ("l.csv", table("filename,label\n", "{name}.jpg,{label}, small\n").encode(), "line 2 has 3 cells"),
        ("l.csv", (table("filename,label\n", "{name}.jpg,{label}\n") + "a.jpg,b,c\n").encode(), "18 has 3 cells, but"),
        ("l.csv", table("filename,age\n", "{name}.jpg,{n}.75\n").encode(), "no label column"),
        ("l.csv", b'filename,label\ncat1.jpg,"cat\n' + b"dog1.jpg,dog\n" * 20_000, "closing quotation mark missing"),
        ("l.csv", table("image,label\n", "https://x.org/{n}.jpg,{label}\n").encode(), "addresses on the internet"),
        ("l.csv", table("image,label\n", "images/x{n}.jpg,{label}\n").encode(), "none of its 16 rows names a photo"),
        ("l.csv", table("filename,label\n", "{name}.jpg,kuş\n").encode() + b"x.jpg,k\xf6pek\n", "damaged letters"),
        ("l.csv", b",".join([b"a"] * 20_000) + b"\nb\n", "it has 20,000 columns"),
        ("l.jsonl", b'{"file_name": "cat0.jpg", "label": 1}\nnull\n', "line 2 is not a JSON object"),
    ],
)  # fmt: skip
def test_tables_that_cannot_be_used_are_never_dropped(name: str, content: bytes, told: str, tmp_path: Path) -> None:
    flat(tmp_path / "d")
    (tmp_path / "d" / name).write_bytes(content)
    assert told in refused(tmp_path / "d")
    touch(tmp_path / "e", [f"{label}/{number}.jpg" for label in ("cat", "dog") for number in range(4)])
    shutil.copy(tmp_path / "d" / name, tmp_path / "e" / name)
    source = find_source(tmp_path / "e")  # classes by folder, and a note
    assert labels(source) == {"cat": 4, "dog": 4}
    assert f"the table {name} is not used" in notes(source)


def test_tables_may_name_photos_elsewhere_but_not_outside_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat(tmp_path / "elsewhere")
    (tmp_path / "d").mkdir()
    for start in ("../elsewhere", f"{tmp_path}/elsewhere"):
        (tmp_path / "d" / "labels.csv").write_text(table("path,label\n", f"{start}/img/{{name}}.jpg,{{label}}\n"))
        for data in (tmp_path / "d", tmp_path / "d" / "labels.csv"):
            source = find_source(data)
            assert labels(source) == BOTH
            assert right(source)
            assert "16 photos of labels.csv lie outside" in notes(source)
            with monkeypatch.context() as patched:
                patched.setenv(allowed.VARIABLE, json.dumps([str(tmp_path)]))
                assert labels(find_source(data)) == BOTH
                patched.setenv(allowed.VARIABLE, json.dumps([str(tmp_path / "d")]))
                assert "names a photo that is here" in refused(data)
    inside = flat(tmp_path / "f")
    assert labels(find_source(inside, Columns(table=str(tmp_path / "d" / "labels.csv")))) == BOTH
    monkeypatch.setenv(allowed.VARIABLE, json.dumps([str(inside)]))
    assert "no such file" in refused(inside, Columns(table=str(tmp_path / "d" / "labels.csv")))


def test_tables_may_be_links(tmp_path: Path) -> None:
    flat(tmp_path / "d")
    (tmp_path / "blob").write_text(table("path,label\n", "img/{name}.jpg,{label}\n"))
    (tmp_path / "d" / "labels.csv").symlink_to(tmp_path / "blob")
    for data in (tmp_path / "d", tmp_path / "d" / "labels.csv"):
        assert labels(find_source(data)) == BOTH


@pytest.mark.parametrize("kind", ["zip", "gztar"])
def test_tables_in_archives_name_photos_in_them_only(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATI_CACHE", str(tmp_path / "cache"))
    flat(tmp_path / "d" / "inner")
    path = tmp_path / "d" / "inner" / "labels.csv"
    path.write_text(table("path,label\n", "img/{name}.jpg,{label}\n"))
    (tmp_path / "d" / "inner" / "b.csv").write_text("path,label\nimg/cat0.jpg,x\nimg/dog0.jpg,y\n")
    archive = Path(shutil.make_archive(str(tmp_path / "a"), kind, tmp_path / "d"))
    assert "several tables" in refused(archive)
    assert labels(find_source(archive, Columns(table="labels.csv"))) == BOTH
    flat(tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "d" / "inner" / "img")
    touch(tmp_path / "d" / "inner", ["img/x.jpg"])
    (tmp_path / "d" / "inner" / "b.csv").unlink()
    for start in ("../elsewhere", "../../../../../elsewhere", f"{tmp_path}/elsewhere"):
        path.write_text(table("path,label\n", f"{start}/img/{{name}}.jpg,{{label}}\n"))
        archive = Path(shutil.make_archive(str(tmp_path / "b"), kind, tmp_path / "d"))
        assert "none of its 16 rows names a photo that is here" in refused(archive)


def test_tables_in_archives_have_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("img/cat0.jpg", JPEG)
        archive.writestr("labels.csv", "path,label\n" + "x.jpg,cat\n" * 3000)
    monkeypatch.setattr(ArchiveLimits, "files", 1000)
    assert "labels.csv: it has more than 1,000 rows" in refused(tmp_path / "a.zip")


def test_long_tables_take_little_memory(tmp_path: Path) -> None:
    flat(tmp_path / "d")
    with (tmp_path / "d" / "labels.csv").open("w") as file:
        file.write(table("path,label,note\n", "img/{name}.jpg,{label},x\n"))
        file.writelines(f"img/{number}.jpg,cat,text {number}\n" for number in range(30_000))
    peaks = []
    for _ in range(3):  # the table of all names that Python keeps may have to grow in one of them
        tracemalloc.start()
        for data in (tmp_path / "d", tmp_path / "d" / "labels.csv"):
            source = find_source(data)
            assert labels(source) == BOTH
            assert "30,000 rows of labels.csv have no photo" in notes(source)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert min(peaks) < 4_000_000  # the rows as dictionaries: 15 million


def test_machine_written_tables_are_read_to_the_letter(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text('path,note\n a.jpg,"x"\nb.jpg\n')
    assert read_csv(tmp_path / "d.csv") == (
        ["path", "note"], [{"path": " a.jpg", "note": "x"}, {"path": "b.jpg", "note": ""}]
    )  # fmt: skip


def test_the_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shapes: Path) -> None:
    photos = [path.relative_to(shapes) for path in sorted(shapes.rglob("*.jpg"))]
    (tmp_path / "one.csv").write_text("path,label\n" + "".join(f"{path},{path.parts[0]}\n" for path in photos))
    (shapes / "two.csv").write_text("path,label\n" + "".join(f"{path},{n % 2}\n" for n, path in enumerate(photos)))
    monkeypatch.chdir(tmp_path)
    told: Callable[..., str] = lambda *words: pati("check", str(shapes), *words).stdout  # noqa: E731
    assert "column 'label' of one.csv" in told("--table", "one.csv")
    assert "column 'label' of two.csv" in told("--table", "two.csv")
    done = pati("check", str(shapes), "--table", "three.csv")
    assert done.returncode != 0
    assert "--table three.csv: no such file" in done.stderr
    assert Columns(table="/x/one.csv").options() == ["--table", "/x/one.csv"]
