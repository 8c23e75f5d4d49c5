"""Convert a trained tower to the shipped file: fold, calibrate on the validation faces, write.

    python -m training.learning.ship --data DIR (--run DIR | --file WEIGHTS) --out emotion/weights

Test pictures are not used.
"""

import argparse
import hashlib
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import Tensor, nn

from emotion.detection.detect import Detector
from emotion.networks.expression import ExpressionNet, Tower
from emotion.weights import store as weights
from training.learning.net import targets
from training.learning.rule import Calibration, Evidence, calibrate, validated
from training.learning.train import Recipe
from training.learning.validate import logits
from training.pictures import data
from training.pictures.press import load as load_press

log = logging.getLogger("training")

NAME: Final = "showmood-expression-2"


def fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of one convolution equivalent to convolution and batch norm."""
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
    """(8,) and (7,) class shares in the training data, including the sampling weights."""
    weights = data.sampling_weights(
        pictures, power=recipe.balance, keyword_share=recipe.balance_keyword_share
    )
    seen = [weights @ part.double().numpy() for part in targets(pictures)]
    return tuple(total / total.sum() for total in seen)


def assemble(tower: Tower, recipe: Recipe) -> ExpressionNet:
    """The shipped network, not calibrated yet."""
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

    Raises DataError if there is no trained tower, or more than one, or the data are
    missing.
    """
    towers, recipe = load_towers(run)
    if len(towers) > 1:
        raise data.DataError(f"{run} has {len(towers)} towers: name a run of the one to ship")
    net = assemble(towers[0], recipe)
    record = choose(net, directory, recipe)
    path = write(net, out)
    (run / "shipped.json").write_text(json.dumps(record, indent=1))
    return path


def choose(net: ExpressionNet, directory: Path, recipe: Recipe) -> dict[str, dict[str, float]]:
    """Choose the rule of a network, set it, and return it with its figures.

    Raises DataError where the data is not there.
    """
    seen = data.load(directory, data.TRAIN)
    validation = data.load(directory, data.VALIDATION)
    weights.pull(weights.DEFAULT_DETECTOR)
    detector = Detector(weights.load(weights.DEFAULT_DETECTOR), device="cpu")
    press = load_press(directory, weights.emotion_model(NAME).crop, detector)
    evidence, at_press = (
        evidence_of(net, images, seen, recipe) for images in (validation.images, press.images)
    )
    calibration = calibrate(evidence, validation, at_press, press)
    set_calibration(net, calibration, evidence)
    found = validated(calibration, evidence, validation, at_press, press)
    log.info("chosen on validation: %s", calibration)
    log.info("validation: %s", " ".join(f"{k} {v:.4f}" for k, v in found.items()))
    return {"calibration": asdict(calibration), "validation": found}


def rule_again(directory: Path, file: Path, out: Path) -> Path:
    """Choose the rule of a shipped file again, and write it into `out` under the current name.

    Raises DataError where the data is not there.
    """
    net = ExpressionNet()
    net.load_state_dict({name: value.float() for name, value in load_file(file).items()})
    choose(net.eval(), directory, Recipe(minutes=0))
    return write(net, out)


def write(net: ExpressionNet, out: Path) -> Path:
    """Write a network into `out`, half precision, and return the file."""
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
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    log.info("%s: %.1f MB, SHA-256 %s", path, path.stat().st_size / 1e6, digest)
    return path


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=Path, help="of the tower to ship")
    source.add_argument("--file", type=Path, help="weights that shipped, whose rule to choose anew")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if arguments.file:
        rule_again(arguments.data, arguments.file, arguments.out)
    else:
        ship(arguments.data, arguments.run, arguments.out)


if __name__ == "__main__":
    main()
