"""Grafana's dashboards: each query runs as the analyst, with Grafana's macros expanded."""

import json
import re
from pathlib import Path

import pytest

import flows.page

BOARDS = sorted((Path(flows.page.__file__).parent / "grafana" / "dashboards").glob("*.json"))


def expanded(sql: str, show: int) -> str:
    """Expand the macros of Grafana's PostgreSQL source, and the dashboards' variables."""
    span = "'2026-10-01T00:00:00Z' AND '2026-11-21T00:00:00Z'"
    sql = sql.replace("$__interval", "'10s'").replace("$channel", "'late-night'")
    sql = sql.replace("${page}", "http://127.0.0.1:4300").replace("$show", str(show))
    sql = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 BETWEEN {span}", sql)
    return re.sub(
        r"\$__timeGroupAlias\((\w+), '(\d+)([smhd])'\)",
        lambda found: (
            f"floor(extract(epoch FROM {found[1]}) / "
            f"{int(found[2]) * {'s': 1, 'm': 60, 'h': 3600, 'd': 86400}[found[3]]})"
            f' * {int(found[2])} AS "time"'
        ),
        sql,
    )


@pytest.mark.parametrize("board", BOARDS, ids=lambda path: path.stem)
def test_each_query_runs_as_the_analyst(page, board) -> None:
    said = json.loads(board.read_text(encoding="utf-8"))
    variables = [each["query"] for each in said["templating"]["list"] if each["type"] == "query"]
    queries = [target["rawSql"] for panel in said["panels"] for target in panel["targets"]]
    assert queries
    with page.reader.connect() as connection:
        for sql in (*variables, *queries):
            asked = expanded(sql, page.made.show)
            assert "$" not in asked
            assert connection.exec_driver_sql(asked.replace("%", "%%")).all(), asked


def test_there_are_four_dashboards() -> None:
    assert len(BOARDS) == 4
