"""The engine behind BentoML: bentoml serve bentoml_service:Inspections."""

from pathlib import Path
from typing import Annotated, Any

import bentoml
from bentoml.validators import ContentType
from judging import Judging


@bentoml.service(workers=1)
class Inspections:
    """Takes an image as the request's body."""

    def __init__(self) -> None:
        self._judging = Judging()

    @bentoml.api(route="/inspect")
    def inspect(self, image: Annotated[Path, ContentType("image/jpeg")], /) -> dict[str, Any]:
        """The verdict."""
        return self._judging(image.read_bytes())
