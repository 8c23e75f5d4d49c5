"""Errors of the object store, for those who open none: its library takes memory."""

from flows.errors import ShowmoodError


class StoreError(ShowmoodError):
    """An operation on the object store failed; a retry may succeed."""


class StoreRefused(StoreError):
    """The store refused; a retry fails until the operator changes something."""


class ObjectGone(StoreError):
    """An object does not exist, or has changed."""
