"""The addresses of the server, and what they answer."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from PIL import Image
from pydantic import BaseModel, Field
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from pati.errors import PatiError
from pati.inference.documents import ModelScores
from pati.inference.json_array import json_array
from pati.inference.predictor import Explanation, UnreadablePhoto, Unsupported
from pati.locale.messages import N_, Message
from pati.report import pictures
from pati.serve.access import Metrics
from pati.serve.limits import Rejected, headers, language_of, problem
from pati.serve.models import Models
from pati.serve.page import Pages
from pati.serve.service import Full, Sent, Service
from pati.serve.settings import Limits
from pati.system.version import VERSION

T = TypeVar("T")

PHOTO = "photo"  # name of a photo that was sent without one
PART = 2**16  # bytes of a response that are handed on at once: what a client has not read yet stays in memory
_SWAGGER = Path(__file__).parent / "swagger"


class Prediction(BaseModel):
    """The prediction for one photo; if it can't be read, all but `path` and `error` is null."""

    path: str = Field(description="The name under which the photo was sent.")
    prediction: str | None = Field(description="The most likely class.")
    unsure: bool | None
    out_of_distribution: bool | None
    confidence: float | None
    ood_p_value: float | None
    probabilities: dict[str, float] | None
    error: str | None


class Model(BaseModel):
    """A model; `accuracy`: on photos that it was not trained on, if known."""

    name: str
    classes: list[str]
    accuracy: float | None
    accuracy_interval: list[float] | None
    size: int = Field(description="Side of the pictures that the network receives, in pixels.")
    explains: Literal["any class", "the predicted class", "nothing"]


class ModelList(BaseModel):
    """The names of the models; `default`: the one that answers requests without a name."""

    default: str
    models: list[str]


class Problem(BaseModel):
    """Why a request was not answered."""

    error: str


class Picture(StrEnum):
    """What `/v1/explain` draws."""

    OVERLAY = "overlay"
    MAP = "map"


_BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_PARTS: dict[str, Any] = {
    "schema": {
        "type": "object",
        "properties": {"photos": {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}},
        "required": ["photos"],
    },
    "encoding": {"photos": {"contentType": "image/*"}},
}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "One photo as it is (its content type may also be application/octet-stream), or the photos of "
        "a form.",
        "content": {"multipart/form-data": _PARTS, "image/*": _BINARY},
    }
}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": why}
    for status, why in {
        400: "The form can't be read.",
        403: "The request has a foreign Host or Origin.",
        404: "There is no such model or class.",
        408: "The body came too slowly.",
        413: "Too many bytes, or too many photos.",
        415: "The body is neither a photo nor a form.",
        422: "A parameter is out of range, or no photo can be read.",
        429: "Too many photos are waiting; Retry-After says when to try again.",
        503: "The model can't be loaded.",
    }.items()
}
Name = Annotated[str | None, Query(alias="model", description="A name from /v1/models; default: the default model.")]
Risk = Annotated[float | None, Query(ge=0, lt=1, description="The error rate to accept; default: 0.01.")]
Label = Annotated[str | None, Query(description="The class to explain; default: the predicted one.")]
Drawn = Annotated[
    Picture,
    Query(
        description="The photo under the map, or the map alone in shades of grey; at most 1600 pixels wide and high."
    ),
]


