"""Advertisements are stored, and excluded from a show's means."""

from dataclasses import replace

from sqlalchemy import text

from db.reading.queries import summary
from db.reading.recordings import recorded
from db.writing.writes import replace_segment


def test_ads_are_excluded_from_means_and_can_be_queried(engine, new_show, observe, t0):
    show = new_show("news", title="The Ten O'Clock")
    for index in range(4):
        segment = show.segment(index, seconds=4.0)
        told = {0: None, 1: False, 2: True, 3: True}[index]
        row = replace(segment, is_ad=told, needs=["a.ts"] if index == 3 else None)
        for _ in range(2):  # idempotent
            replace_segment(engine, row, observe(row, (1, 2)))
    end = row.ended_at
    with engine.connect() as connection:

        def ask(sql: str) -> list:
            return connection.execute(text(sql), {"since": t0, "until": end}).all()

        [(n,)] = ask("SELECT sum(observations) FROM emotion_timeline WHERE channel = 'news'")
        assert n == 2 * 4 * 5 * 2
        assert len(ask("SELECT 1 FROM emotion_seconds WHERE channel = 'news'")) == 8
        between = "SELECT sum(observations) FROM emotion_between('news', :since, :until, '2 s')"
        assert ask(between) == [(n,)]
        assert summary(connection, "news", t0, end).n_observations == n
        history = "SELECT count(*) FROM emotion_history h WHERE channel = 'news'"
        assert ask(history) == [(2 * n,)]
        ads = "SELECT FROM advertisements a WHERE a.channel = h.channel AND h.ts >= a.started_at"
        assert ask(f"{history} AND EXISTS ({ads} AND h.ts < a.ended_at)") == [(n,)]
        rows = recorded(connection, "news", t0, end)
    assert [row.is_ad for row in rows] == [None, False, True, True]
    assert [list(row.needs) for row in rows] == [[], [], [], ["a.ts"]]
