"""Live updates for viewers of the page."""

import asyncio
import json

from flows.page.reading.database import Reader
from flows.page.reading.live_updates import Hub


def test_listener_is_notified_of_an_internal_error() -> None:
    def reader() -> Reader:
        raise RuntimeError("a bug")

    async def first() -> str:
        hub = Hub(reader)
        hub.take()
        events = hub.listen("news")
        said = [await asyncio.wait_for(anext(events), 60) for _ in range(2)][-1]
        await events.aclose()  # type: ignore[attr-defined]
        return said.decode()

    said = json.loads(asyncio.run(first()).removeprefix("data: "))
    assert said == {"problem": "an internal error: see the page's log"}
