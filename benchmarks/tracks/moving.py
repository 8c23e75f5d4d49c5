"""More programmes with known ground truth: fast people, hand-held cameras, crowds, entrances.

Separate from `benchmarks.tracks.programmes`, so that the totals there stay comparable.
"""

from math import sin
from typing import Final

from benchmarks.tracks.programmes import going, panned, sits, walks
from benchmarks.tracks.scenes import Face, Path, Place, Programme, Shot

_LOOK_S: Final = 0.2


def _one(name: str, length_s: float, *faces: Face) -> Programme:
    return Programme(name=name, shots=(Shot(length_s=length_s, faces=faces),))


def _crosses(look: int, widths_a_look: float, begins_s: float, y: float, width: float) -> Face:
    """Return a person who crosses the picture at this many widths per 0.2 s."""
    lasts_s = 1480 / (widths_a_look * width / _LOOK_S)
    return walks(look, begins_s, begins_s + lasts_s, (-100, y, width), (1380, y, width))


_STANDING: Final = (sits((330, 300, 110), 1), sits((640, 290, 120), 2), sits((980, 310, 115), 3))


def _shaken(t_s: float) -> tuple[float, float]:
    return 60 * sin(5.1 * t_s) + 25 * sin(11 * t_s), 30 * sin(4.3 * t_s)


def _in_hand(place: Place, look: int, zoom: float = 0.0) -> Face:
    path = sits(place, look).path

    def moved(t_s: float) -> Place:
        x, y, width = path(t_s)
        right, down = _shaken(t_s)
        closer = 1 + zoom * sin(0.8 * t_s)
        return 640 + (x - 640) * closer + right, 360 + (y - 360) * closer + down, width * closer

    return Face(path=moved, look=look)


def _behind(path: Path, look: int, *away: tuple[float, float]) -> Face:
    return Face(path=path, look=look, away=away)


MOVING: Final = (
    _one("one crosses, 1 width a look", 6, _crosses(0, 1.0, 1, 520, 100), *_STANDING),
    _one("one crosses, 2 widths a look", 5, _crosses(0, 2.0, 1, 520, 98), *_STANDING),
    _one("one crosses, 3 widths a look", 5, _crosses(0, 3.0, 1, 520, 90), *_STANDING),
    _one("one crosses behind those who stand", 6, *_STANDING, _crosses(0, 1.8, 1, 300, 98)),
    _one(
        "several cross",
        8,
        *_STANDING,
        *(_crosses(4 + i, 1.0 + 0.3 * i, 1 + 1.4 * i, 540 - 20 * i, 80 + 8 * i) for i in range(4)),
    ),
    _one(
        "a camera in a hand",
        8,
        *(_in_hand((250 + 260 * i, 330, 120), i) for i in range(4)),
    ),
    _one(
        "a camera in a hand, zooming",
        8,
        *(_in_hand((400 + 240 * i, 350, 110), i, 0.35) for i in range(3)),
    ),
    Programme(
        name="a pan over eight",
        shots=(
            Shot(
                length_s=9,
                turned_px=lambda t_s: 0.0,
                faces=tuple(panned((150 + 230 * i, 330, 120), i) for i in range(8)),
            ),
        ),
    ),
    _one(
        "a crowd of twenty",
        8,
        *(
            sits((110 + 175 * (i % 7), 150 + 215 * (i // 7), 70 + 10 * (i % 3)), i)
            for i in range(20)
        ),
    ),
    _one(
        "one crosses a crowd",
        7,
        _crosses(5, 1.5, 1, 600, 110),
        *(sits((110 + 175 * (i % 7), 150 + 190 * (i // 7), 80), i) for i in range(14)),
    ),
    _one(
        "some come in behind others",
        9,
        sits((450, 380, 190), 0),
        sits((860, 380, 180), 1),
        _behind(going(1, 4, (-100, 250, 110), (640, 250, 110)), 2),
        _behind(going(3, 6, (1380, 240, 100), (1080, 240, 100)), 3),
    ),
    _one(
        "one goes and another comes",
        8,
        sits((640, 300, 140), 1),
        walks(0, 1, 2.2, (300, 380, 120), (-200, 380, 120)),
        walks(2, 2.0, 3.4, (1400, 380, 120), (1000, 380, 120)),
    ),
)
