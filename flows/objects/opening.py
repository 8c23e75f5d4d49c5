"""The object store that the settings name, and the copies that are read from it."""

from flows.objects.cache import Copies
from flows.objects.store import Objects
from flows.settings import Settings


def objects_of(settings: Settings) -> Objects | None:
    """Return the store; None where none is set. Raises UsageError for an invalid URL."""
    return Objects(settings.recordings_store) if settings.recordings_store else None


def copies_of(settings: Settings) -> Copies | None:
    """Return what reads from the store; None where none is set. Raises UsageError likewise."""
    objects = objects_of(settings)
    if objects is None:
        return None
    return Copies(
        objects=objects,
        directory=settings.copies_dir,
        limit_bytes=round(settings.store_cache_gb * (1 << 30)),
    )
