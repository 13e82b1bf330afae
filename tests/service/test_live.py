"""Who listens to the inspections, and that one who does not keep up costs the others nothing."""

import asyncio

import pytest

from service.errors import TooManyReaders
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
