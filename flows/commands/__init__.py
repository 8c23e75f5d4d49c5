"""The commands of `showmood`, one file for each group, with its own typer app."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flows.settings import Settings


def load_settings() -> "Settings":
    """Read the settings; raises UsageError.

    Imported here, as `--help` and shell completion need not load pydantic.
    """
    from flows import settings

    return settings.load_settings()
