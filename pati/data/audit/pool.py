"""Inspect all files of a source in worker processes.

The same pass fills the pack, so training needs no second decoding. Knows nothing of networks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pati.data import decode
from pati.data.audit.inspections import Inspections
from pati.data.audit.rows import RowFile
from pati.data.audit.worker import Inspection, Setup, quarantined, unpack_inspections
from pati.data.preprocess import Preprocess
from pati.data.sources import storage
from pati.data.sources.interface import Storage, reading_parts
from pati.data.sources.source import Source
from pati.errors import PatiError
from pati.locale.messages import N_, Message
from pati.system import clock, machine, processes
from pati.system.pipes import receive, send

CHUNK = 64
PART = 65_536  # files that are read before their results are put into columns
_DYING = 5  # seconds
_FROM_OUTSIDE = {-signal.SIGTERM, -getattr(signal, "SIGKILL", 9)}  # a decoder that crashes ends by other signals

_HEED = 0.5  # seconds

Progress = Callable[[int, int], None]
Task = tuple[int, str]
"""The number of a photo, and its address."""

Result = tuple[list[Task], list[Inspection]] | BaseException


@dataclass(frozen=True)
class Target:
    """Where the pixels of the photos are written, and how they are preprocessed."""

    rows: RowFile
    preprocess: Preprocess


@clock.watched()
def read_all(source: Source, progress: Progress | None = None) -> Inspections:
    """Inspection results in the source's order."""
    paths, parts, done = source.columns.paths, [], 0
    numbers = reading_parts(storage.at(source.root), paths, PART)
    with tempfile.TemporaryFile() as thumbs:
        for some in (paths.take(part) for part in numbers):
            parts.append(Inspections.of(read(source.root, some, progress=shifted(progress, done, len(paths)))))
            done += len(some)
            if len(paths) > PART:
                parts[-1] = parts[-1].stored(thumbs)
    return Inspections.joined(parts).take(np.argsort(np.concatenate(numbers)))


def shifted(progress: Progress | None, start: int, total: int) -> Progress | None:
    """The progress of one part, as that of all."""
    return progress and (lambda done, _: progress(start + done, total))


