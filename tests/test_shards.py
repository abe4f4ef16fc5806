"""Tars and Parquet files are read in place: the same photos in any form give the same manifest and the same weights."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from pati.app.photos import photo_of
from pati.data import decode, pack
from pati.data.audit import pool
from pati.data.audit.pool import read_all
from pati.data.audit.worker import Inspector
from pati.data.preprocess import Preprocess
from pati.data.sources import parquet, parquet_reader, shards, storage, tars
from pati.data.sources.archives import LINK, TWICE, UNSAFE, ArchiveLimits
from pati.data.sources.find import find_photos, find_source
from pati.data.sources.source import Columns
from pati.errors import PatiError
from pati.recipe import Recipe
from pati.system import extras, machine
from pati.system.files import cache_folder
from pati.workflows.check import check
from pati.workflows.relocate import relocate
from pati.workflows.score import score
from pati.workflows.train import train
from tests.support.commands import pati
from tests.support.kills import weights
from tests.support.photos import SHAPES, draw, jpeg, write_shapes

Photos = Mapping[str, bytes]
SMALL = Recipe(epochs=1, size=16, width=0.25, batch=16)
CLASSES = list(SHAPES)


@pytest.fixture(autouse=True)
def one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """To start a second process takes longer than the few photos here."""
    monkeypatch.setattr(machine, "cores", lambda: 1)


@pytest.fixture(scope="module")
def drawn() -> Photos:
    """Drawn pictures by path, in three classes."""
    return {f"{shape}/{number}.jpg": jpeg(draw(shape, number)) for shape in SHAPES for number in range(12)}


def write_tar(path: Path, members: Iterable[tuple[str, bytes]], format: int = tarfile.PAX_FORMAT) -> Path:
    """A tar, whose members have times in fractions of a second, as WebDataset's writer gives them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), 1.5  # type: ignore[assignment]  # tarfile takes floats
            archive.addfile(member, io.BytesIO(data))
    return path


def as_folder(photos: Photos, folder: Path) -> Path:
    for name, data in photos.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def as_zip(photos: Photos, folder: Path) -> Path:
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
        for name, data in photos.items():
            archive.writestr(name, data)
    return folder.with_suffix(".zip")


def as_table(photos: Photos, folder: Path) -> Path:
    as_folder(photos, folder)
    rows = (f"{name},{name.split('/')[0]}\n" for name in photos)
    (folder / "photos.csv").write_text("path,label\n" + "".join(rows))
    return folder / "photos.csv"


def mixed(photos: Photos, count: int = 3) -> list[list[str]]:
    """The names in parts, in an order that is not theirs."""
    names = sorted(photos, key=lambda name: random.Random(name).random())
    return [names[part::count] for part in range(count)]


def as_tars(photos: Photos, folder: Path) -> Path:
    for number, names in enumerate(mixed(photos)):
        write_tar(folder / f"photos-{number:06}.tar", ((name, photos[name]) for name in names))
    return folder


def as_samples(photos: Photos, folder: Path) -> Path:
    """WebDataset, with numbers in `.cls` and their names in a file."""
    for number, names in enumerate(mixed(photos)):
        sample = (
            member
            for name in names
            for member in (
                (name.replace(".jpg", ".cls"), str(CLASSES.index(name.split("/")[0])).encode()),
                (name, photos[name]),
            )
        )
        write_tar(folder / f"photos-{number:06}.tar", sample)
    (folder / "classnames.txt").write_text("\n".join(CLASSES))
    return folder


def as_documents(photos: Photos, folder: Path) -> Path:
    """WebDataset, with the class in a field of the `.json`."""
    for number, names in enumerate(mixed(photos)):
        sample = (
            member
            for name in names
            for member in (
                (name, photos[name]),
                (
                    name.replace(".jpg", ".json"),
                    json.dumps({"class_name": name.split("/")[0], "by": name[-5]}).encode(),
                ),
            )
        )
        write_tar(folder / f"photos-{number:06}.tar", sample)
    return folder


