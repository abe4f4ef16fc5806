"""Bringing known sets here, against a server on this machine."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from pati.data import fetch, sources
from pati.errors import PatiError
from tests.conftest import draw, jpeg


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        for label in ("Cat", "Dog"):
            for number in range(3):
                zipped.writestr(f"PetImages/{label}/{number}.jpg", jpeg(draw("circle", number)))
    return buffer.getvalue()


class Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"<html>moved</html>" if self.path == "/page" else archive()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.path == "/cut" else body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("PATI_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PATI_MIRROR", raising=False)
    listening = HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()
    listening.server_close()


def test_a_download_arrives_whole(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "MICROSOFT", f"{server}/whole")
    told: list[tuple[int, int]] = []
    path = fetch.fetch("cats-vs-dogs", progress=lambda done, total: told.append((done, total)))
    assert path.read_bytes() == archive()
    assert told[-1] == (len(archive()), len(archive()))
    assert sources.find("cats-vs-dogs").classes == ("Cat", "Dog")
    assert fetch.fetch("cats-vs-dogs") == path


@pytest.mark.parametrize("wrong", ["page", "cut"])
def test_what_is_not_the_archive_is_not_kept(server: str, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "MICROSOFT", f"{server}/{wrong}")
    with pytest.raises(PatiError, match=r"no zip file|ended after"):
        fetch.fetch("cats-vs-dogs")
    assert sources.locate("cats-vs-dogs") is None


def test_no_network(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "MICROSOFT", "http://127.0.0.1:9/nothing")
    with pytest.raises(PatiError, match="can't download"):
        fetch.fetch("cats-vs-dogs", timeout=2)


def test_from_a_file_or_folder(server: str, tmp_path: Path) -> None:
    (tmp_path / "given.zip").write_bytes(archive())
    assert fetch.fetch("cats-vs-dogs", tmp_path / "given.zip").read_bytes() == archive()
    with zipfile.ZipFile(tmp_path / "given.zip") as zipped:
        zipped.extractall(tmp_path / "folder")
    fetch.fetch("cats-vs-dogs", tmp_path / "folder")
    assert len(sources.find("cats-vs-dogs").items) == 6
    with pytest.raises(PatiError, match="no such file"):
        fetch.fetch("cats-vs-dogs", tmp_path / "none.zip")
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(PatiError, match="not a zip file"):
        fetch.fetch("cats-vs-dogs", tmp_path / "text.zip")
