"""The whole pipeline with real parts: live HLS over HTTP, a Prefect server, a worker, Postgres."""

import itertools
import json
import os
import signal
import subprocess
import sys
from typing import Any

import psycopg2
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

WHY = "NO POSTGRES WITH pg_trgm: Prefect on Postgres was not tested; install Debian's postgresql"
KILLED = (
    "(SELECT b.id FROM broadcasts b JOIN channels c ON c.id = channel_id WHERE slug = 'killed')"
)


def test_bad_parameters_are_refused_by_the_form(up: Any) -> None:
    answer = up.create_run("adhoc", url=up.origin.url, duration="soon")
    assert answer.is_client_error
    assert "duration" in answer.text or "soon" in answer.text


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("file:///etc/passwd", "http"),
        ("concat:/etc/passwd|/etc/hosts", "not allowed|http"),
    ],
)
def test_bad_url_fails_the_run_with_one_line(up: Any, url: str, said: str) -> None:
    run = up.start("adhoc", url=url, name="bad")
    state = up.until(lambda: up.ended(run), what="the run's end")
    assert state["type"] == "FAILED"
    assert "\n" not in state["message"]
    assert any(word in state["message"] for word in said.split("|"))
    assert up.rows("SELECT 1 FROM channels WHERE slug = 'bad'") == []


def test_killed_watcher_continues_where_it_stopped(up: Any) -> None:
    """SIGKILL during a show: same run, broadcast and tracks, no duplicate row, no orphan."""
    run = up.start("adhoc", url=up.origin.url, name="killed", duration="60s")
    analysed = (
        f"SELECT count(*) FROM segments WHERE status = 'analysed' AND broadcast_id IN {KILLED}"
    )
    up.until(lambda: up.rows(analysed)[0][0] >= 4, what="four segments", within_s=180)
    (pid_file,) = (up.home / "recordings" / "killed").rglob("ffmpeg.pid")
    os.kill(json.loads(pid_file.read_text())["owner"], signal.SIGKILL)
    up.until(lambda: "Crashed" in up.states(run), what="the crash")
    up.until(lambda: not up.processes("ffmpeg", str(up.home / "recordings")), what="ffmpeg's end")
    broadcasts = f"SELECT id, status FROM broadcasts WHERE id IN {KILLED}"
    before = up.rows(broadcasts)
    assert [status for _, status in before] == ["live"]

    up.until(lambda: (up.ended(run) or {}).get("type") == "COMPLETED", what="its end", within_s=180)
    # Its worker's second report of the same crash did not affect the rescheduled run.
    states = up.states(run)
    assert states.count("Crashed") == states.count("AwaitingRetry") == 1
    assert states.index("Crashed") < states.index("AwaitingRetry")

    assert up.rows(broadcasts) == [(before[0][0], "completed")]
    segments = up.rows(
        "SELECT sequence, started_at, ended_at, status FROM segments"
        f" WHERE broadcast_id IN {KILLED} ORDER BY started_at"
    )
    assert [s.sequence for s in segments] == list(range(len(segments)))
    assert all(a.ended_at <= b.started_at for a, b in itertools.pairwise(segments))
    assert {s.status for s in segments} == {"analysed"}
    # Everything is recorded or a gap with a reason; there may be no gap, because the second
    # watcher fetches what the source still lists.
    gaps = up.rows(f"SELECT started_at, ended_at, why FROM gaps WHERE broadcast_id IN {KILLED}")
    assert all(gap.why for gap in gaps)
    covered = sum((s.ended_at - s.started_at).total_seconds() for s in [*segments, *gaps])
    whole = (segments[-1].ended_at - segments[0].started_at).total_seconds()
    assert covered == pytest.approx(whole, abs=0.2)
    tracks = up.rows(
        f"SELECT track_no FROM face_tracks WHERE broadcast_id IN {KILLED}"
        " ORDER BY first_ts, track_no"
    )
    assert [t.track_no for t in tracks] == sorted({t.track_no for t in tracks})
    assert up.rows("SELECT count(*) FROM emotion_history WHERE channel = 'killed'")[0][0] > 20
    assert not up.processes("ffmpeg", str(up.home / "recordings"))


