"""Queries of both histories, for `benchmarks.history.grown`."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, text

from benchmarks.history.queries import QUESTIONS
from flows.page.reading import search, show_queries

Question = Callable[[Connection, dict[str, Any]], object]

COOKBOOK: Final = Path(__file__).resolve().parents[2] / "docs" / "sql.md"
_ASKED: Final = re.compile(
    r"^## (?P<title>.+?)\n(?:(?!^## ).)*?```sql\n(?P<sql>.*?)```", re.S | re.M
)

_PAGE: Final = ("segments", "gaps", "cuts", "tracks")


def _run(statement: str, connection: Connection, show: dict[str, Any]) -> object:
    return connection.execute(text(statement), show).all()


def _literal(statement: str, connection: Connection, show: dict[str, Any]) -> object:
    return connection.exec_driver_sql(statement.replace("%", "%%")).all()


def _search(days: int, connection: Connection, show: dict[str, Any]) -> object:
    until = show["start"] + timedelta(hours=2)
    asked = {
        "channel": show["slug"],
        "emotion": "anger",
        "above": "0.6",
        "since": f"{until - timedelta(days=days - 1):%Y-%m-%d}",
        "until": f"{until:%Y-%m-%d}",
    }
    return search.find(connection, search.parse(asked, [show["slug"]], datetime.now(UTC)))


def _page(name: str, connection: Connection, show: dict[str, Any]) -> object:
    return show_queries.rows(connection, name, id=show["broadcast"])


def _span(name: str, hours: float, connection: Connection, show: dict[str, Any]) -> object:
    values = {
        "id": show["broadcast"],
        "channel": show["slug"],
        "since": show["start"],
        "until": show["start"] + timedelta(hours=hours),
        "bucket": timedelta(seconds=10),
    }
    wanted = {
        "minutes": ("id", "since", "until"),
        "seconds": ("id", "channel", "since", "until"),
        "buckets": ("id", "channel", "since", "until", "bucket"),
        "faces": ("id", "channel", "since", "until"),
    }[name]
    return show_queries.rows(connection, name, **{key: values[key] for key in wanted})


def _week(connection: Connection, show: dict[str, Any]) -> object:
    begin = show["start"] - timedelta(days=180)
    values = {"channel": show["slug"], "zone": "UTC", "since": begin}
    return show_queries.rows(connection, "week", **values, until=show["start"])


def _usual(connection: Connection, show: dict[str, Any]) -> object:
    values = {"channel": show["slug"], "id": show["broadcast"], "before": show["start"]}
    return show_queries.rows(connection, "usual", **values)


def _listed(connection: Connection, show: dict[str, Any]) -> object:
    ids = [each.broadcast_id for each in show_queries.shows(connection)]
    show_queries.rows(connection, "strips", ids=ids)
    return show_queries.rows(connection, "figures", ids=ids)


def _state(connection: Connection, show: dict[str, Any]) -> object:
    return show_queries.state(connection, show["broadcast"])


def all_questions() -> dict[str, dict[str, Question]]:
    """Return the queries by their origin."""
    page: dict[str, Question] = {
        "channels": lambda connection, show: show_queries.channels(connection),
        "first page: shows, strips, figures": _listed,
        "a show's state": lambda connection, show: show_queries.state(
            connection, show["broadcast"]
        ),
        **{name: partial(_page, name) for name in _PAGE},
        "an hour's minutes": partial(_span, "minutes", 1),
        "ten minutes of seconds": partial(_span, "seconds", 1 / 6),
        "an hour by 10 s": partial(_span, "buckets", 1),
        "30 s of faces": partial(_span, "faces", 30 / 3600),
        "the last ten shows": _usual,
        "half a year by weekday and hour": _week,
        "search, a day": partial(_search, 1),
        "search, 30 days": partial(_search, 30),
        "search, a year": partial(_search, 365),
    }
    cookbook: dict[str, Question] = {}
    for found in _ASKED.finditer(COOKBOOK.read_text(encoding="utf-8")):
        cookbook[found["title"]] = partial(_literal, found["sql"])
    asked: dict[str, Question] = {
        name: partial(_run, statement) for name, statement in QUESTIONS.items()
    }
    return {"history": asked, "page": page, "cookbook": cookbook}
