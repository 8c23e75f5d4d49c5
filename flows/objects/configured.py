"""Makes the object store and its cache from the settings."""

from flows.objects.cache import Copies
from flows.objects.store import Objects
from flows.settings import Settings


def objects_of(settings: Settings) -> Objects | None:
    """Return the store; None where none is set. Raises UsageError for an invalid URL."""
    return Objects(settings.recordings_store) if settings.recordings_store else None


def copies_of(settings: Settings) -> Copies | None:
    """Return the store's cache; None where no store is set. Raises UsageError for a bad URL."""
    objects = objects_of(settings)
    if objects is None:
        return None
    return Copies(
        objects=objects,
        directory=settings.copies_dir,
        limit_bytes=round(settings.store_cache_gb * (1 << 30)),
    )
