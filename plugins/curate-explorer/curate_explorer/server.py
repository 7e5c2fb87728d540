"""The server: bound to loopback, for requests with the token of its address.

Every request is refused with 403 unless its `Host` is the server's own (so that no foreign page reaches it by DNS
rebinding) and it has the token: in the address of the first page, later in a cookie that no other site can send. Audio
is served by row number, of rows of the index only, from below the run's roots. The page loads nothing from elsewhere.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module, resources
from typing import Any, Final, cast

from curate.errors import CurateError
from curate_explorer.annotations import annotation_of
from curate_explorer.answers import Answers
from curate_explorer.audio import Clips
from curate_explorer.comparison import Comparison
from curate_explorer.refilter import Refilter
from curate_explorer.selection import SelectionError

# The light environment, in which types are checked, has no starlette.
Starlette: Any = import_module("starlette.applications").Starlette
run_in_threadpool: Any = import_module("starlette.concurrency").run_in_threadpool
Request: Any = import_module("starlette.requests").Request
_responses: Any = import_module("starlette.responses")
Route: Any = import_module("starlette.routing").Route
JSONResponse: Any = _responses.JSONResponse
Response: Any = _responses.Response

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
MAX_BODY_BYTES: Final = 200_000
_TYPES: Final[Mapping[str, str]] = {"css": "text/css", "js": "text/javascript", "html": "text/html"}
_ASSETS: Final = (
    "page.js",
    "explorer.css",
    "explorer.js",
    "compare.css",
    "compare.js",
    "wavesurfer.min.js",
    "spectrogram.min.js",
)


class Gate:
    """Lets requests through that have the token and the server's own `Host`; an ASGI application around another.

    Args:
        app: the application behind it.
        hosts: the values of `Host` that are the server's own.
        token: the secret.
        cookie: the name of the cookie; the port is in it, since cookies are shared by the ports of a host.
    """

    def __init__(self, app: Any, hosts: frozenset[str], token: str, cookie: str) -> None:
        self._app = app
        self._hosts = hosts
        self._token = token
        self._cookie = cookie

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        asked = request.query_params.get("token", "")
        given = asked or request.cookies.get(self._cookie, "")
        known = hmac.compare_digest(given.encode(), self._token.encode())
        if request.headers.get("host", "") not in self._hosts or not known:
            refusal = Response("403: open the address that `curate explore` has printed\n", 403)
            await refusal(scope, receive, send)
            return

        async def answered(message: Any) -> None:
            if message["type"] == "http.response.start":
                own = [
                    (b"content-security-policy", POLICY.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                    (b"cross-origin-resource-policy", b"same-origin"),
                    (b"cache-control", b"no-store"),
                ]
                if asked:
                    own.append(
                        (b"set-cookie", f"{self._cookie}={self._token}; HttpOnly; SameSite=Strict; Path=/".encode())
                    )
                message = {**message, "headers": [*message["headers"], *own]}
            await send(message)

        await self._app(scope, receive, answered)


class Pages:
    """What the server answers behind the gate.

    Args:
        answers: about the rows.
        clips: the audio of rows.
        refilter: forks the run.
        comparison: with another run; None: there is none.
    """

    def __init__(
        self,
        answers: Answers,
        clips: Clips,
        refilter: Refilter,
        comparison: Comparison | None = None,
    ) -> None:
        self._answers = answers
        self._clips = clips
        self._refilter = refilter
        self._comparison = comparison

    def application(self) -> Any:
        """Return the application, to be put behind a `Gate`."""
        asked: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
            "table": self._answers.table,
            "facets": self._answers.facets,
            "histogram": self._answers.histogram,
            "scatter": self._answers.scatter,
            "threshold": self._threshold,
            "borderline": self._answers.borderline,
            "label": self._label,
            "refilter": self._refilter.start,
            "refilter/state": lambda _: self._refilter.state(),
        }
        comparison = self._comparison
        if comparison is not None:
            asked = {**asked, "compare": comparison.state, "compare/rows": comparison.rows}
        return Starlette(
            routes=[
                Route("/", self._page),
                Route("/assets/{name}", self._asset),
                Route("/api/state", self._state),
                Route("/api/record/{number:int}", self._record),
                Route("/audio/{number:int}", self._audio),
                Route("/compare", self._compare_page),
                Route("/audio-b/{number:int}", self._audio_b),
                *(Route(f"/api/{name}", _json(answer), methods=["POST"]) for name, answer in asked.items()),
            ]
        )

    async def _page(self, _: Any) -> Any:
        return Response(_asset("explorer.html"), media_type="text/html")

    async def _asset(self, request: Any) -> Any:
        name = request.path_params["name"]
        if name not in _ASSETS:
            return Response("404\n", 404)
        return Response(_asset(name), media_type=_TYPES[name.rpartition(".")[2]])

    async def _compare_page(self, _: Any) -> Any:
        if self._comparison is None:
            return Response("404: nothing is compared; curate explore RUN OTHER does\n", 404)
        return Response(_asset("compare.html"), media_type="text/html")

    async def _state(self, _: Any) -> Any:
        state = await run_in_threadpool(self._answers.state)
        return JSONResponse({**state, "compares": self._comparison is not None})

    async def _record(self, request: Any) -> Any:
        found = await run_in_threadpool(self._answers.record, request.path_params["number"])
        return _no_row() if found is None else JSONResponse(found)

    async def _audio(self, request: Any) -> Any:
        return await self._played(request, self._answers.record, self._clips)

    async def _audio_b(self, request: Any) -> Any:
        comparison = self._comparison
        if comparison is None:
            return _no_row()
        return await self._played(request, comparison.record, comparison.clips)

    async def _played(self, request: Any, record_of: Callable[[int], Mapping[str, Any] | None], clips: Clips) -> Any:
        number = request.path_params["number"]
        found = await run_in_threadpool(record_of, number)
        if found is None:
            return _no_row()
        try:
            clip = await run_in_threadpool(clips.clip, number, found["values"])
        except CurateError as error:
            code = getattr(error, "code", "")
            return JSONResponse({"error": str(error), "code": code}, 403 if code == "outside_root" else 404)
        return _ranged(request, clip.wav, {"x-whole-s": f"{clip.whole_s:.3f}"})

    def _threshold(self, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**self._answers.threshold(wanted), **self._refilter.command(wanted)}

    def _label(self, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        found = self._answers.record(int(wanted["row"]))
        if found is None:
            raise SelectionError("there is no such row")
        annotations = self._answers.annotations
        annotations.add(annotation_of(found["id"], found["values"].get("audio_filepath"), wanted))
        return {"labels": annotations.counts()}


def _json(answer: Callable[[Mapping[str, Any]], Any]) -> Callable[[Any], Awaitable[Any]]:
    """Return an endpoint that takes an object of JSON and responds with the answer of a function, in a thread."""

    async def respond(request: Any) -> Any:
        body = await request.body()
        if len(body) > MAX_BODY_BYTES or not request.headers.get("content-type", "").startswith("application/json"):
            return JSONResponse({"error": "send JSON of at most 200 kB"}, 400)
        try:
            wanted: Any = json.loads(body)
            if not isinstance(wanted, dict):
                raise SelectionError("send an object")
            return JSONResponse(await run_in_threadpool(answer, cast("Mapping[str, Any]", wanted)))
        except (CurateError, ValueError, TypeError, KeyError) as error:
            return JSONResponse({"error": str(error)}, 400)

    return respond


def _no_row() -> Any:
    return JSONResponse({"error": "there is no such row"}, 404)


def _asset(name: str) -> bytes:
    return (resources.files("curate_explorer") / "assets" / name).read_bytes()


def _ranged(request: Any, content: bytes, headers: Mapping[str, str]) -> Any:
    """Return a WAV whole, or the one range of it that is asked for."""
    common = {"accept-ranges": "bytes", **headers}
    asked = request.headers.get("range", "")
    first, _, last = asked.removeprefix("bytes=").partition("-")
    if not asked.startswith("bytes=") or "," in asked or not first.isdigit() or (last and not last.isdigit()):
        return Response(content, media_type="audio/wav", headers=common)
    begin, end = int(first), min(int(last or len(content)), len(content) - 1)
    if begin > end:
        return Response(status_code=416, headers={"content-range": f"bytes */{len(content)}"})
    headers = {**common, "content-range": f"bytes {begin}-{end}/{len(content)}"}
    return Response(content[begin : end + 1], 206, media_type="audio/wav", headers=headers)
