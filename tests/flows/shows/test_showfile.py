"""prefect.yaml: one-line errors, and edits that keep the rest unchanged."""

import resource
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from flows.cli import app
from flows.errors import UsageError
from flows.shows.editing import add_show, remove_show
from flows.shows.showfile import read_showfile
from flows.shows.slots import Slot

SHOWS = """\
# Our shows.
definitions:
  show: &show
    entrypoint: flows/watch.py:watch_show
    work_pool: { name: shows }

deployments:
  - <<: *show
    name: adhoc

  # The news, twice a day.
  - <<: *show
    name: news
    parameters: { url: "https://example.com/live", duration: 20m }
    schedules:
      - { slug: noon, cron: "0 12 * * *", timezone: Europe/Vienna }
      - { slug: late, cron: "0 23 * * *", parameters: { duration: 5m } }  # shorter

# The end.
pull: []
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "prefect.yaml"
    path.write_text(SHOWS, encoding="utf-8")
    return path


def test_a_slot_has_its_show_s_parameters_and_its_own(file: Path) -> None:
    adhoc, news = read_showfile(file)
    assert (adhoc.show, adhoc.slots) == (None, ())
    assert [(each.slot.slug, each.show.duration) for each in news.slots if each.show] == [
        ("noon", "20m"),
        ("late", "5m"),
    ]


@pytest.mark.parametrize(
    ("was", "wrong", "said"),
    [
        ("0 12 * * *", "0 25 * * *", "news: slot noon: cron: '0 25 [*] [*] [*]' is invalid"),
        ("0 12 * * *", "noon", "news: slot noon: cron: 'noon' is invalid"),
        ("Europe/Vienna", "Europe/Wien", "news: slot noon: timezone: 'Europe/Wien' is unknown"),
        ('cron: "0 12 * * *"', 'rrule: "FREQ=OFTEN"', "news: slot noon: rrule: 'FREQ=OFTEN'"),
        ('cron: "0 12 * * *", ', "", "news: slot noon: a slot has either a cron or an rrule"),
        ("duration: 5m", "duration: soon", "news: slot late: duration: write it as"),
        ("duration: 20m", "duration: 0s", "news: .*out of range"),
        ("duration: 20m", "colour: red", "news: colour: unknown parameter; a show has url, name"),
        ("duration: 20m", "detector: yolo", "news: detector: "),
        ("duration: 20m", "alerts: [{ emotion: envy }]", "news: alerts.0.emotion: "),
        ('url: "https://example.com/live", ', "", "news: slot noon: no url: add it"),
        ("slug: late", "slug: noon", "news: slot noon: two slots have this slug"),
        ("slug: late, ", "", "news: slot 2: no slug"),
        ("timezone:", "zone:", "news: slot noon: zone: unknown key; a slot has"),
        ("name: adhoc", "name: news", "news: two deployments have this name"),
        ("name: adhoc", "tags: []", "deployment 1: it has no name"),
        ("    work_pool: { name: shows }\n", "", "adhoc: no work_pool"),
        ("deployments:\n", "deployments: [\n", "prefect.yaml, line "),
        ("deployments:", "shows:", "it has no list of deployments"),
    ],
)
def test_error_is_one_line_with_show_and_slot(file: Path, was: str, wrong: str, said: str) -> None:
    assert was in SHOWS
    file.write_text(SHOWS.replace(was, wrong, 1), encoding="utf-8")
    with pytest.raises(UsageError, match=f"^{said}|^{file.name}: {said}") as caught:
        read_showfile(file)
    assert "\n" not in str(caught.value)


def test_values_that_prefect_fills_in_are_not_checked(file: Path) -> None:
    template = '"{{ prefect.variables.news_url }}"'
    file.write_text(SHOWS.replace('"https://example.com/live"', template), encoding="utf-8")
    _, news = read_showfile(file)
    assert [each.show for each in news.slots] == [None, None]


def add(file: Path, **changed: str) -> None:
    given = {"name": "late-show", "cron": "30 21 * * 6", "pool": "shows"} | changed
    add_show(
        file,
        name=given["name"],
        slot={"slug": "slot-1", "cron": given["cron"], "timezone": "America/New_York"},
        parameters={"url": "https://example.com/late?a=1&b=2#c", "duration": "1h30m"},
        pool=given["pool"],
    )


def test_an_added_show_is_read_back_and_nothing_else_changes(file: Path) -> None:
    add(file)
    text = file.read_text(encoding="utf-8")
    before, after = text.split("\n  - <<: *show\n    name: late-show\n")
    assert SHOWS.startswith(before)
    assert SHOWS.endswith(after.split("America/New_York }\n")[1])
    added = yaml.safe_load(text)["deployments"][-1]
    assert added["parameters"]["url"] == "https://example.com/late?a=1&b=2#c"
    assert added["schedules"] == [
        {"slug": "slot-1", "cron": "30 21 * * 6", "timezone": "America/New_York"}
    ]
    assert added["work_pool"] == {"name": "shows"}


def test_a_pool_of_its_own_goes_before_the_shared_one(file: Path) -> None:
    add(file, pool="gpu")
    assert read_showfile(file)[-1].pool == "gpu"


def test_adding_and_removing_leaves_the_file_as_it_was(file: Path) -> None:
    add(file)
    remove_show(file, "late-show")
    assert file.read_text(encoding="utf-8") == SHOWS


def test_removing_keeps_every_comment_outside(file: Path) -> None:
    remove_show(file, "news")
    text = file.read_text(encoding="utf-8")
    assert [each.name for each in read_showfile(file)] == ["adhoc"]
    assert all(comment in text for comment in ("# Our shows.", "# The news", "# The end."))


def test_a_file_without_our_anchor_gets_the_whole_show(file: Path) -> None:
    file.write_text(
        "deployments:\n- name: a\n  entrypoint: a.py:b\n  work_pool: {name: p}\n", encoding="utf-8"
    )
    add(file, pool="studio")
    show = read_showfile(file)[-1]
    assert (show.name, show.pool, show.is_show) == ("late-show", "studio", True)


@contextmanager
def full_disk() -> Iterator[None]:
    """Limit the size of files, as on a full disk, except pytest's own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("change", [add, partial(remove_show, name="news")], ids=["add", "remove"])
