"""The routes of the emulator."""

from __future__ import annotations

from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from langchain_tokenhub.testing import chat_routes, media_routes
from langchain_tokenhub.testing.errors import RefusedError
from langchain_tokenhub.testing.failures import endpoint, entrance
from langchain_tokenhub.testing.files_app import serve_file
from langchain_tokenhub.testing.http import Arrival, refusal
from langchain_tokenhub.testing.media_state import MediaHub


def build_app(hub: MediaHub) -> Starlette:
    """Wire the paths of the guide, and of the result links, to their handlers."""
    posts = {
        "/v1/chat/completions": chat_routes.chat,
        "/v1/api/image/lite": media_routes.lite,
        **{f"/v1/api/{kind}/submit": media_routes.submit for kind in ("image", "video", "3d")},
        **{f"/v1/api/{kind}/query": media_routes.query for kind in ("image", "video", "3d")},
    }

    async def not_here(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 404
        return await entrance(hub, partial(_not_here, f"{status}001"))(request)

    async def crashed(_: Request, error: Exception) -> Response:
        told = RefusedError("500001", f"The emulator itself failed: {error!r}")
        return refusal(hub, hub.chance.dice(b"crashed"), told)

    routes = [Route(path, endpoint(hub, to), methods=["POST"]) for path, to in posts.items()]
    app = Starlette(
        routes=[
            *routes,
            Route("/v1/models", endpoint(hub, chat_routes.models), methods=["GET"]),
            Route("/files/{name}", entrance(hub, partial(serve_file, hub)), methods=["GET"]),
        ],
        exception_handlers={404: not_here, 405: not_here, Exception: crashed},
    )
    app.router.redirect_slashes = False
    return app


async def _not_here(code: str, _: Arrival) -> Response:
    raise RefusedError(code, "No such path or method.")