def hugging_face(rows: list[tuple[bytes | None, str | None, int]], classes: list[str] | None = CLASSES) -> pa.Table:
    """A table as `datasets` writes it."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": data, "path": path} for data, path, _ in rows], kind)
    features: dict[str, object] = {"image": {"_type": "Image"}}
    if classes is not None:
        features["label"] = {"_type": "ClassLabel", "names": classes}
    table = pa.table({"image": images, "label": pa.array([label for *_, label in rows], pa.int64())})
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def as_parquet(photos: Photos, folder: Path, group: int = 5) -> Path:
    (folder / "data").mkdir(parents=True)
    parts = mixed(photos)
    for number, names in enumerate(parts):
        rows = [(photos[name], name, CLASSES.index(name.split("/")[0])) for name in names]
        path = folder / "data" / f"all-{number:05}-of-{len(parts):05}.parquet"
        pq.write_table(hugging_face(rows), path, row_group_size=group)
    return folder


FORMS: dict[str, Callable[[Photos, Path], Path]] = {
    "folder": as_folder, "zip": as_zip, "table": as_table, "tars": as_tars, "samples": as_samples,
    "documents": as_documents, "parquet": as_parquet,
    "tar": lambda photos, folder: write_tar(folder.with_suffix(".tar"), photos.items()),
}  # fmt: skip


def test_all_forms_give_one_manifest(
    drawn: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("PATI_CACHE", str(tmp_path_factory.mktemp("cache")))
    broken = {**drawn, "circle/broken.jpg": drawn["circle/0.jpg"][:500], "square/empty.jpg": b""}
    manifests = {name: check(form(broken, tmp_path / name), Recipe()) for name, form in FORMS.items()}
    assert {name: manifest.hash() for name, manifest in manifests.items()} == dict.fromkeys(
        FORMS, manifests["folder"].hash()
    )
    assert len(manifests["parquet"].kept) == len(drawn)
    assert not (cache_folder() / "unpacked").exists()


def test_real_photos_in_all_forms_give_one_manifest(photos: Callable[[str], Path], tmp_path: Path) -> None:
    with zipfile.ZipFile(photos("cats-vs-dogs")) as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")]
        some = {
            f"{SHAPES[kind == 'Dog']}/{name.rpartition('/')[2]}": archive.read(name)
            for kind in ("Cat", "Dog")
            for name in [name for name in names if f"/{kind}/" in name][:12]
        }
    forms = ("folder", "samples", "parquet")
    assert len({check(FORMS[form](some, tmp_path / form), Recipe()).hash() for form in forms}) == 1


@pytest.mark.usefixtures("undrawn")
def test_all_forms_give_the_same_weights(drawn: Photos, tmp_path: Path) -> None:
    forms = ("folder", "samples", "parquet")
    runs = [train(FORMS[form](drawn, tmp_path / form), SMALL, out=tmp_path / f"run-{form}").run for form in forms]
    assert len({weights(run.folder) for run in runs}) == 1
    assert score(runs[2].folder)["accuracy"] == score(runs[0].folder)["accuracy"]
    with pytest.raises(PatiError, match="is not the data of this run"):
        relocate(runs[0], as_samples({name: drawn[name] for name in list(drawn)[1:]}, tmp_path / "fewer"))
    shutil.rmtree(tmp_path / "folder")
    for form in ("samples", "parquet"):  # the same photos at another place, in another form
        relocate(runs[0], tmp_path / form)
        assert Path(runs[0].read_state()["data"]) == tmp_path / form
    source, pictures = find_source(tmp_path / "parquet"), Preprocess(size=SMALL.size or 0)
    assert photo_of(source.root, "circle/0.jpg") == drawn["circle/0.jpg"]
    assert pack.open_or_build(source, pictures)[2] in (True, False)
    assert pack.open_or_build(source, pictures)[2] is True


def test_commands_read_shards(drawn: Photos, tmp_path: Path) -> None:
    some = {name: drawn[name] for name in list(drawn)[::6]}
    answers = []
    for form in ("folder", "tar", "samples", "parquet"):
        shown = pati("predict", "--format", "json", FORMS[form](some, tmp_path / form))
        assert shown.returncode == 0, shown.stderr
        answers.append(
            {"/".join(row["path"].split("/")[-2:]): row["probabilities"] for row in json.loads(shown.stdout)}
        )
    assert len(answers[0]) == len(some)
    assert answers[1:] == answers[:-1]
    explained = pati("explain", tmp_path / "tar.tar", "--out", tmp_path / "maps")
    assert explained.returncode == 0, explained.stderr
    assert len(list((tmp_path / "maps").iterdir())) == len(some)
    refused = pati("explain", "--check", tmp_path / "tar.tar")
    assert refused.returncode
    assert "unpack the photos" in refused.stderr
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    broken = pati("predict", "--format", "json", tmp_path / "cut.parquet", tmp_path / "samples")
    errors = [row["error"] for row in json.loads(broken.stdout)]
    assert "cut.parquet is damaged" in errors[0]
    assert errors[1:] == [None] * len(some)


# Tars


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_headers_are_read_as_tarfile_reads_them(format: int, tmp_path: Path) -> None:
    draws = random.Random(format)
    letters = ["a", "b/", "ç", "0", "long-" * 9, "ı.", " "] if format != tarfile.USTAR_FORMAT else ["a", "b/", "0", "."]
    names = {"".join(draws.choices(letters, k=5)).strip("/. ") + f"-{number}.jpg" for number in range(200)}
    path = write_tar(tmp_path / "x.tar", ((name, draws.randbytes(draws.randrange(1500))) for name in names), format)
    store = storage.at(path)
    assert isinstance(store, tars.Tars)
    with tarfile.open(path) as archive:
        for member in archive.getmembers():
            content = archive.extractfile(member)
            assert content is not None
            name = "/".join(part for part in member.name.split("/") if part)
            assert store.open(name).read() == content.read()
    assert len(store.index) == len(names)


def test_members_of_unusual_kinds(drawn: Photos, tmp_path: Path) -> None:
    """Everything that is not a plain file is left out and counted; what follows it is read."""
    photo = drawn["circle/0.jpg"]
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:

        def add(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **fields: object) -> None:
            member = tarfile.TarInfo(name)
            member.type, member.size = kind, len(data)
            for field, value in fields.items():
                setattr(member, field, value)
            archive.addfile(member, io.BytesIO(data))

        add("cat/1.jpg", data=photo)
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            add(f"cat/{kind!r}.jpg", kind, linkname="/etc/passwd")
        for kind in (tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE):
            add(f"cat/{kind!r}.jpg", kind)
        add("cat/1.jpg", data=b"twice")
        add("CAT/1.JPG", data=b"in another case")
        for name in ("../up.jpg", "/etc/up.jpg", "C:\\up.jpg", "cat/../../up.jpg", "d/" * 300 + "deep.jpg"):
            add(name, data=photo)
        add("dog", tarfile.DIRTYPE)
        add("dog/2.jpg", data=photo, pax_headers={"comment": "size and path are in it"})
        add("dog/" + "n" * 200 + ".jpg", data=photo)
        add("dog/ı.jpg", data=photo)
    raw = path.read_bytes()
    sparse = tarfile.TarInfo("cat/sparse.jpg")
    sparse.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(sparse.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"00000000000\0" + b"00000000000\0"
    header[483:495] = b"00000010000\0"
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    path.write_bytes(bytes(header) + raw)
    index = tars.read_index(shards.single(path))
    assert index.left_out == {LINK: 6, UNSAFE: 5, TWICE: 2}
    assert sorted(index.paths) == sorted(["cat/1.jpg", "dog/2.jpg", f"dog/{'n' * 200}.jpg", "dog/ı.jpg"])
    source = find_source(path)
    assert sum("ignored" in str(note) for note in source.notes) == 3
    assert [found.reason for found in read_all(source)] == [""] * 4


def test_damaged_tars_raise(drawn: Photos, tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "x.tar", drawn.items()).read_bytes()
    big = tarfile.TarInfo("cat/big.jpg")
    big.size = 10**12  # in base 256
    bomb = tarfile.TarInfo("x")
    bomb.type, bomb.size = tarfile.XHDTYPE, 1 << 33
    long = tarfile.TarInfo("././@LongLink")
    long.type, long.size = tarfile.GNUTYPE_LONGNAME, 600
    chain = (long.tobuf(tarfile.GNU_FORMAT) + b"a" * 1024) * 5000
    damaged = {
        "cut in a member": whole[: len(whole) // 2],
        "cut in a header": whole[:1224],
        "garbage between members": whole[:512] + bytes(512 * 20) + whole[512:],
        "a wrong checksum": whole[:1034] + b"x" + whole[1035:],
        "a size beyond the end": big.tobuf(tarfile.GNU_FORMAT) + whole,
        "a size below zero": whole[:124] + b"\xff" * 12 + whole[136:],
        "a header of gigabytes": bomb.tobuf(tarfile.GNU_FORMAT) + whole,
        "a name without a member": chain[:1536],
        "a chain of names": chain,
        "nothing": b"",
        "text": b"no tar at all" * 100,
    }
    found: dict[str, object] = {}
    for name, data in damaged.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "train-0.tar").write_bytes(data)
        try:
            source = find_source(folder)
        except PatiError as error:
            found[name] = "train-0.tar" in str(error) and error.hint is not None
        else:
            found[name] = source
    assert found == dict.fromkeys(damaged, True)
    write_tar(tmp_path / "open" / "a-0.tar", drawn.items())
    cut = (tmp_path / "open" / "a-0.tar").read_bytes().rstrip(b"\0")
    (tmp_path / "open" / "a-0.tar").write_bytes(cut + bytes(-len(cut) % 512))
    assert any("no end mark" in str(note) for note in find_source(tmp_path / "open").notes)


def test_no_damage_of_a_tar_does_more_than_raise(drawn: Photos, tmp_path: Path) -> None:
    some = {name: drawn[name] for name in list(drawn)[::6]}
    whole = as_tars(some, tmp_path / "x") / "photos-000000.tar"
    data, draws = whole.read_bytes(), random.Random(0)
    for _ in range(60):
        damaged = bytearray(data)
        for _ in range(draws.choice((1, 4, 40))):
            damaged[draws.randrange(len(data) // 512) * 512 + draws.randrange(512)] = draws.randrange(256)
        whole.write_bytes(damaged)
        try:
            source = find_source(tmp_path / "x")
        except PatiError:
            continue
        store = storage.at(source.root)
        for item in source.items:
            try:
                store.read(item.path)
            except decode.Unreadable:
                continue


def test_limits_hold(drawn: Photos, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", drawn.items())
    with pytest.raises(PatiError, match="more than 5 files"):
        tars.read_index(shards.single(path), ArchiveLimits(files=5))
    with pytest.raises(PatiError, match="unpacks to over"):
        tars.read_index(shards.single(path), ArchiveLimits(bytes=5))
    links = tmp_path / "links.tar"
    with tarfile.open(links, "w") as archive:
        for _ in range(100):
            member = tarfile.TarInfo("x.jpg")
            member.type = tarfile.SYMTYPE
            archive.addfile(member)
    with pytest.raises(PatiError, match="more than 5 files"):
        tars.read_index(shards.single(links), ArchiveLimits(files=5))


def test_a_large_photo_is_not_read(drawn: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "limits_now", lambda: decode.Limits(bytes=5000))
    large = {**drawn, "circle/large.jpg": bytes(5001)}
    as_parquet(large, tmp_path / "x")
    for place in (write_tar(tmp_path / "x.tar", large.items()), tmp_path / "x"):
        store = storage.at(find_source(place).root)
        reader = storage.reader(store.root)
        assert reader.read_at(store.address("circle/0.jpg")) == drawn["circle/0.jpg"]
        with pytest.raises(decode.Unreadable, match="too-large: 5,001 bytes"):
            reader.read_at(store.address("circle/large.jpg"))


def test_the_index_takes_less_than_100_bytes_a_member(tmp_path: Path) -> None:
    members = ((f"class-{number % 100:03}/photo-{number:08}.jpg", b"") for number in range(20_000))
    path = write_tar(tmp_path / "x.tar", members, tarfile.USTAR_FORMAT)
    index = tars.read_index(shards.single(path))
    assert len(index) == 20_000
    assert index.nbytes < 100 * len(index)
    assert {
        name: value for name, value in vars(index).items() if isinstance(value, list | dict) and len(value) > 9
    } == {}


def test_a_shard_that_changes_is_noticed(drawn: Photos, tmp_path: Path) -> None:
    for form in ("samples", "parquet"):
        source = find_source(FORMS[form](drawn, tmp_path / form))
        store = storage.at(source.root)
        address = store.address("circle/0.jpg")
        reader = storage.reader(source.root)
        assert reader.read_at(address) == store.read_at(address) == drawn["circle/0.jpg"]
        shard = next(iter(sorted((tmp_path / form).rglob("*.*r*")))).parent / address.split("|")[0].rpartition("/")[2]
        os.utime(shard, ns=(1, 1))
        for one in (reader, store):
            with pytest.raises(decode.Unreadable, match="changed"):
                one.read_at(address)


def test_a_change_during_the_audit_ends_it(drawn: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = find_source(as_samples(drawn, tmp_path / "x"))
    start = pool._Process._start

    def change(process: pool._Process) -> None:
        os.utime(tmp_path / "x" / "photos-000001.tar", ns=(1, 1))
        start(process)

    monkeypatch.setattr(pool._Process, "_start", change)
    with pytest.raises(PatiError, match=r"photos-000001\.tar has changed"):
        read_all(source)


def test_names_that_several_shards_share(drawn: Photos, tmp_path: Path) -> None:
    """Each photo then has its shard in its path; the folders mean what they mean together."""
    for shard in ("a-0", "a-1"):
        write_tar(tmp_path / "x" / f"{shard}.tar", ((f"set/{name}", data) for name, data in drawn.items()))
    source = find_source(tmp_path / "x")
    assert len(source.items) == 2 * len(drawn)
    assert source.items[0].path == "a-0/set/circle/0.jpg"
    assert Counter(item.label for item in source.items) == dict.fromkeys(SHAPES, 24)
    store = storage.at(source.root)
    for item in source.items:
        assert store.read(item.path) == drawn[item.path.partition("/set/")[2]]
    (tmp_path / "x" / "labels.csv").write_text("path,label\na-0/set/circle/0.jpg,one\na-1/set/square/1.jpg,two\n")
    assert find_source(tmp_path / "x", Columns(table="labels.csv")).classes == ("one", "two")


def test_tables_in_and_beside_tars(drawn: Photos, tmp_path: Path) -> None:
    rows = "".join(f"{name.replace('/', '-')},{name.split('/')[0]},{name[-5]}\n" for name in drawn)
    flat = {name.replace("/", "-"): data for name, data in drawn.items()}
    table = ("labels.csv", f"name,label,who\n{rows}".encode())
    inside = find_source(write_tar(tmp_path / "x.tar", [*flat.items(), table]), Columns(group="who"))
    as_tars(flat, tmp_path / "y")
    (tmp_path / "y" / table[0]).write_bytes(table[1])
    beside = find_source(tmp_path / "y", Columns(group="who"))
    assert inside.items == beside.items
    assert inside.classes == tuple(SHAPES)
    assert {item.group for item in inside.items} == {name[-5] for name in drawn}


# Samples


def test_fields_of_samples(drawn: Photos, tmp_path: Path) -> None:
    source = find_source(as_documents(drawn, tmp_path / "x"), Columns(group="by"))
    assert {item.group for item in source.items} == {name[-5] for name in drawn}
    by = find_source(tmp_path / "x", Columns(label="by"))
    assert set(by.classes) == {name[-5] for name in drawn}
    for columns, words in (
        (Columns(label="none"), "has the field 'none'"),
        (Columns(group="none"), "no field 'none'"),
        (Columns(path="none"), "--path-column does not apply"),
    ):
        with pytest.raises(PatiError, match=words):
            find_source(tmp_path / "x", columns)
    assert find_source(tmp_path / "x", Columns(classes_level=1)).classes == tuple(SHAPES)


def test_samples_of_several_photos_and_without_labels(drawn: Photos, tmp_path: Path) -> None:
    photo = drawn["circle/0.jpg"]
    members = [
        ("0001.left.jpg", photo), ("0001.right.jpg", photo), ("0001.cls", b"7\n"),
        ("0002.png", photo), ("0002.cls", b"10"), ("0002.txt", b"a text"),
        ("0003.jpg", photo), ("0003.cls", b""), ("0004.jpg", photo),
        ("._0005.jpg", photo), ("0005.cls", b"1"),
    ]  # fmt: skip
    source = find_source(write_tar(tmp_path / "x.tar", members))
    assert [(item.path, item.label) for item in source.items] == [
        ("0001.left.jpg", "7"), ("0001.right.jpg", "7"), ("0002.png", "10"),
    ]  # fmt: skip
    assert any("2 photos in x.tar have no labels" in str(note) for note in source.notes)
    with pytest.raises(PatiError, match="class"):
        find_source(write_tar(tmp_path / "none.tar", [("1.jpg", photo), ("2.jpg", photo)]))
    assert len(find_photos(tmp_path / "x.tar").items) == 5
    with pytest.raises(PatiError, match="none of the 2 photos has a label"):
        find_source(write_tar(tmp_path / "empty.tar", [(f"{n}.{end}", b"") for n in "12" for end in ("jpg", "cls")]))


@pytest.mark.parametrize(
    ("names", "data", "words"),
    [
        ("classes.txt", b"circle\nsquare", "names 2 classes, but there is a class 2"),
        ("classes.json", b'{"circle": 0}', "not a list of names in JSON"),
        ("classes.json", b'["a", "b", "a"]', "several classes 'a'"),
        ("classes.txt", b"a\nb\nc", "differently"),
    ],
)
def test_lists_of_class_names_must_fit(drawn: Photos, tmp_path: Path, names: str, data: bytes, words: str) -> None:
    as_samples(drawn, tmp_path / "x")
    if "differently" not in words:
        (tmp_path / "x" / "classnames.txt").unlink()
        assert find_source(tmp_path / "x").classes == ("0", "1", "2")
    (tmp_path / "x" / names).write_bytes(data)
    with pytest.raises(PatiError, match=words):
        find_source(tmp_path / "x")


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("1.cls", b"x" * 2000, "long text"),
        ("1.cls", bytes(2_000_000), "the limit is 1,000,000"),
        ("1.json", b"{", "is not JSON"),
        ("1.json", b"[" * 100_000, "is not JSON"),
        ("1.json", b'{"label": ["a", "b"]}', "multi-label"),
    ],
)
def test_bad_labels_of_samples_raise(drawn: Photos, tmp_path: Path, name: str, data: bytes, words: str) -> None:
    photo = drawn["circle/0.jpg"]
    with pytest.raises(PatiError, match=words):
        find_source(write_tar(tmp_path / "x.tar", [("1.jpg", photo), (name, data)]))


# Splits and folders


def test_splits_are_read_from_the_names_of_files(drawn: Photos, tmp_path: Path) -> None:
    parts = {"train": 0, "validation": 1, "test": 2}
    names = mixed(drawn)
    for split, number in parts.items():
        some = {name: drawn[name] for name in names[number]}
        write_tar(tmp_path / "tars" / f"imagenet-{split}-000000.tar", some.items())
        write_tar(tmp_path / "folders" / split / "000.tar", some.items())
        as_samples(some, tmp_path / "s" / split)
        rows = [(some[name], name, CLASSES.index(name.split("/")[0])) for name in some]
        path = tmp_path / "parquet" / "data" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(hugging_face(rows), path)
    shutil.move(tmp_path / "s" / "test" / "classnames.txt", tmp_path / "s" / "classnames.txt")
    found = [find_source(tmp_path / form) for form in ("tars", "folders", "s", "parquet")]
    assert all(source.presplit for source in found)
    assert {item.path: item.split for item in found[0].items} == {
        name: split for split, number in parts.items() for name in names[number]
    }
    assert found[1].items == found[0].items == found[2].items == found[3].items
    shutil.copy(tmp_path / "tars" / "imagenet-test-000000.tar", tmp_path / "tars" / "imagenet-more-0.tar")
    with pytest.raises(PatiError, match="which are the splits"):
        find_source(tmp_path / "tars")


def test_a_split_without_labels_is_left_out(drawn: Photos, tmp_path: Path) -> None:
    rows = [(drawn[name], name, CLASSES.index(name.split("/")[0])) for name in drawn]
    pq.write_table(hugging_face(rows), tmp_path / "train-0.parquet")
    pq.write_table(hugging_face([(data, path, -1) for data, path, _ in rows[:5]]), tmp_path / "test-0.parquet")
    source = find_source(tmp_path)
    assert len(source.items) == len(drawn)
    assert not source.presplit
    assert any("5 photos in test-0.parquet have no labels" in str(note) for note in source.notes)


def test_tars_beside_photos_are_not_read(drawn: Photos, tmp_path: Path) -> None:
    before = find_source(write_shapes(tmp_path / "x", 3))
    write_tar(tmp_path / "x" / "circle" / "backup.tar", drawn.items())
    after = find_source(tmp_path / "x")
    assert {item.path for item in after.items} - {item.path for item in before.items} == {"circle/backup.tar"}
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "photos.csv").write_text(
        f"path,label\n{tmp_path}/x/circle/0.jpg,a\n{tmp_path}/x/square/0.jpg,b\n"
    )
    write_tar(tmp_path / "t" / "old.tar", drawn.items())
    assert find_source(tmp_path / "t").classes == ("a", "b")


def test_folders_that_are_not_clear_raise(drawn: Photos, tmp_path: Path) -> None:
    as_tars(drawn, tmp_path / "x")
    with tarfile.open(tmp_path / "x" / "more.tar.gz", "w:gz"):
        pass
    with pytest.raises(PatiError, match="other archives"):
        find_source(tmp_path / "x")
    for path in (tmp_path / "x").glob("*.tar"):
        path.unlink()
    with pytest.raises(PatiError, match="compressed tars") as error:
        find_source(tmp_path / "x")
    assert "gunzip" in str(error.value.hint)
    write_tar(tmp_path / "y" / "z.tar", [("notes.txt", b"no photo")])
    with pytest.raises(PatiError, match="no photos in them"):
        find_source(tmp_path / "y")


# Parquet


def test_columns_of_parquet(drawn: Photos, tmp_path: Path) -> None:
    names = list(drawn)
    table = pa.table(
        {
            "jpg": pa.array([drawn[name] for name in names], pa.binary()),
            "class_name": pa.array([name.split("/")[0] for name in names]).dictionary_encode(),
            "other": pa.array([float(number % 2) for number in range(len(names))]),
            "split": ["train", "val", "test", "train"] * (len(names) // 4),
            "sender": [str(number // 3) for number in range(len(names))],
        }
    )
    pq.write_table(table, tmp_path / "photos.parquet")
    source = find_source(tmp_path / "photos.parquet", Columns(group="sender"))
    assert source.classes == tuple(SHAPES)
    assert source.items[5].path == "photos/000005"
    assert (source.items[5].split, source.items[5].group) == ("validation", "1")
    assert storage.at(source.root).read("photos/000005") == drawn[names[5]]
    assert find_source(tmp_path / "photos.parquet", Columns(label="other")).classes == ("0", "1")
    for columns, words in (
        (Columns(label="none"), "no column 'none'"),
        (Columns(path="sender"), "holds no bytes of photos"),
        (Columns(split="sender"), "unknown split '0'"),
        (Columns(table="x.csv"), "--table does not apply"),
    ):
        with pytest.raises(PatiError, match=words):
            find_source(tmp_path / "photos.parquet", columns)
    two = table.append_column("png", table["jpg"]).drop_columns(["class_name", "split"])
    pq.write_table(two, tmp_path / "two.parquet")
    with pytest.raises(PatiError, match="no label column"):
        find_source(tmp_path / "two.parquet", Columns(path="png"))


def test_rows_without_photos(drawn: Photos, tmp_path: Path) -> None:
    rows = [(drawn[name], name, CLASSES.index(name.split("/")[0])) for name in drawn]
    rows[3], rows[7] = (None, rows[3][1], rows[3][2]), (b"", *rows[7][1:])  # type: ignore[assignment]
    pq.write_table(hugging_face(rows), tmp_path / "x.parquet")
    manifest = check(tmp_path / "x.parquet", Recipe())
    bad = [entry for entry in manifest.entries if not entry.kept]
    assert [entry.reason for entry in bad] == ["empty", "empty"]
    assert "its row holds no photo" in str(next(entry.detail for entry in bad if entry.path == rows[3][1]))
    pq.write_table(hugging_face([(None, path, label) for _, path, label in rows]), tmp_path / "paths.parquet")
    with pytest.raises(PatiError, match="holds only paths") as error:
        find_source(tmp_path / "paths.parquet")
    assert "embed_external_files" in str(error.value.hint)


@pytest.mark.parametrize("paths", ["unsafe", "twice", "missing"])
def test_paths_that_cannot_be_used(drawn: Photos, tmp_path: Path, paths: str) -> None:
    rows = [(drawn[name], name, CLASSES.index(name.split("/")[0])) for name in drawn]
    wrong = {"unsafe": "../x.jpg", "twice": rows[0][1].upper(), "missing": None}[paths]
    rows[1] = (rows[1][0], wrong, rows[1][2])  # type: ignore[assignment]
    pq.write_table(hugging_face(rows), tmp_path / "x.parquet", row_group_size=7)
    source = find_source(tmp_path / "x.parquet")
    assert [item.path for item in source.items] == [f"x/{number:06}" for number in range(len(rows))]
    store = storage.at(source.root)
    assert [store.read(item.path) for item in source.items] == [data for data, *_ in rows]
    for absent in ("x/000036", "x/36", "y/000001", "circle/0.jpg"):
        with pytest.raises(decode.Unreadable, match="unreadable"):
            store.read(absent)


def test_each_row_group_is_decoded_once(drawn: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = find_source(as_parquet(drawn, tmp_path / "x", group=5))
    opened: Counter[tuple[str, int]] = Counter()
    batches = parquet_reader._batches

    def counted(file: io.BufferedReader, group: int, column: str) -> Iterator[object]:
        opened[file.name, group] += 1
        return batches(file, group, column)

    monkeypatch.setattr(parquet_reader, "_batches", counted)
    store = storage.at(source.root)
    tasks = [(number, store.address(item.path)) for number, item in enumerate(source.items)]
    portions = pool._portions(store, tasks, 2)
    inspector = Inspector(source.root, None)
    seen = [
        (number, inspector.inspect(address).sha256) for part in portions for chunk in part for number, address in chunk
    ]
    assert sorted(number for number, _ in seen) == list(range(len(drawn)))
    assert set(opened.values()) == {1}
    assert len(opened) == 9
    # Many photos in one group are shared out, each part to one process, which reads forwards only.
    whole = [(number, f"x|1|000000:{number:09}") for number in range(10_000)]
    portions = pool._portions(store, whole, 4)
    assert len(portions) >= 16
    assert [task for part in portions for chunk in part for task in chunk] == whole
    assert max(len(chunk) for part in portions for chunk in part) <= pool.CHUNK


def test_parts_of_a_pack_follow_the_rows(drawn: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = find_source(as_parquet(drawn, tmp_path / "x", group=5))
    store, preprocess = storage.at(source.root), Preprocess(size=32)
    inspections, packed, _ = pack.open_or_build(source, preprocess)
    monkeypatch.setenv("PATI_CACHE", str(tmp_path / "parts"))
    monkeypatch.setattr(pool, "PART", 10)
    monkeypatch.setattr(pack, "PART", 10)
    blocks, build = list[set[str]](), pack._build

    def watched(slot: Path, root: Path, paths: Sequence[str], *rest: Any) -> Any:
        blocks.append({store.block(store.address(path)) for path in paths})
        return build(slot, root, paths, *rest)

    monkeypatch.setattr(pack, "_build", watched)
    found, other, reused = pack.open_or_build(source, preprocess)
    assert not reused
    assert len(blocks) == 4
    assert sum(map(len, blocks)) <= len(set.union(*blocks)) + len(blocks) - 1  # a row group lies in two at most
    for one, same in ((inspections, found), (inspections, pool.read_all(source))):
        assert np.array_equal(one.digest, same.digest)
        assert np.array_equal(one.thumbs.take(one.thumb), same.thumbs.take(same.thumb))
    for digest in inspections.digest.tolist():
        assert np.array_equal(packed.pixels[packed.rows[digest.decode()]], other.pixels[other.rows[digest.decode()]])
    manifest = check(tmp_path / "x", Recipe(near_duplicates="off"))
    again = pack.of_manifest(manifest, preprocess)
    assert np.array_equal(again.of(manifest.entries), other.of(manifest.entries))
    assert len(blocks) == 4


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Limits under which processes that read photos have 56 MB."""
    monkeypatch.setenv("PATI_MAX_PIXELS", "6000000")
    monkeypatch.setenv("PATI_MAX_BYTES", "4000000")
    decode.limits_now.cache_clear()
    parquet.process.cache_clear()
    yield
    monkeypatch.undo()
    decode.limits_now.cache_clear()
    parquet.process.cache_clear()


