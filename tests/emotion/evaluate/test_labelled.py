import pytest

from emotion.evaluate.labelled import LabelError, emotion_of, read
from emotion.types import EMOTIONS


@pytest.mark.parametrize(
    ("label", "emotion"),
    [
        ("happy", "happiness"),
        ("happiness", "happiness"),
        ("Happy", "happiness"),
        ("3_happy", "happiness"),
        ("04-Sad", "sadness"),
        ("ANGRY", "anger"),
        ("disgusted ", "disgust"),
        ("Fearful", "fear"),
        ("surprise(5)", "surprise"),
        ("Neutral", "neutral"),
        ("contempt", "contempt"),
        ("unknown", None),
        ("not-a-face", None),
        ("4", None),
    ],
)
def test_labels_are_read_leniently(label, emotion):
    assert emotion_of(label) == emotion


def _folders(root, **files):
    for name, n in files.items():
        folder = root / name.replace("__", "/")
        folder.mkdir(parents=True)
        for i in range(n):
            (folder / f"{i}.png").touch()


def _counts(labelled):
    return {EMOTIONS[k]: (labelled.label == k).sum() for k in set(labelled.label.tolist())}


def test_a_folder_is_a_class(tmp_path):
    _folders(tmp_path, Happy=2, sad=1, unknown=3)
    (tmp_path / "sad" / "notes.txt").touch()
    labelled = read(tmp_path)
    assert _counts(labelled) == {"happiness": 2, "sadness": 1}
    assert labelled.left_out == {"unknown": 3}
    assert labelled.group == ()


@pytest.mark.parametrize(
    ("classes", "counts"),
    [
        ("raf-db", {"surprise": 1, "neutral": 2}),
        ("fer2013", {"disgust": 1}),
        ("1=fear,7=anger", {"fear": 1, "anger": 2}),
    ],
)
def test_numbered_classes_follow_the_argument(tmp_path, classes, counts):
    _folders(tmp_path, **{"1": 1, "7": 2})
    assert _counts(read(tmp_path, classes)) == counts


def test_a_csv_file_names_pictures_from_its_own_folder(tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("\ufeffpath,label,group\na.png,Happy,young\nb/c.png,anger,\n", "utf-8")
    labelled = read(table)
    assert labelled.paths == (tmp_path / "a.png", tmp_path / "b" / "c.png")
    assert _counts(labelled) == {"happiness": 1, "anger": 1}
    assert labelled.group == ("young", "(none)")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["train/happy", "test/happy"], "choose one of them"),
        (["1", "2"], "--classes"),
        (["cats", "dogs"], "is an emotion"),
        ([], "a folder for each class"),
    ],
    ids=["nested", "numbers", "no emotions", "empty"],
)
def test_a_folder_that_is_laid_out_otherwise_is_one_clear_line(tmp_path, names, said):
    for name in names:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "1.jpg").touch()
    with pytest.raises(LabelError, match=said) as raised:
        read(tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"file,label\na.png,happy\n", b"path,label\na.png\n", b"path,label\n\xff\xfe,happy\n"],
    ids=["empty", "columns", "no label", "no text"],
)
def test_a_csv_file_of_something_else_is_one_clear_line(tmp_path, content):
    table = tmp_path / "labels.csv"
    table.write_bytes(content)
    with pytest.raises(LabelError) as raised:
        read(table)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("classes", ["imagenet", "1=cat", "=happy", ""])
def test_classes_that_are_none_are_refused(tmp_path, classes):
    with pytest.raises(LabelError, match="raf-db"):
        read(tmp_path, classes)


def test_missing_input_is_an_error(tmp_path):
    with pytest.raises(LabelError, match="no such"):
        read(tmp_path / "nowhere")
