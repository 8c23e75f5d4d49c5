"""Settings come from the environment; errors name the setting."""

from pathlib import Path

import pytest

from flows.errors import UsageError
from flows.settings import load_settings


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SHOWMOOD_DATABASE_URL", raising=False)


def test_default_home_is_a_folder_in_the_current_one(tmp_path: Path) -> None:
    assert load_settings().home == tmp_path / ".showmood"


def test_networks_are_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOWMOOD_ALLOW_NETWORKS", "10.0.0.0/8, 127.0.0.1:8099,")
    assert load_settings().allow_networks == ("10.0.0.0/8", "127.0.0.1:8099")


def test_dotenv_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SHOWMOOD_DEVICE=cpu\n")
    assert load_settings().device == "cpu"


def test_an_empty_variable_is_as_if_unset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SHOWMOOD_SOURCES=\nSHOWMOOD_ENGINE=\n")
    monkeypatch.setenv("SHOWMOOD_HOME", "")
    settings = load_settings()
    assert (settings.home, settings.sources) == (tmp_path / ".showmood", None)
    assert settings.engine == "auto"


def test_a_path_that_leads_nowhere_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.setenv("SHOWMOOD_HOME", "~nobody.at.all/x")
    monkeypatch.setenv("SHOWMOOD_SOURCES", "loop")
    assert load_settings().sources == tmp_path / "loop"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SHOWMOOD_UI_PORT", "0"),
        ("SHOWMOOD_SEGMENT_S", "long"),
        ("SHOWMOOD_STALL_S", "inf"),
        ("SHOWMOOD_TIME_SHIFTED", "My Show"),
    ],
)
def test_wrong_value_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=name) as caught:
        load_settings()
    assert "\n" not in str(caught.value)
    assert value in str(caught.value)
