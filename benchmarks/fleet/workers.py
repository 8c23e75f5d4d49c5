"""Trials of workers: distribution, hand-over, replay, dying machines, rolling upgrade."""

from benchmarks.fleet.fleet import Fleet
from benchmarks.fleet.trial import trial
from benchmarks.fleet.version import newer_version

_ANALYSED_AGAIN = (
    "SELECT count(*) FILTER (WHERE model LIKE '%+centred') AS again, count(*) AS n_rows"
    " FROM segments s JOIN channels c ON c.id = s.channel_id WHERE c.slug = :slug"
)


@trial("two shows are started at once", n_shows=2, is_short=True)
def two_at_once(fleet: Fleet, slug: str) -> str:
    """Start two shows at once: each machine takes one."""
    runs = [fleet.start(f"{slug}-{n}", "20s") for n in range(2)]
    where = {fleet.until_rows(f"{slug}-{n}", 1) for n in range(2)}
    for run in runs:
        fleet.until_ended(run)
    assert len(where) == 2, f"both on {where.pop()}"
    return "one on each"


@trial("the worker that watches is stopped", is_short=True)
def worker_is_stopped(fleet: Fleet, slug: str) -> str:
    """Stop the watching worker, as in an upgrade: the other takes over immediately."""
    run = fleet.start(slug, "75s")
    first = fleet.until_rows(slug, 5)
    fleet.machines[first].stop(90)
    fleet.until_rows(slug, 1, on=fleet.other(first))
    fleet.machines[first].start()
    how = fleet.until_ended(run)
    fleet.until_there(first)
    return how


@trial("a channel of two shows is replayed on all machines, twice", is_short=True)
def replayed_wide(fleet: Fleet, slug: str) -> str:
    """Record a channel twice, and analyse both shows again in parallel on any machine.

    Repeating the command starts nothing.
    """
    for _ in range(2):
        fleet.until_ended(fleet.start(slug, "15s"))
        fleet.until_over(slug)
    before = fleet.hosts_of("analyse-recording/by-hand")
    for _ in range(2):
        fleet.command("replay", slug, "--from", "1h", "--wide")
    hosts = sorted(fleet.hosts_of("analyse-recording/by-hand"))
    [row] = fleet.rows(_ANALYSED_AGAIN, slug=slug)
    assert row.again == row.n_rows, f"{row.again} of {row.n_rows} segments were analysed again"
    n_new = len(hosts) - len(before)
    assert n_new == 2, f"{n_new} runs of {hosts}"
    return f"on {' and '.join(hosts)}"


@trial("the machine that watches dies")
def machine_dies(fleet: Fleet, slug: str) -> str:
    """Kill the watching machine; it restarts after the show."""
    run = fleet.start(slug, "100s")
    first = fleet.until_rows(slug, 8)
    fleet.machines[first].kill()
    fleet.until_rows(slug, 1, on=fleet.other(first))
    how = fleet.until_ended(run)
    fleet.machines[first].start()
    fleet.until_there(first)
    return how


@trial("a new version is rolled through the fleet", n_shows=3)
def version_is_rolled(fleet: Fleet, slug: str) -> str:
    """Deploy, migrate, then upgrade and restart worker by worker, with a show on each.

    A third show begins before a worker has the new version: it waits for one.
    """
    runs = [fleet.start(f"{slug}-{n}", "240s") for n in range(2)]
    where = {fleet.until_rows(f"{slug}-{n}", 5) for n in range(2)}
    code = newer_version(fleet.root / "newer")
    newer = {"PYTHONPATH": code}
    fleet.command("deploy", env=newer)
    fleet.command("db", "upgrade", env=newer)
    runs.append(fleet.start(f"{slug}-2", "60s"))
    for name, machine in fleet.machines.items():
        machine.code = code
        machine.stop(90)
        machine.start()
        fleet.until_there(name)
    for n in range(2):
        fleet.until_rows(f"{slug}-{n}", 5)
    asked = "SELECT version FROM machines WHERE name IN ('a', 'b')"
    versions = {row.version for row in fleet.rows(asked)}
    assert len(where) == 2, f"both on {where.pop()}"
    assert len(versions) == 1, versions
    return ", ".join(sorted({fleet.until_ended(run) for run in runs}))


@trial("eight shows on two machines, one of which dies", n_shows=8)
def eight_shows(fleet: Fleet, slug: str) -> str:
    """Kill one of two machines with eight shows: the other takes all."""
    runs = [fleet.start(f"{slug}-{n}", "300s", analysed_fps=1) for n in range(8)]
    for n in range(8):
        fleet.until_rows(f"{slug}-{n}", 1)
    on = {n: fleet.machine_of(f"{slug}-{n}") for n in range(8)}
    dying = fleet.machines["a"]
    dying.kill()
    moved = [n for n, name in on.items() if name == "a"]
    for n in moved:
        fleet.until_rows(f"{slug}-{n}", 1, on="b")
    how = {fleet.until_ended(run, within_s=600) for run in runs}
    dying.start()
    fleet.until_there("a")
    return f"{len(moved)} of 8 moved; {', '.join(sorted(how))}"
