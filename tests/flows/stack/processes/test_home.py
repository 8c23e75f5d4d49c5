"""The home folder: private to its owner, and one-line errors if it is unusable."""

import errno
import io
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import pytest
from rich.console import Console

from flows.errors import UsageError
from flows.settings import Settings
from flows.stack.demo_and_up import own_command, run_demo, run_up
from flows.stack.processes import home as home_module
from flows.stack.processes.home import disk_of, keep_private, make_home, network_disk
from flows.stack.stack import Stack


@pytest.fixture
def wide_open() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_home_and_its_content_are_accessible_only_to_their_owner(
    tmp_path: Path, wide_open: None
) -> None:
    home = tmp_path / "home"
    (home / "recordings").mkdir(parents=True)  # of an earlier version
    (home / "logs").mkdir()
    (home / "mine").write_text("")
    assert mode(home) == mode(home / "logs") == 0o777
    make_home(home)
    keep_private()
    (home / "recordings" / "news").mkdir()
    (home / "recordings" / "news" / "0.ts").touch()
    assert [mode(home / name) for name in ("", "recordings", "logs")] == [0o700] * 3
    assert mode(home / "recordings" / "news") == 0o700
    assert mode(home / "recordings" / "news" / "0.ts") == 0o600
    assert mode(home / "mine") == 0o666, "what it has not made stays"


def test_roots_database_is_accessible_to_its_user(tmp_path: Path) -> None:
    (tmp_path / "home" / "postgres" / "cluster").mkdir(parents=True)
    make_home(tmp_path / "home")
    assert mode(tmp_path / "home") == (0o711 if os.geteuid() == 0 else 0o700)


MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
server:/films /srv nfs4 rw 0 0
/dev/sdb1 /srv/local ext4 rw 0 0
//server/share /my\\040films cifs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var", None),
        ("/srv/showmood", "nfs4"),
        ("/srv/local/showmood", None),
        ("/my films/a", "cifs"),
    ],
)
def test_network_disk_is_recognised(path: str, kind: str | None) -> None:
    assert network_disk(Path(path), MOUNTS) == kind


def test_home_on_a_network_disk_is_refused_only_for_databases(tmp_path: Path) -> None:
    mounts = f"server:/films {tmp_path} nfs4 rw 0 0\n"
    with pytest.raises(UsageError, match=r"network disk \(nfs4\)"):
        make_home(tmp_path / "home", mounts=mounts)
    make_home(tmp_path / "home", mounts=mounts, embedded=False)


def test_home_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:
        os.chown(tmp_path, 12345, 12345)
        owner = "user 12345"
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        owner = "belongs to"
    with pytest.raises(UsageError, match=f"{owner}.*SHOWMOOD_HOME"):
        make_home(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_home_on_a_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home_module, "NEEDED_MB", 1e12)
    with pytest.raises(UsageError, match="is full") as caught:
        make_home(tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS], ids=errno.errorcode.get)
def test_home_on_a_temporarily_full_disk_does_not_end_a_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    def fail(**_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(home_module, "tempfile", SimpleNamespace(TemporaryFile=fail))
    with pytest.raises(UsageError, match="cannot be written to"):
        make_home(tmp_path, embedded=False)
    make_home(tmp_path, embedded=False, may_wait=True)
    assert f"cannot be written to for now: {os.strerror(number)}" in caplog.text


def test_home_that_cannot_be_created_is_an_error_before_any_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = Settings(home=tmp_path / "file" / "home")  # type: ignore[call-arg]
    for begin in (run_up, partial(run_demo, video=None, duration="30s")):
        said = io.StringIO()
        with pytest.raises(UsageError, match=r"cannot be written to .*SHOWMOOD_HOME") as caught:
            begin(settings, console=Console(file=said))
        assert "\n" not in str(caught.value)
        assert said.getvalue() == ""


def test_stack_leaves_no_password_of_a_killed_run(tmp_path: Path) -> None:
    """As left by Prefect's workers, for a pool without a command."""
    left = tmp_path / "tmp" / "prefect-workspace-attempt-x" / "workspace.json"
    left.parent.mkdir(parents=True)
    left.write_text('{"environment": {"SHOWMOOD_DATABASE_URL": "postgresql://me:word@there/x"}}')
    settings = Settings(home=tmp_path)  # type: ignore[call-arg]
    Stack(settings, echo=lambda line: None)._make_tmp()
    assert not left.exists()


def test_suggested_commands_work_in_this_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / ".venv" / "bin" / "showmood"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "argv", [".venv/bin/showmood"])
    assert own_command() == ".venv/bin/showmood"
    monkeypatch.setattr(sys, "argv", [str(program)])
    assert own_command() == ".venv/bin/showmood"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert own_command() == str(program)
    monkeypatch.setenv("PATH", str(program.parent))
    assert own_command() == "showmood"


@pytest.mark.parametrize(
    "said",
    [None, "", "\0" * 37, "showmood\n"],
    ids=["new", "empty", "zeros", "other words"],
)
def test_disk_has_one_id_also_after_its_file_was_damaged(tmp_path: Path, said: str | None) -> None:
    """Two machines with an empty id would look like a renamed one."""
    if said is not None:
        (tmp_path / "disk-id").write_text(said)
    made = disk_of(tmp_path)
    assert UUID(made).version == 4
    assert disk_of(tmp_path) == made