def application(models: Models, limits: Limits, metrics: Metrics, pages: Pages, ready: Callable[[], bool]) -> FastAPI:
    """The server as an ASGI app. `ready`: whether it accepts more requests."""
    app = FastAPI(
        title="pati", version=VERSION, description="Image classification.", docs_url=None, redoc_url=None,
        responses={status: _PROBLEMS[status] for status in (403, 422)},
    )  # fmt: skip
    _register_errors(app)

    @app.post("/v1/predict", openapi_extra=_BODY, responses={200: {"model": list[Prediction]}, **_PROBLEMS})
    async def predict(request: Request, risk: Risk = None, model: Name = None) -> Response:
        """Classify photos: one object per photo, in their order, as `pati predict --format json` prints them.

        If none of the photos can be read, the status is 422, and the error is that of the first photo.
        """
        service = await models.service(model)
        threshold = _threshold(service, risk)
        photos = await _photos(request, limits)
        rows = await _unless_gone(request, service.predict(photos, threshold))
        if all(row.error for row in rows):
            assert rows[0].error is not None
            raise Rejected(422, N_("can't read {path}: {error}", path=rows[0].path, error=rows[0].error))
        return Response("".join(json_array(rows)), media_type="application/json")

    picture: dict[str, Any] = {"content": {"image/png": _BINARY}, "description": "A PNG."}

    @app.post("/v1/explain", openapi_extra=_BODY, response_class=Response, responses={200: picture, **_PROBLEMS})
    async def explain(
        request: Request, label: Label = None, draw: Drawn = Picture.OVERLAY, model: Name = None
    ) -> Response:
        """Draw where the network looked in one photo: the regions that contribute most to a class, by Grad-CAM."""
        service = await models.service(model)
        if label is not None and label not in service.predictor.classes:
            raise Rejected(404, N_("the model has no class {label!r}", label=label))
        photo, *others = await _photos(request, limits)
        if others:
            raise Rejected(422, N_("one photo is explained at a time, and {n} were sent", n=1 + len(others)))
        png = await _unless_gone(request, service.explain(photo, label, lambda explanation: _png(explanation, draw)))
        return _in_parts(png, "image/png")

    @app.get("/v1/models", response_model=ModelList)
    async def list_models() -> ModelList:
        """The names of the models."""
        return ModelList(default=models.sources.default, models=list(models.sources.files))

    @app.get("/v1/models/{name}", response_model=Model, responses={404: _PROBLEMS[404], 503: _PROBLEMS[503]})
    async def describe(name: str) -> Model:
        """What is known about a model."""
        predictor = (await models.service(name)).predictor
        scores = predictor.facts.get("metrics", ModelScores())
        return Model(
            name=name,
            classes=list(predictor.classes),
            accuracy=scores.get("accuracy"),
            accuracy_interval=scores.get("accuracy_interval"),
            size=predictor.preprocess.size,
            explains="nothing"
            if not predictor.has_map
            else "any class"
            if predictor.any_class
            else "the predicted class",
        )

    @app.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> str:
        """Whether the server runs."""
        return "ok\n"

    @app.get("/readyz", response_class=PlainTextResponse, responses={503: {"description": "The server is ending."}})
    async def readyz() -> Response:
        """Whether the server accepts requests."""
        return PlainTextResponse("ready\n") if ready() else PlainTextResponse("ending\n", 503)

    @app.get("/metrics", response_class=PlainTextResponse)
    async def figures() -> Response:
        """Counts of requests and photos and a histogram of latencies, for Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    problems: dict[int | str, dict[str, Any]] = {
        status: {"content": {"application/json": {"schema": Problem.model_json_schema()}}, "description": why}
        for status, why in ((404, "There is no such model."), (503, "There can be no page of this model."))
    }

    @app.get("/", response_class=HTMLResponse, responses=problems)
    async def page(model: Name = None) -> Response:
        """A page that classifies photos in the browser; see `pati export --to web`."""
        return _in_parts(await pages.page(models.require(model)), "text/html")

    @app.get("/docs", include_in_schema=False)
    async def documentation() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="openapi.json", title="pati", swagger_js_url="swagger/swagger-ui-bundle.js",
            swagger_css_url="swagger/swagger-ui.css", swagger_favicon_url="data:,",
        )  # fmt: skip

    @app.get("/swagger/{name}", include_in_schema=False)
    async def swagger(name: Literal["swagger-ui-bundle.js", "swagger-ui.css"]) -> Response:
        kind = "text/css" if name.endswith(".css") else "text/javascript"
        data = (_SWAGGER / f"{name}.gz").read_bytes()
        return Response(data, media_type=kind, headers={"content-encoding": "gzip", "cache-control": "max-age=86400"})

    return app


def _threshold(service: Service, risk: float | None) -> float:
    """The confidence below which a prediction is unsure. Raises `Rejected`."""
    try:
        return service.predictor.threshold(risk)
    except PatiError as error:
        raise Rejected(422, error.message) from None


class _Form(MultiPartParser):
    """A form whose files stay in memory: the body is limited, and a server may have no folder to write to."""

    spool_max_size = sys.maxsize


async def _photos(request: Request, limits: Limits) -> Sequence[Sent]:
    """The photos of a request. Raises `Rejected`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        sent = await _files(request, limits)
    elif kind.startswith("image/") or kind == "application/octet-stream":
        sent = [Sent(PHOTO, await request.body())]
    else:
        expected = N_(
            "the content type is {kind!r}; expected image/…, application/octet-stream or multipart/form-data", kind=kind
        )
        raise Rejected(415, expected)
    if not sent:
        raise Rejected(422, N_("the form contains no file"))
    request.state.photos = len(sent)
    return sent


