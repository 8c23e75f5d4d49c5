"""Continue the training of one tower, with labels and with the outputs of finished towers.

    python -m training.learning.distil --data DIR --teachers RUN --run RUN [--again] --minutes 30

Both sets of labels are noisy; the mean of several towers' outputs, each for the face and its mirror
image, is less so (Furlanello et al. 2018, arXiv:1805.04770). The tower starts from the first of
its teachers, with a warm restart of the learning rate. The result can be its own teacher
once more (--again), with more weight of the teacher and a lower learning rate.
"""

import argparse
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from emotion.networks.expression import Tower
from training.learning.net import targets
from training.learning.ship import load_towers
from training.learning.train import BASE_SEED, N_SMOKE, Recipe, TrainingRun
from training.learning.validate import logits
from training.pictures import data

log = logging.getLogger("training")

MINUTES: Final = 30
"""Wall time in minutes on two cores."""

CALM: Final = 0.4
"""Share of the run at its end without mix-up and with half the augmentations."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """Parameters of the distillation.

    rate: peak learning rate, at most half of that of a first run. voted_share, keyword_share:
    weight of the teachers in each target: higher for FER2013's label, which is weaker evidence.
    """

    rate: float
    voted_share: float
    keyword_share: float


FIRST: Final = Lesson(rate=0.03, voted_share=0.3, keyword_share=0.5)
AGAIN: Final = Lesson(rate=0.02, voted_share=0.4, keyword_share=0.6)


def opinion(teachers: list[Tower], images: np.ndarray) -> tuple[Tensor, Tensor]:
    """(N, 8) and (N, 7) probabilities: all teachers' mean logits for the faces and their mirrors.

    images: uint8 (N, 48, 48).
    """
    mirrored = np.ascontiguousarray(images[:, :, ::-1])
    views = [logits(tower, faces) for tower in teachers for faces in (images, mirrored)]
    voted, keyword = (torch.stack(column).mean(0) for column in zip(*views, strict=True))
    return torch.softmax(voted, 1), torch.softmax(keyword, 1)


def mixed_targets(
    labels: tuple[Tensor, Tensor], outputs: tuple[Tensor, Tensor], lesson: Lesson
) -> tuple[Tensor, Tensor]:
    """Labels (N, 8) and (N, 7) mixed with the teachers' outputs; unlabelled faces keep zeros."""
    shares = lesson.voted_share, lesson.keyword_share
    voted, keyword = (
        torch.where(label.sum(1, keepdim=True) > 0, torch.lerp(label, of, share), label)
        for label, of, share in zip(labels, outputs, shares, strict=True)
    )
    return voted, keyword


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teachers", type=Path, required=True, help="run of finished towers")
    parser.add_argument("--run", type=Path, required=True, help="where checkpoints are kept")
    parser.add_argument("--again", action="store_true", help="the teacher has learnt so itself")
    parser.add_argument("--seed", type=int, default=0, help="added to the first tower's")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--epochs", type=int, help="count epochs instead of minutes")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s student: %(message)s")
    torch.set_num_threads(arguments.threads)
    lesson = AGAIN if arguments.again else FIRST
    seed = BASE_SEED + arguments.seed
    teachers, taught = load_towers(arguments.teachers)
    recipe = Recipe(
        minutes=arguments.minutes,
        epochs=arguments.epochs,
        seed=seed,
        learning_rate=lesson.rate,
        restart=1.0,
        calm=CALM,
        widths=tuple(taught.widths),
        depths=tuple(taught.depths),
        stem=taught.stem,
    )
    smoke = os.environ.get("SMOKE") == "1"
    if smoke:
        recipe = Recipe(minutes=1, epochs=2, batch=32, seed=seed, learning_rate=lesson.rate)
    pictures, validation = data.to_learn(arguments.data, most=N_SMOKE if smoke else None)
    directory = arguments.run / "tower-1"
    directory.mkdir(parents=True, exist_ok=True)
    run = TrainingRun(recipe, directory)
    if run.resume():
        log.info("going on after epoch %d", run.epoch)
    else:
        run.start_from(teachers[0])
    log.info("%d teachers, %d faces, %s, %s", len(teachers), len(pictures), run.device, recipe)
    wanted = mixed_targets(targets(pictures), opinion(teachers, pictures.images), lesson)
    run.train(pictures, validation, wanted)


if __name__ == "__main__":
    main()
