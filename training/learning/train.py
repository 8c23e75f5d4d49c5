"""Train one tower; an interrupted run continues when started again.

    python -m training.learning.train --data DIR --run DIR --tower 1 --minutes 50

The learning rate follows wall time (or, with --epochs, the epochs), so a run ends in time on any
machine. SMOKE=1 trains a few steps on a few faces, as a test.
"""

import argparse
import json
import logging
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from emotion.networks.expression import DEPTHS, STEM, WIDTHS, Tower
from training.learning.net import WeightAverage, loss, mix_up, targets
from training.learning.validate import validate
from training.pictures import data
from training.pictures.augment import augment

log = logging.getLogger("training")

BASE_SEED: Final = 20130
"""A tower's seed is this plus its number."""

N_SMOKE: Final = 128
"""Faces per split in a smoke run."""

MINUTES: Final = 50
"""Wall time of a run in minutes, on one core."""

CHECK_EVERY: Final = 3
"""Epochs between evaluations on the validation faces, which do not affect the run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Hyperparameters of a run.

    minutes: wall time of the run; epochs: replaces it if not None.
    learning_rate: peak, after `warmup` of the run; then half a cosine down to zero.
    restart: share of the run after which the rate rises once more, to `second_rate`, and
        falls again (warm restart, arXiv:1608.03983); 1 for never.
    balance: exponent of the sampling by class rarity; 0: as in the data, 1: equal classes.
    mix_up_share: of the batches. calm: last share of the run, without mix-up, and with
        photometric augmentations on half as many faces.
    """

    minutes: float
    epochs: int | None = None
    seed: int = BASE_SEED + 1
    batch: int = 64
    learning_rate: float = 0.06
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.03
    restart: float = 0.42
    second_rate: float = 0.03
    balance: float = 0.4
    balance_keyword_share: float = 0.4
    mix_up_share: float = 0.3
    calm: float = 0.25
    widths: tuple[int, ...] = WIDTHS
    depths: tuple[int, ...] = DEPTHS
    stem: int = STEM

    def cycle(self, progress: float) -> tuple[float, float]:
        """Peak rate of the cycle that this share of the run lies in, and the share of it done."""
        if progress < self.restart:
            return self.learning_rate, progress / self.restart
        return self.second_rate, min(1.0, (progress - self.restart) / (1 - self.restart))

    def rate(self, progress: float) -> float:
        """Learning rate after this share of the run (0 to 1)."""
        peak, done = self.cycle(progress)
        rising = min(1.0, (done + 1e-3) / self.warmup)
        falling = max(0.0, done - self.warmup) / (1 - self.warmup)
        return peak * rising * 0.5 * (1 + math.cos(math.pi * falling))