async def _files(request: Request, limits: Limits) -> Sequence[Sent]:
    """The files of a form. Raises `Rejected`."""
    try:
        form = await _Form(request.headers, request.stream(), max_files=limits.photos, max_fields=limits.photos).parse()
    except MultiPartException as error:
        if error.message.startswith("Too many"):
            raise Rejected(413, N_("a request may have {most} photos", most=limits.photos)) from None
        raise Rejected(400, N_("the form can't be read: {error}", error=error.message)) from None
    try:
        files = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
        return [Sent(part.filename or PHOTO, await part.read()) for part in files]
    finally:
        await form.close()


async def _unless_gone(request: Request, work: Coroutine[None, None, T]) -> T:
    """The result of `work`, which is cancelled if the client goes. Raises `ClientDisconnect`."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return await task
    finally:
        task.cancel()
        gone.cancel()


def _in_parts(data: bytes, kind: str) -> Response:
    """A response whose bytes are handed on as the client reads them."""

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(data), PART):
            yield data[start : start + PART]

    return StreamingResponse(parts(), media_type=kind, headers={"content-length": str(len(data))})


def _png(explanation: Explanation, draw: Picture) -> bytes:
    """The map over its photo, or the map alone."""
    if draw is Picture.OVERLAY:
        shown = Image.fromarray(pictures.blended(explanation))
    else:
        values, within = pictures.stretched(explanation)
        shown = Image.fromarray((255 * values * within).round().astype("uint8"))
    buffer = io.BytesIO()
    shown.save(buffer, "PNG")
    return buffer.getvalue()


def _register_errors(app: FastAPI) -> None:
    """Answer errors with a `Problem`."""

    def answer(status: int, reason: str, fields: dict[str, str] | None = None) -> Response:
        return Response(problem(reason), status, fields, "application/json")

    def shown(request: Request, reason: Message) -> str:
        return reason.shown(language_of(request.headers.get("accept-language", "")))

    @app.exception_handler(Rejected)
    async def refused(request: Request, error: Rejected) -> Response:
        return answer(error.status, shown(request, error.reason), headers(error))

    @app.exception_handler(Full)
    async def full(request: Request, error: Full) -> Response:
        return await refused(request, Rejected(429, N_("too many photos are waiting"), retry_after=1))

    @app.exception_handler(UnreadablePhoto)
    @app.exception_handler(Unsupported)
    async def wrong(request: Request, error: PatiError) -> Response:
        return answer(422, shown(request, error.message))

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=499)  # for the log only, as in that of nginx

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return answer(422, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        return answer(error.status_code, error.detail, dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return answer(500, "internal error; the server's log has the details")
