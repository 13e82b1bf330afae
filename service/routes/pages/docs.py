"""The API's documentation, and the files that the pages load; nothing in them comes from another origin."""

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.types import Scope

from service.templates import TEMPLATES, WEB

router = APIRouter(include_in_schema=False)
_SWAGGER = Path(str(files("fastapi_offline"))) / "static"
# Swagger UI styles itself.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# Asked for each time, and answered 304 while nothing changed: a new service has its own script at once.
_CACHE = {"Cache-Control": "no-cache"}


@router.get("/docs")
async def docs() -> Response:
    return FileResponse(WEB / "docs.html", headers={"Content-Security-Policy": _POLICY, **_CACHE})


def mount_files(app: FastAPI) -> None:
    """Serve the files that the pages load."""
    app.mount("/web", _WebFiles(directory=WEB))
    app.mount("/docs/files", StaticFiles(directory=_SWAGGER))


class _WebFiles(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        if Path(path).parts[:1] == (TEMPLATES,):
            raise HTTPException(404)
        response = await super().get_response(path, scope)
        response.headers.update(_CACHE)
        return response