@pytest.mark.usefixtures("little_memory")
@pytest.mark.skipif(sys.platform != "linux", reason="the memory of processes is limited on Linux only")
def test_bombs_are_quarantined(drawn: Photos, tmp_path: Path) -> None:
    """A few kilobytes that unpack to hundreds of megabytes: neither this process nor another one takes them up."""
    zeros = bytes(120_000_000)
    rows: list[tuple[bytes | None, str | None, int]] = [(drawn[name], name, 0) for name in list(drawn)[:3]]
    table = pa.concat_tables([hugging_face(rows), hugging_face([(zeros, "circle/bomb.jpg", 1)])])
    pq.write_table(table, tmp_path / "photo.parquet", compression="zstd", row_group_size=3, use_dictionary=False)
    assert (tmp_path / "photo.parquet").stat().st_size < 100_000
    assert [found.reason for found in read_all(find_source(tmp_path / "photo.parquet"))] == ["", "", "", "too-large"]
    store = storage.at(find_source(tmp_path / "photo.parquet").root)
    with pytest.raises(decode.Unreadable, match="too-large"):
        store.read("circle/bomb.jpg")
    assert store.read("circle/0.jpg") == drawn["circle/0.jpg"]
    for name, values in (("text", [zeros.decode()]), ("dictionary", ["x" * 1_000_000] * 20)):
        table = pa.table({"image": pa.array([b"x"] * len(values), pa.binary()), "label": pa.array(values)})
        pq.write_table(table, tmp_path / f"{name}.parquet", compression="zstd")
        with pytest.raises(PatiError, match=r"more memory than a photo|long texts"):
            find_source(tmp_path / f"{name}.parquet")


