"""Trials of networks, services, disks and clocks."""

from typing import Final

from sqlalchemy import text

from benchmarks.fleet.fleet import Fleet
from benchmarks.fleet.machine import pause
from benchmarks.fleet.trial import trial
from benchmarks.fleet.wires import DATABASE, SERVER, STORE, give_back, take_away
from benchmarks.other_clock import FAKETIME
from benchmarks.up import until

AWAY_S: Final = 60.0
FULL_S: Final = 25.0
AHEAD_S: Final = 120


@trial("its network is cut for 30 s, the way to the source with it")
def network_is_cut(fleet: Fleet, slug: str) -> str:
    """Cut the network of the watching machine."""
    run = fleet.start(slug, "90s")
    first = fleet.until_rows(slug, 8)
    fleet.machines[first].cable.pull()
    pause(30)
    fleet.machines[first].cable.plug()
    return fleet.until_ended(run)


@trial("it is cut off for 5 min from all but the source")
def network_is_cut_for_long(fleet: Fleet, slug: str) -> str:
    """Cut the watching machine off from the fleet, but not from the source."""
    run = fleet.start(slug, "400s")
    first = fleet.until_rows(slug, 8)
    second = fleet.other(first)
    fleet.machines[first].cable.lose(DATABASE, SERVER, STORE)
    pause(150)
    assert fleet.machine_of(slug) == second, f"{second} had not taken over"
    pause(150)
    fleet.machines[first].cable.find(DATABASE, SERVER, STORE)
    stopped_s = fleet.until_left(run, first)
    how = fleet.until_ended(run)
    return f"{how}; {first} stopped {stopped_s:.1f} s after it was back"


@trial("the database alone is away for a minute")
def database_is_away(fleet: Fleet, slug: str) -> str:
    """Cut every machine off from the database."""
    return _without(fleet, slug, DATABASE)


@trial("the Prefect server alone is away for a minute")
def server_is_away(fleet: Fleet, slug: str) -> str:
    """Cut every machine off from the server."""
    return _without(fleet, slug, SERVER)


@trial("the object store alone is away for a minute")
def store_is_away(fleet: Fleet, slug: str) -> str:
    """Cut every machine off from the store; afterwards all files are copied."""
    how = _without(fleet, slug, STORE)
    asked = (
        "SELECT count(*) AS n FROM segments s JOIN channels c ON c.id = s.channel_id"
        " WHERE c.slug = :slug AND s.object_key IS NULL"
    )
    until(lambda: fleet.rows(asked, slug=slug)[0].n == 0, what="all copies", within_s=180)
    return how


def _without(fleet: Fleet, slug: str, address: str) -> str:
    run = fleet.start(slug, "120s")
    fleet.until_rows(slug, 8)
    take_away(address)
    try:
        pause(AWAY_S)
    finally:
        give_back(address)
    return fleet.until_ended(run)


@trial("the database is killed in the middle of a transaction")
def database_is_killed(fleet: Fleet, slug: str) -> str:
    """Block a watcher's transaction with a lock, then kill the database."""
    run = fleet.start(slug, "75s")
    fleet.until_rows(slug, 8)
    asked = (
        "SELECT count(*) AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND query LIKE '%channels%' AND pid <> pg_backend_pid()"
    )
    connection = fleet.engine.connect()
    connection.begin()
    lock = text("SELECT id FROM channels WHERE slug = :slug FOR UPDATE")
    connection.execute(lock, {"slug": slug})
    until(lambda: fleet.rows(asked)[0].n > 0, what="a transaction that waits", within_s=60)
    fleet.postgres.kill()
    connection.invalidate()
    connection.close()
    fleet.engine.dispose()
    pause(10)
    fleet.postgres.start()
    return fleet.until_ended(run)


@trial("its disk is full for 25 s")
def disk_is_full(fleet: Fleet, slug: str) -> str:
    """Fill the disk of the watching machine, and free it again."""
    run = fleet.start(slug, "90s")
    first = fleet.until_rows(slug, 8)
    disk = fleet.machines[first].disk
    assert disk is not None
    assert disk.fill(), "the disk could not be filled"
    pause(FULL_S)
    disk.empty()
    return fleet.until_ended(run)


@trial("its clock is two minutes ahead, and then it dies", n_shows=2)
def clock_is_wrong(fleet: Fleet, slug: str) -> str:
    """Watch on a machine whose clock is ahead; another machine with a correct clock takes over."""
    assert FAKETIME is not None, "no other clock here: it takes libfaketime and a C compiler"
    ahead = fleet.machines["a"]
    ahead.stop(90)
    ahead.ahead_s = AHEAD_S
    ahead.start()
    fleet.until_there("a")
    runs = [fleet.start(f"{slug}-{n}", "90s") for n in range(2)]
    on = {fleet.until_rows(f"{slug}-{n}", 8): f"{slug}-{n}" for n in range(2)}
    ahead.kill()
    ahead.ahead_s = 0
    if "a" in on:
        fleet.until_rows(on["a"], 8, on="b")
    how = {fleet.until_ended(run, within_s=400) for run in runs}
    ahead.start()
    fleet.until_there("a")
    assert "a" in on, "no show was on the machine with the wrong clock"
    return ", ".join(sorted(how))
