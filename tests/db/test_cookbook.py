"""The statements of docs/sql.md, run by psql as an analyst: what they print is what it says.

After a change of the statements: SHOWMOOD_WRITE_DOCS=1 pytest tests/db/test_cookbook.py
"""

import os
import re
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from benchmarks.made_shows import make_show, pieces
from db.embedded.server import psql_path
from db.keeping import keep
from db.roles import ANALYST, grant_roles
from db.writing.rows import SegmentRow
from db.writing.writes import (
    close_broadcast,
    ensure_channel,
    fail_segment,
    open_broadcast,
    record_gap,
    record_segment,
    replace_segment,
)

COOKBOOK = Path(__file__).resolve().parents[2] / "docs" / "sql.md"

QUESTION = re.compile(r"```sql\n(?P<statement>.*?)```\n(?:\n```text\n(?P<answer>.*?)```\n)?", re.S)

SHOW_S = 300.0
SEGMENT_S = 30.0


def with_shots(rows, start):
    """Cut where a track begins after a while: the first frame of a face is one of a shot."""
    firsts = np.unique(rows.track, return_index=True)[1]
    begin = np.datetime64(start.replace(tzinfo=None), "us")
    shots = np.unique(rows.ts[firsts][::3]) if len(rows) else rows.ts[:0]
    before = np.where(shots > begin, shots - np.timedelta64(200_000, "us"), np.datetime64("NaT"))
    return replace(rows, shots=shots, seen_before=before.astype("datetime64[us]"))


def fill(engine) -> None:
    """Eleven nights of one channel and two mornings of another, one of them with holes."""
    nights = [datetime(2026, 11, 10 + night, 22, tzinfo=UTC) for night in range(11)]
    mornings = [datetime(2026, 11, 18 + day, 7, tzinfo=UTC) for day in range(2)]
    for slug, starts in (("late-night", nights), ("morning", mornings)):
        with engine.begin() as connection:
            channel = ensure_channel(connection, slug, f"https://example.org/{slug}")
        for number, start in enumerate(starts):
            with engine.begin() as connection:
                broadcast = open_broadcast(
                    connection,
                    channel_id=channel,
                    started_at=start,
                    title=f"{slug.title()} {start:%d %B}",
                )
            rows = make_show((len(slug), number), start=start, seconds=SHOW_S)
            cut = pieces(rows, start=start, seconds=SHOW_S, segment_s=SEGMENT_S)
            for index, (at, part) in enumerate(cut):
                segment = SegmentRow(
                    channel_id=channel,
                    broadcast_id=broadcast,
                    sequence=index,
                    started_at=at,
                    duration_s=SEGMENT_S,
                    frames_analysed=150,
                    analysed_fps=5.0,
                    model="retinaface-mobilenet0.25+showmood-expression-2",
                    width_px=1280,
                    height_px=720,
                    lag_ms=700 + 37 * ((index * 7 + number) % 11),
                )
                hole = (slug, number) == ("morning", 1)
                with engine.begin() as connection:
                    if hole and index in (2, 3):
                        record_gap(
                            connection,
                            channel_id=channel,
                            broadcast_id=broadcast,
                            started_at=at,
                            ended_at=segment.ended_at,
                            why=("no segment for 15 s", "the source answered 503")[index - 2],
                        )
                        continue
                    if hole and index == 6:
                        fail_segment(connection, segment, "truncated")
                        continue
                    if hole and index == 9:
                        record_segment(connection, segment)
                        continue
                replace_segment(engine, segment, with_shots(part, start))
            with engine.begin() as connection:
                close_broadcast(
                    connection,
                    broadcast,
                    ended_at=start + timedelta(seconds=SHOW_S),
                    status="completed",
                )
    begin = nights[0] + timedelta(seconds=60)
    with engine.begin() as connection:
        keep(connection, "late-night", begin, begin + timedelta(seconds=60), "the goal")


def test_every_statement_prints_what_the_cookbook_says(databases, database_url, engine):
    fill(engine)
    grant_roles(database_url)
    name = f"reader_{engine.url.database}"
    databases.run(f"CREATE ROLE {name} LOGIN IN ROLE {ANALYST}")
    url = database_url.replace("://showmood@", f"://{name}@", 1)

    def ask(statement: str) -> str:
        done = subprocess.run(
            [str(psql_path()), url, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement],
            env=os.environ | {"PGTZ": "UTC", "PGOPTIONS": "", "LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{statement}\n{done.stderr}"
        return "\n".join(line.rstrip() for line in done.stdout.rstrip().splitlines())

    said = COOKBOOK.read_text(encoding="utf-8")
    found = list(QUESTION.finditer(said))
    assert len(found) >= 15
    answers = [ask(match["statement"]) for match in found]
    databases.run(f"DROP ROLE {name}")
    if os.environ.get("SHOWMOOD_WRITE_DOCS"):
        again = iter(answers)
        said = QUESTION.sub(
            lambda match: f"```sql\n{match['statement']}```\n\n```text\n{next(again)}\n```\n", said
        )
        COOKBOOK.write_text(said, encoding="utf-8")
        pytest.skip("the answers were written anew")
    for match, answer in zip(found, answers, strict=True):
        assert (match["answer"] or "").rstrip("\n") == answer, match["statement"]
        assert "(0 rows)" not in answer


def test_every_view_and_function_is_in_the_cookbook():
    from db.roles import QUESTIONS, VIEWS

    said = COOKBOOK.read_text(encoding="utf-8")
    statements = " ".join(match["statement"] for match in QUESTION.finditer(said))
    for name in (*VIEWS, *(function.partition("(")[0] for function in QUESTIONS)):
        assert f"| `{name}" in said
        assert name in statements


def test_the_shows_are_the_same_every_time():
    start = datetime(2026, 11, 10, 22, tzinfo=UTC)
    one, two = (make_show((3, 4), start=start, seconds=60) for _ in range(2))
    assert (one.ts == two.ts).all()
    assert (one.smoothed[:, :7] == two.smoothed[:, :7]).all()
    other = make_show((3, 5), start=start, seconds=60)
    assert len(other) != len(one) or (other.smoothed[:, :7] != one.smoothed[:, :7]).any()
