"""Schedules, forms and automations on a real Prefect server, over the API that its UI uses."""

import asyncio
import contextlib
import json
import logging
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import islice
from pathlib import Path
from socket import create_connection
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import psutil
import pytest
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.events import Event as PrefectEvent
from prefect.events.clients import get_events_client, get_events_subscriber
from prefect.events.filters import EventFilter, EventResourceFilter
from prefect.filesystems import LocalFileSystem
from prefect.logging.clients import get_logs_subscriber
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from prefect.workers.process import ProcessJobConfiguration
from sqlalchemy import Engine
from typer.testing import CliRunner
from websockets import ConnectionClosed, InvalidStatus, Subprotocol
from websockets.sync.client import connect as socket_to

from db.machines import note_uploads, register
from db.session import make_engine
from db.writing import writes
from db.writing.rows import SegmentRow
from flows.auth.access import Access, basic
from flows.capture.segment import Gap, Segment
from flows.capture.source.operator.sources import BadSources, Sources
from flows.cli import app
from flows.control import automations, healing
from flows.control.client import wide_replay
from flows.control.client.api import PrefectServer, connect
from flows.control.client.machine_queue import forwarded_tag, queue_of, run_on
from flows.control.client.run_history import forget_runs
from flows.control.client.secrets import secret_of
from flows.control.client.work_pool import put_pools, template
from flows.control.events import MISSED, RAISED, labels
from flows.control.heartbeat import run_was_cancelled
from flows.control.ownership import deployed, name_of_run
from flows.control.run_page import RunPage
from flows.errors import StackError, UsageError
from flows.forwarding import forward_run, was_forwarded
from flows.live.rows.analysis import Counts
from flows.settings import Settings
from flows.shows.applying import VERSION, apply_showfile, paused_slots, version_of
from flows.shows.slots import Slot
from flows.stack.processes.child import Child
from flows.stack.stack import Stack
from flows.stack.workers import show_worker
from flows.stack.workers.handover import hand_over, runs_below
from flows.stack.workers.worker import run_worker

pytestmark = pytest.mark.timeout(300)

URL = "https://example.com/live"
SHOWS = f"""
name: test
deployments:
  - name: news
    entrypoint: flows/watch.py:watch_show
    work_pool: {{ name: studio }}
    tags: [showmood]
    parameters: {{ url: "{URL}", name: news, duration: 20m }}
    schedules:
      - {{ slug: evening, cron: "0 20 * * *", timezone: Europe/Vienna }}
      - slug: weekend
        rrule: "DTSTART:20260103T213000\\nRRULE:FREQ=WEEKLY;BYDAY=SA,SU"
        timezone: Europe/Vienna
        parameters: {{ url: "{URL}/weekend", duration: 2h }}
      - {{ slug: noon, cron: "0 12 * * *", timezone: Europe/Vienna }}
  - name: moment
    entrypoint: flows/clip_moment.py:clip_moment
    work_pool: {{ name: studio }}
    tags: [showmood]
"""
WITHOUT_NOON = "\n".join(line for line in SHOWS.splitlines() if "noon" not in line)


@dataclass(frozen=True)
class Control:
    """A Prefect server, and a file of shows applied to it."""

    env: dict[str, str]
    api: httpx.Client
    file: Path
    access: Access

    @property
    def root(self) -> str:
        return self.env["PREFECT_API_URL"].removesuffix("/api")

    @property
    def cookie(self) -> dict[str, str]:
        """The cookie of a logged-in browser."""
        return {"Cookie": f"showmood-{urlsplit(self.root).port}={self.access.cookie()}"}

    @property
    def settings(self) -> dict[Any, Any]:
        """Settings of Prefect's client."""
        known = (PREFECT_API_URL, PREFECT_API_AUTH_STRING)
        return {setting: self.env[setting.name] for setting in known}

    def deployment(self, name: str) -> dict[str, Any]:
        return self.api.get(f"/deployments/name/{name}").raise_for_status().json()

    def slots(self) -> dict[str, dict[str, Any]]:
        return {slot["slug"]: slot for slot in self.deployment("watch-show/news")["schedules"]}

    def automation(self, name: str) -> dict[str, Any]:
        query = {"automations": {"name": {"any_": [f"showmood: {name}"]}}}
        (found,) = self.api.post("/automations/filter", json=query).raise_for_status().json()
        return found


@pytest.fixture(scope="module")
def control(
    tmp_path_factory: pytest.TempPathFactory,
    until: Callable[..., Any],
    free_port: Callable[[], int],
    heard_of: Callable[[Path], dict[str, str]],
) -> Iterator[Control]:
    home, port = tmp_path_factory.mktemp("prefect"), free_port()
    with ExitStack() as stack:
        access = Access.make(home)
        env = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")} | {
            "SHOWMOOD_HOME": str(home),
            "SHOWMOOD_UI_HOSTS": "shows.example.com",
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
            "PREFECT_API_AUTH_STRING": access.auth_string,
            "PREFECT_SERVER_API_AUTH_STRING": "operator:word",
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "https://dash.example.com",
            **heard_of(home),
        }
        sink = stack.enter_context((home / "server.log").open("w"))
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.stack.server", "--port", str(port)],
            env=env,
            stdout=sink,
            stderr=sink,
        )
        stack.callback(process.wait)
        stack.callback(process.terminate)
        api = stack.enter_context(connect(env["PREFECT_API_URL"], access.headers))
        with PrefectServer(env["PREFECT_API_URL"], access.headers) as server:

            def is_up() -> bool:
                assert process.poll() is None, (home / "server.log").read_text()
                return server.is_up()

            until(is_up, what="the server")
        file = home / "prefect.yaml"
        file.write_text(SHOWS)
        apply_showfile(file, env)
        yield Control(env=env, api=api, file=file, access=access)
    assert not (home / "connections.log").exists(), "the server told somebody, or a deployment did"


def test_pools_are_made_before_the_shows(control: Control) -> None:
    pool = control.api.get("/work_pools/studio").raise_for_status().json()
    assert pool["type"] == "process"
    assert pool["base_job_template"] == template()


def test_form_has_titles_drop_downs_and_rules(control: Control) -> None:
    form = control.deployment("watch-show/news")["parameter_openapi_schema"]
    fields = form["properties"]
    assert form["required"] == ["url"]
    assert fields["url"]["title"] == "URL of the show"
    assert all(field["description"] for field in fields.values())
    assert {"showmood-expression-2", "mini-xception"} <= set(fields["emotion_model"]["enum"])
    assert fields["alerts"]["items"]["$ref"].endswith("/Alert")
    alert = form["definitions"]["Alert"]["properties"]
    assert alert["of"]["enum"] == ["track", "screen"]
    assert "anger" in form["definitions"]["Emotion"]["enum"]
    for wrong, said in (
        ({"alerts": [{"emotion": "envy"}]}, "anger"),
        ({"duration": "soon"}, "30s, 45m, 1h30m or 2d"),
        ({"name": "A B"}, "lower-case letters, digits and hyphens"),
    ):
        answer = control.api.post(
            f"/deployments/{control.deployment('watch-show/news')['id']}/create_flow_run",
            json={"parameters": wrong},
        )
        assert answer.is_client_error, wrong
        assert said in answer.text