def device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class TrainingRun:
    """One training run and its checkpoint."""

    def __init__(self, recipe: Recipe, directory: Path) -> None:
        self.recipe, self.directory = recipe, directory
        self.device = device()
        torch.manual_seed(recipe.seed)
        self.net = Tower(widths=recipe.widths, depths=recipe.depths, stem=recipe.stem)
        self.net.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        decayed = [p for p in self.net.parameters() if p.ndim > 1]
        others = [p for p in self.net.parameters() if p.ndim <= 1]
        groups: list[dict[str, Any]] = [
            {"params": decayed},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.SGD(
            groups,
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=True,
        )
        self.average = WeightAverage(self.net)
        self.rng = torch.Generator().manual_seed(recipe.seed)
        self.epoch, self.elapsed_s = 0, 0.0
        self.history: list[dict[str, float]] = []

    @property
    def checkpoint(self) -> Path:
        """Path of the checkpoint."""
        return self.directory / "checkpoint.pt"

    def save(self) -> None:
        """Write the checkpoint atomically."""
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(
            {
                "net": self.net.state_dict(),
                "average": self.average.net.state_dict(),
                "updates": self.average.updates,
                "optimiser": self.optimiser.state_dict(),
                "rng": self.rng.get_state(),
                "dropout_rng": torch.get_rng_state(),
                "recipe": asdict(self.recipe),
                "epoch": self.epoch,
                "elapsed_s": self.elapsed_s,
                "history": self.history,
            },
            partial,
        )
        partial.replace(self.checkpoint)

    def resume(self) -> bool:
        """Load the checkpoint if there is one."""
        if not self.checkpoint.exists():
            return False
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        self.net.load_state_dict(state["net"])
        self.average.net.load_state_dict(state["average"])
        self.average.updates = state["updates"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.rng.set_state(state["rng"].cpu())
        torch.set_rng_state(state["dropout_rng"].cpu())
        self.epoch, self.elapsed_s = state["epoch"], state["elapsed_s"]
        self.history = state["history"]
        return True

    def progress(self, in_epoch: float, since_s: float) -> float:
        """Finished share of the run."""
        if self.recipe.epochs is not None:
            return (self.epoch + in_epoch) / self.recipe.epochs
        return (self.elapsed_s + since_s) / (self.recipe.minutes * 60)

    def step(self, images: Tensor, wanted: tuple[Tensor, Tensor], progress: float) -> float:
        """Train on one batch, uint8 (B, 1, 48, 48); return its loss."""
        calm = self.recipe.cycle(progress)[1] > 1 - self.recipe.calm
        x = augment(images.float() / 255, self.rng, strength=0.5 if calm else 1.0)
        parts: tuple[Tensor, ...] = (x, *wanted)
        if float(torch.rand((), generator=self.rng)) < self.recipe.mix_up_share and not calm:
            parts = mix_up(x, wanted, self.rng)
        x, votes, keyword = (part.to(self.device) for part in parts)
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.rate(progress)
        with torch.autocast(self.device.type, torch.bfloat16):
            outputs = self.net(x.contiguous(memory_format=torch.channels_last))
        value = loss(outputs, (votes, keyword))
        self.optimiser.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.optimiser.step()
        self.average.update(self.net)
        return float(value.detach())

    def start_from(self, tower: Tower) -> None:
        """Load the weights of a trained tower."""
        self.net.load_state_dict(tower.state_dict())
        self.average = WeightAverage(self.net)

    def train(
        self,
        pictures: data.Pictures,
        validation: data.Pictures,
        wanted: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        """Run to the end of the budget, and write `history.json`.

        wanted: (N, 8) and (N, 7) targets of the two heads; None: from the labels.
        """
        weights = data.sampling_weights(
            pictures,
            power=self.recipe.balance,
            keyword_share=self.recipe.balance_keyword_share,
        )
        images = torch.from_numpy(pictures.images)[:, None]
        votes, keyword = targets(pictures) if wanted is None else wanted
        batch = min(self.recipe.batch, len(pictures))
        n_steps = len(pictures) // batch
        done = self.progress(0, 0)
        while done < 1:
            self.net.train()
            began, losses = time.monotonic(), list[float]()
            order = torch.from_numpy(
                data.draw_epoch(weights, seed=self.recipe.seed, epoch=self.epoch)
            )
            for i in range(n_steps):
                done = self.progress(i / n_steps, time.monotonic() - began)
                if done >= 1:
                    break
                chosen = order[i * batch : (i + 1) * batch]
                losses.append(self.step(images[chosen], (votes[chosen], keyword[chosen]), done))
            self.epoch += 1
            spent_s = time.monotonic() - began
            self.elapsed_s += spent_s
            done = self.progress(0, 0)
            row: dict[str, float] = {"epoch": self.epoch, "elapsed_s": self.elapsed_s}
            if losses:  # the budget may end between two epochs
                row["loss"] = sum(losses) / len(losses)
            if self.epoch % CHECK_EVERY == 0 or done >= 1:
                row |= validate(self.average.net, validation)
            self.history.append(row)
            self.save()
            left_s = self.elapsed_s * (1 - done) / max(done, 1e-6)
            log.info(
                "%3.0f %% done, %.0f min left; %.0f s an epoch; %s",
                100 * done,
                left_s / 60,
                spent_s,
                " ".join(f"{name} {value:.4g}" for name, value in row.items()),
            )
        (self.directory / "history.json").write_text(json.dumps(self.history, indent=1))


def main() -> None:
    """Command line: one tower."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True, help="where checkpoints are kept")
    parser.add_argument("--tower", type=int, default=1, help="number of the tower, from 1")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--epochs", type=int, help="count epochs instead of minutes")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(
        level=logging.INFO, format=f"%(asctime)s tower {arguments.tower}: %(message)s"
    )
    torch.set_num_threads(arguments.threads)
    seed = BASE_SEED + arguments.tower
    recipe = Recipe(minutes=arguments.minutes, epochs=arguments.epochs, seed=seed)
    smoke = os.environ.get("SMOKE") == "1"
    if smoke:
        recipe = Recipe(minutes=1, epochs=2, batch=32, seed=seed)
    pictures, validation = data.to_learn(arguments.data, most=N_SMOKE if smoke else None)
    directory = arguments.run / f"tower-{arguments.tower}"
    directory.mkdir(parents=True, exist_ok=True)
    run = TrainingRun(recipe, directory)
    if run.resume():
        log.info("going on after epoch %d", run.epoch)
    log.info("%d faces, %s, %s", len(pictures), run.device, recipe)
    run.train(pictures, validation)


if __name__ == "__main__":
    main()
