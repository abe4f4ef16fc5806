"""Models behind the server: the photos of all requests, computed in batches by one thread.

A pool of threads decodes, and one thread computes what is decoded by then, in batches of `BATCHES`: a busy server
has large batches, and an idle one answers at once. The number of photos that wait is bounded. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pati.data import decode
from pati.inference.predictor import Explanation, Prediction, Predictor, UnreadablePhoto
from pati.report import pictures
from pati.system.machine import cores

# Photos computed at once: 32 are hardly faster and take more memory. Few sizes, because each has its own kernels, and
# blocks of memory of its own.
BATCHES = (16, 8, 4, 2, 1)
SIDE = 1600  # px, the longer side of an explained photo


class Full(Exception):
    """As many photos wait as there are places for, or as many bytes."""


@dataclass(frozen=True)
class Sent:
    """A photo that a client sent."""

    name: str
    data: bytes


class Workers:
    """The threads of all models, and room for what waits for them or is computed: a number of photos, and of bytes."""

    def __init__(self, places: int, most_bytes: int) -> None:
        self._places, self._most_bytes = places, most_bytes
        self.waiting = self._bytes = 0
        self.decoders = ThreadPoolExecutor(cores(), "decode")
        self.inference = ThreadPoolExecutor(1, "inference")
        self.drawing = ThreadPoolExecutor(1, "drawing")

    @contextlib.contextmanager
    def place(self, count: int) -> Iterator[None]:
        """Context manager that takes places for photos. Raises `Full`."""
        if self.waiting + count > self._places:
            raise Full
        self.waiting += count
        try:
            yield
        finally:
            self.waiting -= count

    @contextlib.contextmanager
    def memory(self) -> Iterator[Callable[[int], None]]:
        """Context manager with a function that takes memory for a number of bytes of a request; raises `Full`."""
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            if self._bytes + size > self._most_bytes:
                raise Full
            self._bytes += size
            taken += size

        try:
            yield take
        finally:
            self._bytes -= taken

    def close(self) -> None:
        """End the threads, after what waits has been computed."""
        self.decoders.shutdown()
        self.inference.shutdown()
        self.drawing.shutdown()


class _Request:
    """The photos of one request, and what is known about them so far."""

    def __init__(self, photos: Sequence[Sent], threshold: float) -> None:
        self.photos, self.threshold = photos, threshold
        self.predictions: dict[int, Prediction] = {}
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()

    def answer(self, number: int, prediction: Prediction) -> None:
        """Keep the prediction for a photo; the last one ends the request. Called in the inference thread."""
        self.predictions[number] = prediction
        if len(self.predictions) == len(self.photos):
            self._loop.call_soon_threadsafe(self._end, None)

    def fail(self, error: Exception) -> None:
        """End the request with an error. Called in any thread."""
        self._loop.call_soon_threadsafe(self._end, error)

    def _end(self, error: Exception | None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


@dataclass(frozen=True)
class _Decoded:
    """A photo of a request, ready for the network, or unreadable."""

    request: _Request
    number: int
    pixels: NDArray[np.uint8] | decode.Unreadable

    @property
    def name(self) -> str:
        return self.request.photos[self.number].name


class Service:
    """Answers requests with one model."""

    def __init__(self, predictor: Predictor, workers: Workers) -> None:
        """Computes a batch of each size, so that no request waits for the first one of its size. Raises `PatiError`."""
        self.predictor, self._workers = predictor, workers
        side = predictor.preprocess.size
        for size in BATCHES:
            workers.inference.submit(predictor.answer, np.zeros((size, side, side, 3), np.uint8)).result()
        self._decoded: deque[_Decoded] = deque()

    async def predict(self, photos: Sequence[Sent], threshold: float) -> list[Prediction]:
        """A prediction for each photo, in their order; see `Predictor.predictions`. Raises `Full` and `PatiError`."""
        request = _Request(photos, threshold)
        with self._workers.place(len(photos)):
            for number in range(len(photos)):
                self._workers.decoders.submit(self._decode, request, number)
            await request.done
        return [request.predictions[number] for number in range(len(photos))]

    async def explain(self, photo: Sent, label: str | None, draw: Callable[[Explanation], bytes]) -> bytes:
        """The picture that `draw` makes of an explanation; see `Predictor.explain`. Raises `Full` and `PatiError`.

        Photos are decoded and drawn one after the other, and made smaller in between: each takes much memory.
        """
        loop, workers = asyncio.get_running_loop(), self._workers

        def decoded() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
            try:
                pixels = self.predictor.preprocess.photo(photo.data)
            except decode.Unreadable as error:
                raise UnreadablePhoto(photo.name, error.reason, error.message) from None
            return pictures.at_most(pixels, SIDE), self.predictor.preprocess.fit(pixels)

        with workers.place(1):
            shown, fitted = await loop.run_in_executor(workers.drawing, decoded)
            explained = functools.partial(self.predictor.explain_pixels, shown, fitted, name=photo.name, label=label)
            explanation = await loop.run_in_executor(workers.inference, explained)
            return await loop.run_in_executor(workers.drawing, draw, explanation)

    def _decode(self, request: _Request, number: int) -> None:
        if request.done.done():  # the client has gone, or another photo of the request failed
            return
        pixels: NDArray[np.uint8] | decode.Unreadable
        try:
            pixels = self.predictor.preprocess(request.photos[number].data)
        except decode.Unreadable as error:
            pixels = error
        except Exception as error:
            request.fail(error)
            return
        self._decoded.append(_Decoded(request, number, pixels))
        self._workers.inference.submit(self._compute)

    def _compute(self) -> None:
        """Answer what is decoded by now. Called once for each photo: most were answered in the batch of another one."""
        size = next((size for size in BATCHES if size <= len(self._decoded)), 0)
        batch = [self._decoded.popleft() for _ in range(size)]
        batch = [one for one in batch if not one.request.done.done()]
        try:
            self._answer(batch)
        except Exception as error:
            for one in batch:
                one.request.fail(error)

    def _answer(self, batch: Sequence[_Decoded]) -> None:
        readable, pixels = [], []
        for one in batch:
            if isinstance(one.pixels, decode.Unreadable):
                one.request.answer(one.number, Prediction.unreadable(one.name, one.pixels))
            else:
                readable.append(one)
                pixels.append(one.pixels)
        if not readable:
            return
        rows = self.predictor.predictions(
            [one.name for one in readable], np.stack(pixels), [one.request.threshold for one in readable]
        )
        for one, row in zip(readable, rows, strict=True):
            one.request.answer(one.number, row)
