from dataclasses import replace
from pathlib import Path

import pytest
import torch

from training.learning.net import WeightAverage, loss, mix_up, targets
from training.learning.train import Recipe, TrainingRun
from training.pictures import data

SMALL = Recipe(
    minutes=1, epochs=2, batch=16, widths=(8, 16), depths=(1, 1), stem=8, mix_up_share=0.5
)


def weights_of(run: TrainingRun) -> dict[str, torch.Tensor]:
    return run.net.state_dict() | {f"mean.{k}": v for k, v in run.average.net.state_dict().items()}


def test_an_interrupted_run_ends_as_if_it_had_not_been(data_dir: Path, tmp_path: Path) -> None:
    train, validation = data.load(data_dir, data.TRAIN), data.load(data_dir, data.VALIDATION)
    straight = TrainingRun(SMALL, tmp_path / "straight")
    straight.directory.mkdir()
    straight.train(train, validation)

    class Stopped(Exception):
        pass

    class Interrupted(TrainingRun):
        def save(self) -> None:
            super().save()
            if self.epoch == 1:
                raise Stopped

    first = Interrupted(SMALL, tmp_path / "interrupted")
    first.directory.mkdir()
    with pytest.raises(Stopped):
        first.train(train, validation)
    second = TrainingRun(SMALL, first.directory)
    assert second.resume()
    assert second.epoch == 1
    second.train(train, validation)

    expected = weights_of(straight)
    assert weights_of(second).keys() == expected.keys()
    for name, value in weights_of(second).items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0, msg=name)
    assert [row["epoch"] for row in second.history] == [1, 2]
    assert second.history[-1]["votes_accuracy"] == straight.history[-1]["votes_accuracy"]


@pytest.mark.parametrize("n_steps", [3, 6, 8])
def test_the_loss_of_an_epoch_is_the_mean_of_its_steps_also_of_the_last(
    data_dir: Path, tmp_path: Path, n_steps: int
) -> None:
    """Six steps are an epoch; the budget ends within the first, between two, within the second."""

    class Counted(TrainingRun):
        def progress(self, in_epoch: float, since_s: float) -> float:
            return len(losses) / n_steps

        def step(self, *_: object) -> float:
            losses.append(float(len(losses)))
            return losses[-1]

    losses: list[float] = []
    run = Counted(SMALL, tmp_path)
    run.train(data.load(data_dir, data.TRAIN), data.load(data_dir, data.VALIDATION))
    expected = {3: [1.0], 6: [2.5], 8: [2.5, 6.5]}
    assert [row["loss"] for row in run.history] == expected[n_steps]


def test_nothing_to_resume(tmp_path: Path) -> None:
    assert not TrainingRun(SMALL, tmp_path).resume()


def test_the_rate_rises_and_falls_in_each_cycle_and_ends_at_nothing() -> None:
    recipe = replace(SMALL, learning_rate=0.1, warmup=0.1, restart=0.5, second_rate=0.04)
    rates = [recipe.rate(p) for p in (0.0, 0.025, 0.05, 0.25, 0.4999)]
    assert rates[0] < rates[1] < rates[2] == pytest.approx(0.1)
    assert rates[2] > rates[3] > rates[4] == pytest.approx(0, abs=1e-6)
    assert recipe.rate(0.55) == pytest.approx(0.04)
    assert recipe.rate(1.0) == pytest.approx(0)


def test_a_face_without_labels_costs_nothing() -> None:
    outputs = torch.zeros(2, 8), torch.zeros(2, 7)
    votes = torch.eye(8)[:2]
    keyword = torch.eye(7)[:2]
    full = loss(outputs, (votes, keyword))
    votes[1], keyword[1] = 0, 0
    torch.testing.assert_close(loss(outputs, (votes, keyword)), full / 2)


def test_targets_are_distributions_where_something_is_known(data_dir: Path) -> None:
    votes, keyword = targets(data.load(data_dir, data.TRAIN))
    torch.testing.assert_close(votes.sum(1), torch.ones(96))
    known = torch.from_numpy(data.load(data_dir, data.TRAIN).keyword >= 0)
    torch.testing.assert_close(keyword.sum(1), known.float())
    assert (votes[known][:, :7].argmax(1) == keyword[known].argmax(1)).all()


def test_mixing_up_blends_faces_and_targets_alike(rng: torch.Generator) -> None:
    label = torch.eye(8)
    x, votes, keyword = mix_up(label.view(8, 1, 1, 8), (label, label[:, :7]), rng)
    torch.testing.assert_close(x.flatten(1), votes)
    torch.testing.assert_close(votes[:, :7], keyword)
    assert (votes.diagonal() >= 0.7).all()


def test_the_average_follows_the_weights() -> None:
    net = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(net.weight)
    average = WeightAverage(net, decay=0.9)
    torch.nn.init.ones_(net.weight)
    seen = []
    for _ in range(60):
        average.update(net)
        seen.append(average.net.weight.item())
    assert seen == sorted(seen)
    assert 0.7 < seen[0] < 1
    assert seen[-1] == pytest.approx(1, abs=1e-3)
