from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from emotion.networks.expression import Tower
from training.learning import rule, ship
from training.learning.train import Recipe
from training.pictures import data

SMALL = Recipe(minutes=1, widths=(8, 16), depths=(1, 2), stem=8)


@pytest.fixture
def tower() -> Tower:
    torch.manual_seed(1)
    net = Tower(widths=SMALL.widths, depths=SMALL.depths, stem=SMALL.stem)
    with torch.no_grad():
        for value in net.state_dict().values():
            if value.is_floating_point():
                value.uniform_(0.1, 0.6)
    return net.eval()


def test_folding_batch_norms_changes_nothing_and_both_ways_round_are_seen(tower: Tower) -> None:
    net = ship.assemble(tower, SMALL)
    face = torch.rand(3, 1, 48, 48)
    with torch.no_grad():
        straight, mirrored = tower(face), tower(face.flip(3))
        for ours, expected in zip(net.tower(face), straight, strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
        for ours, one, other in zip(net.logits(face), straight, mirrored, strict=True):
            torch.testing.assert_close(ours, (one + other) / 2, rtol=1e-4, atol=1e-4)


def test_the_network_says_what_calibration_saw(tower: Tower, data_dir: Path) -> None:
    net, faces = ship.assemble(tower, SMALL), data.load(data_dir, data.VALIDATION)
    evidence = ship.evidence_of(net, faces.images, faces, SMALL)
    calibration = rule.Calibration(
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


def test_nothing_trained_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(data.DataError, match="no tower"):
        ship.load_towers(tmp_path)


def test_of_several_towers_none_is_shipped(tower: Tower, data_dir: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        directory = tmp_path / f"tower-{number}"
        directory.mkdir()
        state = {"average": tower.state_dict(), "recipe": asdict(SMALL)}
        torch.save(state, directory / "checkpoint.pt")
    assert len(ship.load_towers(tmp_path)[0]) == 2
    with pytest.raises(data.DataError, match="has 2 towers"):
        ship.ship(data_dir, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
