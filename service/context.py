"""The objects that the routes of one application share."""

from dataclasses import dataclass

from fastapi import Request

from engines.bundle import Bundle
from service.inspector import Inspector
from service.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Context:
    """What `create_app` puts together."""

    bundle: Bundle
    inspector: Inspector
    metrics: Metrics


def context_of(request: Request) -> Context:
    """The objects of the application that a request came to."""
    context: Context = request.app.state.context
    return context