def test_no_damage_of_parquet_does_more_than_raise(drawn: Photos, tmp_path: Path) -> None:
    rows: list[tuple[bytes | None, str | None, int]] = [(b"photo" * 9, f"{number}.jpg", 0) for number in range(30)]
    path = tmp_path / "x.parquet"
    pq.write_table(hugging_face(rows), path, row_group_size=10)
    data, draws = path.read_bytes(), random.Random(1)
    cases = [data[:cut] for cut in (4, 5, len(data) // 2, len(data) - 1)] + [b"PAR1" + b"x" * 50 + b"PAR1"]
    for _ in range(80):
        damaged = bytearray(data)
        for _ in range(draws.choice((1, 3, 30))):
            damaged[draws.randrange(4, len(data))] = draws.randrange(256)
        cases.append(bytes(damaged))
    raised = 0
    for number, case in enumerate(cases):
        path.write_bytes(case)
        try:
            source = find_source(path)
            store = storage.at(source.root)
        except PatiError:
            raised += 1
            continue
        assert number >= 5
        for item in source.items:
            try:
                store.read(item.path)
            except decode.Unreadable:
                continue
    assert 5 <= raised < len(cases)


def test_wrong_types_raise(tmp_path: Path) -> None:
    photo = pa.array([b"x"] * 4, pa.binary())
    for column, words in (
        (pa.array([["a", "b"]] * 4), "several labels per photo"),
        (pa.array([{"a": 1}] * 4), "is of type struct"),
        (pa.array([None] * 4), "none of its 4 rows has a label"),
        (pa.array(["['a', 'b']"] * 4), "multi-label"),
        (pa.array(["x" * 2000] * 4), "long texts"),
    ):
        pq.write_table(pa.table({"image": photo, "label": column}), tmp_path / "x.parquet")
        with pytest.raises(PatiError, match=words):
            find_source(tmp_path / "x.parquet", Columns(label="label"))
    pq.write_table(pa.table({"image": ["a.jpg"] * 4, "label": ["a"] * 4}), tmp_path / "x.parquet")
    with pytest.raises(PatiError, match="no column of photos"):
        find_source(tmp_path / "x.parquet")
    few = hugging_face([(b"x", None, 5)])
    pq.write_table(few, tmp_path / "x.parquet")
    with pytest.raises(PatiError, match="only 3 classes have names"):
        find_source(tmp_path / "x.parquet")
    pq.write_table(hugging_face([(b"x", None, 0)], ["a", "a"]), tmp_path / "x.parquet")
    with pytest.raises(PatiError, match="several classes 'a'"):
        find_source(tmp_path / "x.parquet")
    (tmp_path / "two").mkdir()
    for name, classes in (("a", ["a", "b"]), ("b", ["b", "a"])):
        pq.write_table(hugging_face([(b"x", None, 0)], classes), tmp_path / "two" / f"{name}.parquet")
    with pytest.raises(PatiError, match="different columns or class names"):
        find_source(tmp_path / "two")


def test_without_pyarrow(drawn: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = as_parquet(drawn, tmp_path / "x")
    installed = extras.installed
    monkeypatch.setattr(extras, "installed", lambda package: package != "pyarrow" and installed(package))
    with pytest.raises(PatiError, match="requires pyarrow, which is not installed") as error:
        find_source(place)
    assert 'pip install "pati[parquet]"' in str(error.value.hint)


def test_pyarrow_is_imported_for_parquet_only(drawn: Photos, tmp_path: Path) -> None:
    place = as_tars(drawn, tmp_path / "x")
    code = "import sys; from pati.data.sources.find import find_source; find_source(sys.argv[1]); "
    code += "print('pyarrow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(place)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
