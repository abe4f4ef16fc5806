"""Made-up datasets in the layouts that people have, drawn at random from a grammar; every photo's meaning is known."""

from __future__ import annotations

import io
import itertools
import json
import random
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

JPEG, PNG = b"\xff\xd8\xff\xe0\0\x10JFIF", b"\x89PNG\r\n\x1a\n"  # listed as photos; never decoded
CLASSES = (
    ("cats", "dogs"), ("cat", "dog", "bird"), ("NORMAL", "PNEUMONIA"), ("kedi", "köpek"), ("kuş", "balık", "fare"),
    ("0", "1", "2", "3"), ("forest", "sea", "street"), ("n001-Chihuahua", "n002-Beagle"), ("ok", "defect"),
    ("Roma Tomato", "Green Pepper"), ("çilek", "üzüm"), ("a", "b"), ("healthy", "rust", "scab"), ("yes", "no"),
    ("open", "closed"), ("Class 1", "Class 2", "Class 10"), ("tabby-cat", "siamese_cat"), ("005", "007"),
)  # fmt: skip
LIKE_SPLITS = (("control", "test"), ("bus", "car", "train"), ("train", "test", "tram"), ("val", "train", "other"))
LEVELS = (
    (("animals", ("cat", "dog")), ("vehicles", ("car", "bus"))),
    (("cat", ("indoor", "outdoor")), ("dog", ("indoor", "outdoor"))),
    (("kitchen", ("day", "night")), ("garage", ("day", "night")), ("garden", ("day", "night"))),
)
SPLITS = (
    ("train", "val", "test"), ("Train", "Valid", "Test"), ("training", "validation", "testing"),
    ("training_set", "validation_set", "test_set"), ("seg_train", "seg_val", "seg_test"),
    ("trainset", "valset", "testset"), ("train_images", "val_images", "test_images"),
    ("egitim", "dogrulama", "test"), ("eğitim", "doğrulama", "sınama"), ("egitim_seti", "dogrulama_seti", "test_seti"),
    ("TRAIN", "VAL", "TEST"), ("train_data", "val_data", "test_data"), ("01_train", "02_val", "03_test"),
)  # fmt: skip
ROLES = ("train", "validation", "test")
ENCODINGS = ("utf-8", "utf-8", "utf-8-sig", "utf-16", "cp1254")
PATHS = ("path", "filename", "file_name", "image", "image_path", "dosya", "filepath", "image_id")
LABELS = ("label", "class", "category", "breed", "etiket", "target")


