"""A trained tower to the file that ships: fold, calibrate on the validation faces, write.

    python -m training.ship --data DIR --run DIR --out emotion/weights

Nothing here sees a test picture.
"""

import argparse
import hashlib
import json
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from scipy.ndimage import uniform_filter
from torch import Tensor, nn

from emotion.expression import N_KEYWORD, N_VOTED, ExpressionNet, Tower
from emotion.score import answers, calibration_error
from training import data
from training.net import targets
from training.train import Recipe
from training.validate import logits

log = logging.getLogger("training")

NAME: Final = "showmood-expression-1"

GOALS: Final = {
    "votes_accuracy": 0.85,
    "votes_recall": 0.70,
    "keyword_accuracy": 0.67,
    "keyword_recall": 0.66,
}
MARGIN: Final = 0.01
"""How far above a goal validation should be before more of it is worth nothing."""

SHARES: Final = np.linspace(0, 1, 21)
PRIORS: Final = np.linspace(-0.7, 1, 18)


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """How the two heads become one answer.

    share: of the votes' head. voted_prior, keyword_prior: exponents of logit adjustment
    (arXiv:2007.07314): 1 takes the class shares that the head saw in training out of its answer,
    0 leaves them in, below 0 adds to them.
    power: exponent of the mixed probabilities, which changes confidence and never the answer.
    """

    share: float = 0.7
    voted_prior: float = 0.0
    keyword_prior: float = 0.0
    power: float = 1.0


def fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of one convolution that does what the two did."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return conv.weight * gain.view(-1, 1, 1, 1), norm.bias - norm.running_mean * gain


def fold_tower(tower: Tower) -> dict[str, Tensor]:
    """Tensors of the same tower without batch norms."""
    tensors = {k: v for k, v in tower.state_dict().items() if "norm" not in k}
    modules = dict(tower.named_modules())
    for name, norm in modules.items():
        if isinstance(norm, nn.BatchNorm2d):
            of = "stem" if name == "stem_norm" else name.replace("norm", "conv")
            conv = modules[of]
            assert isinstance(conv, nn.Conv2d)
            tensors[f"{of}.weight"], tensors[f"{of}.bias"] = fold(conv, norm)
    return tensors


def priors(pictures: data.Pictures, recipe: Recipe) -> tuple[NDArray[np.float64], ...]:
    """(8,) and (7,) class shares that the heads saw in training, sampling included."""
    weights = data.sampling_weights(
        pictures, power=recipe.balance, keyword_share=recipe.balance_keyword_share
    )
    seen = [weights @ part.double().numpy() for part in targets(pictures)]
    return tuple(total / total.sum() for total in seen)


def softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    normal: NDArray[np.float64] = e / e.sum(axis=-1, keepdims=True)
    return normal


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Both heads' mean logits for faces, and the priors in them."""

    voted: NDArray[np.float64]
    keyword: NDArray[np.float64]
    voted_prior: NDArray[np.float64]
    keyword_prior: NDArray[np.float64]

    def voted_probs(self, prior: float) -> NDArray[np.float64]:
        """(N, 8)."""
        return softmax(self.voted - prior * np.log(self.voted_prior))

    def keyword_probs(self, prior: float) -> NDArray[np.float64]:
        """(N, 8); contempt 0."""
        probs = softmax(self.keyword - prior * np.log(self.keyword_prior))
        return np.pad(probs, ((0, 0), (0, N_VOTED - N_KEYWORD)))

    def probs(self, c: Calibration) -> NDArray[np.float64]:
        """(N, 8), as the shipped network will say."""
        mixed = c.share * self.voted_probs(c.voted_prior)
        mixed += (1 - c.share) * self.keyword_probs(c.keyword_prior)
        sharp = mixed**c.power
        total: NDArray[np.float64] = sharp / sharp.sum(axis=1, keepdims=True)
        return total


def figures(answer: NDArray[np.int64], pictures: data.Pictures) -> dict[str, float]:
    """Accuracy and mean recall on both labellings, and where both agree ("clean")."""
    clean = np.where(pictures.majority == pictures.keyword, pictures.majority, -1)
    found = {}
    for name, label in (
        ("votes", pictures.majority),
        ("keyword", pictures.keyword),
        ("clean", clean),
    ):
        known = label >= 0
        right = (answer == label)[known]
        n = np.bincount(label[known], minlength=N_VOTED)
        hits = np.bincount(label[known], right, minlength=N_VOTED)
        found[f"{name}_accuracy"] = float(right.mean())
        found[f"{name}_recall"] = float((hits[n > 0] / n[n > 0]).mean())
    return found


def worth(found: dict[str, float]) -> float:
    """How near validation is to all the goals at once; agreement faces break ties.

    A recall counts half: it hangs on a few dozen faces of the rare classes.
    """
    short = sum(
        max(0.0, goal + MARGIN - found[name]) * (0.5 if name.endswith("recall") else 1.0)
        for name, goal in GOALS.items()
    )
    return 0.1 * (found["clean_accuracy"] + found["clean_recall"]) - short


