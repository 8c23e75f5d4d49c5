import numpy as np

from training.pictures.duplicates import nearest, seen_before


def pictures(seed: int, n: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 12, 12))
    return coarse.repeat(4, axis=1).repeat(4, axis=2).astype(np.uint8)


def test_the_same_the_darker_and_the_mirrored_picture_are_found() -> None:
    others = pictures(1, 20)
    ours = np.stack(
        [others[3], (others[4] * 0.6).astype(np.uint8), others[5][:, ::-1], pictures(2, 1)[0]]
    )
    assert seen_before(ours, others).tolist() == [True, True, True, False]
    assert nearest(ours, others)[0] > 0.999
