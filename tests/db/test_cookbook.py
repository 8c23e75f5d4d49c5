"""Runs the statements of docs/sql.md with psql, as an analyst, and compares their output.

To update the output in the document: SHOWMOOD_WRITE_DOCS=1 pytest tests/db/test_cookbook.py
"""

import itertools
import os
import re
import statistics
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from benchmarks.history.cookbook_shows import Face, Told, fill
from benchmarks.history.made_shows import make_show
from db.embedded.server import psql_path
from db.roles import ANALYST, grant_roles
from db.session import make_engine
from db.tables.shows import EMOTIONS

COOKBOOK = Path(__file__).resolve().parents[2] / "docs" / "sql.md"

QUESTION = re.compile(r"```sql\n(?P<statement>.*?)```\n(?:\n```text\n(?P<answer>.*?)```\n)?", re.S)


@pytest.fixture(scope="module")
def filled(databases) -> Iterator[tuple[str, list[Told]]]:
    """The URL of an analyst for a database with all shows, and the shows."""
    name = databases.create(template="migrated")
    url = databases.url(name)
    engine = make_engine(url)
    shows = fill(engine)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))
    engine.dispose()
    grant_roles(url)
    reader = f"reader_{name}"
    databases.run(f"CREATE ROLE {reader} LOGIN IN ROLE {ANALYST}")
    yield url.replace("://showmood@", f"://{reader}@", 1), shows
    databases.drop(name)
    databases.run(f"DROP ROLE {reader}")


def test_every_statement_prints_what_the_cookbook_says(filled):
    url, _ = filled

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
    from db.roles import FUNCTIONS, VIEWS

    said = COOKBOOK.read_text(encoding="utf-8")
    statements = " ".join(match["statement"] for match in QUESTION.finditer(said))
    for name in (*VIEWS, *(function.partition("(")[0] for function in FUNCTIONS)):
        assert f"| `{name}" in said
        assert name in statements


def test_the_shows_are_the_same_every_time():
    start = datetime(2026, 11, 10, 22, tzinfo=UTC)
    one, two = (make_show((3, 4), start=start, seconds=60) for _ in range(2))
    assert (one.ts == two.ts).all()
    assert (one.smoothed[:, :7] == two.smoothed[:, :7]).all()
    other = make_show((3, 5), start=start, seconds=60)
    assert len(other) != len(one) or (other.smoothed[:, :7] != one.smoothed[:, :7]).any()


# -- the same results without SQL


BERLIN = ZoneInfo("Europe/Berlin")


class Known:
    """The data in the database, evaluated in plain Python."""

    def __init__(self, shows: list[Told]) -> None:
        self.shows = shows
        self.means: dict[tuple[int, datetime, str], float | None] = {}
        self.seconds: dict[tuple[int, datetime], list[Face]] = defaultdict(list)
        for show in shows:
            for face in show.mood():
                self.seconds[show.number, face.ts.replace(microsecond=0)].append(face)

    def show(self, title: str) -> Told:
        return next(each for each in self.shows if each.title == title)

    def of(self, channel: str) -> list[Told]:
        return [each for each in self.shows if each.channel == channel]

    def second(self, show: Told, at: datetime, name: str) -> float | None:
        key = show.number, at, name
        if key not in self.means:
            faces = self.seconds.get((show.number, at), [])
            self.means[key] = mean(face.smoothed.get(name) for face in faces)
        return self.means[key]

    @cache  # noqa: B019 - it lives as long as the test
    def _ats(self, number: int) -> list[datetime]:
        return sorted(at for each, at in self.seconds if each == number)

    def ats(self, show: Told) -> list[datetime]:
        return self._ats(show.number)

    def top(self, show: Told, at: datetime) -> str:
        means = {name: self.second(show, at, name) for name in EMOTIONS}
        known = {name: value for name, value in means.items() if value is not None}
        return max(known, key=lambda name: known[name])

    def over(self, show: Told, ats: Iterable[datetime], name: str = "happiness") -> float | None:
        return mean(self.second(show, at, name) for at in ats)

    def share(self, show: Told, ats: list[datetime], name: str) -> float:
        return sum(self.top(show, at) == name for at in ats) / len(ats)

    def minutes(self, show: Told) -> dict[datetime, list[datetime]]:
        found: dict[datetime, list[datetime]] = defaultdict(list)
        for at in self.ats(show):
            found[at.replace(second=0)].append(at)
        return dict(found)

    def total(self, name: str = "happiness") -> dict[int, float | None]:
        return {show.number: self.over(show, self.ats(show), name) for show in self.shows}

    def tracks(self, show: Told) -> dict[int, list[Face]]:
        found: dict[int, list[Face]] = defaultdict(list)
        for face in show.mood():
            found[face.track].append(face)
        return dict(found)


def mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def hours(since: str, until: str) -> tuple[datetime, datetime]:
    return datetime.fromisoformat(since), datetime.fromisoformat(until)


def runs(ats: list[datetime]) -> list[tuple[datetime, int]]:
    """Return the starts and lengths of runs of consecutive seconds."""
    found: list[tuple[datetime, int]] = []
    for at in ats:
        if found and found[-1][0] + timedelta(seconds=found[-1][1]) == at:
            found[-1] = found[-1][0], found[-1][1] + 1
        else:
            found.append((at, 1))
    return found


TONIGHT = "Late-Night 20 November"
EVENTS = {
    "goal": datetime(2026, 11, 20, 22, 1, tzinfo=UTC),
    "foul": datetime(2026, 11, 20, 22, 3, tzinfo=UTC),
}


def last_nights_mood(k: Known):
    show = k.show(TONIGHT)
    for minute, ats in k.minutes(show).items():
        means = {name: k.over(show, ats, name) for name in EMOTIONS[:7]}
        yield (
            minute,
            max(means, key=lambda name: means[name]),
            len(ats),
            means["happiness"],
            k.share(show, ats, "happiness"),
            means["anger"],
        )


def tonight_against_ten(k: Known):
    *ten, tonight = k.of("late-night")
    for name in EMOTIONS[:7]:
        of_ten = [k.second(show, at, name) for show in ten for at in k.ats(show)]
        own = k.over(tonight, k.ats(tonight), name)
        yield name, own, mean(of_ten), own - mean(of_ten)


def on_screen_longest(k: Known):
    for track, faces in k.tracks(k.show(TONIGHT)).items():
        by_second: dict[datetime, list[Face]] = defaultdict(list)
        for face in faces:
            by_second[face.ts.replace(microsecond=0)].append(face)
        means = {
            name: mean(mean(face.smoothed[name] for face in each) for each in by_second.values())
            for name in EMOTIONS[:7]
        }
        width = mean(mean(f.box[2] - f.box[0] for f in each) for each in by_second.values())
        long = (faces[-1].ts - faces[0].ts).total_seconds()
        yield (
            track,
            max(means, key=lambda n: means[n]),
            long,
            faces[0].ts.time().replace(microsecond=0),
            width,
        )


def looked_angry(k: Known):
    for track, faces in k.tracks(k.show(TONIGHT)).items():
        angry = {face.ts.replace(microsecond=0) for face in faces if face.emotion == "anger"}
        if angry:
            yield track, len(angry)


