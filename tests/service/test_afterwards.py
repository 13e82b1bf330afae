"""What is done after an answer: soon, in its order, at once for who asks, and in spite of what fails."""

import asyncio

import pytest

from service.afterwards import Afterwards


def test_work_is_done_later_in_its_order() -> None:
    async def scenario() -> None:
        afterwards, done, last = Afterwards(), [], asyncio.Event()
        for _ in range(2):
            last.clear()
            for number in range(3):
                afterwards.add(lambda number=number: done.append(number))
            afterwards.add(last.set)
            before = len(done)
            await asyncio.sleep(0)
            assert len(done) == before
            await asyncio.wait_for(last.wait(), 5)
        assert done == [0, 1, 2, 0, 1, 2]

    asyncio.run(scenario())


def test_who_reads_has_it_done_at_once_and_once() -> None:
    async def scenario() -> None:
        afterwards, done = Afterwards(), []
        afterwards.add(lambda: done.append("work"))
        afterwards.flush()
        assert done == ["work"]
        await asyncio.sleep(0.02)
        assert done == ["work"]

    asyncio.run(scenario())


def test_what_fails_is_logged_and_the_rest_is_done(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        afterwards, done = Afterwards(), []
        afterwards.add(lambda: 1 / 0)
        afterwards.add(lambda: done.append("work"))
        afterwards.flush()
        assert done == ["work"]

    asyncio.run(scenario())
    assert "ZeroDivisionError" in caplog.text