@dataclass
class Dataset:
    """Files by path, and what each photo means.

    `truth`: name of a photo -> class and split; photos without a class are not in it. `clear`: whether a person would
    know without asking; otherwise a question is as right as the truth. `words`: the choices that were drawn. `start`:
    the file that is DATA, if not the whole.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    truth: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    clear: bool = True
    words: list[str] = field(default_factory=list)
    start: str | None = None
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def put(self, folder: str, name: str, meaning: tuple[str, str | None] | None = None) -> str:
        """Add a photo, of a name that no other has; returns its path."""
        path = f"{folder}/{name}" if folder else name
        self.files[path] = JPEG + name.encode() + bytes(20)
        if meaning is not None:
            self.truth[name] = meaning
        return path

    def photos(self, folder: str, label: str, split: str | None, count: int, suffix: str = ".jpg") -> None:
        """Add `count` photos of a class."""
        for _ in range(count):
            self.put(folder, f"IMG_{next(self.numbers):05d}{suffix}", (label, split))

    def unlabelled(self, folder: str, count: int = 5) -> None:
        """Add photos without a class."""
        for _ in range(count):
            self.put(folder, f"u{next(self.numbers)}.jpg")

    def unanswerable(self) -> None:
        """Nothing but a question is right."""
        self.clear, self.truth = False, {"": ("", None)}


def drawn(draw: random.Random) -> Dataset:
    """A random dataset."""
    data = Dataset()
    kind = draw.choices(list(KINDS), list(KINDS.values()))[0]
    data.words.append(kind.__name__)
    kind(draw, data)
    surround(draw, data)
    return data


def spelled(text: str, form: str) -> str:
    """The text in a Unicode form: NFC or NFD."""
    return unicodedata.normalize("NFD" if form == "NFD" else "NFC", text)


def class_folders(draw: random.Random, data: Dataset) -> None:
    """One folder per class."""
    forms = draw.choice((("NFC",), ("NFC",), ("NFD",), ("NFC", "NFD")))  # from a PC, from a Mac, or from both
    suffix = draw.choice((".jpg", ".JPG", ".jpeg", ".jpg"))
    deeper = draw.random() < 0.2
    data.words += [*forms, suffix, "deeper" * deeper]
    for form, label in itertools.product(forms, draw.choice(CLASSES)):
        data.photos(spelled(label, form), label, None, 6, suffix)
        if deeper:
            data.photos(f"{spelled(label, form)}/2024/{draw.randrange(3)}", label, None, 2, suffix)


def split_folders(draw: random.Random, data: Dataset) -> None:
    """Class folders in folders of splits, perhaps beside photos without classes."""
    names, chosen = draw.choice(SPLITS), draw.choice(((0, 2), (0, 1), (0, 1, 2), (0, 1, 2), (0,)))
    classes, doubled, inner = draw.choice(CLASSES), draw.random() < 0.25, draw.choice(("", "", "", "images/"))
    form = draw.choice(("NFC", "NFC", "NFD"))  # of the first split
    data.words += [", ".join(names[index] for index in chosen), "doubled" * doubled, inner, form]
    for index in chosen:
        top = f"{names[index]}/{names[index]}" if doubled else names[index]
        for label in classes:
            data.photos(f"{top}/{inner}{spelled(label, 'NFC' if index else form)}", label, ROLES[index], 4)
    if 2 not in chosen and draw.random() < 0.5:
        data.words.append("flat test")
        data.unlabelled(draw.choice((names[2], f"{names[2]}/{names[2]}")))
    elif draw.random() < 0.15:
        data.words.append("flat predictions")
        data.unlabelled(draw.choice(("pred", "seg_pred/seg_pred")))
    if 1 not in chosen and draw.random() < 0.2:
        data.words.append("an empty split")
        data.files |= {f"{names[1]}/{label}/.gitkeep": b"" for label in classes}


def split_with_missing_classes(draw: random.Random, data: Dataset) -> None:
    """A class is in one of the splits only, or its name differs in case."""
    names, classes = draw.choice(SPLITS), draw.choice(CLASSES)
    other = draw.choice(("fewer", "more", "case"))
    data.words += [names[0], other]
    for label in classes:
        data.photos(f"{names[0]}/{label}", label, "train", 5)
    for label in classes[1:] if other == "fewer" else classes:
        shown = label.swapcase() if other == "case" else label
        data.photos(f"{names[2]}/{shown}", label, "test", 3)
    if other == "more":
        data.photos(f"{names[2]}/Zebra", "Zebra", "test", 3)
    data.clear = other == "fewer"


def in_file_names(draw: random.Random, data: Dataset) -> None:
    """Classes in the names of the files: cat.1.jpg, German_shepherd_012.jpg."""
    classes = draw.choice((("cat", "dog"), ("German_shepherd", "beagle"), ("kedi", "köpek"), ("rose", "tulip", "lily")))
    pattern = draw.choice(("{}.{}.jpg", "{}_{:03}.jpg", "{}-{}.jpg", "{} ({}).jpg"))
    place = draw.choice(("", "train", "images", "train/train"))
    data.words += [pattern, place]
    for label in classes:
        for _ in range(8):
            data.put(place, pattern.format(label, next(data.numbers)), (label, None))
    if place.startswith("train") and draw.random() < 0.6:
        data.words.append("flat test")
        for _ in range(5):
            data.put(place.replace("train", "test1"), f"{next(data.numbers)}.jpg")


def two_levels(draw: random.Random, data: Dataset) -> None:
    """Two levels of folders, either of which may be the classes."""
    data.clear, level = False, draw.randrange(2)
    for top, inner in draw.choice(LEVELS):
        for label in inner:
            data.photos(f"{top}/{label}", (top, label)[level], None, 4)


def like_splits(draw: random.Random, data: Dataset) -> None:
    """Classes with the names of splits."""
    data.clear = False
    for label in draw.choice(LIKE_SPLITS):
        data.photos(label, label, None, 6)


def beside_masks(draw: random.Random, data: Dataset) -> None:
    """Photos beside masks or descriptions with the same names."""
    photos, others = draw.choice((("images", "annotations/trimaps"), ("images", "masks"), ("Images", "Annotation")))
    in_folders = draw.random() < 0.6
    data.words += [photos, others, "class folders" if in_folders else "class in file name"]
    for number, label in itertools.product(range(12), ("Abyssinian", "beagle")):
        name, inside = f"{label}_{number}", f"/{label}" * in_folders
        data.put(photos + inside, f"{name}.jpg", (label, None))
        if others == "Annotation":
            data.files[f"{others}{inside}/{name}"] = b"<annotation></annotation>"
        else:
            data.files[f"{others}{inside}/{name}.png"] = PNG + bytes(20)


def nested_copy(draw: random.Random, data: Dataset) -> None:
    """Splits, and a second copy of them in a folder within."""
    data.clear = False
    classes = draw.choice(CLASSES)
    for label, split in itertools.product(classes, ("train", "test")):
        data.photos(f"xray/{split}/{label}", label, split, 5)
        for _ in range(2):
            data.put(f"xray/xray/{split}/{label}", f"copy{next(data.numbers)}.jpg")


Row = tuple[str, str, str]  # path of a photo, class, split


def written(
    draw: random.Random, data: Dataset, rows: Sequence[Row], table: str, *, splits: bool = False, plain: bool = False
) -> None:
    """Add a table of these rows in one of the ways that programs write tables; `plain`: comma, header, UTF-8."""
    base = table.rpartition("/")[0]
    reference = draw.choice(REFERENCES)
    separator = "," if plain else draw.choice((",", ",", ",", ";", "\t", "|"))
    encoding = "utf-8" if plain else draw.choice(ENCODINGS)
    header = plain or splits or draw.random() < 0.85
    first = not plain and header and draw.random() < 0.15  # a column of row numbers, as pandas writes it
    data.words += [reference.__name__, repr(separator), encoding, "" if header else "no header", "numbered" * first]
    cells = [draw.choice(PATHS), draw.choice(LABELS), *(["split"] if splits else [])]
    lines = [["", *cells] if first else cells] if header else []
    for number, (path, label, split) in enumerate(rows):
        row = [reference(path, base), quoted(label, separator), *([split] if splits else [])]
        lines.append([str(number), *row] if first else row)
    if not plain and draw.random() < 0.15:
        data.words.append("blank rows")
        lines += [[""] * len(lines[-1])] * 2
    space = " " * (not plain and separator in ",;" and draw.random() < 0.15)
    text = "\r\n".join((separator + space).join(line) for line in lines) + draw.choice(("", "\r\n", "\r\n\r\n"))
    if separator == ";" and draw.random() < 0.3:
        text = "sep=;\r\n" + text
    data.files[table] = text.encode(encoding, "replace")


def quoted(cell: str, separator: str) -> str:
    """The cell as it is written in a table."""
    return '"' + cell.replace('"', '""') + '"' if separator in cell or '"' in cell else cell


def relative_path(path: str, base: str) -> str:
    return path[len(base) + 1 :] if base else path


def file_name(path: str, base: str) -> str:
    return path.rpartition("/")[2]


def without_suffix(path: str, base: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[0]


def of_another_machine(path: str, base: str) -> str:
    return f"/content/drive/MyDrive/project/{path}"


def of_windows(path: str, base: str) -> str:
    return "C:\\Users\\user\\Desktop\\" + path.replace("/", "\\")


def from_the_script(path: str, base: str) -> str:
    return f"../input/{path}"


REFERENCES = (
    relative_path, relative_path, file_name, file_name, without_suffix, of_another_machine, of_windows, from_the_script,
)  # fmt: skip


def one_table(draw: random.Random, data: Dataset) -> None:
    """Photos in one folder, and a table of their classes."""
    place = draw.choice(("", "images", "images", "train", "resimler/hepsi"))
    classes = draw.choice((*CLASSES, ('a/b, "c"', "007 x")))
    table = draw.choice(("labels.csv", "etiketler.csv", "data.csv", "annotations.csv", "train.csv", "metadata.csv"))
    splits = draw.random() < 0.25
    words = draw.choice((ROLES, ("Training", "Validation", "Test"), ("TRAIN", "VALIDATE", "TEST")))
    rows = []
    for number, label in itertools.product(range(8), classes):
        split = 0 if number < 5 else 1 if number < 6 else 2
        name = f"{draw.choice('xyz')}{next(data.numbers):05d}.jpg"
        path = data.put(place, name, (label, ROLES[split] if splits else None))
        shown = f"{label}.0" if label.isdecimal() and label == "0" and number % 3 == 0 else label
        rows.append((path, shown, words[split]))
    draw.shuffle(rows)
    if draw.random() < 0.3:
        data.words.append("photos without rows")
        data.unlabelled(place, 3)
    if draw.random() < 0.2:
        data.words.append("rows without photos")
        rows += [(f"{place}/gone{number}.jpg".lstrip("/"), classes[0], words[0]) for number in range(3)]
    if place == "train" and draw.random() < 0.7:
        data.words.append("sample submission")
        data.unlabelled("test")
        names = [without_suffix(path, "") for path in data.files if path.startswith("test/")]
        text = "id," + ",".join(classes) + "\n" + "".join(f"{name}{',0.5' * len(classes)}\n" for name in names)
        data.files["sample_submission.csv"] = text.encode()
    written(draw, data, rows, table, splits=splits)
    if draw.random() < 0.15:
        data.start = table


def json_lines(draw: random.Random, data: Dataset) -> None:
    """A metadata.jsonl beside the photos, perhaps in each split."""
    classes, splits = draw.choice(CLASSES), draw.choice(((None,), ("train", "test")))
    for split in splits:
        place, lines = split or "images", []
        for label in classes:
            for _ in range(5):
                name = f"{next(data.numbers):05d}.jpg"
                data.put(place, name, (label, split))
                lines.append(json.dumps({"file_name": name, "label": label}))
        data.files[f"{place}/metadata.jsonl"] = ("\n".join(lines) + "\n").encode()


def tables_of_splits(draw: random.Random, data: Dataset) -> None:
    """A table for each split: at the top, or beside its photos."""
    classes, common, inside = draw.choice(CLASSES), draw.random() < 0.5, draw.random() < 0.4
    chosen = draw.choice((("train", "test"), ("train", "validation", "test")))
    names = dict(zip(ROLES, draw.choice(SPLITS[:3]), strict=True))
    data.words += ["one folder of photos" if common else "a folder for each split", "inside" * inside]
    for split in chosen:
        place = "images" if common else names[split]
        rows = []
        for label in classes:
            for _ in range(6 if split == "train" else 3):
                rows.append((data.put(place, f"{next(data.numbers):05d}.jpg", (label, split)), label, split))
        table = f"{place}/metadata.csv" if inside and not common else f"{names[split]}.csv"
        written(draw, data, rows, table, plain=True)


def one_hot(draw: random.Random, data: Dataset) -> None:
    """A column for each class; in one table, or in each folder of a split."""
    classes = draw.choice(CLASSES[:5])
    per_split, several = draw.random() < 0.5, draw.random() < 0.3
    data.words += ["per split" * per_split, "several ones" * several]
    for split in ("train", "valid", "test") if per_split else (None,):
        role = {"valid": "validation"}.get(split or "", split)
        place, lines = (
            split or "images",
            [draw.choice(("filename", "image")) + "".join(f", {name}" for name in classes)],
        )
        for number, label in itertools.product(range(5), classes):
            name = f"p{next(data.numbers):05d}_jpg.rf.0{number}.jpg"
            data.put(place, name, (label, role))
            ones = [int(other == label or (several and number < 2)) for other in classes]
            lines.append(name + "".join(f", {one}" for one in ones))
        data.files[f"{place}/_classes.csv" if per_split else "labels.csv"] = "\n".join(lines).encode()
    if several:
        data.unanswerable()


def unclear_tables(draw: random.Random, data: Dataset) -> None:
    """Tables that contradict each other or themselves, or name no files here."""
    kind = draw.choice(("two tables", "two labels a photo", "addresses", "numbers"))
    data.words.append(kind)
    rows, others = [], []
    for label, other in itertools.product(("cat", "dog"), ("black", "white")):
        for _ in range(4):
            path = data.put("images", f"{next(data.numbers):05d}.jpg")
            rows.append((path, label, ""))
            others.append((path, other, ""))
    if kind == "two tables":
        written(draw, data, rows, "species.csv", plain=True)
        written(draw, data, others, "colours.csv", plain=True)
    elif kind == "two labels a photo":
        written(draw, data, rows + others, "labels.csv", plain=True)
    elif kind == "addresses":
        lines = [f"https://example.com/{path},{label}" for path, label, _ in rows]
        data.files = {"labels.csv": "\n".join(["image,label", *lines]).encode()}
    else:
        lines = [f"{number},{number * 7 % 90},{number * 3 % 17}" for number in range(16)]
        data.files["measurements.csv"] = "\n".join(["id,width,height", *lines]).encode()
    data.unanswerable()


def text_lists(draw: random.Random, data: Dataset) -> None:
    """Lines of a path and a class or its number, in a file for each split or in one."""
    classes, per_split = draw.choice(CLASSES), draw.random() < 0.6
    spaced = any(" " in label for label in classes)
    numbered = draw.random() < 0.4
    separator = draw.choice(("\t", ",") if spaced and not numbered else (" ", " ", "\t"))
    data.words += [repr(separator), "per split" * per_split, "numbers" * numbered]
    for split in ("train", "validation", "test") if per_split else (None,):
        lines = []
        for label in list(range(len(classes))) * 5:
            shown = str(label) if numbered else classes[label]
            path = data.put("images", f"{draw.choice('xyz')}{next(data.numbers):05d}.jpg", (shown, split))
            lines.append(f"{path}{separator}{shown}")
        name = {"validation": "val", None: draw.choice(("labels", "list", "annotations"))}.get(split, split)
        data.files[f"{name}.txt"] = ("\n".join(lines) + "\n").encode()


def a_column_of_validation(draw: random.Random, data: Dataset) -> None:
    """A column that says of each photo whether it is for validation: is_valid."""
    classes, words = draw.choice(CLASSES), draw.choice((("False", "True"), ("0", "1"), ("false", "true")))
    lines = [f"name,label,{draw.choice(('is_valid', 'is_valid', 'is_test'))}"]
    role = "test" if lines[0].endswith("test") else "validation"
    data.words += [role, *words]
    for number, label in itertools.product(range(8), classes):
        other = number > 5
        path = data.put("images", f"{next(data.numbers):05d}.jpg", (label, role if other else "train"))
        lines.append(f"{path},{quoted(label, ',')},{words[other]}")
    data.files["labels.csv"] = "\n".join(lines).encode()


def spelled_otherwise(draw: random.Random, data: Dataset) -> None:
    """A table whose names or labels are spelled otherwise than the files: the look is the same, or nearly."""
    kind = draw.choice(("no-break spaces", "another suffix", "NFD names", "NFC names", "suffix in capitals", "spaces"))
    data.words.append(kind)
    lines = ["filename,label"]
    for number, label in itertools.product(range(8), draw.choice((("Roma Tomato", "Green Pepper"), ("a b", "a c")))):
        name, shown = f"ağaç_{next(data.numbers):04d}.jpg", label
        if kind in ("NFD names", "NFC names"):
            name = spelled(name, kind[:3])
        data.put("images", name, (label, None))
        name = unicodedata.normalize("NFC" if kind == "NFD names" else "NFD" if kind == "NFC names" else "NFC", name)
        if kind == "no-break spaces" and number % 2:
            shown = label.replace(" ", "\u00a0") + draw.choice(("", "\u00a0"))
        elif kind == "another suffix":
            name = name.replace(".jpg", ".png")
        elif kind == "suffix in capitals":
            name = name.replace(".jpg", ".JPG")
        elif kind == "spaces" and number % 2:
            shown = f" {label} "
        lines.append(f"{name},{shown}")
    data.files["labels.csv"] = "\n".join(lines).encode()


KINDS: dict[Callable[[random.Random, Dataset], None], int] = {
    class_folders: 5, split_folders: 9, split_with_missing_classes: 2, in_file_names: 3, two_levels: 1, like_splits: 1,
    beside_masks: 1, nested_copy: 1, one_table: 10, json_lines: 1, tables_of_splits: 3, one_hot: 2, unclear_tables: 2,
    text_lists: 2, a_column_of_validation: 1, spelled_otherwise: 2,
}  # fmt: skip


def surround(draw: random.Random, data: Dataset) -> None:
    """What lies around and between people's photos."""
    for _ in range(draw.choice((0, 0, 1, 2))):
        name = draw.choice(("archive", "dataset", "my photos", "PetImages", "indirilen", "v2"))
        for _ in range(draw.choice((1, 1, 2))):  # perhaps doubled
            data.files = {f"{name}/{path}": content for path, content in data.files.items()}
            data.start = data.start and f"{name}/{data.start}"
        data.words.append(f"in {name}")
    folder = next(path for path in data.files).rpartition("/")[0]
    beside = f"{folder}/" if folder else ""
    for chance, path, content in (
        (0.3, "readme.txt", b"Photos of my own."),
        (0.2, f"{beside}.DS_Store", bytes(40)),
        (0.2, f"__MACOSX/{beside}._1.jpg", b"\0\5\x16\7" + bytes(100)),
        (0.1, f"{beside}.099.jpg.icloud", b"bplist00" + bytes(80)),
        (0.1, f"{beside}Thumbs.db", bytes(40)),
        (0.1, "LICENSE", b"free"),
        (0.1, "notes/todo.md", b"more photos"),
        (0.1, ".git/config", b"[core]"),
    ):
        if draw.random() < chance:
            data.files[path] = content
    if draw.random() < 0.15:
        data.words.append("beside runs")
        for path in ("recipe.json", "run.json", "figures/curves.svg"):
            data.files[f"runs/photos-1/{path}"] = b"{}"
        data.files["runs/photos-1/figures/explanations.png"] = PNG + bytes(20)


