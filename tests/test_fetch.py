"""Bringing built-in datasets here, against a server on this machine."""

from __future__ import annotations

import errno
import hashlib
import io
import shutil
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from pati.data.sources import download, fetch
from pati.data.sources.builtin_datasets import Download, downloads, locate
from pati.data.sources.find import find_source
from pati.errors import PatiError
from pati.system import locks
from tests.support.photos import draw, jpeg


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        for label in ("Cat", "Dog"):
            for number in range(3):
                zipped.writestr(f"PetImages/{label}/{number}.jpg", jpeg(draw("circle", number)))
    return buffer.getvalue()


BODY = archive()


class Server(BaseHTTPRequestHandler):
    """Sends BODY, in the way that the path names; counts requests and remembers their ranges."""

    ranges: ClassVar[list[str | None]] = []
    etag = '"one"'

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        Server.ranges.append(asked)
        nth = len(Server.ranges)
        if self.path == "/missing":
            self.send_error(404)
            return
        if (self.path == "/broken" and nth < 3) or (self.path == "/dies" and nth > 1):
            self.send_error(503)
            return
        start = 0
        if asked and self.path != "/ignores-ranges" and self.headers.get("If-Range") == Server.etag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        if start >= len(BODY):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(BODY)}")
            self.end_headers()
            return
        body = b"<html>moved</html>" if self.path == "/page" else BODY[start:]
        claimed = len(body) + {"/claims-more": 100, "/claims-less": -100}.get(self.path, 0)
        self.send_response(206 if start else 200)
        if start:
            begin = 7 if self.path == "/wrong-range" else start
            self.send_header("Content-Range", f"bytes {begin}-{len(BODY) - 1}/{len(BODY)}")
        self.send_header("Content-Length", str(claimed))
        self.send_header("ETag", Server.etag)
        self.end_headers()
        drops = {
            "/drops": len(BODY) // 4,
            "/ignores-ranges": len(BODY) * nth // 3,
            "/wrong-range": len(BODY) * nth // 3,
            "/dies": len(BODY) // 2,
        }
        if self.path == "/silent":
            time.sleep(3)
        if self.path == "/drops-and-changes" and nth == 1:
            body = body[: len(body) // 2]
            Server.etag = '"two"'
        self.wfile.write(body[: drops.get(self.path, 0 if self.path == "/empty" else len(body))])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("PATI_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PATI_MIRROR", raising=False)
    monkeypatch.setattr(download, "PAUSE", 0.0)
    Server.ranges, Server.etag = [], '"one"'
    listening = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()
    listening.server_close()


def bring(address: str, monkeypatch: pytest.MonkeyPatch, **options: object) -> Path:
    published = Download("", address, hashlib.sha256(BODY).hexdigest())
    monkeypatch.setitem(downloads, "cats-vs-dogs", published)
    return fetch.fetch("cats-vs-dogs", **options)  # type: ignore[arg-type]


def leftovers(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache/datasets").iterdir() if not path.name.endswith(".lock"))


def test_a_download_arrives_whole(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    path = bring(f"{server}/whole", monkeypatch, progress=lambda done, total: told.append((done, total)))
    assert path.read_bytes() == BODY
    assert told[-1] == (len(BODY), len(BODY))
    assert find_source("cats-vs-dogs").classes == ("Cat", "Dog")
    assert fetch.fetch("cats-vs-dogs") == path
    assert leftovers(tmp_path) == ["cats-vs-dogs.zip"]


def test_a_dropped_connection_is_taken_up_where_it_broke(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bring(f"{server}/drops", monkeypatch).read_bytes() == BODY
    quarter = len(BODY) // 4
    assert Server.ranges[:4] == [None, f"bytes={quarter}-", f"bytes={2 * quarter}-", f"bytes={3 * quarter}-"]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["ignores-ranges", "drops-and-changes", "broken", "claims-more", "wrong-range"])
def test_difficult_servers_still_give_the_file(way: str, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bring(f"{server}/{way}", monkeypatch).read_bytes() == BODY


def test_another_process_goes_on_with_what_has_come(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    half = len(BODY) // 2
    with pytest.raises(PatiError, match="can't download") as caught:
        bring(f"{server}/dies", monkeypatch)
    assert f"the {half:,} bytes downloaded so far are kept" in str(caught.value.hint)
    assert bring(f"{server}/whole", monkeypatch).read_bytes() == BODY
    assert Server.ranges[-1] == f"bytes={half}-"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "told"),
    [
        ("page", "unexpected file from"),
        ("claims-less", "unexpected file from"),
        ("dies", "Service Unavailable"),
        ("empty", "too early"),
        ("missing", "Not Found"),
        ("silent", "timed out"),
    ],
)
def test_what_is_not_the_file_is_never_put_in_place(
    way: str, told: str, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PatiError, match=told) as caught:
        bring(f"{server}/{way}", monkeypatch, timeout=1, attempts=2)
    assert "--from FILE" in str(caught.value.hint)
    assert locate("cats-vs-dogs") is None


def test_no_network(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PatiError, match="can't download"):
        bring("http://127.0.0.1:9/nothing", monkeypatch, timeout=2)


def test_no_room(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(download.os, "fsync", full)
        with pytest.raises(PatiError, match="not enough disk space"):
            bring(f"{server}/whole", patched)
    assert bring(f"{server}/whole", monkeypatch).read_bytes() == BODY


def test_two_at_once(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cache/datasets"
    folder.mkdir(parents=True)
    with locks.locked(folder / ".cats-vs-dogs.zip.part.lock", ""), pytest.raises(PatiError, match="another process"):
        bring(f"{server}/whole", monkeypatch)


def test_from_a_file_or_folder(server: str, tmp_path: Path) -> None:
    (tmp_path / "given.zip").write_bytes(BODY)
    assert fetch.fetch("cats-vs-dogs", tmp_path / "given.zip").read_bytes() == BODY
    with zipfile.ZipFile(tmp_path / "given.zip") as zipped:
        zipped.extractall(tmp_path / "folder")
    fetch.fetch("cats-vs-dogs", tmp_path / "folder")
    assert len(find_source("cats-vs-dogs").items) == 6
    with pytest.raises(PatiError, match="no such file"):
        fetch.fetch("cats-vs-dogs", tmp_path / "none.zip")
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(PatiError, match="not a zip file"):
        fetch.fetch("cats-vs-dogs", tmp_path / "text.zip")


@pytest.mark.parametrize("packed", [False, True])
def test_any_known_set_can_be_given(packed: bool, server: str, tmp_path: Path) -> None:
    for name in ("0", "1"):
        for number in range(3):
            path = tmp_path / "mine" / name / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(jpeg(draw("circle", number)))
    given = Path(shutil.make_archive(str(tmp_path / "mine"), "zip", tmp_path / "mine")) if packed else tmp_path / "mine"
    fetch.fetch("digits", given)
    assert len(find_source("digits").items) == 6
    other = tmp_path / "other"
    shutil.copytree(tmp_path / "mine", other)
    (other / "1" / "0.jpg").unlink()
    fetch.fetch("digits", other)  # the last one given counts
    assert len(find_source("digits").items) == 5
    fetch.fetch("digits", given)
    assert len(find_source("digits").items) == 6
    with pytest.raises(PatiError, match="no such file"):
        fetch.fetch("digits", tmp_path / "none.zip")


@pytest.mark.parametrize("packed", [False, True])
def test_other_photos_are_not_taken_for_a_set(packed: bool, server: str, tmp_path: Path) -> None:
    for name in ("bird", "fish"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        (tmp_path / "mine" / name / "0.jpg").write_bytes(jpeg(draw("circle", 0)))
    given = Path(shutil.make_archive(str(tmp_path / "mine"), "zip", tmp_path / "mine")) if packed else tmp_path / "mine"
    with pytest.raises(PatiError, match="is not cats-vs-dogs: its classes are bird, fish"):
        fetch.fetch("cats-vs-dogs", given)
    assert locate("cats-vs-dogs") is None


@pytest.mark.parametrize("packed", [False, True])
def test_a_set_in_the_cache_is_not_overwritten(packed: bool, server: str, tmp_path: Path) -> None:
    assert len(find_source("digits").items) == 1797  # written there
    given = tmp_path / "mine"
    (given / "0").mkdir(parents=True)
    (given / "0" / "0.jpg").write_bytes(jpeg(draw("circle", 0)))
    if packed:
        given = Path(shutil.make_archive(str(given), "zip", given))
    with pytest.raises(PatiError, match="already contains digits"):
        fetch.fetch("digits", given)
    assert len(find_source("digits").items) == 1797
