"""Archives that lie: whatever their members are called or claim, nothing outside the target folder changes.

Tars are unpacked, zips read where they are.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import random
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from pati.data import decode
from pati.data.sources import archives, storage
from pati.data.sources.archives import ArchiveLimits, safe_name, unpack
from pati.data.sources.storage import Storage, read_index
from pati.errors import PatiError
from pati.recipe import Recipe
from pati.system import files, locks
from pati.workflows.check import check
from tests.support.memory import peak
from tests.support.photos import draw, jpeg

NAMES = {
    "parent": "../escaped.jpg",
    "deep parent": "a/b/../../../escaped.jpg",
    "absolute": "/tmp/escaped-absolute.jpg",
    "drive": "C:\\escaped.jpg",
    "drive, relative": "C:escaped.jpg",
    "backslashes": "..\\..\\escaped.jpg",
    "share": "\\\\server\\share\\escaped.jpg",
    "NUL": "escaped\0.jpg",
    "dots alone": "..",
    "nothing": "",
    "long part": "n" * 300 + ".jpg",
    "long path": "/".join(["d" * 200] * 30) + "/x.jpg",
}


def tree(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything below a folder: kind, size, content."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            path.lstat().st_size if path.is_file() else 0,
            path.read_bytes() if path.is_file() and not path.is_symlink() else b"",
        )
        for path in folder.rglob("*")
    }


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with neighbours that must stay as they are; archives unpack into `here`."""
    for name in ("outside/secret.txt", "outside/cat/0.jpg", "escaped.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("as it was")
    (tmp_path / "here").mkdir()
    return tmp_path


def outside(place: Path) -> dict[str, tuple[int, int, bytes]]:
    return {name: facts for name, facts in tree(place).items() if not name.startswith(("here/", "x."))}


def zip_of(path: Path, members: dict[str, bytes], **attributes: int) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo("placeholder")
            info.filename = name  # as it is: ZipInfo would cut it at a NUL
            info.external_attr = attributes.get("external_attr", 0)
            archive.writestr(info, data)
    return path


def tar_of(path: Path, members: list[tarfile.TarInfo], data: bytes = b"data", mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for member in members:
            member.size = len(data) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(data) if member.isreg() else None)
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def files_in(place: Storage, prefix: str = "") -> list[str]:
    """Names of all files in a place, at any depth."""
    found: list[str] = []
    for entry in place.names():
        name = prefix + entry.name
        found += files_in(place.child(entry.name), f"{name}/") if entry.folder else [name]
    return found


def read_all(archive: Path) -> dict[str, bytes]:
    """Every file of a zip; raises `PatiError` or, for one that is broken, `Unreadable`."""
    place = storage.at(archive)
    return {name: place.read(name) for name in files_in(place)}


@pytest.mark.parametrize("vector", NAMES)
def test_names_that_lead_out_of_a_tar_are_left_out(vector: str, place: Path) -> None:
    archive = tar_of(place / "x.tar", [member(NAMES[vector]), member("cat/1.jpg")])
    before = outside(place)
    left_out = unpack(archive, place / "here")
    assert outside(place) == before
    assert not Path("/tmp/escaped-absolute.jpg").exists()
    if vector not in ("NUL", "nothing"):  # the format cuts a name at a NUL and knows no empty one: the rest is harmless
        assert files_in(storage.at(place / "here")) == ["cat/1.jpg"]
        assert left_out == {archives.UNSAFE: 1}


@pytest.mark.parametrize("vector", NAMES)
def test_names_that_lead_out_of_a_zip_are_not_shown(vector: str, place: Path) -> None:
    name = NAMES[vector]
    archive = zip_of(place / "x.zip", {name: b"data", "cat/1.jpg": b"good"})
    before = outside(place)
    if vector == "NUL":  # what zipfile leaves of the name
        name = "escaped"
        assert read_all(archive) == {"escaped": b"data", "cat/1.jpg": b"good"}
    else:
        assert read_all(archive) == {"cat/1.jpg": b"good"}
        with pytest.raises(decode.Unreadable, match=r"unreadable|not-a-file"):
            storage.at(archive).read(name)
        assert read_index(archive).left_out == {archives.UNSAFE: 1}
    assert outside(place) == before


LINKS = {
    "symbolic link": [member("cat", tarfile.SYMTYPE, "../outside"), member("cat/0.jpg")],
    "symbolic link to a file": [member("x.jpg", tarfile.SYMTYPE, "../outside/secret.txt"), member("x.jpg")],
    "hard link": [member("x.jpg", tarfile.LNKTYPE, "../outside/secret.txt"), member("x.jpg")],
    "absolute link": [member("cat", tarfile.SYMTYPE, "/tmp"), member("cat/escaped.jpg")],
    "character device": [member("null", tarfile.CHRTYPE)],
    "block device": [member("disk", tarfile.BLKTYPE)],
    "pipe": [member("pipe.jpg", tarfile.FIFOTYPE)],
}


@pytest.mark.parametrize("vector", LINKS)
@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.bz2", ".tar.xz"])
def test_links_and_devices_of_tars_are_left_out(vector: str, suffix: str, place: Path) -> None:
    mode = {"": "w", ".gz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}[suffix.removeprefix(".tar")]
    archive = tar_of(place / f"x{suffix}", LINKS[vector], mode=mode)
    before = outside(place)
    assert unpack(archive, place / "here") == {archives.LINK: 1}
    assert outside(place) == before
    assert all(path.is_dir() or path.is_file() for path in (place / "here").rglob("*"))
    assert not any(path.is_symlink() for path in (place / "here").rglob("*"))


def test_links_of_zips_are_left_out(place: Path) -> None:
    archive = zip_of(place / "x.zip", {"cat": b"../outside"}, external_attr=0o120777 << 16)
    assert read_all(archive) == {}
    assert read_index(archive).left_out == {archives.LINK: 1}


def test_the_first_of_names_that_collide_stays(place: Path) -> None:
    names = ["cat/a.jpg", "cat/A.jpg", "CAT/a.jpg", "cat/./a.jpg", "cat/ß.jpg", "cat/SS.jpg"]
    archive = zip_of(place / "x.zip", {name: name.encode() for name in names})
    with zipfile.ZipFile(archive, "a") as again, pytest.warns(UserWarning, match="Duplicate"):
        again.writestr("cat/a.jpg", b"the second")
    assert read_all(archive) == {"cat/a.jpg": b"cat/a.jpg", "cat/ß.jpg": "cat/ß.jpg".encode()}
    assert read_index(archive).left_out == {archives.TWICE: 5}
    twins = [member(name) for name in names]
    assert unpack(tar_of(place / "x.tar", twins), place / "here") == {archives.TWICE: 4}
    assert sorted(files_in(storage.at(place / "here"))) == ["cat/a.jpg", "cat/ß.jpg"]


# Bombs ---------------------------------------------------------------------------------------------------


def deflated(count: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(count >> 20)) + packer.flush()


def overlapping(path: Path, files: int, inner: int) -> Path:
    """A zip whose members all name one and the same packed data."""
    kernel = deflated(inner)
    checksum = 0
    for _ in range(inner >> 20):
        checksum = zlib.crc32(bytes(1 << 20), checksum)
    local = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, 8, 0, 0x21, checksum, len(kernel), inner, 1, 0) + b"a"
    directory = b""
    for number in range(files):
        name = b"a" if number == 0 else b"%d.jpg" % number
        directory += struct.pack(
            "<4sHHHHHHIIIHHHHHII", b"PK\1\2", 20, 20, 0, 8, 0, 0x21, checksum, len(kernel), inner, len(name),
            0, 0, 0, 0, 0, 0,
        ) + name  # fmt: skip
    start = len(local) + len(kernel)
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, files, files, len(directory), start, 0)
    path.write_bytes(local + kernel + directory + end)
    return path


