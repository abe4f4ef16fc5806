"""The server: answers as on the command line, refuses what costs too much, and loses no request."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pati.inference.export.pictures import made_pictures
from pati.inference.load import load
from tests.support.browser import CHROMIUM, QUIET, needs_chromium
from tests.support.commands import pati, pati_process
from tests.support.serving import Server, form, serving
from tests.test_guard import WATCHED
from tests.test_without_torch import OTHERS, TRAIN, environment

pytestmark = pytest.mark.slow
LIMITS = ("--max-bytes", "2000000", "--max-photos", "8", "--queue", "16", "--timeout", "2")


@pytest.fixture(scope="module")
def server(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("serve"), trained, *LIMITS, start=("-c", WATCHED)) as running:
        yield running
        said = running.said.read_text(encoding="utf-8")
        assert "LEFT" not in said  # whatever the tests below asked
        assert "Traceback" not in said


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Photos of many kinds."""
    folder = tmp_path_factory.mktemp("photos")
    files = [folder / f"{number}.jpg" for number in range(24)]
    for file, data in zip(files, made_pictures(len(files)), strict=True):
        file.write_bytes(data)
    return files


# Answers ------------------------------------------------------------------------------


def test_answers_are_those_of_the_command_line(server: Server, trained: Path, photos: list[Path]) -> None:
    bad = photos[0].with_name("bad.jpg")
    bad.write_bytes(b"no photo")
    sent = [*photos[:6], bad, photos[6]]
    expected = pati_process("predict", trained, *sent, "--format", "json").stdout
    body, kind = form([(str(file), file.read_bytes()) for file in sent])
    assert server.ask("/v1/predict", body, kind).body.decode() == expected
    risk = pati_process("predict", trained, *sent, "--format", "json", "--risk", "0.2").stdout
    assert server.ask("/v1/predict?risk=0.2", body, kind).body.decode() == risk


def test_answers_are_the_same_among_others(server: Server, photos: list[Path]) -> None:
    """Photos of several requests are computed at once, which must not be seen in the answers."""
    alone = [server.ask("/v1/predict", file.read_bytes(), "image/jpeg").body for file in photos]
    with ThreadPoolExecutor(8) as pool:
        together = pool.map(lambda file: server.ask("/v1/predict", file.read_bytes(), "image/jpeg").body, 4 * photos)
    assert list(together) == 4 * alone


def test_one_photo_as_it_is(server: Server, photos: list[Path]) -> None:
    for kind in ("image/jpeg", "application/octet-stream", "image/x-anything"):
        (row,) = server.ask("/v1/predict", photos[1].read_bytes(), kind).document
        assert row["path"] == "photo"
        assert row["probabilities"][row["prediction"]] == row["confidence"]


def test_maps(server: Server, trained: Path, photos: list[Path]) -> None:
    model = load(trained)
    for label in (None, *model.classes):
        query = "" if label is None else f"&label={label}"
        for draw, mode in (("overlay", "RGB"), ("map", "L")):
            answer = server.ask(f"/v1/explain?draw={draw}{query}", photos[2].read_bytes(), "image/jpeg")
            assert answer.headers["content-type"] == "image/png"
            with Image.open(io.BytesIO(answer.body)) as picture, Image.open(photos[2]) as photo:
                assert (picture.mode, picture.size) == (mode, photo.size)
                if draw == "map":
                    assert np.asarray(picture).max() >= 250 or model.explain(photos[2], label=label).even
    assert server.ask("/v1/explain?label=x", photos[2].read_bytes(), "image/jpeg").status == 404
    assert server.ask("/v1/explain", b"no photo", "image/jpeg").status == 422


def test_models(server: Server, trained: Path) -> None:
    listed = server.ask("/v1/models").document
    assert listed == {"default": trained.name, "models": [trained.name]}
    described = server.ask(f"/v1/models/{trained.name}").document
    assert described["classes"] == list(load(trained).classes)
    assert server.ask("/v1/models/other").status == 404
    assert server.ask("/v1/predict?model=other", b"x", "image/png").status == 404


def test_a_folder_of_runs(trained: Path, tmp_path: Path, photos: list[Path]) -> None:
    for name in ("one", "two"):
        (tmp_path / name).symlink_to(trained)
    with serving(tmp_path, tmp_path) as server:
        listed = server.ask("/v1/models").document
        assert sorted(listed["models"]) == ["one", "two"]
        assert listed["default"] in listed["models"]
        answers = {
            server.ask(f"/v1/predict?model={name}", photos[0].read_bytes(), "image/png").body for name in ("one", "two")
        }
        assert len(answers) == 1


def test_without_torch(tmp_path: Path, photos: list[Path]) -> None:
    """The exported model answers nearly the same; the page is there as well."""
    missing = [name for name in (*TRAIN, *OTHERS) if name != "onnx"]
    with serving(tmp_path, env=environment(tmp_path / "hidden", *missing)) as server:
        rows = [server.ask("/v1/predict", file.read_bytes(), "image/png").document[0] for file in photos[:5]]
        page = server.ask("/")
    from pati import included

    expected = load(included.exported()).predict(list(photos[:5]))
    for row, one in zip(rows, expected, strict=True):
        assert row["prediction"] == one.label
        assert row["confidence"] == pytest.approx(one.confidence, abs=1e-6)
    assert page.status == 200
    assert b'id="model"' in page.body


