"""The commands of `showmood`, a file a group; each has its own typer app."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flows.settings import Settings


def load_settings() -> "Settings":
    """Read the settings; raises UsageError.

    Imported when a command runs: `--help` and shell completion need not wait for pydantic.
    """
    from flows import settings

    return settings.load_settings()
