"""showmood evaluate, on one real face in several files."""

import json
import sys
from pathlib import Path

import pytest
from matplotlib.cbook import get_sample_data
from PIL import Image

from flows import cli


@pytest.fixture(scope="module")
def portrait() -> Image.Image:
    with Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)) as image:
        return image.convert("RGB")


@pytest.fixture
def pictures(tmp_path: Path, portrait: Image.Image, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return two faces, one with a wrong label; a wall; a file that is not a picture."""
    monkeypatch.setenv("SHOWMOOD_HOME", str(tmp_path / "home"))
    folder = tmp_path / "pictures"
    for name in ("Neutral", "7_surprised", "unknown"):
        (folder / name).mkdir(parents=True)
    portrait.save(folder / "Neutral" / "a.png")
    portrait.resize((256, 300)).save(folder / "7_surprised" / "small.jpg")
    Image.new("RGB", (200, 120), (90, 120, 150)).save(folder / "Neutral" / "wall.png")
    (folder / "Neutral" / "broken.png").write_bytes(b"\x89PNG and no more")
    portrait.save(folder / "unknown" / "a.png")
    return folder


def run(*arguments: object, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["showmood", "evaluate", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_json_is_one_object_that_counts_everything(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawing = pictures.parent / "drawn.png"
    assert run(pictures, "--json", "--png", drawing, monkeypatch=monkeypatch) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["n"], found["n_no_face"], found["left_out"]) == (2, 1, {"unknown": 1})
    assert found["unreadable"] == [str(pictures / "Neutral" / "broken.png")]
    size = len(found["classes"])
    assert {"neutral", "surprise"} <= set(found["classes"])
    assert [len(row) for row in found["confusion"]] == [size] * size
    right = sum(found["confusion"][i][i] for i in range(size))
    assert found["accuracy"] == pytest.approx(right / 2)
    assert found["accuracy_no_face_wrong"] == pytest.approx(right / 3, abs=1e-5)
    assert sum(map(sum, found["confusion"])) == 2
    for name in ("accuracy", "macro_f1", "ece"):
        assert 0 <= found[name] <= 1
    with Image.open(drawing) as image:
        assert image.format == "PNG"


def test_crops_are_used_whole_and_groups_are_separate(
    pictures: Path,
    portrait: Image.Image,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    portrait.crop((150, 90, 390, 330)).resize((48, 48)).save(pictures / "face.png")
    table = pictures / "labels.csv"
    table.write_text("path,label,group\nface.png,contempt,x\nface.png,surprise,y\n")
    arguments = (table, "--crops", "--json", "--model", "mini-xception")
    assert run(*arguments, monkeypatch=monkeypatch) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["n"], found["detector"], found["lacks"]) == (2, None, ["contempt"])
    assert {name: group["n"] for name, group in found["by_group"].items()} == {"x": 1, "y": 1}
    assert found["by_group"]["x"]["accuracy"] == 0


def test_the_output_reports_skipped_files(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(pictures, monkeypatch=monkeypatch) == 0
    said = capsys.readouterr().out
    assert "no face was found in 1 pictures" in said
    assert "broken.png" in said
    assert "unknown (1)" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Neutral"], "a folder for each class"),
        ([".", "--model", "nonesuch"], "nonesuch"),
        ([".", "--crops", "--detector", "retinaface-mobilenet0.25"], "--crops"),
        ([".", "--classes", "imagenet"], "raf-db"),
    ],
    ids=["one class", "model", "crops", "classes"],
)
def test_invalid_input_is_one_line_and_exit_code_two(
    pictures: Path,
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, *rest = arguments
    assert run(pictures / first, *rest, monkeypatch=monkeypatch) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
