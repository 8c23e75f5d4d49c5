"""Programmes with known ground truth, one for each difficulty of tracking."""

from math import pi, sin
from typing import Final

from benchmarks.tracks.scenes import Face, Path, Place, Programme, Shot


def going(first_s: float, last_s: float, *places: Place, gently: bool = False) -> Path:
    """Move from the first place to the second between these times; constant before and after."""
    begin, end = places

    def path(t_s: float) -> Place:
        share = min(1.0, max(0.0, (t_s - first_s) / (last_s - first_s)))
        step = end[2] / 20 * sin(3 * pi * t_s) if 0 < share < 1 and not gently else 0.0
        share = share * share * (3 - 2 * share) if gently else share
        x, y, width = (a + share * (b - a) for a, b in zip(begin, end, strict=True))
        return x, y + step, width

    return path


def sits(place: Place, look: int, *away: tuple[float, float]) -> Face:
    """Return a person who sits and talks: the head sways by a sixth of its width."""
    x, y, width = place

    def path(t_s: float) -> Place:
        return (
            x + width / 6 * sin(1.7 * t_s + 1.3 * look),
            y + width / 12 * sin(2.3 * t_s + 2.6 * look),
            width * (1 + 0.04 * sin(0.9 * t_s + 1.3 * look)),
        )

    return Face(path=path, look=look, away=away)


def walks(look: int, first_s: float, last_s: float, *places: Place) -> Face:
    """Return a person who walks, see `going`."""
    return Face(path=going(first_s, last_s, *places), look=look)


def _there_and_back(there: Path, back: Path, turns_s: float) -> Path:
    return lambda t_s: there(t_s) if t_s < turns_s else back(t_s)


def _zoomed(look: int, far: Place, near: Place) -> Face:
    there, back = going(2, 4, far, near, gently=True), going(6.5, 8, near, far, gently=True)
    return Face(path=_there_and_back(there, back, 6), look=look)


def _turned(t_s: float) -> float:
    """A camera that pans by 700 pixels in 2 s, waits 2 s, and pans back."""
    turns = [going(at, at + 2, (0, 0, 0), (700, 0, 0), gently=True)(t_s)[0] for at in (2, 6)]
    return turns[0] - turns[1]


def panned(place: Place, look: int) -> Face:
    """Return a person who sits while the camera pans away and back."""
    seated = sits(place, look).path

    def path(t_s: float) -> Place:
        x, y, width = seated(t_s)
        return x - _turned(t_s), y, width

    return Face(path=path, look=look)


def _one(name: str, length_s: float, *faces: Face) -> Programme:
    return Programme(name=name, shots=(Shot(length_s=length_s, faces=faces),))


_CUTS: Final[tuple[tuple[float, tuple[Place, ...]], ...]] = (
    (2.6, ((400, 320, 200), (850, 320, 190))),
    (1.9, ((420, 320, 220),)),
    (3.1, ((390, 320, 200), (860, 320, 200))),
    (2.3, ((640, 320, 300),)),
    (1.1, ((600, 320, 280),)),
    (2.7, ((250, 320, 150), (620, 320, 160), (980, 320, 150))),
)


def _cut(name: str, *, one_set: bool) -> Programme:
    shots = (
        Shot(
            length_s=length_s,
            set=0 if one_set else number,
            camera=number,
            faces=tuple(sits(at, (number + i) % 4) for i, at in enumerate(places)),
        )
        for number, (length_s, places) in enumerate(_CUTS)
    )
    return Programme(name=name, shots=tuple(shots))


PROGRAMMES: Final = (
    _one(
        "three people talk",
        12,
        sits((250, 330, 170), 0),
        sits((640, 300, 160), 1),
        sits((1000, 340, 180), 2),
    ),
    _one(
        "two pass each other",
        8,
        walks(0, 1, 6, (150, 340, 150), (1130, 360, 150)),
        walks(1, 1.5, 6.5, (1130, 330, 130), (150, 320, 130)),
    ),
    _one(
        "two pass a third, closely",
        9,
        walks(0, 1, 7, (140, 380, 190), (1140, 380, 190)),
        sits((640, 300, 130), 1),
        walks(2, 2, 7, (1180, 300, 140), (100, 300, 140)),
    ),
    _one(
        "hidden for a second",
        12,
        sits((350, 330, 160), 0, (2.0, 3.0), (7.3, 8.3)),
        Face(
            path=going(1, 10, (600, 350, 140), (1100, 340, 140)),
            look=1,
            away=((4.0, 5.0), (7.1, 8.1)),
        ),
    ),
    _cut("hard cuts", one_set=False),
    _cut("hard cuts in one set", one_set=True),
    _one(
        "leaves and comes back",
        16,
        sits((900, 320, 180), 1),
        Face(
            path=_there_and_back(
                going(2, 4, (450, 340, 160), (-200, 340, 160)),
                going(9, 11, (-200, 340, 160), (450, 340, 160)),
                6,
            ),
            look=0,
        ),
    ),
    _one(
        "turns to profile",
        12,
        sits((350, 330, 170), 0, (1, 1.5), (2.2, 3), (5, 5.3), (6.1, 7), (9, 10.2)),
        sits((850, 300, 180), 3, (0.7, 1.1), (3.3, 4.2), (5.1, 6.5), (8, 8.4)),
    ),
    _one(
        "zooms",
        10,
        _zoomed(0, (420, 340, 100), (250, 380, 260)),
        _zoomed(1, (740, 340, 100), (1000, 380, 260)),
    ),
    _one(
        "two swap sides",
        8,
        Face(path=going(2, 4.5, (400, 400, 180), (880, 400, 180), gently=True), look=0),
        Face(path=going(2, 4.5, (880, 290, 150), (400, 290, 150), gently=True), look=1),
    ),
    Programme(
        name="the camera pans",
        shots=(
            Shot(
                length_s=10,
                turned_px=_turned,
                faces=tuple(
                    panned((x, 330, 150), look) for look, x in enumerate((250, 560, 870, 1250))
                ),
            ),
        ),
    ),
    _one(
        "twelve in rows",
        8,
        *(
            sits((130 + 200 * (i % 6), 220 + 250 * (i // 6), 90), i, (2 + i / 4, 2.6 + i / 4))
            for i in range(12)
        ),
    ),
    _one(
        "one walks fast",
        6,
        walks(0, 1, 3.5, (120, 340, 120), (1160, 360, 130)),
        sits((620, 560, 130), 2),
    ),
)
