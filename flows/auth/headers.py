"""A request's headers, from ASGI."""

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Headers:
    """A request's headers; a name may occur more than once."""

    of: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, scope: MutableMapping[str, Any]) -> "Headers":
        """Read them from a request's scope."""
        found: dict[str, list[str]] = {}
        for name, value in scope.get("headers", ()):
            found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        return cls(found)

    def one(self, name: str) -> str:
        """Return a header's value; empty if it is absent, or occurs more than once."""
        values = self.of.get(name, [])
        return values[0].strip() if len(values) == 1 else ""
