import torch

from emotion.networks.expression import ExpressionNet
from training.learning.deepen import DEPTHS, FORMER_DEPTHS, cured, kept, unfold


def test_a_deeper_tower_begins_by_saying_what_the_former_one_says() -> None:
    torch.manual_seed(4)
    former = ExpressionNet(depths=FORMER_DEPTHS).tower.eval()
    faces = torch.rand(8, 1, 48, 48)
    deeper = unfold(former, faces)
    assert len(deeper.blocks) == sum(DEPTHS) > sum(FORMER_DEPTHS)
    with torch.no_grad():
        for ours, theirs in zip(deeper.eval()(faces), former(faces), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_blocks_keep_their_stage() -> None:
    assert kept((1, 3, 3)) == [0, 1, 2, 4, 5]


def test_a_label_that_the_teachers_hardly_believe_gives_way_to_their_opinion() -> None:
    label = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.0, 0.0]])
    said = torch.tensor([[0.2, 0.8], [0.4, 0.6], [0.1, 0.9]])
    wanted = torch.tensor([[0.5, 0.5], [0.6, 0.4], [0.0, 0.0]])
    torch.testing.assert_close(
        cured(wanted, label, said), torch.tensor([[0.2, 0.8], [0.6, 0.4], [0.0, 0.0]])
    )
