"""Who listens to the inspections, and that one who does not keep up costs the others nothing."""

import asyncio
import re

import pytest
from starlette.types import Message

from service.errors import TooManyReaders
from service.event_stream import InspectionStream
from service.history_answers import record_json
from service.ids import new_id
from service.ledger.records import InspectionRecord
from service.live import Live, Reader
from tests.service.ledger.records import make_record


def make_records(count: int) -> list[InspectionRecord]:
    return [make_record(id=new_id()) for _ in range(count)]


async def drain(reader: Reader) -> list[InspectionRecord]:
    """What waits for a reader; it must have been ended."""
    return [record async for record in reader.records(60) if record is not None]


def test_all_readers_are_told_in_the_same_order() -> None:
    async def scenario() -> None:
        live, records = Live(), make_records(5)
        readers = [live.join(), live.join()]
        for record in records:
            live.publish(record)
        live.close()
        assert [await drain(reader) for reader in readers] == [records, records]

    asyncio.run(scenario())


def test_a_reader_that_does_not_keep_up_is_dropped_alone_and_gets_the_rest_when_it_comes_again() -> None:
    async def scenario() -> None:
        live, records = Live(), make_records(600)
        slow, quick = live.join(), live.join()
        heard = []
        stream = quick.records(60)
        for record in records:
            live.publish(record)
            heard.append(await anext(stream))
        assert heard == records
        told = await drain(slow)
        assert 0 < len(told) < len(records)
        assert told + list(live.join(told[-1].id).missed or []) == records

    asyncio.run(scenario())


def test_who_missed_nothing_or_too_much_or_came_first_is_told_so() -> None:
    async def scenario() -> None:
        live, records = Live(), make_records(1100)
        for record in records:
            live.publish(record)
        assert live.join(records[-1].id).missed == []
        assert live.join(records[0].id).missed is None
        assert live.join().missed == []

    asyncio.run(scenario())


def test_what_waits_is_given_together_and_only_once() -> None:
    async def scenario() -> None:
        live, records = Live(), make_records(5)
        reader = live.join()
        for record in records[:3]:
            live.publish(record)
        stream = reader.records(60)
        assert [await anext(stream), *reader.waiting()] == records[:3]
        assert reader.waiting() == []
        for record in records[3:]:
            live.publish(record)
        live.close()
        assert reader.waiting() == records[3:]
        assert await drain(reader) == []

    asyncio.run(scenario())


def test_many_inspections_a_second_are_sent_in_few_pieces_and_the_first_at_once() -> None:
    async def scenario() -> None:
        live, records = Live(), make_records(100)
        stream = InspectionStream(live, live.join(), [], record_json)
        pieces: list[bytes] = []
        first = asyncio.Event()

        async def send(message: Message) -> None:
            pieces.append(message.get("body", b""))
            if records[0].id.encode() in pieces[-1]:
                first.set()

        answering = asyncio.create_task(stream({"type": "http"}, asyncio.Event().wait, send))
        live.publish(records[0])
        async with asyncio.timeout(10):
            await first.wait()
        for record in records[1:]:
            live.publish(record)
            await asyncio.sleep(0.001)
        live.close()
        await answering
        told = re.findall(rb"^id: (\w+)$", b"".join(pieces), re.MULTILINE)
        assert told == [record.id.encode() for record in records]
        assert len(pieces) < len(records) / 2

    asyncio.run(scenario())


def test_silence_is_told_too() -> None:
    async def scenario() -> None:
        live = Live()
        stream = live.join().records(0.01)
        assert await anext(stream) is None
        record = make_record()
        live.publish(record)
        assert await anext(stream) == record
        assert await anext(stream) is None

    asyncio.run(scenario())


def test_no_more_than_a_few_may_listen_and_one_that_leaves_makes_room() -> None:
    async def scenario() -> None:
        live = Live()
        readers = [live.join() for _ in range(32)]
        with pytest.raises(TooManyReaders, match="32"):
            live.join()
        live.leave(readers[0])
        live.join()

    asyncio.run(scenario())


def test_a_service_that_stops_ends_its_readers_and_takes_no_more() -> None:
    async def scenario() -> None:
        live = Live()
        before = live.join()
        live.close()
        assert await drain(before) == []
        assert await drain(live.join()) == []

    asyncio.run(scenario())