def test_an_unscheduled_run_has_no_slot_s_name(control: Control) -> None:
    news = UUID(control.deployment("watch-show/news")["id"])
    with temporary_settings(control.settings), get_client(sync_client=True) as client:
        shows = list(deployed(client))
    assert name_of_run("news", URL, news, shows) == ("news", True)
    assert name_of_run("news", f"{URL}/weekend", news, shows) == ("news", True)
    assert name_of_run("news", f"{URL}/other", news, shows) == ("adhoc-news", False)
    assert name_of_run("news", URL, None, shows) == ("adhoc-news", False)


def test_the_description_says_when_a_show_is_on_air(control: Control) -> None:
    """Also after it was applied twice, without duplicates."""
    before = control.deployment("watch-show/news")["description"]
    assert "On air: daily 20:00 Europe/Vienna; " in before
    apply_showfile(control.file, control.env)
    assert control.deployment("watch-show/news")["description"] == before


@pytest.mark.parametrize("month", [3, 10], ids=["into summer", "into winter"])
def test_slots_keep_local_time_when_the_clocks_change(control: Control, month: int) -> None:
    """Europe changes its clocks on the last Sundays of March and October."""
    year = datetime.now(UTC).year + 1
    last = max(day for day in range(25, 32) if date(year, month, day).weekday() == 6)
    begin = datetime(year, month, last, tzinfo=UTC) - timedelta(days=2)
    end = begin + timedelta(days=5)
    news = control.deployment("watch-show/news")
    asked = {"start_time": begin.isoformat(), "end_time": end.isoformat()}
    asked |= {"min_runs": 20, "max_runs": 50}
    control.api.post(f"/deployments/{news['id']}/schedule", json=asked).raise_for_status()
    span = {"after_": begin.isoformat(), "before_": end.isoformat()}
    query = {
        "flow_runs": {"expected_start_time": span, "deployment_id": {"any_": [news["id"]]}},
        "limit": 200,
    }
    runs = control.api.post("/flow_runs/filter", json=query).raise_for_status().json()
    found = {
        (datetime.fromisoformat(run["expected_start_time"]), run["parameters"]["url"])
        for run in runs
    }
    wanted = set[tuple[datetime, str]]()
    for slug, url in (("evening", URL), ("weekend", f"{URL}/weekend"), ("noon", URL)):
        schedule = control.slots()[slug]["schedule"]
        rule = {key: schedule[key] for key in ("cron", "rrule") if key in schedule}
        slot = Slot.of(slug=slug, timezone=schedule["timezone"], **rule)
        starts = [start for start in islice(slot.starts(begin), 9) if start < end]
        hours = {(start.hour, start.minute) for start in starts}
        assert hours == {{"evening": (20, 0), "weekend": (21, 30), "noon": (12, 0)}[slug]}
        assert len({start.utcoffset() for start in starts}) == 2
        wanted |= {(start.astimezone(UTC), url) for start in starts}
    assert found == wanted


def test_automations_are_off_by_default_and_turn_an_event_into_a_run(
    control: Control, until: Callable[..., Any]
) -> None:
    clip = control.automation("clip the moment")
    assert clip["enabled"] is False
    switched = {"enabled": True}
    control.api.patch(f"/automations/{clip['id']}", json=switched).raise_for_status()
    now = datetime.now(UTC)
    query = {
        "flow_runs": {"deployment_id": {"any_": [control.deployment("clip-moment/moment")["id"]]}}
    }
    event = {
        "occurred": now.isoformat(),
        "event": RAISED,
        "resource": labels("news", emotion="anger", of="track"),
        "payload": {
            "clip_from": "2026-11-22T20:00:00+00:00",
            "clip_to": "2026-11-22T20:00:23+00:00",
        },
    }

    def runs_of_an_event() -> list[dict[str, Any]]:
        # The server gets the change with a delay.
        sent = [event | {"id": str(uuid.uuid4())}]
        control.api.post("/events", json=sent).raise_for_status()
        return control.api.post("/flow_runs/filter", json=query).raise_for_status().json()

    runs = until(runs_of_an_event, what="a run")
    assert runs[0]["parameters"] == {
        "channel": "news",
        "start": "2026-11-22T20:00:00+00:00",
        "end": "2026-11-22T20:00:23+00:00",
    }
    assert datetime.fromisoformat(runs[0]["expected_start_time"]) > now + timedelta(seconds=10)


