"""An inspection whichever interface it came by: not made twice, in the ledger, and only then answered."""

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engines.scoring import Inspection
from service.ids import new_id
from service.jobs import Result
from service.ledger.ledger import Ledger
from service.ledger.records import InspectionRecord
from service.ledger.repeats import Repeats, key_of

# Bytes; what is larger is hashed in a thread, for the event loop has others to serve.
_LARGE = 2**20
_NO_MAP = np.empty((0, 0), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request says of its picture.

    Attributes:
        part_class: None where it is to be recognised.
        client: the API key's name, or the address without keys.
        whole: whether the anomaly map or a heatmap is needed, which the ledger does not keep.
    """

    part_class: str | None
    part_id: str | None
    station: str | None
    client: str | None
    whole: bool


class Recorder:
    """Has inspections made and recorded. Used on one event loop.

    Args:
        ledger: not started yet.
        repeat_seconds: for so long a part's picture is not inspected again; 0 means it always is.
    """

    def __init__(self, ledger: Ledger, repeat_seconds: float) -> None:
        self._ledger = ledger
        self._repeats = Repeats(repeat_seconds)
        if repeat_seconds:
            ledger.on_open(self._repeats.load)

    async def inspect(
        self, data: bytes, asked: Asked, inspect: Callable[[], asyncio.Future[Result]]
    ) -> tuple[InspectionRecord, Result]:
        """The inspection of a picture: the one recorded for it lately, or a new one once that is recorded.

        A part's picture that is being inspected is waited for, as when a client lost patience. The map and the heatmap
        of a repeated inspection are of the engine that serves now.

        Args:
            data: the picture's bytes.
            inspect: begins to have it inspected; what it and its future raise is raised.

        Raises:
            LedgerFailed: the inspection is not in the ledger; the client may send the picture again.
        """
        if asked.part_id is None or not self._repeats.seconds:
            result, sha256 = await _hashing_meanwhile(inspect(), data)
            return await self._record(result, sha256, asked), result
        sha256 = await _sha256(data)
        key = key_of(asked.part_id, asked.part_class, sha256)
        if (id_ := await self._repeats.find(key)) is not None:
            record = await asyncio.to_thread(self._ledger.find, id_)
            if record is not None:
                return record, _repeated(record, await inspect() if asked.whole else None)
        with self._repeats.running(key):
            result = await inspect()
            record = await self._record(result, sha256, asked)
            self._repeats.remember(key, record.id)
        return record, result

    async def _record(self, result: Result, sha256: str, asked: Asked) -> InspectionRecord:
        now = time.time_ns()
        inspection, engine = result.inspection, result.engine
        record = InspectionRecord(
            id=new_id(now),
            time=now // 1000,
            part_id=asked.part_id,
            station=asked.station,
            client=asked.client,
            part_class=inspection.part_class,
            part_class_source=inspection.part_class_source,
            unknown_part=inspection.unknown_part,
            score=inspection.score,
            threshold=inspection.threshold,
            p_value=inspection.p_value,
            verdict=inspection.verdict,
            regions=inspection.regions,
            engine_name=engine["name"],
            engine_version=engine["version"],
            precision=engine["precision"],
            backend=engine["backend"],
            width=result.width,
            height=result.height,
            image_sha256=sha256,
            timing=result.timing,
        )
        await self._ledger.record(record)
        return record


def _repeated(record: InspectionRecord, fresh: Result | None) -> Result:
    inspection = Inspection(
        score=record.score,
        threshold=record.threshold,
        verdict=record.verdict,
        p_value=record.p_value,
        part_class=record.part_class,
        part_class_source=record.part_class_source,
        unknown_part=record.unknown_part,
        regions=record.regions,
        anomaly_map=_NO_MAP if fresh is None else fresh.inspection.anomaly_map,
    )
    heatmap = None if fresh is None else fresh.heatmap
    return Result(inspection, record.width, record.height, heatmap, record.timing, record.engine, repeated=True)


async def _hashing_meanwhile(pending: asyncio.Future[Result], data: bytes) -> tuple[Result, str]:
    try:
        sha256 = await _sha256(data)
        return await pending, sha256
    finally:
        pending.cancel()
        # An error's traceback has this frame: with the future in it they and the picture would outlive the request.
        del pending


async def _sha256(data: bytes) -> str:
    return _hash(data) if len(data) < _LARGE else await asyncio.to_thread(_hash, data)


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
