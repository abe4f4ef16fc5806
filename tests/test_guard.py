"""The page answers to its own names alone, asks nobody else, and says what went wrong in its own words."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pati.app import parts
from pati.app.guard import Guard
from pati.app.settings import Settings
from pati.errors import PatiError
from pati.system import network
from tests.support.commands import pati as command

# A process that tells of every attempt to leave this machine, by name or by address.
WATCHED = """
import socket, sys
from pati import cli

def told(what, address):
    place = address[0] if isinstance(address, tuple) else address
    if str(place) not in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "::", "None"):
        print("LEFT", what, address, file=sys.stderr, flush=True)

def watched(where, name, place):
    original = getattr(where, name)
    def call(*arguments, **options):
        told(name, arguments[place])
        return original(*arguments, **options)
    setattr(where, name, call)

class Watched(socket.socket):
    def connect(self, address):
        told("connect", address)
        return super().connect(address)
    def connect_ex(self, address):
        told("connect_ex", address)
        return super().connect_ex(address)
    def sendto(self, data, *rest):
        told("sendto", rest[-1])
        return super().sendto(data, *rest)

socket.socket = Watched
for name in ("getaddrinfo", "gethostbyname", "create_connection"):
    watched(socket, name, 0)
cli.main()
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def serving(folder: Path, *options: str) -> Iterator[tuple[int, Path]]:
    """A served page: its port, and what it says in the terminal."""
    port, said = free_port(), folder / "said.txt"
    words = [sys.executable, "-c", WATCHED, "app", "--port", str(port), "--no-browser", *options]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    with said.open("wb") as log:
        process = subprocess.Popen(words, cwd=folder, stdout=log, stderr=log, env=env)
    try:
        for _ in range(600):
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, said.read_text()
            time.sleep(0.1)
        yield port, said
    finally:
        process.terminate()
        assert process.wait(20) == 0


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[tuple[int, Path]]:
    with serving(tmp_path_factory.mktemp("guard")) as place:
        yield place
        said = place[1].read_text(encoding="utf-8")
        assert "LEFT" not in said  # whatever the tests below asked
        assert "Traceback" not in said
        assert "Streamlit" not in said  # nor its advertisement