def test_notification_uses_the_named_block(control: Control, until: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="there is no block 'slack-webhook/newsroom'"):
        list(automations.apply(control.api, notify_block="slack-webhook/newsroom"))
    heard = queue.Queue[str]()

    class Newsroom(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.put(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Newsroom) as newsroom:
        threading.Thread(target=newsroom.serve_forever, daemon=True).start()
        kind = control.api.get("/block_types/slug/custom-webhook").raise_for_status().json()["id"]
        asked = {"block_schemas": {"block_type_id": {"any_": [kind]}}}
        schema = control.api.post("/block_schemas/filter", json=asked).raise_for_status().json()[0]
        block = {
            "name": "newsroom",
            "block_type_id": kind,
            "block_schema_id": schema["id"],
            "data": {
                "name": "newsroom",
                "url": f"http://127.0.0.1:{newsroom.server_port}/",
                "json_data": {"subject": "{{subject}}", "body": "{{body}}"},
            },
        }
        control.api.post("/block_documents/", json=block).raise_for_status()
        assert list(automations.apply(control.api, notify_block="custom-webhook/newsroom"))
        tell = control.automation("tell of a missed show")
        assert tell["enabled"] is False
        switched = {"enabled": True}
        control.api.patch(f"/automations/{tell['id']}", json=switched).raise_for_status()

        def told() -> str:
            event = {
                "id": str(uuid.uuid4()),
                "occurred": datetime.now(UTC).isoformat(),
                "event": MISSED,
                "resource": labels("news"),
                "payload": {"why": "it is announced for 21:00"},
            }
            control.api.post("/events", json=[event]).raise_for_status()
            try:
                return heard.get(timeout=0.5)
            except queue.Empty:
                return ""

        message = until(told, what="the notification")
        newsroom.shutdown()
    assert "news: a show never live" in message
    assert "it is announced for 21:00" in message


def test_applying_again_removes_missing_deployments_and_keeps_changes_made_in_the_ui(
    control: Control,
) -> None:
    news = control.deployment("watch-show/news")
    slots = f"/deployments/{news['id']}/schedules"
    evening = control.slots()["evening"]["id"]
    control.api.patch(f"{slots}/{evening}", json={"active": False}).raise_for_status()
    mine = {"schedule": {"cron": "0 9 * * 1", "timezone": "UTC"}, "active": True}
    control.api.post(slots, json=[mine]).raise_for_status()
    clip = control.automation("clip the moment")
    said: list[str] = []
    control.file.write_text(WITHOUT_NOON.split("  - name: moment")[0])

    apply_showfile(control.file, control.env, echo=said.append)

    there = control.slots()
    assert "noon" not in there
    assert there["evening"]["active"] is False
    assert there["weekend"]["active"] is True
    assert there["weekend"]["parameters"] == {"url": f"{URL}/weekend", "duration": "2h"}
    (by_hand,) = set(there) - {"evening", "weekend"}
    assert there[by_hand]["schedule"]["cron"] == "0 9 * * 1"
    assert paused_slots(control.env) == {("news", "evening")}
    assert "news: slot noon is no longer in the file: removed" in said
    assert "moment is not in prefect.yaml, and stays: --prune removes it" in said
    assert control.automation("clip the moment") == clip


def run_of(control: Control, flow: str, *states: str) -> str:
    """Create a run of a flow with these states."""
    made = control.api.post("/flows/", json={"name": flow}).raise_for_status().json()
    run = {"flow_id": made["id"], "state": {"type": "PENDING"}}
    number = control.api.post("/flow_runs/", json=run).raise_for_status().json()["id"]
    for state in states:
        control.api.post(
            f"/flow_runs/{number}/set_state", json={"state": {"type": state}}
        ).raise_for_status()
    return str(number)


def test_old_runs_are_deleted_with_their_artifacts(control: Control) -> None:
    old = run_of(control, "watch-show", "RUNNING", "COMPLETED")
    artifact = {"key": "show-old", "type": "markdown", "data": "#", "flow_run_id": old}
    kept = control.api.post("/artifacts/", json=artifact).raise_for_status().json()["id"]
    live = run_of(control, "watch-show", "RUNNING")
    theirs = run_of(control, "somebody-elses", "RUNNING", "COMPLETED")
    before = datetime.now(UTC)
    new = run_of(control, "watch-show", "RUNNING", "FAILED")

    assert forget_runs(control.api, before=before) == 1
    assert forget_runs(control.api, before=before) == 0

    gone, *stay = (control.api.get(f"/flow_runs/{run}") for run in (old, live, theirs, new))
    assert gone.status_code == httpx.codes.NOT_FOUND
    assert all(answer.is_success for answer in stay)
    assert control.api.get(f"/artifacts/{kept}").status_code == httpx.codes.NOT_FOUND


def test_a_run_s_state_shows_its_progress_until_it_is_cancelled(
    control: Control, engine: Engine, until: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    run = run_of(control, "watch-show", "RUNNING")

    def message() -> str | None:
        return control.api.get(f"/flow_runs/{run}").json()["state"]["message"]

    def artifacts() -> dict[str, Any]:
        query = {"artifacts": {"flow_run_id": {"any_": [run]}}}
        found = control.api.post("/artifacts/filter", json=query).raise_for_status().json()
        assert len({each["key"] for each in found}) == len(found), "one is kept, not many made"
        return {each["key"]: each["data"] for each in found}

    start = datetime.now(UTC) - timedelta(minutes=15)
    with engine.begin() as connection:
        channel = writes.ensure_channel(connection, "news", URL)
        writes.open_broadcast(connection, channel_id=channel, started_at=start)
        register(connection, name="studio", disk="1", version=VERSION)
        note_uploads(
            connection, "studio", files=3, n_bytes=12_000_000, since=start, error="it is full"
        )
    segment = Segment(
        channel="news",
        broadcast=1,
        sequence=0,
        start=start + timedelta(minutes=14),
        start_is_estimated=False,
        duration_s=60.0,
        path=Path("0.ts"),
        width_px=0,
        height_px=0,
    )
    said = partial(until, what="what the run says")
    with temporary_settings(control.settings):
        run_page = RunPage(
            channel="news",
            run_id=uuid.UUID(run),
            log=logging.getLogger("test"),
            machine="studio",
            every_s=0.1,
            final_update_timeout_s=60,
        )
        run_page.waiting(datetime(2026, 11, 22, 20, 5, tzinfo=UTC))
        said(lambda: message() == "waiting for the show until 20:05 UTC")
        run_page.began(engine, start, start + timedelta(minutes=60))
        said(lambda: message() == "recording; the networks are being loaded")
        run_page.took(segment, None, Counts(segments=412, lag_s=0.7))
        said(lambda: message() == "live, 412 segments, 0.7 s behind")
        said(lambda: artifacts().get("progress-news") == 25.0)
        said(lambda: ": live" in artifacts().get("show-news", ""))
        control.api.post(
            f"/flow_runs/{run}/set_state", json={"state": {"type": "CANCELLING"}}
        ).raise_for_status()
        run_page.took(segment, None, Counts(segments=413, lag_s=0.7, gaps=1))
        run_page.ended("cancelled")
        assert run_was_cancelled(run, within_s=60)
    state = control.api.get(f"/flow_runs/{run}").json()["state"]
    assert state["type"] == "CANCELLING"
    assert ": cancelled" in artifacts()["show-news"]
    assert "| object store, from studio | 3 recorded files (12 MB) wait" in artifacts()["show-news"]
    assert "s: it is full |" in artifacts()["show-news"]
    assert [each for each in caplog.records if each.name == "test"] == []


def test_a_show_continues_while_server_and_database_are_unavailable(
    control: Control, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = run_of(control, "watch-show", "RUNNING")
    nowhere = make_engine(f"postgresql://me@/shows?host={tmp_path}")
    with temporary_settings(control.settings):
        run_page = RunPage(
            channel="away",
            run_id=uuid.UUID(run),
            log=logging.getLogger("test"),
            final_update_timeout_s=60,
        )
        run_page.began(nowhere, datetime.now(UTC), datetime.now(UTC) + timedelta(hours=1))
        run_page.took(
            Gap(start=datetime.now(UTC), end=datetime.now(UTC), why="HTTP 503"), None, Counts()
        )
        run_page.ended("failed")
        assert not run_was_cancelled(run, within_s=60), "it runs"
        assert not run_was_cancelled("no run", within_s=60), "the server cannot tell"
    nowhere.dispose()
    assert "the report could not be shown in the UI" in caplog.text
    assert "whether run no run was cancelled is not known" in caplog.text


def test_unavailable_server_is_a_one_line_error(control: Control) -> None:
    nowhere = control.env | {"PREFECT_API_URL": "http://127.0.0.1:9/api"}
    with pytest.raises(StackError, match="does not answer") as caught:
        apply_showfile(control.file, nowhere)
    assert "\n" not in str(caught.value)
    with pytest.raises(StackError, match="does not answer"):
        paused_slots(nowhere)


# -- access

EVIL = "http://evil.example"
RUN_CODE = {"command": "sh -c 'touch /tmp/was-here'"}
PULL_STEP = {"prefect.deployments.steps.run_shell_script": {"script": "touch /tmp/was-here"}}
FOLLOWED = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/health", None),
        ("GET", "/api/version", None),
        ("GET", "/api/admin/settings", None),
        ("GET", "/ui-settings", None),
        ("GET", "/docs", None),
        ("GET", "/openapi.json", None),
        ("GET", "/login/", None),
        ("GET", "/login/guessed", None),
        ("OPTIONS", "/api/flows/", None),
        ("POST", "/api/deployments/{id}/create_flow_run", {"job_variables": RUN_CODE}),
        ("POST", "/api/flow_runs/", {"flow_id": str(uuid.UUID(int=0)), "job_variables": RUN_CODE}),
        ("PATCH", "/api/work_pools/studio", {"base_job_template": {}}),
        ("POST", "/api/deployments/", {"name": "x", "pull_steps": [PULL_STEP]}),
        ("POST", "/api/automations/", {"name": "x"}),
        ("PATCH", "/api/automations/{id}", {"enabled": False}),
        ("DELETE", "/api/automations/{id}", None),
    ],
)
def test_nothing_is_served_without_a_login(
    control: Control, method: str, path: str, body: object
) -> None:
    url = control.root + path.format(id=control.deployment("watch-show/news")["id"])
    for headers in ({}, basic("showmood:guessed"), basic("operator:"), {"Cookie": "showmood=1-2"}):
        answer = httpx.request(method, url, headers=headers, json=body, trust_env=False, timeout=60)
        assert answer.status_code == httpx.codes.UNAUTHORIZED
        assert "Unauthorized" in answer.json()["exception_message"]
        assert "www-authenticate" not in answer.headers, "no browser asks for a password"
    page = httpx.get(url, headers={"Accept": "text/html"}, trust_env=False, timeout=60)
    assert page.status_code == httpx.codes.UNAUTHORIZED
    assert "showmood link" in page.text


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        *[("GET", {"Origin": origin}, 403) for origin in (EVIL, "null", "http://127.0.0.1:1", "")],
        ("POST", {"Origin": EVIL}, 403),
        *[
            ("OPTIONS", {"Origin": EVIL, "Access-Control-Request-Method": method}, 403)
            for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        ],
        ("GET", {"Host": "evil.example"}, 421),
        ("GET", {"Host": "127.0.0.1"}, 421),
        ("GET", {"Host": "evil.example", "Origin": EVIL}, 421),
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image"}, 403),
        ("GET", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Dest": "iframe"}, 403),
        ("POST", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Dest": "document"}, 403),
    ],
    ids=str,
)
def test_other_origins_and_host_names_are_refused_to_a_logged_in_browser(
    control: Control, method: str, headers: dict[str, str], status: int
) -> None:
    body = {"name": "evil"} if method == "POST" else None
    for login in (control.access.headers, control.cookie):
        answer = httpx.request(
            method,
            f"{control.root}/api/flows/{'' if body else 'count'}",
            headers=login | headers,
            json=body,
            trust_env=False,
            timeout=60,
        )
        assert answer.status_code == status
        assert "access-control-allow-origin" not in answer.headers
    assert control.api.get("/flows/name/evil").status_code == httpx.codes.NOT_FOUND


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_json_without_its_content_type_is_refused(control: Control, kind: str | None) -> None:
    headers = control.cookie | ({"Content-Type": kind} if kind else {})
    made = f"{control.root}/api/flows/"
    for body in (b'{"name": "evil"}', iter([b'{"name": "evil"}'])):  # with a length, and chunked
        answer = httpx.post(made, headers=headers, content=body, trust_env=False, timeout=60)
        assert answer.status_code == httpx.codes.UNSUPPORTED_MEDIA_TYPE
    assert control.api.get("/flows/name/evil").status_code == httpx.codes.NOT_FOUND


@pytest.mark.parametrize("path", ["events/in", "events/out", "logs/out"])
def test_web_sockets_require_a_login(control: Control, path: str) -> None:
    url = f"ws{control.root.removeprefix('http')}/api/{path}"
    prefect = [Subprotocol("prefect")]
    for headers, protocols in (
        ({}, None),
        (basic("showmood:guessed"), None),
        (control.cookie | {"Origin": EVIL}, prefect),
        (control.access.headers | {"Origin": EVIL}, prefect),
        ({"Origin": EVIL}, prefect),
    ):
        with (
            pytest.raises(InvalidStatus, match="403"),
            socket_to(url, additional_headers=headers, subprotocols=protocols),
        ):
            raise AssertionError("it was opened")
    for said in ('{"type": "auth", "token": "guessed"}', '{"type": "auth"}', "{}", "[", "[]"):
        with socket_to(url, subprotocols=prefect) as socket:
            socket.send(said)
            with pytest.raises(ConnectionClosed, match="1008"):
                socket.recv(60)
    with socket_to(url, additional_headers=control.cookie, subprotocols=prefect) as socket:
        socket.send('{"type": "auth", "token": null}')
        assert "auth_success" in str(socket.recv(60))


def test_list_of_worker_types_is_local(control: Control) -> None:
    """Prefect would fetch them from GitHub: detected by the fixture."""
    view = control.api.get("/collections/views/aggregate-worker-metadata")
    assert "process" in view.raise_for_status().json()["prefect"]


def test_prefects_own_clients_use_the_secret(control: Control) -> None:
    """Used for a run's events and logs."""
    resource = {"prefect.resource.id": f"showmood.test.{uuid.uuid4()}"}

    async def talk() -> str:
        match = EventFilter(resource=EventResourceFilter(id=[resource["prefect.resource.id"]]))
        async with get_logs_subscriber(), get_events_subscriber(filter=match) as heard:
            async with get_events_client() as client:
                await client.emit(PrefectEvent(event="test.said", resource=resource))
            return (await asyncio.wait_for(anext(aiter(heard)), 60)).event

    with temporary_settings(control.settings):
        assert asyncio.run(talk()) == "test.said"


def test_operators_own_credentials_origins_and_names_are_accepted(control: Control) -> None:
    operator = basic("operator:word")
    theirs = {"Origin": "https://dash.example.com"}
    ask = partial(httpx.request, trust_env=False, timeout=60)
    health = f"{control.root}/api/health"
    allowed = ask("GET", health, headers=operator | theirs)
    assert allowed.is_success
    assert allowed.headers["access-control-allow-origin"] == theirs["Origin"]
    asks = theirs | {"Access-Control-Request-Method": "POST"}
    assert ask("OPTIONS", health, headers=asks).is_success
    assert ask("GET", health, headers=control.cookie | theirs).status_code == 401
    published = {"Host": "shows.example.com", "Origin": "https://shows.example.com"}
    assert ask("GET", health, headers=control.cookie | published).is_success
    behind = {"Origin": "https://shows.example.com"}  # a proxy that sends its own Host
    assert ask("GET", health, headers=control.cookie | behind).is_success


@pytest.mark.parametrize(
    "brought",
    [
        RUN_CODE,
        {"env": {"SHOWMOOD_ALLOW_NETWORKS": "0.0.0.0/0"}},
        {"env.SHOWMOOD_ALLOW_NETWORKS": "0.0.0.0/0"},
        {"working_dir": "/tmp"},
        {"name": "{{ prefect.variables.x }}"},
    ],
    ids=str,
)
def test_run_cannot_set_its_command_or_environment(
    control: Control, brought: dict[str, Any]
) -> None:
    """Refused by the server, and ignored by the worker."""
    put_pools(control.api, ["studio"])
    news = control.deployment("watch-show/news")
    asked = {"parameters": {"url": URL}, "job_variables": brought}
    answer = control.api.post(f"/deployments/{news['id']}/create_flow_run", json=asked)
    assert answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY
    pool = control.api.get("/work_pools/studio").raise_for_status().json()
    with temporary_settings(control.settings):
        job = asyncio.run(
            ProcessJobConfiguration.from_template_and_values(pool["base_job_template"], brought)
        )
    assert job.command == f"{sys.executable} -m flows.begin"
    assert (job.env, job.working_dir, job.name) == ({}, None, None)


def test_pools_are_reset_at_each_start(control: Control) -> None:
    put_pools(control.api, ["machine"])
    names = {"machine": template(f"{sys.executable} -m flows.begin"), "studio": template()}
    evil = template("sh -c evil")
    evil["job_configuration"]["env"] = "{{ env }}"
    evil["variables"]["properties"] = {"env": {"default": {"SHOWMOOD_ALLOW_NETWORKS": "0.0.0.0/0"}}}
    for name in names:
        changed = {"base_job_template": evil}
        control.api.patch(f"/work_pools/{name}", json=changed).raise_for_status()
    put_pools(control.api, ["machine"])
    for name, right in names.items():
        pool = control.api.get(f"/work_pools/{name}").raise_for_status().json()
        assert pool["base_job_template"] == right


def test_restarting_automations_are_reset_at_each_start(control: Control) -> None:
    def put(*, switch_on: bool) -> dict[str, Any]:
        url, headers = control.env["PREFECT_API_URL"], control.access.headers
        healing.apply(url, dead_after_s=60, headers=headers, switch_on=switch_on)
        return control.automation("a silent show goes on")

    made = put(switch_on=True)
    off = {"enabled": False}
    control.api.patch(f"/automations/{made['id']}", json=off).raise_for_status()
    assert put(switch_on=False)["enabled"] is False, "on a server of the operator's, it stays off"
    assert put(switch_on=True)["enabled"] is True
    evil = made | {"actions": [{"type": "cancel-flow-run"}, *made["actions"]]}
    kept = ("name", "description", "enabled", "trigger", "actions")
    changed = {key: evil[key] for key in kept}
    control.api.put(f"/automations/{made['id']}", json=changed).raise_for_status()
    assert put(switch_on=True)["actions"] == made["actions"]


def test_link_sets_a_cookie_that_scripts_and_other_sites_cannot_read(
    control: Control,
) -> None:
    link = control.access.link(control.root)
    answer = httpx.get(link, trust_env=False, timeout=60)
    assert answer.is_success
    name, *flags = answer.headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(flags)
    cookie = {"Cookie": name}
    settings = httpx.get(f"{control.root}/ui-settings", headers=cookie, trust_env=False, timeout=60)
    assert settings.json()["api_url"] == "/api", "wherever the UI is opened from"
    assert settings.json()["auth"] is None, "it asks for no password"
    assert settings.headers["x-frame-options"] == "SAMEORIGIN"
    assert (
        httpx.get(link + "0", trust_env=False, timeout=60).status_code == httpx.codes.UNAUTHORIZED
    )
    other = httpx.get(
        control.root, headers={"Accept": "text/html"} | FOLLOWED, trust_env=False, timeout=60
    )
    assert 'http-equiv="refresh"' in other.text, "a cookie comes along once it asks itself"


DOCS = Path(__file__).resolve().parents[2] / "docs" / "safety.md"


def proxy_command(name: str, home: Path, server: int, port: int) -> list[str]:
    """Write a proxy's configuration from the docs, without TLS; return its command."""
    program = shutil.which(name.lower())
    if program is None:
        pytest.skip(f"NO {name.upper()}: what docs/safety.md says of it was not tested")
    found = DOCS.read_text().partition(f"# {name}")[2].partition("```")[0].partition("\n")[2]
    found = found.replace("4200", str(server))
    file = home / f"{name}.conf"
    if name == "Caddy":
        found = found.replace("shows.example.com", f"http://shows.example.com:{port}")
        file.write_text("{\n    admin off\n}\n" + found)
        return [program, "run", "--adapter", "caddyfile", "--config", str(file)]
    paths = "".join(
        f"{kind}_temp_path {home}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    served = f"server {{ listen 127.0.0.1:{port}; {found} }}"
    file.write_text(
        f"daemon off; pid {home}/nginx.pid; events {{}} http {{ access_log off; {paths} {served} }}"
    )
    return [program, "-e", str(home / "nginx.log"), "-c", str(file)]


@pytest.mark.parametrize("name", ["Caddy", "nginx"])
def test_proxies_work_with_the_lines_in_the_docs(
    control: Control,
    name: str,
    tmp_path: Path,
    free_port: Callable[[], int],
    until: Callable[..., Any],
) -> None:
    port = free_port()
    command = proxy_command(name, tmp_path, int(urlsplit(control.root).port or 0), port)
    env = os.environ | {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    public = {"Host": "shows.example.com"}
    proxy = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL) as process:
        try:

            def answers() -> bool:
                with contextlib.suppress(httpx.TransportError):
                    answer = httpx.get(
                        f"{proxy}/api/health", headers=public, trust_env=False, timeout=60
                    )
                    return answer.status_code == httpx.codes.UNAUTHORIZED
                return False

            until(answers, what=name)
            link = httpx.get(
                control.access.link(proxy), headers=public, trust_env=False, timeout=60
            )
            cookie = {"Cookie": link.headers["set-cookie"].partition(";")[0]}
            browser = public | cookie | {"Origin": "https://shows.example.com"}
            made = httpx.post(
                f"{proxy}/api/flows/",
                headers=browser,
                json={"name": name},
                trust_env=False,
                timeout=60,
            )
            assert made.status_code == httpx.codes.CREATED
            socket = socket_to(
                "ws://shows.example.com/api/events/in",
                sock=create_connection(("127.0.0.1", port)),
                subprotocols=[Subprotocol("prefect")],
            )
            with socket:
                said = {"type": "auth", "token": control.access.auth_string}
                socket.send(json.dumps(said))
                assert "auth_success" in str(socket.recv(60))
        finally:
            process.terminate()


def test_cookie_is_secure_behind_a_tls_proxy(control: Control) -> None:
    link = control.access.link(control.root)
    for scheme, secure in (("http", False), ("https", True)):
        answer = httpx.get(link, headers={"X-Forwarded-Proto": scheme}, trust_env=False, timeout=60)
        assert ("; Secure" in answer.headers["set-cookie"]) is secure


def command_lines(processes: list[psutil.Process]) -> Iterator[str]:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            yield " ".join(process.cmdline())


def test_a_worker_serves_a_server_elsewhere(
    control: Control, database_url: str, tmp_path: Path
) -> None:
    """Its pools are created, it is online under its name, and leaves nothing behind."""
    env = control.env | {"SHOWMOOD_DATABASE_URL": database_url, "SHOWMOOD_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "flows.cli", "worker", "--pool", "afar", "--limit", "2"]
    with subprocess.Popen(
        [*command, "--name", "studio-2"], env=env, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert "serves work pool 'afar'" in said, said
        assert said.startswith(f"worker studio-2-afar (Showmood {VERSION}) "), said
        found = control.api.post("/work_pools/afar/workers/filter", json={}).json()
        assert [(each["name"], each["status"]) for each in found] == [("studio-2-afar", "ONLINE")]
        tree = psutil.Process(process.pid).children(recursive=True)
        assert any("--limit 2" in line for line in command_lines(tree))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert not psutil.wait_procs(tree, timeout=60)[1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"PREFECT_API_URL": ""}, "no Prefect server: set PREFECT_API_URL"),
        ({"SHOWMOOD_DATABASE_URL": ""}, "no database"),
        ({"PREFECT_API_AUTH_STRING": "who:knows"}, "answered 401: set PREFECT_API_AUTH_STRING"),
        ({"PREFECT_API_URL": "http://127.0.0.1:9/api"}, "does not answer"),
    ],
    ids=["no server", "no database", "wrong login", "server away"],
)
def test_worker_without_its_settings_is_a_one_line_error(
    control: Control,
    database_url: str,
    tmp_path: Path,
    change: dict[str, str],
    said: str,
) -> None:
    env = control.env | {"SHOWMOOD_DATABASE_URL": database_url} | change
    settings = Settings(home=tmp_path, database_url=env["SHOWMOOD_DATABASE_URL"] or None)
    with pytest.raises((UsageError, StackError), match=said) as caught:
        run_worker(settings, env, pools=("shows",), limit=None, name=None, echo=print)
    assert "\n" not in str(caught.value)


def test_a_deployment_contains_nothing_of_the_deploying_machine(control: Control) -> None:
    deployed = control.deployment("watch-show/news")
    assert deployed["entrypoint"] == "flows.watch.watch_show"
    assert (deployed["path"], deployed["pull_steps"]) == (None, [])
    assert version_of(deployed["version"]) == VERSION
    assert version_of("a plain deploy's own") is None


def test_run_for_a_machine_is_in_its_queue_and_created_once(control: Control) -> None:
    with PrefectServer(control.env["PREFECT_API_URL"], control.access.headers) as server:
        server.make_queue("studio", queue_of("studio-2"))
        server.make_queue("studio", queue_of("studio-2"))
    asked = {
        "deployment": control.deployment("watch-show/news")["id"],
        "parameters": {"url": "http://127.0.0.1:9/x", "name": "once"},
        "api_url": control.env["PREFECT_API_URL"],
        "headers": control.access.headers,
        "key": "once",
    }
    first, second = run_on("studio-2", **asked), run_on("studio-2", **asked)
    assert first["id"] == second["id"]
    assert first["work_queue_name"] == "on-studio-2"
    control.api.delete(f"/flow_runs/{first['id']}").raise_for_status()


def made_deployment(control: Control, flow: str, name: str, **more: Any) -> str:
    """Create a deployment that is in no file."""
    of = control.api.post("/flows/", json={"name": flow}).raise_for_status().json()["id"]
    made = {"name": name, "flow_id": of, "work_pool_name": "studio"} | more
    return str(control.api.post("/deployments/", json=made).raise_for_status().json()["id"])


def test_run_forwarded_by_another_machine_is_not_forwarded_again(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise two machines with parts of a show would start runs on each other for ever."""
    with PrefectServer(control.env["PREFECT_API_URL"], control.access.headers) as server:
        server.make_queue("studio", queue_of("studio-2"))
    deployment = made_deployment(control, "any", "files")
    path = f"/deployments/{deployment}/create_flow_run"
    first = control.api.post(path, json={}).raise_for_status().json()["id"]
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", control.env["PREFECT_API_AUTH_STRING"])
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", first)
    with temporary_settings(control.settings):
        assert not was_forwarded()
        for _ in range(2):
            (said,) = forward_run(["studio-2"], {"name": "rest"})
            assert said.startswith("studio-2 does it, as run ")
        asked = {"flow_runs": {"tags": {"any_": [forwarded_tag(first)]}}}
        (there,) = control.api.post("/flow_runs/filter", json=asked).raise_for_status().json()
        assert there["work_queue_name"] == "on-studio-2"
        assert there["parameters"] == {"name": "rest"}
        monkeypatch.setenv("PREFECT__FLOW_RUN_ID", there["id"])
        assert was_forwarded()
    control.api.delete(f"/deployments/{deployment}").raise_for_status()


def test_settings_of_a_site_are_read_from_secret_blocks(control: Control, tmp_path: Path) -> None:
    """A header and a cookies file; what is wrong with a block is a line without its secret."""
    cookies = "# Netscape HTTP Cookie File\nshows.test\tFALSE\t/\tFALSE\t0\tsession\tblock-word\n"
    file = tmp_path / "sources.toml"
    file.write_text(
        '[site."shows.test"]\nheaders = { Authorization = { secret = "site-header" } }\n'
        'cookies = { secret = "site-cookies" }\n'
        '[site."none.test"]\nuser_agent = { secret = "not-there" }\n'
        '[site."json.test"]\nuser_agent = { secret = "no-text" }\n'
        '[site."other.test"]\nuser_agent = { secret = "other-type" }\n'
    )
    file.chmod(0o600)
    with temporary_settings(control.settings):
        Secret(value="Bearer block-word").save("site-header", overwrite=True)
        Secret(value=cookies).save("site-cookies", overwrite=True)
        Secret(value={"key": "block-word"}).save("no-text", overwrite=True)
        LocalFileSystem(basepath="block-word").save("other-type", overwrite=True)
        sources = Sources.read(file, required=True)
        access = sources.access("http://shows.test/live", secret_of)
        assert access.headers[0].pairs == (("Authorization", "Bearer block-word"),)
        assert (access.cookies, access.cookies_file) == (cookies.strip(), None)
        for host, wrong in (
            ("none.test", "there is no such block: make it in the UI, under Blocks"),
            ("json.test", "the Secret block 'no-text' holds no text"),
            ("other.test", "there is no such block"),
        ):
            with pytest.raises(BadSources, match=wrong) as raised:
                sources.access(f"http://{host}/live", secret_of)
            assert "\n" not in str(raised.value)
            assert "block-word" not in str(raised.value)


def test_run_of_another_version_is_left_to_its_workers(
    control: Control, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with PrefectServer(control.env["PREFECT_API_URL"], control.access.headers) as server:
        server.make_pool("rolling")
    runs: dict[str, str] = {}
    for number in (VERSION, "0.0.1"):
        more = {"work_pool_name": "rolling", "version": f"showmood {number}"}
        deployment = made_deployment(control, "any", f"of {number}", **more)
        path = f"/deployments/{deployment}/create_flow_run"
        runs[number] = control.api.post(path, json={}).raise_for_status().json()["id"]

    async def offered() -> list[str]:
        async with show_worker.ShowWorker(work_pool_name="rolling") as worker:
            found = [await worker._get_scheduled_flow_runs() for _ in range(2)]
            return [str(each.flow_run.id) for each in found[-1]]

    with temporary_settings(control.settings):
        for number, run in runs.items():
            monkeypatch.setattr(show_worker, "VERSION", number)
            assert asyncio.run(offered()) == [run]
    assert caplog.text.count(f"and this worker has {VERSION}: its runs are left to others") == 1
    assert caplog.text.count("and this worker has 0.0.1: its runs are left to others") == 1


def test_channel_is_replayed_by_one_run_per_broadcast_on_the_machines_with_its_files(
    control: Control,
    engine: Engine,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """One fails, and is the only one that the same command repeats; one hands a part on."""
    url, headers = control.env["PREFECT_API_URL"], control.access.headers
    deployment = made_deployment(control, "analyse-recording", "by-hand")
    with PrefectServer(url, headers) as server:
        for name in ("a", "b"):
            server.make_queue("studio", queue_of(name))
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(days=10)
    with engine.begin() as connection:
        channel = writes.ensure_channel(connection, "news", URL)
        for number, (machine, status) in enumerate(
            [("a", "completed"), ("b", "interrupted"), ("b", "live")]
        ):
            began = start + timedelta(days=number)
            broadcast = writes.open_broadcast(
                connection, channel_id=channel, started_at=began, status=status
            )
            row = SegmentRow(
                channel_id=channel,
                broadcast_id=broadcast,
                sequence=0,
                started_at=began,
                duration_s=60.0,
                path="/recordings/0.ts",
                machine=machine,
            )
            writes.record_segment(connection, row)

    def runs() -> list[dict[str, Any]]:
        asked = {"flow_runs": {"deployment_id": {"any_": [deployment]}}}
        return control.api.post("/flow_runs/filter", json=asked).raise_for_status().json()

    over, failed, began = threading.Event(), set[str](), list[str]()

    def work() -> None:
        while not over.wait(0.2):
            for run in (each for each in runs() if each["state"]["type"] == "SCHEDULED"):
                began.append(run["work_queue_name"])
                state = {"type": "COMPLETED"}
                if run["work_queue_name"] == "on-b" and not failed:
                    failed.add(run["id"])
                    state = {"type": "FAILED", "message": "its network is not there"}
                if run["work_queue_name"] == "on-a":
                    tags = [forwarded_tag(run["id"])]
                    more = {"deployment": deployment, "parameters": {}, "tags": tags}
                    run_on(None, api_url=url, headers=headers, **more)
                body = {"state": state, "force": True}
                control.api.post(f"/flow_runs/{run['id']}/set_state", json=body).raise_for_status()

    monkeypatch.setattr(wide_replay, "POLL_S", 0.2)
    env = {key: control.env[key] for key in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING")}
    env |= {"SHOWMOOD_DATABASE_URL": database_url, "SHOWMOOD_HOME": str(tmp_path)}
    env |= {"COLUMNS": "200"}
    command = ["replay", "news", "--from", "30d", "--fps", "4", "--wide"]
    worker = threading.Thread(target=work)
    worker.start()
    try:
        first, again = (
            CliRunner().invoke(app, command, env=env, catch_exceptions=False) for _ in range(2)
        )
    finally:
        over.set()
        worker.join()
    assert first.exit_code == 1, first.output
    assert "Failed, its network is not there" in first.output
    assert "news: 2 of 3 runs are done" in first.output
    assert again.exit_code == 0, again.output
    assert "news: 3 of 3 runs are done" in again.output
    assert sorted(began) == ["default", "on-a", "on-b", "on-b"]
    found = {each["work_queue_name"]: each["parameters"] for each in runs()}
    assert len(runs()) == 3
    assert (found["on-a"]["channel"], found["on-a"]["analysed_fps"]) == ("news", 4.0)
    assert datetime.fromisoformat(found["on-b"]["start"]) == start + timedelta(days=1)
    assert datetime.fromisoformat(found["on-b"]["end"]) == start + timedelta(days=1, minutes=1)
    control.api.delete(f"/deployments/{deployment}").raise_for_status()


def test_stopping_stack_cancels_only_runs_of_this_machine(
    control: Control, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.stack.stack.STOP_TIMEOUT_S", 0.0)
    url, headers = control.env["PREFECT_API_URL"], control.access.headers
    stack = Stack(Settings(home=tmp_path, work_pools="shared"), echo=print)
    with PrefectServer(url, headers) as stack.server:
        runs = {}
        for pool, name in (("shared", "here"), ("shared", "there"), ("apart", "apart")):
            stack.server.make_pool(pool)
            deployment = made_deployment(control, "any", name, work_pool_name=pool)
            path = f"/deployments/{deployment}/create_flow_run"
            runs[name] = control.api.post(path, json={}).raise_for_status().json()["id"]

        def states(kind: str = "") -> dict[str, str]:
            for run in runs.values() if kind else []:
                body = {"state": {"type": kind}, "force": True}
                control.api.post(f"/flow_runs/{run}/set_state", json=body).raise_for_status()
            return {name: stack.server.read_run(run).state for name, run in runs.items()}

        states("PENDING")
        healing.reschedule_lost(url, ["shared"], headers)
        assert states() == {"here": "SCHEDULED", "there": "SCHEDULED", "apart": "PENDING"}
        states("RUNNING")
        beat = control.api.post("/work_pools/shared/workers/heartbeat", json={"name": "other"})
        beat.raise_for_status()
        env = {"SHOWMOOD_HOME": str(tmp_path), "PREFECT__FLOW_RUN_ID": runs["here"]}
        show = [sys.executable, "-S", "-c", "print(flush=True); input()"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(show, env=os.environ | env, **pipes) as process:
            assert process.stdout.readline() == b"\n"
            stack._cancel_runs(["ours"])
            assert states() == {"here": "CANCELLING", "there": "RUNNING", "apart": "RUNNING"}
            process.communicate(b"\n")
        stack._cancel_runs(["ours", "other"])
        assert states() == {"here": "CANCELLING", "there": "CANCELLING", "apart": "RUNNING"}
    for run in runs.values():
        control.api.delete(f"/flow_runs/{run}").raise_for_status()


def test_ending_worker_hands_its_shows_over(
    control: Control, tmp_path: Path, until: Callable[..., Any]
) -> None:
    """Shows of a killed worker continue; on SIGTERM they are handed over, or continue too."""
    deployment = control.deployment("watch-show/news")["id"]
    runs = []
    for name in ("taken", "left"):
        body = {"parameters": {"url": "http://127.0.0.1:9/x", "name": name}}
        made = control.api.post(f"/deployments/{deployment}/create_flow_run", json=body)
        runs.append(made.raise_for_status().json()["id"])
        for kind in ("PENDING", "RUNNING"):
            state = {"state": {"type": kind}, "force": True}
            control.api.post(f"/flow_runs/{runs[-1]}/set_state", json=state).raise_for_status()
    watch = "import signal, time; signal.signal(signal.SIGUSR1, {0}); print(flush=True)"
    ends, stays = watch.format("lambda *_: exit(0)"), watch.format("signal.SIG_IGN")
    starts = "import os, subprocess, sys\n"
    for run, code in zip(runs, (ends, stays), strict=True):
        starts += f"subprocess.Popen([sys.executable, '-c', {code + '; time.sleep(99)'!r}],"
        starts += f" env=os.environ | {{'PREFECT__FLOW_RUN_ID': '{run}'}})\n"
    command = [sys.executable, "-c", f"{starts}import time; time.sleep(99)"]
    below: dict[str, int] = {}
    worker = Child("worker", command, dict(control.env), tmp_path / "worker.log")
    try:
        until(lambda: (tmp_path / "worker.log").read_text().count("\n") == 2, what="both shows")
        assert worker.tool is not None
        below = runs_below(worker.tool)
        assert set(below) == set(runs)
        worker.kill()
        hand = partial(
            hand_over,
            api_url=control.env["PREFECT_API_URL"],
            headers=control.access.headers,
            echo=print,
        )
        assert hand({runs[0]: below[runs[0]]}, within_s=60) == []
        assert hand({runs[1]: below[runs[1]]}, within_s=0.2) == [runs[1]]
        for run in runs:
            found = control.api.get(f"/flow_runs/{run}").raise_for_status().json()
            assert found["state_name"] == "AwaitingRetry"
            control.api.delete(f"/flow_runs/{run}").raise_for_status()
    finally:
        for pid in below.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_demo_deployment_follows_the_channel(control: Control) -> None:
    with PrefectServer(control.env["PREFECT_API_URL"], control.access.headers) as server:
        server.set_parameters("watch-show/news", {"url": "http://127.0.0.1:8123/live.m3u8"})
        server.set_parameters("watch-show/not-there", {"url": "x"})
    parameters = control.deployment("watch-show/news")["parameters"]
    assert parameters == {
        "url": "http://127.0.0.1:8123/live.m3u8",
        "name": "news",
        "duration": "20m",
    }


def test_a_crashed_show_with_time_left_is_rescheduled(
    control: Control, until: Callable[..., Any]
) -> None:
    """If no automation did it."""

    def scheduled(state: str) -> str:
        made = control.api.post("/flows/", json={"name": "watch-show"}).raise_for_status().json()
        run = {"flow_id": made["id"], "state": {"type": "SCHEDULED"}}
        number = control.api.post("/flow_runs/", json=run).raise_for_status().json()["id"]
        body = {"state": {"type": state}, "force": True}
        control.api.post(f"/flow_runs/{number}/set_state", json=body).raise_for_status()
        return str(number)

    ids = {name: scheduled("CRASHED") for name in ("left", "often", "over")}
    gone = scheduled("CANCELLED")
    for _ in range(healing.MAX_CRASHES - 1):
        body = {"state": {"type": "CRASHED"}, "force": True}
        control.api.post(f"/flow_runs/{ids['often']}/set_state", json=body).raise_for_status()
    control.api.patch(
        f"/flow_runs/{ids['over']}", json={"parameters": {"url": URL, "duration": "1s"}}
    ).raise_for_status()

    def states() -> dict[str, str]:
        asked = {**ids, "cancelled": gone}
        found = {name: control.api.get(f"/flow_runs/{run}").json() for name, run in asked.items()}
        return {name: run["state"]["name"] for name, run in found.items()}

    url, headers = control.env["PREFECT_API_URL"], control.access.headers
    before = states()
    assert healing.revive_crashed(url, headers, after_s=3600) == []
    assert states() == before
    until(lambda: healing.revive_crashed(url, headers, after_s=1.0), what="the show is put back")
    assert states() == before | {"left": "AwaitingRetry"}
    (state,) = [
        each
        for each in control.api.get("/flow_run_states/", params={"flow_run_id": ids["left"]}).json()
        if each["name"] == "AwaitingRetry"
    ]
    assert state["message"].endswith("the next worker goes on with it.")
