"""Reads labelled pictures: a folder for each class, or a CSV file."""

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from emotion.types import EMOTIONS, EmotionError, Int64

SUFFIXES: Final = frozenset(
    {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)

_WORDS_OF: Final[Mapping[str, str]] = {
    "neutral": "neutral neutrality calm",
    "happiness": "happiness happy joy joyful smile smiling",
    "surprise": "surprise surprised surprising",
    "sadness": "sadness sad unhappy",
    "anger": "anger angry mad",
    "disgust": "disgust disgusted",
    "fear": "fear fearful afraid scared",
    "contempt": "contempt contemptuous scorn",
}
_EMOTION_OF: Final = {
    word: emotion for emotion, words in _WORDS_OF.items() for word in words.split()
}

NUMBERED: Final[Mapping[str, tuple[int, str]]] = {
    "fer2013": (0, "anger disgust fear happiness sadness surprise neutral"),
    "raf-db": (1, "surprise fear disgust happiness sadness anger neutral"),
    "affectnet": (0, "neutral happiness sadness surprise fear disgust anger contempt"),
}
"""Numbered classes of well-known data sets: the first number, and the classes."""


class LabelError(EmotionError):
    """Labelled pictures are in a wrong layout; one line with cause and remedy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Labelled:
    """Pictures and their labels.

    label: int64 (N,), index into EMOTIONS. group: (N,) names, or empty without groups.
    left_out: number of ignored pictures by label that is not an emotion.
    """

    paths: tuple[Path, ...]
    label: Int64
    group: tuple[str, ...]
    left_out: Mapping[str, int]

    def __post_init__(self) -> None:
        """Check lengths."""
        n = len(self.paths)
        if self.label.shape != (n,) or len(self.group) not in (0, n):
            raise ValueError(f"{n} pictures, {self.label.shape} labels, {len(self.group)} groups")


def read(path: Path, classes: str | None = None) -> Labelled:
    """Read a folder of class folders, or a CSV file with the columns path, label[, group].

    classes: the meaning of numeric labels, for example "raf-db" or "1=surprise,2=fear".
    Paths in a CSV file are relative to its folder. Raises LabelError.
    """
    named = _named(classes)
    if path.is_dir():
        return _labelled(_of_folders(path, named), named, path, grouped=False)
    if not path.is_file():
        raise LabelError(f"{path}: no such folder or file")
    rows = list(_of_csv(path))
    return _labelled(iter(rows), named, path, grouped=any(group for *_, group in rows))


def emotion_of(label: str, named: Mapping[str, str] | None = None) -> str | None:
    """Return the emotion of a label, "3_Happy" as "happiness"; None for other labels."""
    label = label.strip().lower()
    if named and label in named:
        return named[label]
    word = re.sub(r"^[\W\d_]+|[\W\d_]+$", "", label)
    return _EMOTION_OF.get(word)


def _named(classes: str | None) -> dict[str, str]:
    if classes is None:
        return {}
    if classes.lower() in NUMBERED:
        first, names = NUMBERED[classes.lower()]
        return {str(first + i): name for i, name in enumerate(names.split())}
    named = {}
    for part in classes.split(","):
        label, _, word = part.partition("=")
        emotion = emotion_of(word)
        if not label.strip() or emotion is None:
            raise LabelError(
                f"classes {classes!r}: use {', '.join(NUMBERED)}, or label=emotion, for example "
                f"1=surprise,2=fear; emotions are {', '.join(EMOTIONS)}"
            )
        named[label.strip().lower()] = emotion
    return named


def _of_folders(root: Path, named: Mapping[str, str]) -> Iterator[tuple[Path, str, str]]:
    folders = sorted(f for f in root.iterdir() if f.is_dir() and not f.name.startswith("."))
    if not any(emotion_of(f.name, named) for f in folders):
        for folder in folders:
            inner = [f.name for f in folder.iterdir() if f.is_dir() and emotion_of(f.name, named)]
            if inner:
                raise LabelError(
                    f"{root} has {', '.join(f.name for f in folders)}, each with class folders: "
                    f"choose one of them, for example {folder}"
                )
    for folder in folders:
        for file in sorted(folder.rglob("*")):
            if file.suffix.lower() in SUFFIXES and not file.name.startswith("."):
                yield file, folder.name, ""


def _of_csv(path: Path) -> Iterator[tuple[Path, str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            if not {"path", "label"} <= set(reader.fieldnames or ()):
                raise LabelError(f"{path}: its first line must name the columns path,label[,group]")
            for row in reader:
                if not row["path"] or not row["label"]:
                    raise LabelError(f"{path}, line {reader.line_num}: path or label is missing")
                yield path.parent / row["path"], row["label"], row.get("group") or ""
    except (OSError, UnicodeError, csv.Error) as e:
        raise LabelError(f"{path} is not a CSV file of pictures: {e}") from e


def _labelled(
    rows: Iterator[tuple[Path, str, str]], named: Mapping[str, str], path: Path, *, grouped: bool
) -> Labelled:
    paths: list[Path] = []
    label: list[int] = []
    groups: list[str] = []
    left_out: dict[str, int] = {}
    for file, word, group in rows:
        emotion = emotion_of(word, named)
        if emotion is None:
            left_out[word] = left_out.get(word, 0) + 1
            continue
        paths.append(file)
        label.append(EMOTIONS.index(emotion))
        groups.append(group or "(none)")
    if not paths:
        numbers = all(word.strip().isdigit() for word in left_out)
        raise LabelError(
            f"{path} has no labelled pictures: there must be a folder for each class, named after "
            f"an emotion ({', '.join(EMOTIONS)}), or a CSV file with the columns path,label[,group]"
            if not left_out
            else f"{path}: none of the labels {', '.join(sorted(left_out)[:8])} is an emotion"
            + (
                f": give their meaning with --classes {' or '.join(NUMBERED)}, or for example "
                "--classes 1=surprise,2=fear"
                if numbers
                else ""
            )
        )
    return Labelled(
        paths=tuple(paths),
        label=np.array(label, dtype=np.int64),
        group=tuple(groups) if grouped else (),
        left_out=left_out,
    )
