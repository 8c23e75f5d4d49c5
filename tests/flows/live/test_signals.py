"""Signals are deferred while something is stored; repeated ones are dropped."""

import signal
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from flows.live.signals import undisturbed


class Told(Exception):
    """What SIGTERM raises here."""


def tell(*_: object) -> None:
    raise Told


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = [(number, signal.signal(number, tell)) for number in (signal.SIGTERM, signal.SIGINT)]
    yield
    for number, handler in before:
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_raised_after_the_protected_block(number: signal.Signals) -> None:
    stored = []

    def store() -> None:
        with undisturbed(heard=False):
            signal.raise_signal(number)
            stored.append(1)

    with pytest.raises(Told):
        store()
    assert stored == [1]
    with pytest.raises(Told):
        signal.raise_signal(number)


def test_a_handled_signal_is_not_raised_again() -> None:
    with undisturbed(heard=True):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is tell


def test_an_inner_block_passes_its_signal_to_the_outer() -> None:
    stored = []
    with undisturbed(heard=True):
        with undisturbed(heard=False):
            signal.raise_signal(signal.SIGTERM)
        stored.append(1)
    assert stored == [1]


def test_an_error_is_the_cause_of_the_signal_s_exception() -> None:
    def store() -> None:
        with undisturbed(heard=False):
            signal.raise_signal(signal.SIGTERM)
            raise ValueError

    with pytest.raises(Told) as told:
        store()
    assert isinstance(told.value.__context__, ValueError)


def test_it_has_no_effect_in_other_threads() -> None:
    found = []

    def look() -> None:
        with suppress(Told), undisturbed(heard=False):
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [tell]
