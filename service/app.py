"""The FastAPI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware import Middleware

from service.assembly import assemble
from service.middleware import QUIET_PATHS, BodyLimit, RequestRecords
from service.problem_pages import ProblemPages
from service.problems import install_problem_handlers
from service.routes import (
    batch,
    drift,
    engine,
    engines,
    health,
    history,
    inspections,
    kept,
    live,
    oip,
    oip_repository,
    reviews,
    statistics,
)
from service.routes.pages import docs, sign_in, trying
from service.routes.pages import engines as engines_page
from service.routes.pages import history as history_page
from service.routes.pages import live as live_page
from service.routes.pages import statistics as statistics_page
from service.security.authentication import Authentication
from service.settings import Settings
from service.tracing import NO_SPANS


def create_app(settings: Settings) -> FastAPI:
    """The application. What it consists of starts when the application does; the engine opens in a thread of its own.

    Raises what `assemble` raises.
    """
    context = assemble(settings)
    tracing = context.tracing

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await context.start()
        yield
        await context.close()

    app = FastAPI(
        title="unispect",
        version="1",
        summary="Visual inspection of parts: an image in, a verdict out.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        telemetry=tracing.config(QUIET_PATHS) if tracing else NO_SPANS,
        redirect_slashes=False,
        middleware=[
            Middleware(ProblemPages),
            Middleware(RequestRecords, metrics=context.metrics),
            Middleware(
                Authentication,
                keyring=context.keyring,
                verifier=context.verifier,
                sessions=context.sessions,
                quotas=context.quotas,
            ),
            Middleware(
                BodyLimit,
                max_bytes=settings.max_body_bytes,
                max_seconds=settings.body_seconds,
                larger={
                    engines.UPLOAD_PATH: settings.max_bundle_bytes,
                    engines_page.UPLOAD_PATH: settings.max_bundle_bytes,
                },
            ),
        ],
    )
    app.state.context = context
    install_problem_handlers(app)
    # The stream before the history: it would be taken for an id.
    for routes in (
        inspections,
        live,
        history,
        kept,
        reviews,
        statistics,
        batch,
        oip,
        oip_repository,
        drift,
        engine,
        engines,
        health,
        docs,
        engines_page,
        history_page,
        live_page,
        statistics_page,
        sign_in,
        trying,
    ):
        app.include_router(routes.router)
    docs.mount_files(app)
    return app