def test_health_metrics_and_log(server: Server, photos: list[Path]) -> None:
    body, kind = form([("a.jpg", photos[0].read_bytes()), ("b.jpg", photos[1].read_bytes())])
    server.ask("/v1/predict", body, kind)
    assert server.ask("/healthz").body == b"ok\n"
    assert server.ask("/nowhere").status == 404
    figures = server.ask("/metrics").body.decode()
    assert 'pati_requests_total{path="/v1/predict",status="200"}' in figures
    assert 'pati_requests_total{path="other",status="404"}' in figures
    assert "nowhere" not in figures
    assert "pati_photos_waiting 0.0" in figures
    row = [line for line in server.log() if line["path"] == "/v1/predict" and line["photos"] == 2][-1]
    assert row["status"] == 200
    assert row["bytes"] == len(body)
    assert 0 < row["seconds"] < 60


# Limits -------------------------------------------------------------------------------


def test_what_is_no_photo(server: Server) -> None:
    assert server.ask("/v1/predict", b"no photo", "image/jpeg").status == 422
    assert server.ask("/v1/predict", b"", "image/jpeg").status == 422
    assert server.ask("/v1/predict", b"a=b", "application/x-www-form-urlencoded").status == 415
    assert server.ask("/v1/predict", b"{}", "application/json").status == 415
    assert server.ask("/v1/predict", b"--x", "multipart/form-data").status == 400
    assert server.ask("/v1/predict", *form([])).status in (400, 422)
    assert server.ask("/v1/predict?risk=1", b"x", "image/jpeg").status == 422
    assert server.ask("/v1/predict?risk=nan", b"x", "image/jpeg").status == 422
    assert server.ask("/v1/predict").status == 405
    for answer in (server.ask("/v1/predict", b"x", "text/plain"), server.ask("/x"), server.ask("/v1/explain")):
        assert isinstance(answer.document["error"], str)
    turkish = server.ask("/v1/predict", b"x", "text/plain", **{"Accept-Language": "tr-TR,tr;q=0.9,en;q=0.5"})
    assert "beklenir" in turkish.document["error"]


def test_bombs(server: Server) -> None:
    """A small file of very many pixels is refused before they are decoded."""
    parts = (
        b"IHDR" + struct.pack(">IIBBBBB", 30000, 30000, 8, 0, 0, 0, 0),
        b"IDAT" + zlib.compress(bytes(900_000)),
        b"IEND",
    )
    chunks = (struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts)
    answer = server.ask("/v1/predict", b"\x89PNG\r\n\x1a\n" + b"".join(chunks), "image/png")
    assert answer.status == 422
    assert "too-large" in answer.document["error"]


def test_too_large_and_too_many(server: Server, photos: list[Path]) -> None:
    assert server.ask("/v1/predict", bytes(2_000_001), "image/jpeg").status == 413
    assert server.ask("/v1/predict", *form([("a.jpg", bytes(2_000_000))])).status == 413
    small = photos[0].read_bytes()
    assert server.ask("/v1/predict", *form([("a.jpg", small)] * 9)).status == 413
    assert server.ask("/v1/predict", *form([("a.jpg", small)] * 8)).status == 200