def ask(port: int, path: str = "/", method: str = "GET", **headers: str) -> tuple[int, str, dict[str, str]]:
    """Status, body and headers of the answer to a request with these headers; `Host` as given."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        body = answer.read().decode("utf-8", "replace")
        return answer.status, body, {name.lower(): value for name, value in answer.getheaders()}


def shake_hands(port: int, **headers: str) -> int:
    """The status of a websocket's handshake."""
    lines = ["GET /_stcore/stream HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    lines += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    with socket.create_connection(("127.0.0.1", port), timeout=30) as one:
        one.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        return int(one.recv(4096).split()[1])


STRANGERS = [  # host and origin, where PORT is the page's
    ("evil.example", None), ("evil.example:PORT", None), ("localhost", None), ("localhost:1", None), ("", None),
    ("localhost.evil.example:PORT", None), ("127.0.0.1.nip.io:PORT", None), ("evil@localhost:PORT", None),
    ("169.254.169.254:PORT", None), ("localhost:PORT/x", None), ("localhost:PORTx", None), ("[::1", None),
    ("localhost:PORT", "http://evil.example"), ("localhost:PORT", "http://localhost:9999"),
    ("localhost:PORT", "http://localhost"), ("localhost:PORT", "null"), ("localhost:PORT", "file://"),
    ("localhost:PORT", "http://evil.example:PORT"), ("localhost:PORT", "http://127.0.0.1:PORT"),
    ("localhost:PORT", "http://localhost:PORT.evil.example"), ("evil.example:PORT", "http://evil.example:PORT"),
    ("localhost:PORT", "chrome-extension://localhost:PORT"),
]  # fmt: skip
FRIENDS = [
    ("localhost:PORT", None), ("127.0.0.1:PORT", None), ("[::1]:PORT", None), ("LOCALHOST:PORT", None),
    ("localhost:PORT", "http://localhost:PORT"), ("[::1]:PORT", "http://[::1]:PORT"), ("localhost.:PORT", None),
]  # fmt: skip


def filled(port: int, host: str, origin: str | None) -> dict[str, str]:
    headers = {"Host": host} | ({} if origin is None else {"Origin": origin})
    return {name: value.replace("PORT", str(port)) for name, value in headers.items()}


@pytest.mark.parametrize(("host", "origin"), STRANGERS)
def test_strangers_are_refused_in_a_sentence(served: tuple[int, Path], host: str, origin: str | None) -> None:
    headers = filled(served[0], host, origin)
    for path, method in (("/", "GET"), ("/_stcore/health", "GET"), ("/_stcore/upload_file/a/b", "PUT")):
        status, body, _ = ask(served[0], path, method, **headers)
        assert status == 403
        assert body.startswith("Refused: ")
        assert "<" not in body
    assert shake_hands(served[0], **headers) == 403


@pytest.mark.parametrize(("host", "origin"), FRIENDS)
def test_the_page_answers_to_its_own_names(served: tuple[int, Path], host: str, origin: str | None) -> None:
    headers = filled(served[0], host, origin)
    assert ask(served[0], "/_stcore/health", **headers)[:2] == (200, "ok")
    assert shake_hands(served[0], **headers) == 101


def test_no_host_and_two_hosts_are_refused(served: tuple[int, Path]) -> None:
    for lines in (b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: localhost:%d\r\nHost: evil\r\n\r\n" % served[0]):
        with socket.create_connection(("127.0.0.1", served[0]), timeout=30) as one:
            one.sendall(lines)
            assert re.match(rb"HTTP/1.[01] 40[03] ", one.recv(4096))


def test_unknown_pages_lead_to_the_first(served: tuple[int, Path]) -> None:
    host = f"localhost:{served[0]}"
    for path in ("/try", "/nothing", "/train/deeper", "/try?x=1"):
        status, _, headers = ask(served[0], path, Host=host)
        assert (status, headers["location"]) == (307, "/")
    for path in ("/", "/train", "/results", "/clean", "/_stcore/host-config"):
        assert ask(served[0], path, Host=host)[0] == 200
    assert ask(served[0], "/train/_stcore/health", Host=host)[0] == 404  # the browser tries this one, too


def test_a_browser_is_told_to_load_nothing_from_elsewhere(served: tuple[int, Path]) -> None:
    policy = ask(served[0], Host=f"localhost:{served[0]}")[2]["content-security-policy"]
    assert "http" not in policy
    assert set(re.findall(r"wss?://\S+", policy)) == {f"ws://localhost:{served[0]}", f"wss://localhost:{served[0]};"}
    assert "frame-ancestors 'self'" in policy


def test_further_names_join(tmp_path: Path, cache: Path) -> None:
    with serving(tmp_path, "--host", "0.0.0.0", "--host", "pati.example", "--host", "other.example:444") as (
        port,
        said,
    ):
        health = "/_stcore/health"
        for host in ("pati.example", f"pati.example:{port}", "pati.example:443", "other.example:444"):
            assert ask(port, health, Host=host, Origin=f"https://{host}")[0] == 200 or ":443" in host
            assert ask(port, health, Host=host)[0] == 200
        assert ask(port, health, Host=f"{socket.gethostname()}:{port}")[0] == 200
        assert ask(port, health, Host=f"127.0.0.1:{port}")[0] == 200
        for host in (f"10.1.2.3:{port}", "other.example", f"other.example:{port}", "evil.example"):
            assert ask(port, health, Host=host)[0] == 403
        assert ask(port, health, Host="pati.example", Origin="http://evil.example")[0] == 403
    assert "LEFT" not in said.read_text(encoding="utf-8").replace("LEFT getaddrinfo 0.0.0.0", "")


def test_names_that_are_none_are_told(tmp_path: Path) -> None:
    for host in ("http://localhost", "x/y"):
        assert "--host is" in command("app", "--host", host, "--no-browser", cwd=tmp_path).stderr
    assert "can't listen on" in command("app", "--host", "192.0.2.7", "--no-browser", cwd=tmp_path).stderr
    assert network.named("::1") == ("::1", None)
    assert network.named("Pati.Example:80") == ("pati.example", 80)


def test_the_address_of_a_connection_is_a_name_when_listening_everywhere() -> None:
    async def app(*_: object) -> None:
        return None

    everywhere = Guard(app, hosts=["0.0.0.0"], port=8501, pages=[])
    for host, allowed in (("192.0.2.7:8501", True), ("192.0.2.8:8501", False), ("192.0.2.7", False)):
        scope = {"type": "http", "headers": [(b"host", host.encode())], "server": ("::ffff:192.0.2.7", 8501)}
        assert (everywhere._refusal(scope) is None) == allowed


def test_errors_are_told_in_our_words_with_the_details_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[PatiError] = []
    settings = Settings.of(None, tmp_path)
    monkeypatch.setattr(parts, "settings", lambda: Settings(settings.model, tmp_path / "runs", tmp_path))
    monkeypatch.setattr(parts, "show_error", shown.append)
    assert parts.tell_of(PatiError("a mistake"))
    assert parts.tell_of(PermissionError(13, "Permission denied", "/runs/x"))
    assert [str(error.message) for error in shown] == ["a mistake", "/runs/x: Permission denied"]
    assert not (tmp_path / "runs").exists()
    with pytest.raises(ValueError, match="could not convert") as fault:
        float("0,95\udcff")
    assert parts.tell_of(fault.value)
    assert "app-errors.log" in str(shown[-1].hint)
    assert "could not convert" in (tmp_path / "runs" / "app-errors.log").read_text(encoding="utf-8")