def calibrate(evidence: Evidence, pictures: data.Pictures) -> Calibration:
    """Choose share and priors by the goals, then the sharpness by the calibration error.

    Rare classes have few validation faces, so a single best point may be luck: the worth of a
    point is the mean over its neighbours in the grid.
    """
    voted = [evidence.voted_probs(prior) for prior in PRIORS]
    keyword = [evidence.keyword_probs(prior) for prior in PRIORS]
    worths = np.empty((len(SHARES), len(PRIORS), len(PRIORS)))
    for i, j, k in np.ndindex(worths.shape):
        mixed = SHARES[i] * voted[j] + (1 - SHARES[i]) * keyword[k]
        worths[i, j, k] = worth(figures(mixed.argmax(axis=1), pictures))
    smooth = uniform_filter(worths, size=3, mode="nearest")
    i, j, k = np.unravel_index(int(smooth.argmax()), smooth.shape)
    best = Calibration(
        share=float(SHARES[i]), voted_prior=float(PRIORS[j]), keyword_prior=float(PRIORS[k])
    )
    return replace(best, power=sharpness(evidence.probs(best), pictures.majority))


def sharpness(probs: NDArray[np.float64], label: NDArray[np.int64]) -> float:
    """The exponent under which confidence meets accuracy best on these faces."""
    powers = np.arange(0.5, 3.01, 0.05)
    errors = []
    for power in powers:
        sharp = probs**power
        errors.append(calibration_error(sharp / sharp.sum(axis=1, keepdims=True), label))
    return float(powers[int(np.argmin(errors))])


def assemble(tower: Tower, recipe: Recipe) -> ExpressionNet:
    """The network that ships, not calibrated yet."""
    net = ExpressionNet(widths=recipe.widths, depths=recipe.depths, stem=recipe.stem)
    net.tower.load_state_dict(fold_tower(tower))
    return net.eval()


def evidence_of(
    net: ExpressionNet, images: NDArray[np.uint8], seen: data.Pictures, recipe: Recipe
) -> Evidence:
    """Run the network over uint8 (N, 48, 48) faces."""
    voted, keyword = (column.double().numpy() for column in logits(net.logits, images))
    voted_prior, keyword_prior = priors(seen, recipe)
    return Evidence(
        voted=voted, keyword=keyword, voted_prior=voted_prior, keyword_prior=keyword_prior
    )


def set_calibration(net: ExpressionNet, c: Calibration, evidence: Evidence) -> None:
    """Put the calibration into the network's buffers."""
    net.share.fill_(c.share)
    net.power.fill_(c.power)
    net.voted_bias.copy_(torch.from_numpy(-c.voted_prior * np.log(evidence.voted_prior)))
    net.keyword_bias.copy_(torch.from_numpy(-c.keyword_prior * np.log(evidence.keyword_prior)))


def load_towers(run: Path) -> tuple[list[Tower], Recipe]:
    """The averaged towers of a finished run, one a `tower-*` folder."""
    towers = []
    recipe = None
    for path in sorted(run.glob("tower-*/checkpoint.pt")):
        state = torch.load(path, map_location="cpu", weights_only=True)
        recipe = Recipe(**state["recipe"])
        tower = Tower(widths=tuple(recipe.widths), depths=tuple(recipe.depths), stem=recipe.stem)
        tower.load_state_dict(state["average"])
        towers.append(tower.eval())
    if recipe is None:
        raise data.DataError(f"{run}: no tower has been trained here yet")
    return towers, recipe


def ship(directory: Path, run: Path, out: Path) -> Path:
    """Write the network of a finished run into `out` and return the file.

    Raises DataError where nothing has been trained, or several towers have, or the data is not
    there.
    """
    towers, recipe = load_towers(run)
    if len(towers) > 1:
        raise data.DataError(f"{run} has {len(towers)} towers: name a run of the one to ship")
    seen = data.load(directory, data.TRAIN)
    validation = data.load(directory, data.VALIDATION)
    net = assemble(towers[0], recipe)
    evidence = evidence_of(net, validation.images, seen, recipe)
    calibration = calibrate(evidence, validation)
    set_calibration(net, calibration, evidence)
    probs = evidence.probs(calibration)
    found = figures(answers(probs), validation)
    found["calibration_error"] = calibration_error(probs, validation.majority)
    log.info("chosen on validation: %s", calibration)
    log.info("validation: %s", " ".join(f"{k} {v:.4f}" for k, v in found.items()))
    path = out / f"{NAME}.safetensors"
    out.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        save(
            {
                name: (value.half() if value.ndim > 1 else value.float()).contiguous()
                for name, value in net.state_dict().items()
            }
        )
    )
    record = {"calibration": asdict(calibration), "validation": found}
    (run / "shipped.json").write_text(json.dumps(record, indent=1))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    log.info("%s: %.1f MB, SHA-256 %s", path, path.stat().st_size / 1e6, digest)
    return path


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    ship(arguments.data, arguments.run, arguments.out)


if __name__ == "__main__":
    main()