def test_a_full_disk_leaves_the_file_as_it_was(file: Path, change: Callable[[Path], None]) -> None:
    said = "cannot be written, and is unchanged: File too large"
    with full_disk(), pytest.raises(UsageError, match=said):
        change(file)
    assert file.read_text(encoding="utf-8") == SHOWS
    assert list(file.parent.iterdir()) == [file]


def test_a_file_keeps_its_mode_and_a_link_its_target(file: Path, tmp_path: Path) -> None:
    file.chmod(0o640)
    link = tmp_path / "link.yaml"
    link.symlink_to(file)
    add(link)
    assert link.is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert "late-show" in file.read_text(encoding="utf-8")


def test_an_invalid_change_leaves_the_file_as_it_was(file: Path) -> None:
    with pytest.raises(UsageError, match="news: a show of this name exists"):
        add(file, name="news")
    with pytest.raises(UsageError, match="late-show: slot slot-1: cron"):
        add(file, cron="often")
    with pytest.raises(UsageError, match=r"nothing: there is no such show.*adhoc, news"):
        remove_show(file, "nothing")
    assert file.read_text(encoding="utf-8") == SHOWS


@pytest.mark.parametrize(
    ("cron", "said"),
    [
        ("0 20 * * 1-5", "Mon-Fri 20:00 Europe/Vienna"),
        ("5 9 * * 6,0", "Sat,Sun 09:05 Europe/Vienna"),
        ("30 21 * * 7", "Sun 21:30 Europe/Vienna"),
        ("30 21 * * *", "daily 21:30 Europe/Vienna"),
        ("*/5 20 * * 1", "*/5 20 * * 1 Europe/Vienna"),
        ("0 20 1 * *", "0 20 1 * * Europe/Vienna"),
        ("0 20 * * 1#1", "0 20 * * 1#1 Europe/Vienna"),
    ],
)
def test_a_slot_in_words(cron: str, said: str) -> None:
    assert Slot.of(slug="a", cron=cron, timezone="Europe/Vienna").in_words == said


@pytest.mark.parametrize(
    "rule",
    [{"cron": "0 20 * * *"}, {"rrule": "DTSTART:20260103T200000\nRRULE:FREQ=DAILY"}],
    ids=["cron", "rrule"],
)
@pytest.mark.parametrize("day", [date(2027, 3, 28), date(2027, 10, 31)], ids=["Mar", "Oct"])
def test_a_slot_keeps_its_local_time_when_the_clocks_change(
    rule: dict[str, str], day: date
) -> None:
    slot = Slot.of(slug="a", timezone="Europe/Vienna", **rule)
    before = slot.next_start(datetime(2027, day.month, day.day - 1, tzinfo=UTC))
    assert before is not None
    after = slot.next_start(before)
    assert after is not None
    assert (before.hour, after.hour) == (20, 20)
    apart = after.astimezone(UTC) - before.astimezone(UTC)
    assert apart == timedelta(hours=23 if day.month == 3 else 25)


def test_commands_add_list_and_remove_a_show(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setenv("COLUMNS", "200")

    def shows(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["shows", *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    where = ("--file", str(file))
    when = ("--cron", "30 21 * * 6", "--timezone", "Europe/Vienna", "--for", "1h30m")
    said = shows("add", "https://example.com/late", "--name", "late-show", *when, *where)
    assert "on air next: Sat " in said
    table = shows(*where).splitlines()
    (line,) = [line for line in table if line.startswith(" late-show")]
    assert all(part in line for part in ("30 21 * * 6 Europe/Vienna", "1h30m", "Sat ", " 21:30 CE"))
    assert sum(line.startswith(" news") for line in table) == 2
    shows("remove", "late-show", *where)
    assert file.read_text(encoding="utf-8") == SHOWS
    with pytest.raises(UsageError, match="cron: 'often' is invalid"):
        shows("add", "https://example.com/late", "--name", "late", "--cron", "often", *where)