def test_prefect_sees_a_task_run_a_minute_and_a_report(up: Any) -> None:
    runs = up.api.post("/flow_runs/filter", json={}).raise_for_status().json()
    (done,) = (r for r in runs if r["name"].startswith("killed "))
    assert done["state_type"] == "COMPLETED"
    failed = [r["state_type"] for r in runs if r["name"].startswith("bad ")]
    assert failed == ["FAILED"] * 2, "what failed is not brought back"
    tasks = up.api.post(
        "/task_runs/filter", json={"flow_runs": {"id": {"any_": [done["id"]]}}}
    ).json()
    names = [t["name"] for t in tasks if t["name"].startswith("killed ")]
    assert 1 <= len(names) <= 3
    artifacts = up.api.post("/artifacts/latest/filter", json={}).raise_for_status().json()
    report = next(a for a in artifacts if a["key"] == "show-killed")
    assert "data:image/png;base64," in report["data"]
    assert "## Tracks" in report["data"]
    progress = next(a for a in artifacts if a["key"] == "progress-killed")
    assert float(progress["data"]) > 0
    asked = {"flow_run_id": done["id"]}
    states = up.api.get("/flow_run_states/", params=asked).raise_for_status().json()
    assert any((state["message"] or "").startswith("live, ") for state in states)


def test_prefect_hears_of_a_show(up: Any) -> None:
    query = {"filter": {"event": {"prefix": ["showmood.show."]}}}

    def heard() -> list[dict[str, Any]] | None:  # the server writes them every few seconds
        told = up.api.post("/events/filter", json=query).raise_for_status().json()["events"]
        mine = [e for e in told if e["resource"]["prefect.resource.id"] == "showmood.show.killed"]
        names = {event["event"] for event in mine}
        return mine if {"showmood.show.started", "showmood.show.ended"} <= names else None

    mine = up.until(heard, what="the events of the show", within_s=60)
    roles = {related["prefect.resource.role"] for related in mine[0]["related"]}
    assert {"flow-run", "flow", "deployment"} <= roles


def test_status_finds_all_of_it_and_the_channel(up: Any) -> None:
    found = json.loads(up.cli("status", "--json"))  # exit code: no problems
    assert found["problems"] == []
    assert found["database"] == "embedded, up"
    assert found["server"].startswith("up, ")
    assert "ONLINE" in found["workers"].values()
    channels = {each["channel"]: each for each in found["channels"]}
    assert channels
    assert all(each["newest"] and each["lag_ms"] > 0 for each in channels.values())


def test_starting_as_root_prints_a_warning(up: Any) -> None:
    assert ("this is root" in up.log.read_text()) is (os.geteuid() == 0)


def test_prefect_is_on_postgres_by_one_setting(up: Any, prefect_url: str | None) -> None:
    """All tests here use it; this one checks that."""
    if prefect_url is None:
        pytest.skip(WHY)
    assert not (up.home / "prefect" / "prefect.db").exists()
    connection = psycopg2.connect(prefect_url)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT state_type FROM flow_run WHERE name LIKE 'killed %'")
            assert cursor.fetchall() == [("COMPLETED",)]
    finally:
        connection.close()


def test_cancelled_run_keeps_what_was_recorded(up: Any) -> None:
    run = up.start("adhoc", url=up.origin.url, name="cancelled", duration="10m")
    rows = "SELECT count(*) FROM emotion_history WHERE channel = 'cancelled'"
    up.until(lambda: up.rows(rows)[0][0] > 0, what="rows", within_s=180)
    up.cancel(run)
    state = up.until(lambda: up.ended(run), what="the run's end", within_s=60)
    assert state["type"] == "CANCELLED"
    # Set by the run itself when everything is stored; its worker would do it later, after loading
    # the flow again.
    assert state["message"] == "Cancelled; what was recorded is stored."
    assert up.rows(
        "SELECT b.status FROM broadcasts b JOIN channels c ON c.id = b.channel_id"
        " WHERE c.slug = 'cancelled'"
    ) == [("cancelled",)]
    assert not up.processes("ffmpeg", str(up.home / "recordings"))


def test_stopping_leaves_nothing_running_and_the_rows(up: Any) -> None:
    env = os.environ | {"SHOWMOOD_HOME": str(up.home)}
    up.stop()
    assert up.process.returncode == 0, up.log.read_text()
    assert up.processes() == []
    png = up.home / "timeline.png"
    report = subprocess.run(
        [sys.executable, "-m", "flows.cli", "report", "killed", "--since", "1h", "--png", str(png)],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "tracks" in report
    assert png.read_bytes().startswith(b"\x89PNG")
    sql = (
        "SELECT count(*) FROM broadcasts b JOIN channels c ON c.id = channel_id"
        " WHERE slug IN ('killed', 'cancelled')"
    )
    answer = subprocess.run(
        [sys.executable, "-m", "flows.cli", "db", "psql", "-Atc", sql],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert json.loads(answer) == 2
