"""Makes the object store and its cache from the settings."""

from typing import TYPE_CHECKING

from flows.objects.cache import Copies
from flows.settings import Settings

if TYPE_CHECKING:
    from flows.objects.store import Objects


def objects_of(settings: Settings) -> "Objects | None":
    """Return the store; None where none is set. Raises UsageError for an invalid URL."""
    if not settings.recordings_store:
        return None
    from flows.objects.store import Objects  # some megabytes, for those who have one

    return Objects(settings.recordings_store)


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