def changes_together(k: Known):
    found: dict[datetime, set[tuple[int, str]]] = defaultdict(set)
    second, held = timedelta(seconds=1), timedelta(seconds=0.8)
    for track, faces in k.tracks(k.show(TONIGHT)).items():
        for index, face in enumerate(faces):
            near = faces[max(0, index - 6) : index + 6]  # 5 a second
            before = [f for f in near if face.ts - second <= f.ts < face.ts]
            after = [f for f in near if face.ts <= f.ts <= face.ts + held]
            if (
                before
                and face.ts - before[0].ts >= held
                and after[-1].ts - face.ts >= held
                and len({f.emotion for f in before}) == len({f.emotion for f in after}) == 1
                and before[0].emotion != face.emotion
            ):
                around = face.ts.replace(microsecond=0, second=face.ts.second // 2 * 2)
                found[around].add((track, f"{before[0].emotion} to {face.emotion}"))
    for around, changed in found.items():
        n = len({track for track, _ in changed})
        if n >= 2:
            yield around, n, ", ".join(sorted({said for _, said in changed}))


def share_with_a_face(k: Known):
    for show in sorted(k.of("debate") + k.of("morning"), key=lambda each: each.start):
        looked = {
            at.replace(microsecond=0)
            for each in show.stretches
            if each.state == "analysed"
            for at in each.frames()
        }
        seen = set(k.ats(show))
        yield show.title, len(seen), len(looked), len(seen) / len(looked)


def faces_at_once(k: Known):
    show = k.show(TONIGHT)
    found: dict[int, int] = defaultdict(int)
    for index in range(300):
        faces = k.seconds.get((show.number, show.start + timedelta(seconds=index)), [])
        found[int(len(faces) / 5 + 0.5)] += 1
    yield from found.items()


def week_by_week(k: Known):
    for begin, end in (
        hours("2026-11-08T00:00Z", "2026-11-15T00:00Z"),
        hours("2026-11-15T00:00Z", "2026-11-22T00:00Z"),
    ):
        both = [(s, at) for s in k.of("late-night") for at in k.ats(s) if begin <= at < end]
        means = {name: mean(k.second(s, at, name) for s, at in both) for name in EMOTIONS[:7]}
        tops = [k.top(s, at) == "happiness" for s, at in both]
        yield (
            begin.date(),
            max(means, key=lambda n: means[n]),
            len(both),
            means["happiness"],
            sum(tops) / len(tops),
            False,
        )


def happiest_shows(k: Known):
    for show in k.shows:
        if ats := k.ats(show):
            means = {name: k.over(show, ats, name) for name in EMOTIONS[:7]}
            yield (
                show.title,
                max(means, key=lambda n: means[n]),
                means["happiness"],
                k.share(show, ats, "happiness"),
                len(ats),
                len({each.fps for each in show.stretches if each.fps}) > 1,
            )


def hour_in_berlin(k: Known):
    found: dict[int, list[float]] = defaultdict(list)
    minutes: dict[int, set[tuple[int, datetime]]] = defaultdict(set)
    for show in k.shows:
        for at in k.ats(show):
            hour = at.astimezone(BERLIN).hour
            found[hour].append(k.second(show, at, "happiness"))
            minutes[hour].add((show.number, at.replace(second=0)))
    for hour in sorted(found):
        yield hour, mean(found[hour]), len(minutes[hour])


def biggest_swing(k: Known):
    for show in k.shows:
        minutes = k.minutes(show)
        for minute, ats in minutes.items():
            before = minutes.get(minute - timedelta(minutes=1), [])
            if len(ats) >= 45 <= len(before):
                yield show.title, minute, k.over(show, ats) - k.over(show, before)


def longest_of_one(k: Known):
    for show in k.of("morning"):
        for name in EMOTIONS:
            for begin, n in runs([at for at in k.ats(show) if k.top(show, at) == name]):
                yield show.title, name, begin, n


def nobody(k: Known):
    for show in k.of("debate"):
        ats = k.ats(show)
        means = {name: k.over(show, ats, name) for name in EMOTIONS[:7]}
        strongest = max(means, key=lambda n: means[n]) if ats else None
        yield show.title, strongest, len(ats), 300, means["happiness"]


def two_measures(k: Known):
    for show in k.of("late-night")[:3]:
        yield show.title, k.over(show, k.ats(show)), k.share(show, k.ats(show), "happiness")


def days_in_berlin(k: Known):
    found: dict[object, list[tuple[Told, datetime]]] = defaultdict(list)
    for show in k.of("debate"):
        for at in k.ats(show):
            found[at.astimezone(BERLIN).date()].append((show, at))
    for day, both in found.items():
        yield day, len(both), mean(k.second(s, at, "happiness") for s, at in both), True


def after_events(k: Known):
    faces, ten = k.show(TONIGHT).faces, timedelta(seconds=10)
    for what, at in EVENTS.items():
        yield (
            what,
            mean(f.smoothed["happiness"] for f in faces if at - ten <= f.ts < at),
            mean(f.smoothed["happiness"] for f in faces if at <= f.ts < at + ten),
        )


def reaction(k: Known):
    show, second = k.show(TONIGHT), timedelta(seconds=1)
    for what, at in EVENTS.items():
        before = k.over(show, [at - n * second for n in range(1, 11)], "surprise")
        later = [
            n
            for n in range(30)
            if (k.second(show, at + n * second, "surprise") or 0) > before + 0.05
        ]
        yield what, min(later, default=None)


def longest_smile(k: Known):
    for show in k.of("late-night"):
        for track, faces in k.tracks(show).items():
            begin = last = None
            for face in [*faces, None]:
                smiles = face is not None and face.emotion == "happiness"
                if begin and (not smiles or face.ts - last.ts > timedelta(seconds=1)):
                    yield show.title, track, begin, (last.ts - begin).total_seconds()
                    begin = None
                if smiles:
                    begin, last = begin or face.ts, face


def pairs(k: Known):
    tracks = k.tracks(k.show(TONIGHT))
    at = {track: {face.ts: face for face in faces} for track, faces in tracks.items()}
    for a, b in itertools.combinations(sorted(at), 2):
        both = sorted(at[a].keys() & at[b].keys())
        if both:
            smiles = [[at[t][ts].smoothed["happiness"] for ts in both] for t in (a, b)]
            alike = statistics.correlation(*smiles) if len(both) > 1 else None
            yield a, b, len({ts.replace(microsecond=0) for ts in both}), alike


def around_ads(k: Known):
    for show in k.shows:
        ads = [each for each in show.stretches if each.state == "ad"]
        if ads:
            begin, end, half = ads[0].start, ads[-1].end, timedelta(seconds=30)
            yield (
                show.title,
                end - begin,
                k.over(show, [at for at in k.ats(show) if begin - half <= at < begin]),
                k.over(show, [at for at in k.ats(show) if end <= at < end + half]),
            )


def percentile(k: Known):
    total = [k.total()[show.number] for show in k.of("late-night")]
    yield TONIGHT, total[-1], sum(each < total[-1] for each in total) / (len(total) - 1)


def half_hours(k: Known):
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for show in k.shows:
        for at in k.ats(show):
            there = at.astimezone(BERLIN)
            half = f"{there:%H}:{there.minute // 30 * 30:02}"
            found[f"{there:%a}", half].append(k.second(show, at, "happiness"))
    for (day, half), values in found.items():
        yield day, half, mean(values), len(values)


def shots_of(show: Told) -> list[tuple[datetime, datetime]]:
    ends = [*show.shots[1:], show.start + timedelta(seconds=300)]
    return list(zip(show.shots, ends, strict=True))


def anger_after_cuts(k: Known):
    show = k.show(TONIGHT)
    for number, (begin, end) in enumerate(shots_of(show), start=1):
        angry = [f.ts for f in show.faces if begin <= f.ts < end and f.emotion == "anger"]
        if angry:
            yield number, begin, (min(angry) - begin).total_seconds()


def shots(k: Known):
    for show in k.of("late-night")[:3]:
        long = [(end - begin).total_seconds() for begin, end in shots_of(show)]
        firsts = [faces[0].ts for faces in k.tracks(show).values()]
        within = [sum(begin <= ts < end for ts in firsts) for begin, end in shots_of(show)]
        yield show.title, len(long), mean(long), statistics.median(long), mean(within)


def close_ups(k: Known):
    for close in (False, True):
        faces = [f for f in k.show(TONIGHT).faces if ((f.box[3] - f.box[1]) / 720 >= 0.2) is close]
        yield close, len(faces), mean(f.smoothed["happiness"] for f in faces)


def turned(k: Known):
    for away in (False, True):
        faces = [f for f in k.show(TONIGHT).faces if (abs(f.yaw) > 0.25) is away]
        yield away, len(faces), mean(max(f.raw.values()) for f in faces)


def transitions(k: Known):
    found: dict[tuple[str, str], int] = defaultdict(int)
    for faces in k.tracks(k.show(TONIGHT)).values():
        for one, two in itertools.pairwise(faces):
            if one.emotion != two.emotion and two.ts - one.ts <= timedelta(seconds=1):
                found[one.emotion, two.emotion] += 1
    for (one, two), n in found.items():
        yield one, two, n


def calmer(k: Known):
    steps: dict[str, list[float]] = {"raw": [], "smoothed": []}
    for faces in k.tracks(k.show(TONIGHT)).values():
        for one, two in itertools.pairwise(faces):
            for kind, values in steps.items():
                values.append(
                    abs(getattr(two, kind)["happiness"] - getattr(one, kind)["happiness"])
                )
    yield mean(steps["raw"]), mean(steps["smoothed"])


def steady(k: Known):
    for show in k.of("late-night"):
        values = [k.second(show, at, "happiness") for at in k.ats(show)]
        yield show.title, statistics.stdev(values), len(values)


def best_minutes(k: Known):
    for show in k.of("late-night")[:3]:
        values = {minute: k.over(show, ats) for minute, ats in k.minutes(show).items()}
        best = max(values, key=lambda minute: values[minute])
        yield show.title, best, values[best]


def by_number_of_faces(k: Known):
    found: dict[int, list[float]] = defaultdict(list)
    for show in k.of("late-night"):
        for at in k.ats(show):
            n = len({face.track for face in k.seconds[show.number, at]})
            found[n].append(k.second(show, at, "happiness"))
    for n in sorted(found)[:5]:
        yield n, len(found[n]), mean(found[n])


def smoothed_curve(k: Known):
    show = k.show("Morning 19 November")
    for at in k.ats(show)[58:62]:
        five = [at - timedelta(seconds=n) for n in range(5)]
        yield at, k.second(show, at, "happiness"), k.over(show, five)


def holes_as_holes(k: Known):
    show = k.show("Morning 19 November")
    for index in range(6):
        minute = show.start + timedelta(minutes=index)
        yield minute, k.over(show, k.minutes(show).get(minute, []))


def lasting_anger(k: Known):
    for show in k.of("late-night"):
        angry = [at for at in k.ats(show) if k.second(show, at, "anger") > 0.3]
        yield from ((show.title, begin, n) for begin, n in runs(angry) if n >= 3)


def angry_at_once(k: Known):
    for show in k.of("late-night"):
        found: dict[datetime, int] = defaultdict(int)
        for face in show.mood():
            found[face.ts] += face.emotion == "anger"
        yield from ((show.title, ts, n) for ts, n in found.items())


def largest_part(k: Known):
    show = k.show(TONIGHT)
    for track, emotion, long, *_ in on_screen_longest(k):
        yield track, 100 * long / len(k.ats(show)), emotion


def by_area(k: Known):
    for show in k.of("morning"):
        area = [(f.box[2] - f.box[0]) * (f.box[3] - f.box[1]) for f in show.faces]
        smiles = [f.smoothed["happiness"] for f in show.faces]
        weighted = sum(a * s for a, s in zip(area, smiles, strict=True)) / sum(area)
        yield show.title, weighted, mean(smiles)


def end_and_beginning(k: Known):
    for show in k.of("late-night"):
        minutes = list(k.minutes(show).values())
        yield show.title, k.over(show, minutes[-1]) - k.over(show, minutes[0])


def week_before(k: Known):
    nights = k.of("late-night")
    for show, before in zip(nights[7:], nights, strict=False):
        yield show.title, k.total()[show.number] - k.total()[before.number]


def missing(k: Known):
    for each in k.show("Morning 19 November").stretches:
        if each.state != "analysed":
            yield each.state, each.why or None, each.start, 30


def frames(k: Known):
    for show in k.of("debate"):
        looked = [at for s in show.stretches if s.state == "analysed" for at in s.frames()]
        n = dict.fromkeys(looked, 0)
        for face in show.mood():
            n[face.ts] += 1
        yield show.title, len(n), sum(not each for each in n.values()), max(n.values())


def channels(k: Known):
    for channel in ("debate", "late-night", "morning"):
        both = [(s, at) for s in k.of(channel) for at in k.ats(s)]
        happy = mean(k.second(s, at, "happiness") for s, at in both)
        yield channel, len(k.of(channel)), happy, channel == "debate"


def ads_themselves(k: Known):
    show = k.show('The "Half-Time"')
    mood = {(f.ts, f.track) for f in show.mood()}
    faces = [f for f in show.faces if (f.ts, f.track) not in mood]
    yield mean(f.smoothed["happiness"] for f in faces), mean(f.smoothed["anger"] for f in faces), 2


def first(n: int, rows: Iterable[tuple], *keys) -> list[tuple]:
    """Return the first rows, sorted by these keys."""
    found = list(rows)
    for key in reversed(keys):
        found.sort(key=key)
    return found[:n]


TRUTH: dict[str, Callable[[Known], Iterable[tuple]]] = {
    "How did the mood of last night's show go?": last_nights_mood,
    "How does tonight compare with the average of the last ten?": lambda k: first(
        7, tonight_against_ten(k), lambda r: -abs(r[3])
    ),
    "Who was on screen for longest?": lambda k: first(5, on_screen_longest(k), lambda r: -r[2]),
    "For how long did the guest look angry?": lambda k: first(
        5, looked_angry(k), lambda r: -r[1], lambda r: r[0]
    ),
    "When did the emotion change within 2 seconds on several faces?": lambda k: first(
        5, changes_together(k), lambda r: -r[1], lambda r: r[0]
    ),
    "And with the advertisements?": ads_themselves,
    "For what share of the time was a face on screen?": share_with_a_face,
    "How many faces at once?": lambda k: first(9, faces_at_once(k), lambda r: r[0]),
    "How has the channel's mood developed, week by week?": week_by_week,
    "Which shows were the happiest?": lambda k: first(3, happiest_shows(k), lambda r: -r[2]),
    "At which hour of the day, in Berlin, do people look happy?": hour_in_berlin,
    "Where was the biggest swing from one minute to the next?": lambda k: first(
        3, biggest_swing(k), lambda r: -abs(r[2])
    ),
    "What was the longest stretch of one emotion?": lambda k: first(
        3, longest_of_one(k), lambda r: -r[3], lambda r: r[2]
    ),
    "Which shows had nobody in them?": nobody,
    "Is happiness likelier, or more often on top?": two_measures,
    "How was each day, by the clock in Berlin?": days_in_berlin,
    "What was the mood after each event of my own table?": after_events,
    "How long does it take until they react?": reaction,
    "What was the longest smile?": lambda k: first(
        3, longest_smile(k), lambda r: -r[3], lambda r: r[2]
    ),
    "Which two faces were on screen together for longest?": lambda k: first(
        3, pairs(k), lambda r: -r[2], lambda r: r[:2]
    ),
    "What was the mood before and after the advertisements?": around_ads,
    "Where does tonight stand among the last fifty?": percentile,
    "Which half hour of which weekday is the happiest?": lambda k: first(
        3, half_hours(k), lambda r: -r[2]
    ),
    "How soon after a cut does somebody look angry?": lambda k: first(
        3, anger_after_cuts(k), lambda r: r[2], lambda r: r[0]
    ),
    "How many shots, how long, and with how many faces?": shots,
    "How does it look in close-ups?": close_ups,
    "And in faces that look away?": turned,
    "From which emotion to which?": lambda k: first(
        5, transitions(k), lambda r: -r[2], lambda r: r[:2]
    ),
    "How much calmer is it after smoothing?": calmer,
    "How steady was the mood?": lambda k: first(3, steady(k), lambda r: -r[1]),
    "Which was the best minute of each show?": best_minutes,
    "Is it merrier the more faces there are?": by_number_of_faces,
    "How do I smooth a curve?": smoothed_curve,
    "How do I draw the holes as holes?": holes_as_holes,
    "When did anger last?": lambda k: first(3, lasting_anger(k), lambda r: -r[2], lambda r: r[1]),
    "How many looked angry at once?": lambda k: first(
        1, angry_at_once(k), lambda r: -r[2], lambda r: r[1]
    ),
    "Who had the largest part of the show?": lambda k: first(3, largest_part(k), lambda r: -r[1]),
    "What if large faces count more?": by_area,
    "Did it end better than it began?": lambda k: first(3, end_and_beginning(k), lambda r: -r[1]),
    "How does it compare with the same weekday a week before?": week_before,
    "What is missing of a show, second by second?": missing,
    "How many frames were looked at, and in how many was nobody?": frames,
    "How do the channels compare?": channels,
}


def test_the_answers_are_those_of_a_second_computation(filled):
    """Without SQL, on data with gaps, several networks, advertisements and summer time."""
    url, shows = filled
    known = Known(shows)
    sections = re.split(r"^## (.*)\n", COOKBOOK.read_text(encoding="utf-8"), flags=re.M)
    asked = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert TRUTH.keys() <= asked.keys()
    engine = make_engine(url)
    wrong = []
    with engine.connect() as connection:
        for title, compute in TRUTH.items():
            (statement,) = re.findall(r"```sql\n(.*?)```", asked[title], re.S)
            rows = [tuple(row) for row in connection.exec_driver_sql(statement.replace("%", "%%"))]
            expected = list(compute(known))
            if len(rows) != len(expected) or not all(
                same(*cells)
                for pair in zip(rows, expected, strict=True)
                for cells in zip(*pair, strict=True)
            ):
                wrong.append(f"{title}\n{rows}\n{expected}")
    engine.dispose()
    assert not wrong, "\n".join(wrong)


def same(got: object, expected: object) -> bool:
    """Return whether a cell has the expected value, to its rounded digits."""
    if got is None or expected is None:
        return got is expected
    if isinstance(got, Decimal | float):
        digits = -int(got.as_tuple().exponent) if isinstance(got, Decimal) else 6
        return abs(float(got) - expected) <= 0.51 * 10**-digits + 2e-5
    return got == expected