# Containers: write a dataset at a path; return what is DATA.


def as_folder(data: Dataset, path: Path) -> Path:
    for name, content in data.files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path / (data.start or "")


def as_links(data: Dataset, path: Path) -> Path:
    """As caches of downloads do: each photo is a link to a file elsewhere."""
    store = path.with_name(path.name + "-blobs")
    store.mkdir(parents=True)
    for number, (name, content) in enumerate(data.files.items()):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (store / str(number)).write_bytes(content)
        (path / name).symlink_to(store / str(number))
    return path / (data.start or "")


def as_linked_folders(data: Dataset, path: Path) -> Path:
    """Each top folder is a link to one elsewhere, as on a disk that was full."""
    store = path.with_name(path.name + "-disk")
    as_folder(data, store)
    path.mkdir()
    for entry in store.iterdir():
        (path / entry.name).symlink_to(entry)
    return path / (data.start or "")


def as_folder_of_zips(data: Dataset, path: Path) -> Path:
    """One archive for each top folder, as they were downloaded."""
    path.mkdir()
    for top in sorted({name.partition("/")[0] for name in data.files if "/" in name}):
        with zipfile.ZipFile(path / f"{top}.zip", "w") as archive:
            for name, content in data.files.items():
                if name.startswith(f"{top}/"):
                    archive.writestr(name, content)
    data.unanswerable()
    return path


