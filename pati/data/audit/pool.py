"""Every file read once: kept with its facts, or quarantined with a reason.

The same reading fills the pack, so that training costs no second decoding. Knows nothing
of nets.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from pati.data import decode
from pati.data.audit.worker import Finding, Setup, Target, quarantined, receive, send, unpack_findings
from pati.data.sources import storage
from pati.data.sources.source import Source
from pati.errors import PatiError
from pati.system import clock
from pati.system.machine import cores

CHUNK = 64

Progress = Callable[[int, int], None]


@clock.watched()
def read_all(source: Source, target: Target | None = None, progress: Progress | None = None) -> list[Finding]:
    """Findings in the source's order; each photo's pixels go to its row of `target`."""
    decode.limits_now()  # a mistake in them is told here, not by every worker
    total = len(source.items)
    tasks = [(index, item.path) for index, item in enumerate(source.items)]
    found: dict[int, Finding] = {}

    def keep(chunk: list[tuple[int, str]], findings: list[Finding]) -> None:
        for (index, _), finding in zip(chunk, findings, strict=True):
            found[index] = finding
        if progress:
            progress(len(found), total)

    _in_processes(source.root, target, [tasks[at : at + CHUNK] for at in range(0, total, CHUNK)], keep)
    return [found[index] for index in range(total)]


def _in_processes(
    root: Path,
    target: Target | None,
    chunks: list[list[tuple[int, str]]],
    keep: Callable[[list[tuple[int, str]], list[Finding]], None],
) -> None:
    """One process a core, each fed by a thread here; results reach `keep` in this thread."""
    todo: queue.SimpleQueue[list[tuple[int, str]]] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[list[tuple[int, str]], list[Finding]] | BaseException] = queue.SimpleQueue()
    for chunk in chunks:
        todo.put(chunk)
    stop = threading.Event()
    processes: list[_Process] = []

    def feed(process: _Process) -> None:
        try:
            while not stop.is_set():
                chunk = todo.get_nowait()
                done.put((chunk, process.look(chunk)))
        except queue.Empty:
            pass
        except BaseException as error:  # noqa: BLE001  (raised again in the caller's thread)
            done.put(error)

    threads = []
    try:
        for _ in range(min(cores(), len(chunks))):
            processes.append(_Process(root, target))
            threads.append(threading.Thread(target=feed, args=(processes[-1],), daemon=True))
            threads[-1].start()
        for _ in chunks:
            result = done.get()
            if isinstance(result, BaseException):
                raise result
            keep(*result)
    finally:
        stop.set()
        for process in processes:
            process.close()
        for thread in threads:
            thread.join()


class _Process:
    """A worker process; started anew when a file has killed it or held it too long."""

    def __init__(self, root: Path, target: Target | None) -> None:
        self._setup: Setup = {
            "root": str(root),
            "target": target.path if target else None,
            "preprocess": target.preprocess.to_json() if target else None,
        }
        self._closed = False
        self._start()

    def _start(self) -> None:
        here = str(Path(__file__).parents[3])  # where this package lies
        path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            # -P: a random.py in the user's folder must not be imported in place of Python's own.
            [sys.executable, "-P", "-m", "pati.data.audit.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the terminal is for the parent alone
            env=os.environ | {"PYTHONPATH": path},
        )
        assert self._process.stdout
        try:
            self._ask(self._setup)
            answer = receive(self._process.stdout)
        except BaseException:  # a stop by the user must leave no process behind
            self._end()
            raise
        if answer is None and not self._closed:
            self._end()
            raise PatiError(
                "the process that decodes photos could not be started; its own message stands above",
                "is there enough memory and disk? `python -m pati.data.audit.worker` shows the cause",
            )

    def _ask(self, document: object) -> None:
        assert self._process.stdin
        with contextlib.suppress(OSError):  # the process is gone: the missing answer tells
            send(self._process.stdin, document)

    def look(self, chunk: list[tuple[int, str]]) -> list[Finding]:
        assert self._process.stdout
        seconds = decode.limits_now().seconds
        with self._patience(seconds if len(chunk) == 1 else seconds + len(chunk)) as late:
            self._ask(chunk)
            answer = receive(self._process.stdout)
        if answer is not None:
            if late():  # ended all the same, a moment after it had answered
                self._end()
                self._start()
            return unpack_findings(*answer)
        if self._closed:
            return [quarantined("damaged")] * len(chunk)
        # The process died. Alone, each file shows whether it was the one.
        self._end()
        self._start()
        if len(chunk) > 1:
            return [self.look([task])[0] for task in chunk]
        if late():
            return [self._given_up(chunk[0][1], "too-large", f"took over {seconds} s to decode")]
        return [self._given_up(chunk[0][1], "damaged", "the decoder crashed on this file")]

    @contextlib.contextmanager
    def _patience(self, seconds: float) -> Iterator[Callable[[], bool]]:
        """Kills the process if the block takes over so many active seconds; yields whether that was so."""
        answered, killed = threading.Event(), threading.Event()
        ends = clock.now() + seconds

        def wait() -> None:
            while (left := ends - clock.now()) > 0:  # a suspension in between leaves more than was waited for
                if answered.wait(left):
                    return
            killed.set()
            self._process.kill()

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        try:
            yield killed.is_set
        finally:
            answered.set()
            thread.join()

    def _given_up(self, relative: str, reason: str, detail: str) -> Finding:
        """With its content's hash, so that the next run knows the file without decoding it."""
        try:
            data = storage.at(Path(self._setup["root"])).read(relative)
        except decode.Unreadable as error:
            return quarantined(error.reason, error.detail)
        return quarantined(reason, detail, hashlib.sha256(data).hexdigest(), len(data))

    def close(self) -> None:
        self._closed = True
        self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()
