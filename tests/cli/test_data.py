"""`aai data prepare`: what it makes, and what it says of it."""

import json

from PIL import Image

from aai import audio
from aai.data.clips import scan
from aai.soundworld.sounds import synthesize


def lay(folder, *names):
    """A second of sound and a picture of each name."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        audio.save(synthesize("dog", 0.6, number, 1.0), folder / f"{name}.wav")
        Image.new("RGB", (32, 24), (40 * number,) * 3).save(folder / f"{name}.jpg")
    return folder


def test_a_folder_of_classes_is_prepared_and_reported(aai, tmp_path):
    source = lay(tmp_path / "source", "dog/1", "dog/2", "rain/1")
    (source / "rain" / "2.wav").write_bytes(b"not a sound")
    (source / "rain" / "2.jpg").write_bytes((source / "rain" / "1.jpg").read_bytes())
    arguments = ("data", "prepare", str(source), "-o", str(tmp_path / "set"), "--workers", "1", "--wav")
    code, out, err = aai(*arguments, "--json")
    report = json.loads(out)
    assert code == 0 and "No --clip: 10 evenly spaced frames of 20 are kept." in err
    assert (report["clips"], report["labels"]) == (3, {"dog": 2, "rain": 1})
    assert [(row["label"], bool(row["reason"])) for row in report["bad"]] == [("rain", True)]
    assert len(scan(tmp_path / "set")) == 3
    assert len(list((tmp_path / "set").rglob("*.wav"))) == 3
    code, out, _ = aai(*arguments)
    assert code == 0 and "3 clips of 2 labels" in out and "1 labels have a single clip (rain)" in out
    assert "1 bad, listed in" in out


def test_mistakes_get_one_sentence(aai, tmp_path):
    source = lay(tmp_path / "source", "dog/1")
    (tmp_path / "file").touch()
    for output, more, says in (
        ("file", (), "file"),
        ("set", ("--device", "cuda:63"), "no device 'cuda:63'"),
    ):
        code, out, err = aai("data", "prepare", str(source), "-o", str(tmp_path / output), "--json", *more)
        assert code == 2 and not out and says in err.splitlines()[-1]