def as_zip(data: Dataset, path: Path) -> Path:
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
        for name, content in data.files.items():
            archive.writestr(name, content)
    return path.with_suffix(".zip")


def as_old_zip(data: Dataset, path: Path) -> Path:
    """With names in the code page of Turkish DOS and no mark, as Windows writes them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for folder in sorted({name.rpartition("/")[0] for name in data.files} - {""}):
            archive.writestr(_Unmarked(f"{folder}\\"), b"")
        for name, content in data.files.items():
            archive.writestr(_Unmarked(unicodedata.normalize("NFC", name)), content)
    path.with_suffix(".zip").write_bytes(buffer.getvalue())
    return path.with_suffix(".zip")


class _Unmarked(zipfile.ZipInfo):
    encoding = "cp857"

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802  (the name in the standard library)
        return self.filename.encode(self.encoding, "replace"), self.flag_bits


class _UnmarkedUtf8(_Unmarked):
    encoding = "utf-8"


def as_unmarked_zip(data: Dataset, path: Path) -> Path:
    """With names in UTF-8 but no mark, as macOS writes them."""
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
        for name, content in data.files.items():
            archive.writestr(_UnmarkedUtf8(name), content)
    return path.with_suffix(".zip")


def as_powershell_zip(data: Dataset, path: Path) -> Path:
    """With backslashes in the names and no entries of folders, as PowerShell 5 writes them."""
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
        for name, content in data.files.items():
            member = zipfile.ZipInfo("x")
            member.filename = name.replace("/", "\\")  # ZipInfo would write slashes
            archive.writestr(member, content)
    return path.with_suffix(".zip")


def as_self_extracting_zip(data: Dataset, path: Path) -> Path:
    """A program that unpacks itself: bytes before the archive."""
    packed = as_zip(data, path)
    packed.write_bytes(b"MZ" + bytes(2000) + packed.read_bytes())
    return packed


def as_tar_named_zip(data: Dataset, path: Path) -> Path:
    return _tar(data, path.with_suffix(".zip"), "w")


def as_cut_zip(data: Dataset, path: Path) -> Path:
    """A download that broke off."""
    packed = as_zip(data, path)
    packed.write_bytes(packed.read_bytes()[:-200])
    data.unanswerable()
    return packed


def as_tar(data: Dataset, path: Path) -> Path:
    return _tar(data, path.with_suffix(".tar"), "w")


def as_compressed_tar(data: Dataset, path: Path) -> Path:
    return _tar(data, path.with_suffix(".tar.gz"), "w:gz")


def _tar(data: Dataset, path: Path, mode: str) -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in data.files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def as_zip_of_zips(data: Dataset, path: Path) -> Path:
    """One archive within another for each top folder."""
    tops = sorted({name.partition("/")[0] for name in data.files if "/" in name})
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as outer:
        for top in tops:
            inner = io.BytesIO()
            with zipfile.ZipFile(inner, "w") as archive:
                for name, content in data.files.items():
                    if name.startswith(f"{top}/"):
                        archive.writestr(name[len(top) + 1 :], content)
            outer.writestr(f"{top}.zip", inner.getvalue())
        outer.writestr("readme.txt", "zips")
    data.unanswerable()
    return path.with_suffix(".zip")


CONTAINERS: dict[Callable[[Dataset, Path], Path], int] = {
    as_folder: 10, as_links: 1, as_linked_folders: 1, as_folder_of_zips: 1, as_zip: 4, as_old_zip: 2,
    as_unmarked_zip: 1, as_powershell_zip: 1, as_self_extracting_zip: 1, as_tar: 1, as_tar_named_zip: 1,
    as_compressed_tar: 1, as_zip_of_zips: 1, as_cut_zip: 1,
}  # fmt: skip
