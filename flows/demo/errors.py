"""Errors of the demo."""


class DemoError(Exception):
    """The demo channel can't play; the message is one line."""
