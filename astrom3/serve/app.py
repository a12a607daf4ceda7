"""The application: /classify, /embed, /health, /metrics, and / that says what the model is.

Every answer but the index and the metrics is JSON, and every error is {"error": one sentence}. No traceback leaves.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from astrom3.cli import wall
from astrom3.errors import UserError
from astrom3.inference.trained import TrainedModel
from astrom3.serve.answers import answer
from astrom3.serve.batcher import Batcher, Busy, Outcome
from astrom3.serve.index import index_page
from astrom3.serve.metrics import CONTENT_TYPE, Metrics
from astrom3.serve.request import BadRequest, Limits, parse

log = logging.getLogger(__name__)
AT_ONCE = 200_000  # bytes of a body that is read in a few milliseconds
CLOSED = 499  # as nginx calls it: the client has gone


def application(model: TrainedModel, batcher: Batcher, limits: Limits) -> Starlette:
    """Answers for one model; the batcher must be closed by whoever made it."""
    metrics = Metrics()

    async def classes(http: HttpRequest) -> Response:
        return await answered(http, True)

    async def embeddings(http: HttpRequest) -> Response:
        return await answered(http, False)

    async def answered(http: HttpRequest, with_classes: bool) -> Response:
        begin = time.monotonic()
        objects = 0
        rejected = 0
        try:
            body = await body_of(http, limits)
            request = await at_once_if(len(body) < AT_ONCE, parse, body, model, limits)
            objects = len(request.ids)
            if with_classes:
                require_classes(model, request.coverage)
            elif request.coverage is not None:
                raise BadRequest("coverage goes with /classify: /embed gives no classes")
            outcome = Outcome()
            if request.objects:
                waiting = batcher.submit(list(request.objects.values()), request.options)
                outcome = await asyncio.wrap_future(waiting)
            content, status = await at_once_if(objects <= 16, answer, model, request, outcome, with_classes)
            rejected = content["rejected"]
            response: Response = JSONResponse(content, status)
        except BadRequest as error:
            response = sentence(str(error), error.status)
        except Busy:
            response = sentence("too many objects are waiting: try again in a second", 503, {"Retry-After": "1"})
        except ClientDisconnect:
            response = Response(status_code=CLOSED)
        except Exception as error:
            response = fault(error)
        metrics.count(http.url.path, response.status_code, time.monotonic() - begin, objects, rejected)
        return response

    async def health(_: HttpRequest) -> Response:
        if not batcher.is_alive:
            return sentence("the thread of the network has ended: start the server again", 503)
        return JSONResponse({"status": "ok", "model": model.name, "waiting": batcher.waiting})

    async def numbers(_: HttpRequest) -> Response:
        return PlainTextResponse(metrics.text(batcher.batches, batcher.waiting), media_type=CONTENT_TYPE)

    async def index(http: HttpRequest) -> Response:
        policy = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return HTMLResponse(index_page(model, limits, str(http.base_url).rstrip("/")), headers=policy)

    routes = [
        Route("/", index),
        Route("/health", health),
        Route("/metrics", numbers),
        Route("/classify", classes, methods=["POST"]),
        Route("/embed", embeddings, methods=["POST"]),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: refused})


async def at_once_if(is_little: bool, function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function; in a thread of its own, so that others are heard meanwhile, unless it is little."""
    if is_little:
        return function(*arguments)
    return await run_in_threadpool(function, *arguments)


async def body_of(http: HttpRequest, limits: Limits) -> bytes:
    """The body of a request, as long as it is small enough and arrives in time."""
    announced = http.headers.get("content-length", "0")
    too_large = BadRequest(f"the body is too large: send at most {limits.body / 2**20:g} MB, in several requests", 413)
    if not announced.isdigit() or int(announced) > limits.body:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(limits.seconds):
            async for part in http.stream():
                body += part
                if len(body) > limits.body:
                    raise too_large
    except TimeoutError:
        raise BadRequest(f"the body has not arrived within {limits.seconds:g} s", 408) from None
    return bytes(body)


def require_classes(model: TrainedModel, coverage: float | None) -> None:
    try:
        model.check_classes(coverage)
    except UserError as error:
        raise BadRequest(str(error), 422) from None


def sentence(text: str, status: int, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": text}, status, headers)


def fault(error: Exception) -> Response:
    """A fault of ours: the sentence of the wall, and the place in the log."""
    wall.show(error)
    text, _ = wall.answer(error)
    log.error("%s", text)
    return sentence(text, 500)


async def refused(http: HttpRequest, error: Exception) -> Response:
    """A path that is not there, or a method that it does not take."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return sentence(f"there is no {http.url.path[:100]}: there are /classify, /embed, /health, /metrics and /", 404)
    if error.status_code == 405:
        return sentence(f"{http.url.path} does not take {http.method}: /classify and /embed take POST", 405)
    return sentence(str(error.detail), error.status_code)
