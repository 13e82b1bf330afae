"""Puts the service together."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware import Middleware

from engines import bundle as bundles
from service.context import Context
from service.engine import Engine
from service.errors import StartError
from service.inspector import Inspector
from service.metrics import Metrics
from service.middleware import BodyLimit, RequestRecords
from service.problems import install_problem_handlers
from service.routes import engine, health, inspections, page
from service.settings import Settings
from service.telemetry import Telemetry


def create_app(settings: Settings) -> FastAPI:
    """The application for one bundle. The engine is opened when the application starts, in a thread of its own.

    Raises:
        BundleError: the bundle is missing, altered or of another schema.
        StartError: the data folder cannot be written.
    """
    bundle = bundles.load(settings.bundle)
    cache_dir = settings.data_dir / "cache"
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"The data folder {settings.data_dir} cannot be made ({error.strerror}).") from error
    if not os.access(cache_dir, os.W_OK | os.X_OK):
        raise StartError(f"The data folder {settings.data_dir} cannot be written; give another with --data-dir.")
    served = Engine(
        bundle,
        backend=settings.backend,
        meanwhile=None if settings.serve_while_building == "none" else settings.serve_while_building,
        threads=settings.threads,
        cache_dir=cache_dir,
    )
    inspector = Inspector(
        served,
        decode_workers=settings.decode_workers,
        max_queue=settings.max_queue,
        max_pixels=settings.max_pixels,
    )
    metrics = Metrics(inspector)
    telemetry = Telemetry(settings.sysfs_root)
    metrics.registry.register(telemetry)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        inspector.start()
        telemetry.start()
        yield
        telemetry.close()
        await inspector.close()

    app = FastAPI(
        title="unispect",
        version="1",
        summary="Visual inspection of parts: an image in, a verdict out.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        # Prometheus is the way here; looking for OpenTelemetry providers costs every request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        redirect_slashes=False,
        middleware=[
            Middleware(RequestRecords, metrics=metrics),
            Middleware(BodyLimit, max_bytes=settings.max_body_bytes),
        ],
    )
    app.state.context = Context(bundle, inspector, metrics)
    install_problem_handlers(app)
    for routes in (inspections, engine, health, page):
        app.include_router(routes.router)
    page.mount_files(app)
    return app
