import hashlib
import importlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import training.__main__
from emotion.align import crops
from emotion.weights.store import CropRule
from training.learning import ship
from training.measuring import disturb
from training.measuring.measure import whole
from training.measuring.report import BEGIN, END, write_card

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("margin", [-0.01, 0.0, 0.1])
@pytest.mark.parametrize("roll_deg", [0.0, 15.0])
def test_production_crops_the_whole_test_picture(margin: float, roll_deg: float) -> None:
    images = np.random.default_rng(1).integers(0, 256, (3, 48, 48), dtype=np.uint8)
    frames, faces = whole(disturb.as_found(images), margin=margin, roll_deg=roll_deg)
    seen = crops(
        frames,
        faces,
        CropRule(margin=margin, derotate_above_deg=15.5),
        size_px=48,
        gray=True,
        device=torch.device("cpu"),
    )
    np.testing.assert_allclose(seen[:, 0].numpy(), images, atol=0.01)


@pytest.mark.parametrize("disturbance", disturb.DISTURBANCES, ids=lambda d: d.name)
def test_disturbances_change_pictures_and_only_their_size_where_they_say(
    disturbance: disturb.Disturbance,
) -> None:
    at = np.linspace(0, 255, 48)
    images = np.stack([(at[:, None] + at) / 2, (at[:, None] * at) / 255]).astype(np.uint8)
    changed = disturbance.apply(images)
    size = disturbance.size_px
    assert changed.shape == (2, size, size, 3)
    assert changed.dtype == np.uint8
    if size == 48:
        assert not np.array_equal(changed, disturb.as_found(images))


def test_roll_turns_clockwise() -> None:
    images = np.zeros((1, 48, 48), np.uint8)
    images[0, :8, 22:26] = 255  # a mark at the top
    turned = disturb.DISTURBANCES[3]
    assert turned.roll_deg == 15
    weight = turned.apply(images)[0, :, :, 0].astype(float)
    assert (weight.sum(axis=0) @ np.arange(48)) / weight.sum() > 25


def test_the_card_keeps_its_words(tmp_path: Path) -> None:
    card = tmp_path / "card.md"
    card.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_card(card, "new")
    assert card.read_text() == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"


def test_a_card_without_marks_is_left_alone(tmp_path: Path) -> None:
    card = tmp_path / "card.md"
    card.write_text("words\n")
    with pytest.raises(ValueError, match="has no"):
        write_card(card, "new")
    assert card.read_text() == "words\n"


def run(module: str, *arguments: str) -> str:
    """Run a module as a smoke run; return its log."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, "SMOKE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


Run = Callable[..., str]


@pytest.fixture(params=["here", pytest.param("in processes", marks=pytest.mark.long)])
def smoke(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> Iterator[Run]:
    """Runs a module as a smoke run; returns its log.

    By default its subprocesses run in this process, because importing torch takes longer than
    the rest.
    """
    if request.param == "in processes":
        yield run
        return
    threads = torch.get_num_threads()

    def here(command: list[str], **_: object) -> SimpleNamespace:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", command[2:])
            importlib.import_module(command[2]).main()
        return SimpleNamespace(returncode=0, wait=lambda: 0, terminate=lambda: None)

    def run_here(module: str, *arguments: str) -> str:
        caplog.clear()
        name = "training.__main__" if module == "training" else module
        here([sys.executable, "-m", name, *arguments])
        return caplog.text

    caplog.set_level(logging.INFO)
    monkeypatch.setenv("SMOKE", "1")
    monkeypatch.setattr(training.__main__, "N_AGAIN", 1)
    monkeypatch.setattr(training.__main__, "subprocess", SimpleNamespace(Popen=here, run=here))
    monkeypatch.chdir(ROOT)
    yield run_here
    torch.set_num_threads(threads)


@pytest.fixture
def few(data_dir: Path, tmp_path: Path) -> Path:
    """Half of those faces, of each split the first ones."""
    directory = tmp_path / "few"
    directory.mkdir()
    with np.load(data_dir / "ferplus.npz") as all_of_it:
        split = all_of_it["split"]
        of_each = (np.flatnonzero(split == one) for one in np.unique(split))
        kept = np.concatenate([places[: len(places) // 2] for places in of_each])
        np.savez(directory / "ferplus.npz", **{name: all_of_it[name][kept] for name in all_of_it})
    labels = np.load(data_dir / "fer2013-labels.npy")
    np.save(directory / "fer2013-labels.npy", labels[kept])
    (directory / "lfw").symlink_to(data_dir / "lfw")
    return directory


def test_from_pictures_to_report(smoke: Run, few: Path, tmp_path: Path) -> None:
    shipped = ROOT / "emotion" / "weights" / f"{ship.NAME}.safetensors"
    before = hashlib.sha256(shipped.read_bytes()).hexdigest()
    log = smoke("training", "--data", str(few), "--run", str(tmp_path))
    assert "100 % done, 0 min left" in log
    made = tmp_path / "smoke" / f"{ship.NAME}.safetensors"
    assert 1e6 < made.stat().st_size <= 8e6
    report = (tmp_path / "smoke" / "report.md").read_text()
    for figure in ("FER+ accuracy", "mini-xception", "24 px", "contempt", "ms a face, batch 32"):
        assert figure in report
    assert (tmp_path / "smoke" / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert hashlib.sha256(shipped.read_bytes()).hexdigest() == before

    teachers = str(tmp_path / "smoke" / "teachers")
    again = smoke("training.learning.train", "--data", str(few), "--run", teachers, "--tower", "1")
    assert "going on after epoch 2" in again
    assert "min left" not in again  # training is complete
