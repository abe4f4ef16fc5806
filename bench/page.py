"""The page of `pati app` under load, in Chromium on the same machine: how soon an answer shows, what stays in memory.

The photos are originals of cats-vs-dogs (about 500×374). A visit uploads one, waits for the bars of the answer and the
picture under its map, and takes it away again.
"""

from __future__ import annotations

import asyncio
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pati.data.sources.builtin_datasets import mirror

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

UPLOADS = 500  # of one visitor
VISITORS, MINUTES = 20, 5
THINKING = (3.0, 9.0)  # seconds that a visitor looks at an answer
INPUT = '[data-testid="stFileUploaderDropzoneInput"]'
REMOVE = '[data-testid="stFileUploader"] button[aria-label^="Remove"], [data-testid="stFileChipDeleteBtn"] button'


def page() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as (address, process):
        photos = originals(Path(folder))
        alone = asyncio.run(_alone(address, photos, process.pid))
        together = asyncio.run(_together(address, photos, process.pid))
    return {"uploads": UPLOADS, **alone, "visitors": VISITORS, "minutes": MINUTES, "thinking": THINKING, **together}


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        port = one.getsockname()[1]
    command = [sys.executable, "-m", "pati", "app", "--port", str(port), "--no-browser"]
    with (folder / "app.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        while True:
            with socket.socket() as one:
                if one.connect_ex(("localhost", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://localhost:{port}", process
    finally:
        process.terminate()
        process.wait()
    text = (folder / "app.log").read_text(encoding="utf-8")
    if "Traceback" in text:
        raise SystemExit(text)


def originals(folder: Path) -> list[Path]:
    sets = mirror()
    assert sets is not None
    with zipfile.ZipFile(sets / "originals.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")][:100]
        archive.extractall(folder, names)
    return [folder / name for name in names]


def megabytes(process: int) -> float:
    """Resident memory of a process."""
    text = Path(f"/proc/{process}/status").read_text()
    return round(int(text.split("VmRSS:")[1].split()[0]) / 1000, 1)


async def _alone(address: str, photos: list[Path], process: int) -> dict[str, Any]:
    """One visitor: seconds from the upload to the answer and its map, and the server's memory over many uploads."""
    seconds, memory = [], {}
    async with chromium() as browser:
        tab = await opened(browser, address)
        for number in range(UPLOADS):
            seconds.append(await answered(tab, photos[number % len(photos)]))
            if number + 1 in (1, 20, 100, 200, 300, 400, UPLOADS):
                memory[number + 1] = megabytes(process)
    warm = seconds[5:]
    return {
        "median_seconds": round(statistics.median(warm), 3),
        "slowest_of_20": round(sorted(warm)[int(0.95 * len(warm))], 3),
        "memory_mb": memory,
    }


async def _together(address: str, photos: list[Path], process: int) -> dict[str, Any]:
    """Many visitors at once, each at a pace of their own."""
    async with chromium() as browser:
        tabs = [await opened(browser, address) for _ in range(VISITORS)]
        begun, memory = time.monotonic(), {0: megabytes(process)}
        until = begun + 60 * MINUTES

        async def watch() -> None:
            for minute in range(1, MINUTES + 1):
                await asyncio.sleep(begun + 60 * minute - time.monotonic())
                memory[minute] = megabytes(process)

        async def visitor(number: int) -> list[float]:
            chance, seconds = random.Random(number), []
            while time.monotonic() < until:
                # Never the one before: a browser says nothing of the same file chosen again.
                seconds.append(await answered(tabs[number], photos[(5 * number + len(seconds)) % len(photos)]))
                await asyncio.sleep(chance.uniform(*THINKING))
            return seconds

        watching = asyncio.create_task(watch())
        found = [one for seconds in await asyncio.gather(*map(visitor, range(VISITORS))) for one in seconds]
        await watching
    return {
        "together_answers": len(found),
        "together_median_seconds": round(statistics.median(found), 3),
        "together_slowest_of_20": round(sorted(found)[int(0.95 * len(found))], 3),
        "together_memory_mb": memory,  # after each minute
    }


class chromium:  # noqa: N801
    """Debian's, as a context."""

    async def __aenter__(self) -> Browser:
        from playwright.async_api import async_playwright

        self._playwright = await async_playwright().start()
        self._browser = await self._playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        return self._browser

    async def __aexit__(self, *_: object) -> None:
        await self._browser.close()
        await self._playwright.stop()


async def opened(browser: Browser, address: str) -> Page:
    context = await browser.new_context(viewport={"width": 1000, "height": 800}, locale="en-US")
    tab = await context.new_page()
    tab.set_default_timeout(60_000)
    await tab.goto(address)
    await tab.wait_for_selector(INPUT, state="attached")
    return tab


async def answered(tab: Page, photo: Path) -> float:
    """Seconds until the answer to an upload shows, with its map; then the photo is taken away again."""
    at = time.monotonic()
    await tab.set_input_files(INPUT, photo)
    await tab.wait_for_function(
        "document.querySelector('.pati-bars') && [...document.querySelectorAll('[data-testid=stImage] img')]"
        ".some(image => image.complete && image.naturalWidth)",
        polling=20,
    )
    taken = time.monotonic() - at
    await tab.locator(REMOVE).first.click()
    await tab.wait_for_selector(".pati-bars", state="detached")
    return taken
