"""Archives that lie: whatever their members are called or claim, nothing outside the target folder changes."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import random
import resource
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from pati.data import archives, sources
from pati.data.archives import ArchiveLimits, safe_name, unpack
from pati.errors import PatiError
from tests.conftest import draw, jpeg

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


@pytest.mark.parametrize("form", ["zip", "tar"])
@pytest.mark.parametrize("vector", NAMES)
def test_names_that_lead_out_are_left_out(vector: str, form: str, place: Path) -> None:
    name = NAMES[vector]
    if form == "zip":
        archive = zip_of(place / "x.zip", {name: b"data", "cat/1.jpg": b"good"})
    else:
        archive = tar_of(place / "x.tar", [member(name), member("cat/1.jpg")])
    before = outside(place)
    left_out = unpack(archive, place / "here")
    assert outside(place) == before
    assert not Path("/tmp/escaped-absolute.jpg").exists()
    assert (
        [str(p.relative_to(place / "here")) for p in (place / "here").rglob("*") if p.is_file()] == ["cat/1.jpg"]
        or (
            # Formats cut a name at a NUL, or know no empty one: what is left of it is harmless.
            form == "tar" and vector in ("NUL", "nothing")
        )
        or (form == "zip" and vector == "NUL")
    )
    assert sum(left_out.values()) == 1 or vector in ("NUL", "nothing")


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
    before = outside(place)
    assert unpack(archive, place / "here") == {archives.LINK: 1}
    assert outside(place) == before
    assert tree(place / "here") == {}


def test_the_first_of_names_that_collide_stays(place: Path) -> None:
    names = ["cat/a.jpg", "cat/A.jpg", "CAT/a.jpg", "cat/./a.jpg", "cat/ß.jpg", "cat/SS.jpg"]
    archive = zip_of(place / "x.zip", {name: name.encode() for name in names})
    with zipfile.ZipFile(archive, "a") as again, pytest.warns(UserWarning, match="Duplicate"):
        again.writestr("cat/a.jpg", b"the second")
    assert unpack(archive, place / "here") == {archives.TWICE: 5}
    assert (place / "here/cat/a.jpg").read_bytes() == b"cat/a.jpg"
    assert len([path for path in (place / "here").rglob("*") if path.is_file()]) == 2


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
    with zipfile.ZipFile(place / "x.ratio.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.jpg", bytes(300_000_000))
    pax = member("pax", tarfile.XHDTYPE)
    long_name = member("long", tarfile.GNUTYPE_LONGNAME)
    unknown = member("unknown", b"Z")
    lying = member("claims.jpg")
    lying.size = 1 << 50
    (place / "x.lying.tar").write_bytes(lying.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    return {
        "ratio": place / "x.ratio.zip",
        "packed tar": tar_bomb(place / "x.gz.tar.gz", gzip.open, member("bomb.jpg"), 300 << 20),
        "tar header": tar_bomb(place / "x.pax.tar.gz", gzip.open, pax, 300 << 20),
        "tar long name": tar_bomb(place / "x.long.tar.bz2", bz2.open, long_name, 300 << 20),
        "passed over": tar_bomb(place / "x.folder.tar.xz", lzma.open, unknown, 300 << 20),
        "claims a petabyte": place / "x.lying.tar",
    }


def test_bombs_are_refused_in_bounded_room_time_and_memory(place: Path) -> None:
    for name, archive in bombs(place).items():
        here = place / "here" / name
        here.mkdir()
        before, started = outside(place), time.monotonic()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(PatiError, match=r"unpacks to over|a header claims|broken archive|unexpected end"):
            unpack(archive, here)
        assert time.monotonic() - started < 20
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 100_000  # kilobytes
        assert sum(path.stat().st_size for path in here.rglob("*")) <= 201_000_000
        assert outside(place) == before
        archive.unlink()


def test_members_that_share_their_bytes_count_each_or_not_at_all(place: Path) -> None:
    """The directory names 400 members, all of one packed megabyte: only the one whose header fits is written."""
    archive = overlapping(place / "x.zip", 400, 1 << 20)
    assert unpack(archive, place / "here") == {archives.DAMAGED: 399}
    assert sum(path.stat().st_size for path in (place / "here").rglob("*")) == 1 << 20


def test_nested_archives_stay_packed(place: Path) -> None:
    inner = zip_of(place / "x.inner.zip", {"bomb.jpg": b"data"}).read_bytes()
    unpack(zip_of(place / "x.zip", {"cat/inner.zip": inner}), place / "here")
    assert [path.name for path in (place / "here").rglob("*") if path.is_file()] == ["inner.zip"]


@pytest.mark.parametrize("limits", [ArchiveLimits(files=3), ArchiveLimits(bytes=2_000_000), ArchiveLimits(ratio=2)])
def test_limits(limits: ArchiveLimits, place: Path) -> None:
    with zipfile.ZipFile(place / "x.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        for number in range(5):
            zipped.writestr(f"{number}.jpg", bytes(1_000_000))
    with pytest.raises(PatiError, match=r"more than|unpacks to"):
        unpack(place / "x.zip", place / "here", limits)


# Damage --------------------------------------------------------------------------------------------------


def test_a_damaged_member_costs_that_member_only(place: Path) -> None:
    photos = {f"{label}/{number}.jpg": jpeg(draw("circle", number)) for label in ("cat", "dog") for number in range(4)}
    archive = zip_of(place / "x.zip", photos)
    data = bytearray(archive.read_bytes())
    data[data.index(photos["cat/2.jpg"]) + 300] ^= 1
    archive.write_bytes(data)
    assert unpack(archive, place / "here") == {archives.DAMAGED: 1}
    assert not (place / "here/cat/2.jpg").exists()
    assert sum(path.is_file() for path in (place / "here").rglob("*")) == 7
    source = sources.find(archive)
    assert "1 members of the archive are left out: damaged members" in source.notes
    assert sources.find(archive).notes == source.notes  # from the cache


def test_encrypted_and_cut_archives_say_so(place: Path) -> None:
    archive = zip_of(place / "x.zip", {"cat/1.jpg": b"data" * 100})
    data = bytearray(archive.read_bytes())
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(mark) + offset] |= 1
    (place / "x.locked.zip").write_bytes(data)
    with pytest.raises(PatiError, match="is encrypted"):
        unpack(place / "x.locked.zip", place / "here")
    (place / "x.cut.zip").write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(PatiError, match="broken archive"):
        unpack(place / "x.cut.zip", place / "here")
    whole = tar_of(place / "x.tar.gz", [member("a.jpg"), member("b.jpg")], random.Random(0).randbytes(9000), "w:gz")
    (place / "x.cut.tar.gz").write_bytes(whole.read_bytes()[:9000])
    (place / "tar").mkdir()
    with pytest.raises(PatiError, match="broken archive"):
        unpack(place / "x.cut.tar.gz", place / "tar")


def test_any_bytes_are_an_archive_or_refused(place: Path) -> None:
    """Random damage to small archives: refused or unpacked, never a crash, never a file outside."""
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
        with contextlib.suppress(PatiError):
            unpack(archive, here)
    assert outside(place) == before
    assert not any(path.is_symlink() for path in (place / "here").rglob("*"))


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "C:\\a", "a\0b", "..", "", "a/" + "b" * 300])
def test_unsafe_member_names(name: str) -> None:
    assert safe_name(name) is None


def test_what_a_killed_process_left_is_removed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATI_CACHE", str(place / "cache"))
    archive = zip_of(place / "x.zip", {"cat/1.jpg": b"data"})
    folder, _ = archives.unpacked(archive)
    slot = folder.parent
    dead = slot.with_name(f".{slot.name}-999999999-left")
    living = slot.with_name(f".{slot.name}-{os.getpid()}-left")
    for leftover in (dead, living):
        leftover.mkdir()
    slot.rename(place / "elsewhere")
    archives.unpacked(archive)
    assert not dead.exists()
    assert living.exists()
