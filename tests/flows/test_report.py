"""The report in the Prefect UI is not worth a show."""

import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest

from db.session import make_engine
from flows.report import publish


def test_show_goes_on_while_the_database_is_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine(f"postgresql://me@/shows?host={tmp_path}")
    try:
        publish(engine, "news", datetime.now(UTC), logging.getLogger("test"))
    finally:
        engine.dispose()
    assert "could not be shown" in caplog.text
