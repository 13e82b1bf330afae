"""The page for people, and the API's documentation; nothing in them comes from another origin."""

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

router = APIRouter(include_in_schema=False)
_WEB = Path(__file__).parent.parent / "web"
_SWAGGER = Path(str(files("fastapi_offline"))) / "static"
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Swagger UI styles itself.
_DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@router.get("/")
async def page() -> Response:
    return FileResponse(_WEB / "index.html", headers=_headers(_PAGE_POLICY))


@router.get("/docs")
async def docs() -> Response:
    return FileResponse(_WEB / "docs.html", headers=_headers(_DOCS_POLICY))


def mount_files(app: FastAPI) -> None:
    """Serve the files that the two pages load."""
    app.mount("/web", StaticFiles(directory=_WEB))
    app.mount("/docs/files", StaticFiles(directory=_SWAGGER))


def _headers(policy: str) -> dict[str, str]:
    return {"Content-Security-Policy": policy, "Cache-Control": "no-cache"}
