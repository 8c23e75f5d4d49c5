from collections.abc import Iterator
from threading import Event, Thread

import pytest

from emotion.ahead import Prefetcher


def test_items_come_in_order_and_then_no_more():
    ahead = Prefetcher(lambda: iter(range(50)), depth=3)
    assert list(ahead) == list(range(50))
    assert list(ahead) == []
    ahead.close()


def test_items_are_prefetched_up_to_the_depth():
    made: list[int] = []
    third = Event()

    def make() -> Iterator[int]:
        for i in range(100):
            made.append(i)
            if i == 2:
                third.set()
            yield i

    with Prefetcher(make, depth=2) as ahead:
        assert third.wait(60)  # two wait, the third has nowhere to go
        assert made == [0, 1, 2]
        assert next(ahead) == 0


def test_what_is_raised_is_raised_where_the_items_are_taken():
    def make() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    ahead = Prefetcher(make, depth=4)
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="broken"):
        next(ahead)
    assert list(ahead) == []


def test_closing_ends_the_work_and_what_it_holds():
    ended = Event()

    def make() -> Iterator[int]:
        try:
            yield from range(1_000_000)
        finally:
            ended.set()

    ahead = Prefetcher(make, depth=1)
    next(ahead)
    ahead.close()
    assert ended.wait(60)
    assert len(list(ahead)) <= 1


def test_closing_does_not_wait_for_an_item_that_takes_long():
    asked, go_on, made = Event(), Event(), Event()

    def make() -> Iterator[int]:
        asked.set()
        go_on.wait(60)
        made.set()
        yield 1

    with Prefetcher(make, depth=1) as ahead:
        assert asked.wait(60)
    assert not made.is_set()
    go_on.set()
    assert made.wait(60)
    assert list(ahead) == []


def test_a_waiting_consumer_returns_when_another_thread_closes():
    go_on, ended = Event(), Event()

    def make() -> Iterator[int]:
        go_on.wait(60)
        yield from ()

    ahead = Prefetcher(make, depth=1)

    def take() -> None:
        list(ahead)
        ended.set()

    Thread(target=take, daemon=True).start()
    ahead.close()
    assert ended.wait(60)
    go_on.set()
