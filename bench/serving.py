"""`pati serve` under load, on the same machine: photos a second against `pati predict`, latency, memory, and its end.

The photos are originals of cats-vs-dogs (about 500×374). Each of the clients has a connection of its own and sends one
photo at a time.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.page import megabytes, originals
from tests.support.serving import Server
from tests.support.serving import serving as serving_

CLIENTS, TURNS, PHOTOS = 64, 5, 400
REQUESTS = 10_000
ENDS = 10  # times that the server is ended under load
# Photos a second of `predict_stream`, without the start of the process.
PREDICT = """
import json, sys, time
import pati
model = pati.load(*sys.argv[2:])
files = json.loads(sys.argv[1])
list(model.predict_stream(files[:64]))
begun = time.monotonic()
assert sum(1 for _ in model.predict_stream(files)) == len(files)
print(len(files) / (time.monotonic() - begun))
"""


def serving() -> dict[str, Any]:
    """With torch; then the exported model."""
    from pati import included

    return {
        "clients": CLIENTS,
        "torch": _measured(included.model()),
        "onnxruntime": _measured(included.exported()),
        "schemathesis": _schemathesis(),
    }


def _measured(model: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = originals(folder) * (PHOTOS // 100)
        contents = [photo.read_bytes() for photo in photos]
        predicted, served, latencies = [], [], []
        with serving_(folder, model) as server:
            asyncio.run(_load(server.port, contents))
            for _ in range(TURNS):  # in turns; the server waits meanwhile
                command = [sys.executable, "-c", PREDICT, json.dumps(list(map(str, photos))), str(model)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                predicted.append(float(done.stdout))
                begun = time.monotonic()
                latencies += asyncio.run(_load(server.port, contents))
                served.append(len(contents) / (time.monotonic() - begun))
        with serving_(folder, model) as server:
            memory = {}
            for done_ in range(0, REQUESTS, 1000):
                memory[done_ + 1000] = asyncio.run(_memory(server, (contents * 3)[:1000]))
        lost = sum(_ended(folder, model, contents, wait=1 + number / 10) for number in range(ENDS))
    ranked = sorted(latencies)
    return {
        "predict_photos_per_second": [round(one, 1) for one in predicted],
        "serve_photos_per_second": [round(one, 1) for one in served],
        "ratio": round(statistics.median(served) / statistics.median(predicted), 3),
        "p50_seconds": round(ranked[len(ranked) // 2], 3),
        "p99_seconds": round(ranked[int(0.99 * len(ranked))], 3),
        "memory_mb": memory,
        "ends": ENDS,
        "lost_requests": lost,
    }


async def _load(port: int, contents: list[bytes], clients: int = CLIENTS) -> list[float]:
    """Seconds until the answer of each photo, sent by clients at once. Raises for any answer but a prediction."""
    waiting = iter(contents)
    seconds: list[float] = []

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for data in waiting:
            begun = time.monotonic()
            status, _ = await _asked(reader, writer, port, data)
            if status != 200:
                raise SystemExit(f"status {status}")
            seconds.append(time.monotonic() - begun)
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return seconds


async def _memory(server: Server, contents: list[bytes]) -> dict[str, float]:
    """MB of the server while it answers, four times a second: the mean, and the most."""
    load, found = asyncio.create_task(_load(server.port, contents)), []
    while not load.done():
        found.append(megabytes(server.process.pid))
        await asyncio.sleep(0.25)
    await load
    return {"mean": round(statistics.mean(found), 1), "most": max(found)}


async def _asked(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, data: bytes
) -> tuple[int, bool]:
    """The status of the answer to a photo, and whether the server closes the connection after it."""
    head = f"POST /v1/predict HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: image/jpeg\r\n"
    writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    await reader.readexactly(int(answer.partition("content-length: ")[2].split()[0]))
    return int(answer.split()[1]), "connection: close" in answer


def _ended(folder: Path, model: Path, contents: list[bytes], wait: float) -> int:
    """Requests that were sent and not answered when the server was ended under load; clients reconnect."""
    lost = answered = 0

    async def client(port: int) -> None:
        nonlocal lost, answered
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return
            closed = False
            while not closed:
                try:
                    status, closed = await _asked(reader, writer, port, contents[answered % len(contents)])
                except (OSError, asyncio.IncompleteReadError):
                    lost += 1
                    return
                answered += status == 200
                lost += status != 200
            writer.close()

    async def all_(server: Server) -> None:
        async def end() -> None:
            await asyncio.sleep(wait)
            server.process.send_signal(signal.SIGTERM)

        await asyncio.gather(end(), *(client(server.port) for _ in range(CLIENTS)))

    with serving_(folder, model) as server:
        asyncio.run(all_(server))
    assert answered
    return lost


def _schemathesis() -> dict[str, Any]:
    """What a generator of requests finds that the schema does not allow."""
    if shutil.which("schemathesis") is None:
        return {"ran": False}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        from pati import included

        with serving_(folder, included.model()) as server:
            settings = str(Path(__file__).resolve().with_name("schemathesis.toml"))
            address = f"http://localhost:{server.port}/openapi.json"
            command = ["schemathesis", "--config-file", settings, "run", address, "--max-examples", "100"]
            done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    return {"ran": True, "exit_code": done.returncode, "said": done.stdout.splitlines()[-12:]}
