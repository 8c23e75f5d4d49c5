"""Train the shipped network further: unfold batch norms, add blocks that start as the identity.

    python -m training.learning.deepen --data DIR --file WEIGHTS --run DIR [--teacher WEIGHTS]

The shipped network is the teacher of its successor (arXiv:1805.04770), as in `distil`, possibly
with older files. Labels of FER2013 with a low probability by the teachers are replaced by the
teachers' probabilities (self-cure, arXiv:2002.10392). Runs from the same file differ only by their
seed, so that their weights can be averaged.
"""

import argparse
import logging
import os
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from emotion.networks.expression import ExpressionNet, Tower
from training.learning.distil import AGAIN, CALM, mixed_targets, opinion
from training.learning.net import targets
from training.learning.train import BASE_SEED, N_SMOKE, Recipe, TrainingRun
from training.pictures import data
from training.pictures.augment import augment

log = logging.getLogger("training")

FORMER_DEPTHS: Final = (1, 2, 2)
"""Blocks of each stage in the initial file."""
DEPTHS: Final = (1, 3, 3)
"""Blocks of each stage of its successor: 1.46 times the arithmetic."""
N_SEEN: Final = 1024
"""Number of faces to estimate the statistics of new batch norms."""
CURED_FROM: Final = 0.4
"""Minimum difference of the teachers' probabilities between another class and FER2013's label."""


def former(file: Path) -> Tower:
    """Return the tower of a shipped file, with folded batch norms."""
    net = ExpressionNet(depths=FORMER_DEPTHS)
    net.load_state_dict({name: value.float() for name, value in load_file(file).items()})
    return net.tower.eval()


@torch.no_grad()
def unfold(folded: Tower, faces: Tensor, depths: tuple[int, ...] = DEPTHS) -> Tower:
    """Return a deeper tower with batch norms and the same outputs as the folded one.

    faces: float32 (N, 1, 48, 48), 0 to 1, augmented as in training; each batch norm gets the mean
    and deviation of its convolution's outputs, and a gain and bias that undo them. New blocks
    are the identity at first: the gain of their last batch norm is 0.
    """
    outputs: dict[str, Tensor] = {}
    modules = dict(folded.named_modules())
    hooks = [
        module.register_forward_hook(lambda _m, _i, out, name=name: outputs.update({name: out}))
        for name, module in modules.items()
        if name == "stem" or name.endswith(("conv1", "conv2"))
    ]
    folded(faces)
    for hook in hooks:
        hook.remove()
    tower = Tower(depths=depths)
    ours = dict(tower.named_modules())
    places = {"": "", "stem": "stem", "voted": "voted", "keyword": "keyword"}
    places |= {f"blocks.{i}": f"blocks.{j}" for i, j in enumerate(kept(depths))}
    for name, module in modules.items():
        head, _, tail = name.rpartition(".") if name.startswith("blocks.") else (name, "", "")
        place = places.get(name) or (f"{places[head]}.{tail}" if head in places and tail else None)
        if place is None or not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        target = ours[place]
        assert isinstance(target, nn.Conv2d | nn.Linear)
        target.weight.copy_(module.weight)
        if name not in outputs:
            if module.bias is not None and target.bias is not None:
                target.bias.copy_(module.bias)
            continue
        norm = ours["stem_norm" if place == "stem" else place.replace("conv", "norm")]
        assert isinstance(norm, nn.BatchNorm2d)
        assert module.bias is not None
        variance, mean = torch.var_mean(outputs[name], (0, 2, 3), correction=0)
        norm.running_mean.copy_(mean - module.bias)  # type: ignore[union-attr]
        norm.running_var.copy_(variance)  # type: ignore[union-attr]
        norm.weight.copy_(torch.sqrt(variance + norm.eps))
        norm.bias.copy_(mean)
    for i in set(range(len(tower.blocks))) - set(kept(depths)):
        last = ours[f"blocks.{i}.norm2"]
        assert isinstance(last, nn.BatchNorm2d)
        nn.init.zeros_(last.weight)
    return tower


def kept(depths: tuple[int, ...]) -> list[int]:
    """Return the indices of the former blocks in a tower of these depths."""
    places, first = [], 0
    for before, now in zip(FORMER_DEPTHS, depths, strict=True):
        places += range(first, first + before)
        first += now
    return places


def cured(wanted: Tensor, label: Tensor, outputs: Tensor) -> Tensor:
    """(N, K) targets; only the teachers' probabilities where they clearly prefer another class.

    label: (N, K), one-hot, or zeros. outputs: (N, K), the teachers' probabilities.
    """
    believed = outputs.gather(1, label.argmax(1, keepdim=True))
    wrong = outputs.amax(1, keepdim=True) - believed > CURED_FROM
    return torch.where(wrong & (label.sum(1, keepdim=True) > 0), outputs, wanted)


def remembered(file: Path, teachers: list[Tower], images: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return the teachers' outputs for the faces, cached by the first run."""
    if not file.exists():
        partial = file.with_suffix(f".{os.getpid()}")
        torch.save(opinion(teachers, images), partial)
        partial.replace(file)
    voted, keyword = torch.load(file, weights_only=True)
    return voted, keyword


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--file", type=Path, required=True, help="weights that shipped")
    parser.add_argument(
        "--teacher", type=Path, action="append", default=[], help="older weights that teach too"
    )
    parser.add_argument("--run", type=Path, required=True, help="where checkpoints are kept")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=70)
    parser.add_argument("--epochs", type=int, help="count epochs instead of minutes")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    recipe = Recipe(
        minutes=arguments.minutes,
        epochs=arguments.epochs,
        seed=BASE_SEED + 10 + arguments.seed,
        learning_rate=AGAIN.rate,
        restart=1.0,
        calm=CALM,
        depths=DEPTHS,
    )
    most = N_SMOKE if os.environ.get("SMOKE") == "1" else None
    pictures, validation = data.to_learn(arguments.data, most=most)
    teacher = former(arguments.file)
    directory = arguments.run / f"tower-{arguments.seed}"
    directory.mkdir(parents=True, exist_ok=True)
    run = TrainingRun(recipe, directory)
    if run.resume():
        log.info("going on after epoch %d", run.epoch)
    else:
        rng = torch.Generator().manual_seed(BASE_SEED)
        some = torch.randperm(len(pictures), generator=rng)[:N_SEEN].numpy()
        faces = torch.from_numpy(pictures.images[some])[:, None].float() / 255
        torch.manual_seed(
            BASE_SEED
        )  # same initial blocks in every run, so that weights can be averaged
        run.start_from(unfold(teacher, augment(faces, rng, strength=0.5)))
        torch.manual_seed(recipe.seed)
    log.info("%d faces, %s, %s", len(pictures), run.device, recipe)
    teachers = [teacher, *(former(file) for file in arguments.teacher)]
    outputs = remembered(arguments.run / "opinion.pt", teachers, pictures.images)
    labels = targets(pictures)
    voted, keyword = mixed_targets(labels, outputs, AGAIN)
    run.train(pictures, validation, (voted, cured(keyword, labels[1], outputs[1])))


if __name__ == "__main__":
    main()