def raw(server: Server, *parts: bytes, pause: float = 0.0) -> bytes:
    """What the server answers to bytes that are sent in parts."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as one:
        answer = b""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for part in parts:
                one.sendall(part)
                time.sleep(pause)
        with contextlib.suppress(ConnectionResetError):
            while part := one.recv(65536):
                answer += part
        return answer


HEAD = b"POST /v1/predict HTTP/1.1\r\nHost: localhost:%d\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"


def test_slow_senders(server: Server) -> None:
    head = HEAD % (server.port, 100)
    begun = time.monotonic()
    assert raw(server, head + b"x").startswith(b"HTTP/1.1 408 ")
    assert raw(server, head, *[b"x"] * 12, pause=0.25).startswith(b"HTTP/1.1 408 ")
    assert raw(server, b"POST /v1/predict HTTP/1.1\r\n", *[b"a: b\r\n"] * 12, pause=0.25) == b""
    assert raw(server, b"") == b""
    assert time.monotonic() - begun < 20


def test_a_length_that_is_too_large_is_refused_at_once(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=1.5) as one:
        one.sendall(HEAD % (server.port, 10**12))
        assert one.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_disconnects(server: Server, photos: list[Path]) -> None:
    data = photos[3].read_bytes()
    for end in (10, len(data) - 1, len(data)):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as one:
            one.sendall(HEAD % (server.port, len(data)) + data[:end])
    assert server.ask("/v1/predict", data, "image/jpeg").status == 200
    assert "pati_photos_waiting 0.0" in server.ask("/metrics").body.decode()


def test_a_full_queue(server: Server, photos: list[Path]) -> None:
    """There is room for 16 photos."""
    body, kind = form([("a.jpg", photos[4].read_bytes())] * 8)
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda _: server.ask("/v1/predict", body, kind), range(96)))
    found = {answer.status for answer in answers}
    assert found <= {200, 429}
    assert 429 in found
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers if answer.status == 429)
    assert server.ask("/v1/predict", body, kind).status == 200


def test_an_error_while_the_rest_of_a_body_is_awaited(server: Server) -> None:
    """A malformed chunk after the response has begun only ends the connection."""
    head = b"POST /v1/predict HTTP/1.1\r\nHost: evil.example\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert raw(server, head, b"zz\r\n", pause=0.3).startswith(b"HTTP/1.1 403 ")


def test_clients_that_do_not_read(server: Server) -> None:
    """They are disconnected: here, after two seconds."""
    answered = len([line for line in server.log() if line["path"] == "/"]) + (server.ask("/").status == 200)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.sendall(b"GET / HTTP/1.1\r\nHost: localhost:%d\r\n\r\n" % server.port)
        for _ in range(300):
            if len([line for line in server.log() if line["path"] == "/"]) > answered:
                break
            time.sleep(0.1)
        else:
            pytest.fail("the response was never given up")


def test_foreign_hosts_and_origins(server: Server) -> None:
    assert server.ask("/healthz", Host="evil.example").status == 403
    assert server.ask("/healthz", Origin="http://evil.example").status == 403
    assert server.ask("/healthz", Host=f"localhost:{server.port}").status == 200
    own = f"http://localhost:{server.port}"
    assert server.ask("/healthz", Host=own.removeprefix("http://"), Origin=own).status == 200


def test_an_origin_that_is_allowed(trained: Path, tmp_path: Path) -> None:
    origin = "https://app.example"
    with serving(tmp_path, trained, "--origin", origin) as server:
        answer = server.ask("/healthz", Origin=origin)
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, origin)
        preflight = server.ask(
            "/v1/predict", None, None, "OPTIONS", Origin=origin, **{"Access-Control-Request-Method": "POST"}
        )
        assert preflight.status == 200
        assert server.ask("/healthz", Origin="https://other.example").status == 403


# The end ------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM")
def test_no_request_is_lost_at_the_end(trained: Path, tmp_path: Path, photos: list[Path]) -> None:
    """Each request that was sent is answered, or its connection was refused; none breaks off."""
    data = photos[5].read_bytes()
    outcomes: list[str] = []

    def client(server: Server) -> None:
        import http.client

        while True:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
            try:
                connection.connect()
            except OSError:
                outcomes.append("refused")
                return
            while True:
                try:
                    connection.request("POST", "/v1/predict", data, {"Content-Type": "image/jpeg"})
                    response = connection.getresponse()
                    response.read()
                    outcomes.append(str(response.status))
                except (OSError, http.client.HTTPException) as error:
                    outcomes.append(f"lost: {error!r}")
                    return
                if response.will_close:
                    break

    with serving(tmp_path, trained) as server, ThreadPoolExecutor(16) as pool:
        for _ in range(16):
            pool.submit(client, server)
        time.sleep(1.5)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
    assert set(outcomes) == {"200", "refused"}, [row for row in outcomes if row.startswith("lost")][:5]
    assert outcomes.count("refused") == 16


# Pages --------------------------------------------------------------------------------


@needs_chromium
def test_pages_ask_nobody_else(server: Server, photos: list[Path]) -> None:
    from playwright.sync_api import sync_playwright

    asked: set[str] = set()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page()
        page.on("request", lambda request: asked.add(request.url))
        page.goto(f"http://localhost:{server.port}/docs")
        page.get_by_text("/v1/predict").first.wait_for()
        page.goto(f"http://localhost:{server.port}/")
        page.locator("#state").wait_for(state="hidden")
        page.set_input_files("#files", [str(photos[0])])
        page.locator("article .bars li").first.wait_for()
        browser.close()
    assert all(url.startswith((f"http://localhost:{server.port}/", "blob:", "data:")) for url in asked), asked


def test_the_schema_states_each_status(server: Server) -> None:
    schema = server.ask("/openapi.json").document
    assert {"/v1/predict", "/v1/explain", "/v1/models", "/healthz", "/readyz"} <= set(schema["paths"])
    assert {"200", "408", "413", "415", "422", "429"} <= set(schema["paths"]["/v1/predict"]["post"]["responses"])


# What can't be served -----------------------------------------------------------------


def test_mistakes(tmp_path: Path, trained: Path) -> None:
    for words, said in (
        (("nowhere",), "does not exist"),
        ((tmp_path,), "contains no finished run"),
        ((trained, "--queue", "1"), "must have room"),
        ((trained, "--max-photos", "0"), "--max-photos is 0"),
        ((trained, "--host", "a/b"), "--host is"),
        ((trained, "--port", "99999"), "--port is 99999"),
        ((trained, "--origin", "app.example"), "--origin is"),
    ):
        done = pati("serve", *words)
        assert done.returncode == 1
        assert said in done.stderr
    with socket.socket() as one:
        one.bind(("localhost", 0))
        one.listen()
        assert "is in use" in pati("serve", trained, "--port", one.getsockname()[1]).stderr
