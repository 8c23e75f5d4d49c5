"""Errors of the demo."""


class DemoError(Exception):
    """The demo channel can't play; one line that says why."""