def read(
    root: Path, paths: Sequence[str], target: Target | None = None, progress: Progress | None = None
) -> list[Inspection]:
    """Inspection results of some files, in their order; the pixels of each photo are written to a row of `target`.

    A file whose process was killed from outside, as by a machine that runs out of memory, is tried again alone, with
    nothing beside it, when all others are done.
    """
    decode.limits_now()  # raises here, once, if they are invalid, and not in every worker
    total, store = len(paths), storage.at(root)
    tasks = [(index, store.address(path)) for index, path in enumerate(paths)]
    results: dict[int, Inspection] = {}

    def keep(chunk: list[Task], inspections: list[Inspection]) -> None:
        for (index, _), inspection in zip(chunk, inspections, strict=True):
            results[index] = inspection
            if inspection.reason == "changed":
                raise PatiError(inspection.detail or decode.REASONS["changed"], N_("run the command again"))
        if progress:
            progress(len(results), total)

    # Fewer processes than cores, if all of them together could need more memory than there is.
    most = max(1, min(machine.cores(), machine.memory() // decode.limits_now().memory))
    _in_processes(root, target, _portions(store, tasks, most), keep, most)
    again = [task for task in tasks if results[task[0]].reason == "not-judged"]
    _in_processes(root, target, [[[task]] for task in again], keep, 1)
    return [results[index] for index in range(total)]


def _portions(store: Storage, tasks: list[Task], most: int) -> list[list[list[Task]]]:
    """The tasks in chunks, and the chunks in portions for one process each; `most`: the number of processes.

    Photos that are read together, see `Storage.block`, are in one portion, in order of address, unless they are so many
    that other processes would have nothing to do.
    """
    if not tasks or not store.block(tasks[0][1]):
        return [[tasks[at : at + CHUNK]] for at in range(0, len(tasks), CHUNK)]
    largest = CHUNK * max(1, len(tasks) // (4 * most * CHUNK))
    portions = []
    ordered = sorted(tasks, key=lambda task: task[1])
    for _, together in itertools.groupby(ordered, key=lambda task: store.block(task[1])):
        block = list(together)
        for start in range(0, len(block), largest):
            part = block[start : start + largest]
            portions.append([part[at : at + CHUNK] for at in range(0, len(part), CHUNK)])
    return portions


def _in_processes(
    root: Path,
    target: Target | None,
    portions: list[list[list[Task]]],
    keep: Callable[[list[Task], list[Inspection]], None],
    most: int,
) -> None:
    """Run up to `most` processes, each fed by a thread of this one; `keep` is called in the calling thread."""
    todo: queue.SimpleQueue[list[list[Task]]] = queue.SimpleQueue()
    done: queue.SimpleQueue[Result] = queue.SimpleQueue()
    for portion in portions:
        todo.put(portion)
    stop = threading.Event()
    processes: list[_Process] = []

    def feed(process: _Process) -> None:
        try:
            while not stop.is_set():
                for chunk in todo.get_nowait():
                    if not stop.is_set():
                        done.put((chunk, process.inspect(chunk)))
        except queue.Empty:
            pass
        except BaseException as error:  # noqa: BLE001  (raised again in the caller's thread)
            done.put(error)

    threads = []
    try:
        for _ in range(min(most, len(portions))):
            processes.append(_Process(root, target))
            threads.append(threading.Thread(target=feed, args=(processes[-1],), daemon=True))
            threads[-1].start()
        for _ in itertools.chain.from_iterable(portions):
            result = _next(done)
            if isinstance(result, BaseException):
                raise result
            keep(*result)
    finally:
        stop.set()
        for process in processes:
            process.close()
        for thread in threads:
            thread.join()


def _next(results: queue.SimpleQueue[Result]) -> Result:
    """The next result; on Windows, Ctrl-C is heard only between two attempts."""
    while True:
        with contextlib.suppress(queue.Empty):
            return results.get(timeout=_HEED)


class _Process:
    """A worker process; restarted when a file has crashed it or timed out."""

    def __init__(self, root: Path, target: Target | None) -> None:
        self._rows = target.rows if target else None
        self._setup: Setup = {
            "root": str(root),
            "target": str(target.rows.path) if target else None,
            "start": target.rows.row_start(0) if target else 0,
            "preprocess": target.preprocess.to_json() if target else None,
        }
        self._closed = False
        self._start()

    def _start(self) -> None:
        try:
            self._process = processes.start(
                # -P: a random.py in the user's folder must not shadow the standard library's.
                [sys.executable, "-P", "-m", "pati.data.audit.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=processes.environment(),
            )
        except OSError as error:
            raise PatiError(
                N_("the process that decodes photos could not be started: {reason}", reason=str(error)),
                N_("check memory, and the limit on processes (ulimit -u)"),
            ) from error
        assert self._process.stdout
        try:
            self._ask(self._setup)
            answer = receive(self._process.stdout)
        except BaseException:  # an interruption must not leave a process behind
            self._end()
            raise
        if answer is None and not self._closed:
            self._end()
            raise PatiError(
                N_("the process that decodes photos could not be started; its own message is above"),
                N_("check memory and disk space; `python -m pati.data.audit.worker` shows the cause"),
            )

    def _ask(self, document: object) -> None:
        assert self._process.stdin
        with contextlib.suppress(OSError):  # the process has died: the missing reply shows it
            send(self._process.stdin, document)

    def inspect(self, chunk: list[Task]) -> list[Inspection]:
        if self._rows is None:
            return self._inspect(chunk, [])
        rows = self._rows.take(len(chunk))
        results = self._inspect(chunk, rows)
        self._rows.give_back(sorted({*rows} - {result.row for result in results}))
        return results

    def _inspect(self, chunk: list[Task], rows: list[int]) -> list[Inspection]:
        assert self._process.stdout
        seconds = decode.limits_now().seconds
        with self._patience(seconds if len(chunk) == 1 else seconds + len(chunk)) as late:
            self._ask((rows, [address for _, address in chunk]))
            answer = receive(self._process.stdout)
        if answer is not None:
            if late():  # killed just after it had replied
                self._end()
                self._start()
            return unpack_inspections(*answer)
        if self._closed:
            return [quarantined("damaged")] * len(chunk)
        # The process died. Retry the files one by one to find the one that caused it.
        if not late():
            with contextlib.suppress(subprocess.TimeoutExpired):  # its own end is what tells the cause
                self._process.wait(_DYING)
        self._end()
        killed = self._process.returncode in _FROM_OUTSIDE
        self._start()
        if len(chunk) > 1:
            return [self._inspect([task], rows[number : number + 1])[0] for number, task in enumerate(chunk)]
        if late():
            return [self._failed(chunk[0][1], "too-large", N_("decoding took over {seconds} s", seconds=seconds))]
        if killed:
            return [self._failed(chunk[0][1], "not-judged", None)]
        return [self._failed(chunk[0][1], "damaged", N_("the decoder crashed on this file"))]

    @contextlib.contextmanager
    def _patience(self, seconds: float) -> Iterator[Callable[[], bool]]:
        """Kill the process if the block takes longer than `seconds` of active time; yields whether it was killed."""
        answered, killed = threading.Event(), threading.Event()
        ends = clock.now() + seconds

        def wait() -> None:
            while (left := ends - clock.now()) > 0:  # after a suspension, some active time is still left
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

    def _failed(self, address: str, reason: str, detail: Message | None) -> Inspection:
        """The result for a file whose worker died; includes its hash, by which the pack is recognised."""
        try:
            data = storage.at(Path(self._setup["root"])).read_at(address)
        except decode.Unreadable as error:
            return quarantined(error.reason, error.detail)
        result = quarantined(reason, detail, hashlib.sha256(data).hexdigest(), len(data))
        return dataclasses.replace(result, lasting=False)

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
