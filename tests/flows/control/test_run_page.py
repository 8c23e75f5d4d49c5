"""A run's page when the server does not answer: the end waits for it only once."""

import logging
import threading
import uuid

import pytest

from flows.control.run_page import RunPage


class Stuck(threading.Thread):
    """A thread blocked on a server that never answers."""

    def __init__(self) -> None:
        super().__init__()
        self.waited_for_s: list[float] = []

    def join(self, timeout: float | None = None) -> None:
        assert timeout is not None
        self.waited_for_s.append(timeout)
        threading.Event().wait(timeout)


@pytest.mark.parametrize("ends", [("ended", "close"), ("close", "close")], ids=" and ".join)
def test_the_end_waits_for_the_last_report_once(ends: tuple[str, str]) -> None:
    run_page = RunPage(
        channel="news",
        run_id=uuid.uuid4(),
        log=logging.getLogger("test"),
        final_update_timeout_s=0.2,
    )
    run_page._thread = thread = Stuck()
    for end in ends:
        getattr(run_page, end)(*(["completed"] if end == "ended" else []))
    assert 0 < sum(thread.waited_for_s) < 0.3
    assert run_page._silent
