"""The JSON that the service answers, as documented in /docs."""

import base64
from datetime import datetime
from typing import Literal

import orjson
from pydantic import BaseModel, Field, JsonValue

from engines.bundle import MODEL, Bundle, ImageInput, Manifest, Tiling
from engines.scoring import PartClassSource, Verdict
from service.engine_store import EngineId
from service.health import Stage
from service.jobs import Result
from service.problems import Problem
from service.timing import STAGES


class RegionAnswer(BaseModel):
    """A suspicious place, in pixels of the upright original image."""

    x: int = Field(description="Left edge of the box.")
    y: int = Field(description="Upper edge of the box.")
    width: int
    height: int
    area: int = Field(description="Pixels of the region itself, at most width times height.")
    peak: float = Field(description="Largest value of the anomaly map in it, on the scale of the score.")


class ImageAnswer(BaseModel):
    """The size of the upright original image in pixels."""

    width: int
    height: int


class EngineName(BaseModel):
    """The engine that gave the result."""

    name: str
    version: str
    precision: str
    backend: str = Field(description="The inference library.")


class TimingAnswer(BaseModel):
    """Milliseconds per stage, measured in the service."""

    decode: float
    queue: float = Field(description="Waiting for a decoding thread and for the engine.")
    inference: float
    postprocess: float = Field(description="Verdict, and the heatmap where one was asked for.")
    total: float = Field(description="From the received body to the result.")


class InspectedAnswer(BaseModel):
    """What is known of an inspection, then and ever after."""

    id: str = Field(description="Identifies this inspection; ids sort by time.")
    part_id: str | None = Field(description="As given with the request.")
    score: float = Field(description="How unlike the good parts the image is; higher is worse.")
    threshold: float = Field(description="The part class's; a higher score fails.")
    verdict: Verdict = Field(description="review leaves it to a person, where the engine has a second threshold.")
    p_value: float = Field(description="Share of good parts that score as high, in (0, 1].")
    part_class: str
    part_class_source: PartClassSource
    unknown_part: bool = Field(description="The image is unlike every part the class was made from.")
    regions: list[RegionAnswer] = Field(description="Where the part is suspicious, worst first; empty when it passes.")
    image: ImageAnswer
    engine: EngineName
    timing_ms: TimingAnswer


class InspectionAnswer(InspectedAnswer):
    """The result of one inspection."""

    heatmap: str | None = Field(description="The PNG asked for, in base64.")
    heatmap_scale: float | None = Field(description="Of a map: value = pixel / 65535 * heatmap_scale.")


def inspection_json(result: Result, id_: str, part_id: str | None, engine: dict[str, str]) -> bytes:
    """An `InspectionAnswer` as JSON. Building the model first would cost as much as the rest of the answer."""
    inspection, heatmap, timing = result.inspection, result.heatmap, result.timing
    return orjson.dumps(
        {
            "id": id_,
            "part_id": part_id,
            "score": inspection.score,
            "threshold": inspection.threshold,
            "verdict": inspection.verdict,
            "p_value": inspection.p_value,
            "part_class": inspection.part_class,
            "part_class_source": inspection.part_class_source,
            "unknown_part": inspection.unknown_part,
            "regions": inspection.regions,
            "heatmap": base64.b64encode(heatmap.png).decode() if heatmap else None,
            "heatmap_scale": heatmap.scale if heatmap else None,
            "image": {"width": result.width, "height": result.height},
            "engine": engine,
            "timing_ms": {stage: round(getattr(timing, stage) * 1000.0, 3) for stage in STAGES},
        }
    )


class BatchOutcome(BaseModel):
    """Of one image: either what was found, or why it was refused."""

    inspection: InspectionAnswer | None
    problem: Problem | None
    repeated: bool = Field(description="It was inspected before, and this is what was recorded then.")


class BatchAnswer(BaseModel):
    """The outcomes in the order of the images."""

    refused: int = Field(description="Images that have a problem in place of an inspection.")
    results: list[BatchOutcome]


class PartClassAnswer(BaseModel):
    """A part class the engine knows."""

    name: str
    threshold: float
    false_reject_rate: float = Field(description="The share of good parts that fails at most, as promised.")
    review_threshold: float | None = Field(description="A higher score needs a review; null: no part ever does.")
    review_rate: float | None = Field(description="The share of good parts that does not pass at most, as promised.")
    held_out: int = Field(description="Good parts that the thresholds come from.")


class EngineAnswer(BaseModel):
    """The engine that is served."""

    name: str
    version: str
    method: str
    precision: str
    backend: str | None = Field(description="The inference library; null until the engine is open.")
    input: ImageInput
    tiling: Tiling | None = Field(description="How larger images are cut to the network's input; null: not at all.")
    part_classes: list[PartClassAnswer]
    metrics: dict[str, JsonValue] = Field(description="What was measured when the engine was built.")
    created: datetime

    @classmethod
    def of(cls, manifest: Manifest, backend: str | None) -> "EngineAnswer":
        return cls(
            name=manifest.name,
            version=manifest.version,
            method=manifest.method,
            precision=manifest.precision,
            backend=backend,
            input=manifest.input,
            tiling=manifest.tiling,
            part_classes=[
                PartClassAnswer(
                    name=part.name,
                    threshold=part.threshold,
                    false_reject_rate=part.false_reject_rate,
                    review_threshold=part.review.threshold if part.review else None,
                    review_rate=part.review.rate if part.review else None,
                    held_out=len(part.good_scores),
                )
                for part in manifest.part_classes
            ],
            metrics=manifest.metrics,
            created=manifest.created,
        )


class StoredEngineAnswer(EngineAnswer):
    """An engine on this machine's disk."""

    megabytes: float = Field(description="Of the network.")

    @classmethod
    def of_bundle(cls, bundle: Bundle) -> "StoredEngineAnswer":
        size = bundle.manifest.files[MODEL].size
        return cls(**EngineAnswer.of(bundle.manifest, None).model_dump(), megabytes=round(size / 1e6, 2))


class EnginesAnswer(BaseModel):
    """The engines on this machine."""

    active: EngineId = Field(description="Serves.")
    previous: EngineId | None = Field(description="Serves after a rollback.")
    shadow: EngineId | None
    activating: EngineId | None = Field(description="About to serve.")
    stage: str | None = Field(description="How far that is.")
    engines: list[EngineId]


class ActivationAnswer(BaseModel):
    """An engine was put into service."""

    engine: EngineAnswer
    previous: EngineId = Field(description="Served until now.")


class ShadowAnswer(BaseModel):
    """The engine that sees the same images in spare time. Counts begin with it and with the service."""

    engine: EngineId | None
    backend: str | None
    inspections: int
    skipped: int = Field(description="Images that it did not see, for there was no time to spare.")
    disagreements: int = Field(description="Inspections with another verdict.")
    verdicts: dict[str, int]


class HealthAnswer(BaseModel):
    """The state of a service that is well."""

    status: Literal["ok"]
    stage: Stage
    reason: str | None = Field(description="What else there is to know, as that the engine is being compiled.")
    elapsed_seconds: float = Field(description="Since the service started.")


class HealthProblem(Problem):
    """The state of a service that is not."""

    stage: Stage
    elapsed_seconds: float = Field(description="Since the service started.")
    fraction: float | None = Field(description="How much of the compiler's step is done; null where nobody knows.")
