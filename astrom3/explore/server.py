"""A large map over HTTP: the page, its tiles and objects on demand. Only this machine can ask, unless host= differs."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from astrom3.cli import wall
from astrom3.errors import UserError
from astrom3.explore import raster
from astrom3.explore.large import OVERVIEW
from astrom3.explore.one import Objects
from astrom3.explore.stored_map import Shown, StoredMap
from astrom3.explore.writing import as_json, page_around

log = logging.getLogger(__name__)
SCRIPTS = ("packing.js", "plot.js", "palette.js", "viewport.js", "map.js", "details.js", "large.js")
ALLOWED = "; img-src 'self' blob:; connect-src 'self'"
LOCAL = ("127.0.0.1", "localhost", "::1")
KEPT_TILES = 2000
FOUND = 20  # objects that a search shows
LISTED = 200  # outliers
LONGEST = 200  # letters of a search
Answer = Callable[[Request], Response]


class Answers:
    """The answers to requests about one map. page: the whole page; drawn: tiles, of which the last ones are kept."""

    def __init__(self, stored: StoredMap, objects: Objects) -> None:
        self.stored = stored
        self.objects = objects
        self.page = page_of(stored, objects)
        self.overview = (stored.folder / OVERVIEW).read_bytes()
        self.drawn = lru_cache(KEPT_TILES)(lambda *what: raster.tile(stored, *what))

    def index(self, _: Request) -> Response:
        return HTMLResponse(self.page)

    def picture(self, _: Request) -> Response:
        return Response(self.overview, media_type="image/png")

    def tile(self, http: Request) -> Response:
        zoom, column, row = (int(http.path_params[name]) for name in ("zoom", "column", "row"))
        by = http.query_params.get("by", "label")
        if zoom > raster.DEEPEST or column >= 2**zoom or row >= 2**zoom or by not in self.stored.columns:
            raise HTTPException(404, "there is no such tile")
        if by not in ("label", "predicted"):
            raise HTTPException(400, "tiles are coloured by label or predicted")
        return Response(self.drawn(zoom, column, row, by, filters_of(http)), media_type="image/png")

    def hit(self, http: Request) -> Response:
        x, y, reach = (decimal(http, name) for name in ("x", "y", "reach"))
        row = self.stored.hit(x, y, reach, filters_of(http))
        return JSONResponse({"row": row, "id": self.stored.names([row])[0] if row >= 0 else None})

    def search(self, http: Request) -> Response:
        rows = self.stored.search(http.query_params.get("text", "")[:LONGEST], FOUND)
        return JSONResponse({"rows": rows, "ids": self.stored.names(rows)})

    def find(self, http: Request) -> Response:
        return JSONResponse({"row": self.stored.row_of(http.query_params.get("id", "")[:LONGEST])})

    def count(self, http: Request) -> Response:
        mask = self.stored.mask(filters_of(http))
        return JSONResponse({"shown": len(self.stored) if mask is None else int(mask.sum())})

    def outliers(self, http: Request) -> Response:
        name = http.query_params.get("of", "mean")
        if f"own-{name}" not in self.stored.columns:
            raise HTTPException(404, "there is no such embedding")
        score = http.query_params.get("score", "own")
        rows, known = self.stored.outliers(name, score, filters_of(http), LISTED)
        listed = columns_of(self.stored, name, rows)
        return JSONResponse({"rows": rows, "ids": self.stored.names(rows), "known": known} | listed)

    def one(self, http: Request) -> Response:
        row = int(http.path_params["row"])
        if row >= len(self.stored):
            raise HTTPException(404, "there is no such object")
        contents = self.objects.page(row)
        places = self.stored.columns["xy"][contents["rows"]]
        contents["xy"] = places.astype(float).tolist()
        return Response(as_json(contents), media_type="application/json")


def application(stored: StoredMap, objects: Objects, host: str) -> Starlette:
    """host: that the server is bound to; of this machine's own, pages of other names are refused (DNS rebinding)."""
    answers = Answers(stored, objects)
    routes = [
        Route("/", in_thread(answers.index)),
        Route(f"/{OVERVIEW}", in_thread(answers.picture)),
        Route("/favicon.ico", in_thread(lambda _: Response(status_code=204))),
        Route("/tiles/{zoom:int}/{column:int}/{row:int}.png", in_thread(answers.tile)),
        Route("/hit", in_thread(answers.hit)),
        Route("/search", in_thread(answers.search)),
        Route("/find", in_thread(answers.find)),
        Route("/count", in_thread(answers.count)),
        Route("/outliers", in_thread(answers.outliers)),
        Route("/object/{row:int}", in_thread(answers.one)),
    ]
    hosts = [*LOCAL, host] if host in LOCAL else ["*"]
    guard = Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
    return Starlette(routes=routes, middleware=[guard], exception_handlers={HTTPException: refused})


def page_of(stored: StoredMap, objects: Objects) -> str:
    """The page, with what it has to know of the map in it."""
    about = stored.about | {
        "counts": {str(label): count for label, count in stored.counts().items()},
        "kinds": [name for name, _, _ in objects.kinds()],
        "deepest": raster.DEEPEST,
        "tile": raster.SIDE,
    }
    head, tail = page_around(stored.about["title"], SCRIPTS, ALLOWED)
    head = head.replace("</head>", f'<link rel="preload" as="image" href="{OVERVIEW}">\n</head>')
    return f'{head}<script type="application/json" id="map-about">{as_json(about)}</script>\n{tail}'


def columns_of(stored: StoredMap, name: str, rows: list[int]) -> dict[str, list[Any]]:
    """What the list of outliers shows of rows (m,) of the map. name: of the embedding. A number is None where NaN."""
    listed: dict[str, list[Any]] = {}
    for key, column in (("label", "label"), ("nearest", f"nearest-{name}"), ("predicted", "predicted")):
        if column in stored.columns:
            listed[key] = stored.columns[column][rows].tolist()
        else:
            listed[key] = [-1] * len(rows)
    for key in ("own", "other"):
        values = stored.columns[f"{key}-{name}"][rows].tolist()
        listed[key] = [None if value != value else value for value in values]
    return listed


def in_thread(answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    """The answer from a thread of its own; what goes wrong becomes one sentence."""

    async def handler(http: Request) -> Response:
        try:
            return await run_in_threadpool(answer, http)
        except HTTPException:
            raise
        except UserError as error:
            return JSONResponse({"error": str(error)}, 422)
        except Exception as error:
            wall.show(error)
            sentence, _ = wall.answer(error)
            log.error("%s", sentence)
            return JSONResponse({"error": sentence}, 500)

    return handler


async def refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": str(error.detail)}, error.status_code)


def filters_of(http: Request) -> Shown:
    """From hide=, splits= (numbers with commas between them) and wrong=1."""
    query = http.query_params
    return Shown(whole(query.get("hide", "")), whole(query.get("splits", "")), query.get("wrong") == "1")


def whole(text: str) -> frozenset[int]:
    try:
        return frozenset(int(number) for number in text.split(",") if number)
    except ValueError:
        raise HTTPException(400, "filters are whole numbers with commas between them") from None


def decimal(http: Request, name: str) -> float:
    try:
        return float(http.query_params[name])
    except (KeyError, ValueError):
        raise HTTPException(400, f"{name} is no number") from None