def tar_bomb(path: Path, opener: Callable[..., io.BufferedIOBase], header: tarfile.TarInfo, size: int) -> Path:
    """A packed tar of one member that claims and holds `size` zeros."""
    header.size = size
    with opener(path, "wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        for _ in range(size >> 20):
            file.write(bytes(1 << 20))
        file.write(bytes(1024))
    return path


def bombs(place: Path) -> dict[str, Path]:
    pax = member("pax", tarfile.XHDTYPE)
    long_name = member("long", tarfile.GNUTYPE_LONGNAME)
    unknown = member("unknown", b"Z")
    lying = member("claims.jpg")
    lying.size = 1 << 50
    (place / "x.lying.tar").write_bytes(lying.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    return {
        "packed tar": tar_bomb(place / "x.gz.tar.gz", gzip.open, member("bomb.jpg"), 300 << 20),
        "tar header": tar_bomb(place / "x.pax.tar.gz", gzip.open, pax, 300 << 20),
        "tar long name": tar_bomb(place / "x.long.tar.bz2", bz2.open, long_name, 300 << 20),
        "passed over": tar_bomb(place / "x.folder.tar.xz", lzma.open, unknown, 300 << 20),
        "claims a petabyte": place / "x.lying.tar",
    }


@pytest.mark.slow
def test_bombs_are_refused_in_bounded_room_time_and_memory(place: Path) -> None:
    for name, archive in bombs(place).items():
        here = place / "here" / name
        here.mkdir()
        before, started = outside(place), time.monotonic()
        memory = peak()
        with pytest.raises(PatiError, match=r"unpacks to over|a header claims|is damaged|unexpected end"):
            unpack(archive, here)
        assert time.monotonic() - started < 20
        assert peak() - memory < 100_000  # kilobytes
        assert sum(path.stat().st_size for path in here.rglob("*")) <= 201_000_000
        assert outside(place) == before
        archive.unlink()


@pytest.mark.slow
def test_zip_bombs_are_refused_in_bounded_time_and_memory(place: Path) -> None:
    with zipfile.ZipFile(place / "x.ratio.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.jpg", bytes(300_000_000))
    overlapping(place / "x.shared.zip", 400, 1 << 20)
    started, memory = time.monotonic(), peak()
    for name in ("x.ratio.zip", "x.shared.zip"):
        with pytest.raises(PatiError, match="unpacks to over"):
            storage.at(place / name)
    assert time.monotonic() - started < 5
    assert peak() - memory < 50_000  # kilobytes


@pytest.mark.slow
def test_a_member_that_unpacks_to_more_than_it_claims_is_damaged(place: Path) -> None:
    with zipfile.ZipFile(place / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.jpg", bytes(300_000_000))
        archive.writestr("large.jpg", bytes(70_000_000))
    data = bytearray((place / "x.zip").read_bytes())
    at = data.index(b"PK\1\2") + 24
    data[at : at + 4] = struct.pack("<I", 1000)  # of 300 MB
    (place / "x.zip").write_bytes(data)
    memory = peak()
    for name, reason in (("bomb.jpg", "damaged"), ("large.jpg", "too-large")):
        with pytest.raises(decode.Unreadable, match=reason):
            storage.at(place / "x.zip").read(name)
    assert peak() - memory < 50_000  # kilobytes


def test_members_that_share_their_bytes_are_damaged_but_one(place: Path) -> None:
    """The directory names 40 members, all of one packed megabyte: only the one whose header fits can be read."""
    at = storage.at(overlapping(place / "x.zip", 40, 1 << 20))
    assert at.read("a") == bytes(1 << 20)
    for number in range(1, 40):
        with pytest.raises(decode.Unreadable, match="damaged"):
            at.read(f"{number}.jpg")


def test_nested_archives_stay_packed(place: Path) -> None:
    inner = zip_of(place / "x.inner.zip", {"bomb.jpg": b"data"}).read_bytes()
    assert read_all(zip_of(place / "x.zip", {"cat/inner.zip": inner})) == {"cat/inner.zip": inner}


@pytest.mark.parametrize("limits", [ArchiveLimits(files=3), ArchiveLimits(bytes=2_000_000), ArchiveLimits(ratio=2)])
def test_limits(limits: ArchiveLimits, place: Path) -> None:
    photos = {f"{number}.jpg": bytes(1_000_000) for number in range(5)}
    with zipfile.ZipFile(place / "x.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, data in photos.items():
            zipped.writestr(name, data)
    with pytest.raises(PatiError, match=r"more than|unpacks to"):
        read_index(place / "x.zip", limits)
    tar_of(place / "x.tar.gz", [member(name) for name in photos], bytes(1_000_000), "w:gz")
    with pytest.raises(PatiError, match=r"more than|unpacks to"):
        unpack(place / "x.tar.gz", place / "here", limits)


# Damage --------------------------------------------------------------------------------------------------


def test_a_damaged_member_costs_that_member_only(place: Path) -> None:
    photos = {f"{label}/{number}.jpg": jpeg(draw("circle", number)) for label in ("cat", "dog") for number in range(4)}
    archive = zip_of(place / "x.zip", photos)
    data = bytearray(archive.read_bytes())
    data[data.index(photos["cat/2.jpg"]) + 300] ^= 1
    archive.write_bytes(data)
    found = check(archive, Recipe())
    assert [(entry.path, entry.reason) for entry in found.entries if not entry.kept] == [("cat/2.jpg", "damaged")]
    assert len(found.kept) == 7


def test_encrypted_and_cut_archives_say_so(place: Path) -> None:
    archive = zip_of(place / "x.zip", {"cat/1.jpg": b"data" * 100})
    data = bytearray(archive.read_bytes())
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(mark) + offset] |= 1
    (place / "x.locked.zip").write_bytes(data)
    with pytest.raises(PatiError, match="is encrypted"):
        storage.at(place / "x.locked.zip")
    (place / "x.cut.zip").write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(PatiError, match=r"the archive .* is damaged"):
        storage.at(place / "x.cut.zip")
    whole = tar_of(place / "x.tar.gz", [member("a.jpg"), member("b.jpg")], random.Random(0).randbytes(9000), "w:gz")
    (place / "x.cut.tar.gz").write_bytes(whole.read_bytes()[:9000])
    (place / "tar").mkdir()
    with pytest.raises(PatiError, match=r"the archive .* is damaged"):
        unpack(place / "x.cut.tar.gz", place / "tar")


@pytest.mark.slow
def test_any_bytes_are_an_archive_or_refused(place: Path) -> None:
    """Random damage to small archives: refused or read, never a crash, never a file outside."""
    rng = random.Random(5)
    seeds = [
        zip_of(place / "x.zip", {"cat/1.jpg": b"data" * 50, "dog/2.jpg": b"more" * 50}).read_bytes(),
        tar_of(place / "x.tar", [member("cat/1.jpg"), member("dog/2.jpg")]).read_bytes()[:3072],
        tar_of(place / "x.tar.gz", [member("cat/1.jpg"), member("dog/2.jpg")], mode="w:gz").read_bytes(),
    ]
    before = outside(place)
    for trial in range(600):
        data = bytearray(seeds[trial % 3])
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        archive = place / ["x.zip", "x.tar", "x.tar.gz"][trial % 3]
        archive.write_bytes(data)
        here = place / "here" / str(trial)
        here.mkdir()
        with contextlib.suppress(PatiError, decode.Unreadable):
            read_all(archive) if trial % 3 == 0 else unpack(archive, here)
    assert outside(place) == before
    assert not any(path.is_symlink() for path in (place / "here").rglob("*"))


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "C:\\a", "a\0b", "..", "", "a/" + "b" * 300])
def test_unsafe_member_names(name: str) -> None:
    assert safe_name(name) is None


def test_what_a_killed_process_left_is_removed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATI_CACHE", str(place / "cache"))
    archive = tar_of(place / "x.tar", [member("cat/1.jpg")])
    folder, _ = archives.unpacked(archive)
    slot = folder.parent
    left = {name: slot.with_name(f".{slot.name}-{name}") for name in ("dead", "living", "strange")}
    for leftover in left.values():
        leftover.mkdir()
    for name in ("dead", "living"):
        (left[name] / locks.MARK).touch()
    used = locks.use(left["living"])
    slot.rename(place / "elsewhere")
    archives.unpacked(archive)
    assert [name for name, leftover in left.items() if leftover.exists()] == ["living", "strange"]
    assert used is not None
    used.close()
    with files.scratch_folder(slot):
        assert not left["living"].exists()
