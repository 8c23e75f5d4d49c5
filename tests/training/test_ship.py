from pathlib import Path

import numpy as np
import pytest
import torch

from emotion.expression import Tower
from training import data, ship
from training.train import Recipe

SMALL = Recipe(minutes=1, widths=(8, 16), depths=(1, 2), stem=8)


def tower() -> Tower:
    net = Tower(widths=SMALL.widths, depths=SMALL.depths, stem=SMALL.stem)
    with torch.no_grad():
        for value in net.state_dict().values():
            if value.is_floating_point():
                value.uniform_(0.1, 0.6)
    return net.eval()


@pytest.fixture
def towers() -> list[Tower]:
    torch.manual_seed(1)
    return [tower(), tower()]


def test_folding_batch_norms_changes_nothing(towers: list[Tower]) -> None:
    net = ship.assemble(towers, SMALL)
    face = torch.rand(3, 1, 48, 48)
    with torch.no_grad():
        ours = net.towers[0](face), net.towers[1](face.flip(3))
        expected = towers[0](face), towers[1](face.flip(3))
        for one, other in zip(ours, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
        voted, _ = net.logits(face)
    torch.testing.assert_close(voted, (expected[0][0] + expected[1][0]) / 2, rtol=1e-4, atol=1e-4)


def test_the_network_says_what_calibration_saw(towers: list[Tower], data_dir: Path) -> None:
    net, faces = ship.assemble(towers, SMALL), data.load(data_dir, data.VALIDATION)
    evidence = ship.evidence_of(net, faces.images, faces, SMALL)
    calibration = ship.Calibration(
        share=0.6,
        voted_prior=0.5,
        keyword_prior=-0.2,
        power=1.5,
    )
    ship.set_calibration(net, calibration, evidence)
    with torch.no_grad():
        said = net(torch.from_numpy(faces.images)[:, None].float() / 255).numpy()
    np.testing.assert_allclose(said, evidence.probs(calibration), atol=1e-4)
    np.testing.assert_allclose(said.sum(axis=1), 1, atol=1e-5)


def evidence(voted: np.ndarray, keyword: np.ndarray) -> ship.Evidence:
    return ship.Evidence(
        voted=voted,
        keyword=keyword,
        voted_prior=np.full(8, 1 / 8),
        keyword_prior=np.full(7, 1 / 7),
    )


def test_calibration_trusts_the_head_that_knows() -> None:
    rng = np.random.default_rng(2)
    label = rng.integers(0, 7, 400)
    pictures = data.Pictures(
        images=np.zeros((400, 48, 48), np.uint8),
        votes=np.eye(8, dtype=np.float32)[label],
        majority=label,
        keyword=label,
    )
    knows, guesses = 4 * np.eye(8)[label], rng.normal(0, 3, (400, 7))
    found = ship.calibrate(evidence(knows, guesses), pictures)
    assert found.share >= 0.5
    answer = evidence(knows, guesses).probs(found).argmax(axis=1)
    assert ship.figures(answer, pictures)["votes_accuracy"] > 0.98


def test_sharpness_never_changes_an_answer_and_meets_accuracy() -> None:
    rng = np.random.default_rng(4)
    probs = ship.softmax(rng.normal(0, 1, (2000, 8)))
    label = np.where(rng.random(2000) < 0.9, probs.argmax(axis=1), 7)
    power = ship.sharpness(probs, label)
    sharp = probs**power
    sharp /= sharp.sum(axis=1, keepdims=True)
    assert power > 1
    np.testing.assert_array_equal(sharp.argmax(axis=1), probs.argmax(axis=1))
    assert ship.calibration_error(sharp, label) < ship.calibration_error(probs, label)


def test_nothing_trained_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(data.DataError, match="no tower"):
        ship.load_towers(tmp_path)
