"""A run's heartbeats, and its polling for a cancel, with a small fake API."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows.control import heartbeat
from flows.control.healing import ALIVE, OVER
from flows.control.heartbeat import heartbeats

NOW = "Sun, 22 Nov 2026 19:00:00 GMT"
"""The server's time, different from any local clock."""


@dataclass
class Api:
    """The part of Prefect's API used by heartbeats. state: current state of the run."""

    run_id: UUID = field(default_factory=uuid4)
    state: str = "RUNNING"
    is_away: bool = False
    events: list[dict[str, Any]] = field(default_factory=list)
    looks: int = 0
    refused: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def answer(self, method: str, path: str, body: Any) -> object:
        with self.changed:
            if path.endswith("/events"):
                self.events += body
            elif path.endswith("/set_state"):
                self.state = body["state"]["type"]
            elif method == "GET" and "/flow_runs/" in path:
                self.looks += 1
            self.changed.notify_all()
        state = {"type": self.state, "id": str(uuid4())}
        if path.endswith("/set_state"):
            return {"state": state, "status": "ACCEPT", "details": {"type": "accept_details"}}
        return {
            "id": str(self.run_id),
            "flow_id": str(uuid4()),
            "name": "a run",
            "state_type": self.state,
            "state": state,
        }

    def until(self, what: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(what, 60)

    def said(self) -> list[str]:
        return [event["event"] for event in self.events]


@pytest.fixture
def api() -> Iterator[Api]:
    one = Api()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or "null")
            if one.is_away:
                with one.changed:
                    one.refused += 1
                    one.changed.notify_all()
                self.send_error(503)
                return
            if "/csrf-token" in self.path:
                self.send_error(404)  # like a server without such tokens
                return
            answer = json.dumps(one.answer(self.command, self.path, body)).encode()
            self.send_response_only(200)
            self.send_header("Date", NOW)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/api"
    with temporary_settings({PREFECT_API_URL: url, PREFECT_CLIENT_MAX_RETRIES: 0}):
        yield one
    server.shutdown()
    server.server_close()


@pytest.fixture
def terms() -> Iterator[list[int]]:
    """The SIGTERMs received by this process."""
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    yield heard
    signal.signal(signal.SIGTERM, before)


@contextmanager
def alive(api: Api, *, every_s: float) -> Iterator[heartbeat.Heartbeat]:
    with heartbeats(api.run_id, dead_after_s=every_s * heartbeat.BEATS) as one:
        yield one


def test_heartbeats_have_the_servers_time_and_the_last_one_reports_the_end(api: Api, terms) -> None:
    with alive(api, every_s=0.01):
        api.until(lambda: len(api.events) >= 3)
    assert set(api.said()[:-1]) == {ALIVE}
    assert api.said()[-1] == OVER
    assert {event["occurred"] for event in api.events} == {"2026-11-22T19:00:00+00:00"}
    run = f"prefect.flow-run.{api.run_id}"
    assert {event["resource"]["prefect.resource.id"] for event in api.events} == {run}
    assert api.state == "RUNNING"
    assert terms == []


@pytest.mark.parametrize(("state", "after"), [("CANCELLED", 1), ("CANCELLING", 2)])
def test_a_cancel_missed_by_the_worker_ends_the_process_once(
    api: Api, terms, state: str, after: int
) -> None:
    """While it is being cancelled, the worker has the time of a heartbeat to do it."""
    api.state = state
    with alive(api, every_s=0.05) as one:
        api.until(lambda: api.said().count(ALIVE) > after + 2)
        assert one.was_obeyed
    assert terms == [signal.SIGTERM]


def test_a_cancel_is_obeyed_only_after_a_heartbeat(api: Api, terms) -> None:
    api.state = "CANCELLING"
    with alive(api, every_s=3600) as one:
        api.until(lambda: len(api.events) == 1)
    assert not one.was_obeyed
    assert terms == []


def test_a_run_reports_itself_as_cancelled_when_all_is_stored(api: Api, terms) -> None:
    with alive(api, every_s=3600):
        api.until(lambda: len(api.events) == 1)
        api.state = "CANCELLING"
    assert api.said() == [ALIVE, OVER]
    assert api.state == "CANCELLED"


def test_after_a_server_outage_cancels_are_polled_more_often(
    api: Api, terms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "LOOK_EVERY_S", 0.01)
    api.is_away = True
    with alive(api, every_s=2):
        api.until(lambda: api.refused > 0)
        api.is_away = False
        api.state = "CANCELLED"
        api.until(lambda: bool(terms) or api.looks > 100)
    assert terms == [signal.SIGTERM]


def test_cancels_are_polled_more_often_without_a_worker(
    api: Api, terms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "LOOK_EVERY_S", 0.01)
    parents = iter([os.getppid()])
    monkeypatch.setattr(os, "getppid", lambda: next(parents, 1))
    with alive(api, every_s=3600):
        api.until(lambda: api.looks > 3)
        api.state = "CANCELLED"
        looks = api.looks
        api.until(lambda: bool(terms) or api.looks > looks + 100)
    assert terms == [signal.SIGTERM]


def test_an_unavailable_server_ends_nothing(
    api: Api, terms, caplog: pytest.LogCaptureFixture
) -> None:
    api.is_away = True
    with alive(api, every_s=0.01):
        pass
    assert sum("a heartbeat could not be sent" in each for each in caplog.messages) == 1
    assert api.events == []
    assert terms == []
