from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from benchmarks.origin.testcard import make_testcard

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Clock:
    """The time that the test says it is."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def __call__(self) -> datetime:
        return NOON + timedelta(seconds=self.passed_s)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def card(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Four seconds of the test card in half-second segments, with its variants."""
    return make_testcard(tmp_path_factory.mktemp("card"), duration_s=4.0, segment_s=0.5)
