"""What was measured of an engine on test images, as `build-engines evaluate --record` wrote it into its bundle."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engines.bundle import Manifest

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
# In `Manifest.metrics`.
_RECORD = "test"


class Accuracy(BaseModel):
    """Means over the part classes, in [0, 1]; None where nothing was to be measured, as pixel metrics without masks.

    Attributes:
        backend: the inference library that it was measured with.
        image_auroc, average_precision, f1: of the scores; f1 at its best threshold.
        pixel_auroc, pro: of the anomaly maps.
        false_reject, miss: at the bundle's thresholds: good parts that failed, defective ones that passed.
        recognition: parts whose class was recognised.
    """

    model_config = ConfigDict(frozen=True)

    backend: str = Field(max_length=64)
    image_auroc: Share
    false_reject: Share
    miss: Share
    pixel_auroc: Share | None = None
    pro: Share | None = None
    average_precision: Share | None = None
    f1: Share | None = None
    recognition: Share | None = None

    @classmethod
    def of(cls, manifest: Manifest) -> Self | None:
        """As a manifest has it; None where the engine was not evaluated, or the record cannot be read."""
        try:
            return cls.model_validate(manifest.metrics.get(_RECORD))
        except ValidationError:
            return None
