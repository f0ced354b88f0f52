"""`aai align bridge` from a CLAP's folder to an encoder that the other commands use."""

import json

import pytest

from aai import audio, cli
from aai.align.labels import LABELS
from aai.encoders.loaders import load
from aai.soundworld.sounds import synthesize


@pytest.fixture
def aai(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sounds" / "wet").mkdir(parents=True)
    for i, event in enumerate(("rain", "dog", "clock")):
        audio.save(synthesize(event, 0.6, seed=i, seconds=1.0), tmp_path / "sounds" / "wet" / f"{event}.wav")

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_a_clap_is_bridged_and_then_heard_with(aai, clap_folder, tmp_path):
    (tmp_path / "mine.txt").write_text("my neighbour's mower\nrain\n", encoding="utf-8")
    begin = ("align", "bridge", "--clap", clap_folder, "--text", "soundworld", "-o", "clap.safetensors")
    code, out, _ = aai(*begin, "--captions", "mine.txt", "--json")
    assert code == 0
    report = json.loads(out)
    assert (report["dim"], report["labels"], report["sounds"], report["gap"]) == (
        192,
        len(LABELS) + 1,
        0,
        "memory",
    )
    encoder = load("clap.safetensors")
    assert (encoder.name, encoder.space) == ("clap", "SoundWorld")
    assert encoder.notes["made_by"] == "aai align bridge"
    assert encoder.labels[-1] == "my neighbour's mower"
    code, out, _ = aai("hear", "sounds/wet/rain.wav", "--encoder", "clap.safetensors", "--json")
    assert code == 0 and json.loads(out)[0]["words"][0]["word"] in encoder.labels
    code, out, _ = aai("hear", "sounds/wet/rain.wav", "--encoder", clap_folder)
    assert code == 0 and "no words" in out


def test_a_network_is_no_longer_fitted_and_that_is_said(aai, clap_folder):
    begin = ("align", "bridge", "--clap", clap_folder, "--text", "soundworld", "--seed", "3")
    code, _, err = aai(*begin, "--kind", "mlp", "-o", "mlp.safetensors")
    assert code == 0 and "no longer fitted: this is the ridge" in err
    code, _, err = aai(*begin, "--kind", "ridge", "-o", "ridge.safetensors")
    assert code == 0 and "no longer" not in err
    first, second = load("mlp.safetensors").bridge, load("ridge.safetensors").bridge
    assert first.mlp is None and (first.weight == second.weight).all()


def test_a_bridged_clap_is_measured_on_a_named_device(aai, clap_folder, tmp_path):
    (tmp_path / "sounds" / "dry").mkdir()
    audio.save(synthesize("fire", 0.6, seed=3, seconds=1.0), tmp_path / "sounds" / "dry" / "fire.wav")
    begin = ("align", "bridge", "--clap", clap_folder, "--text", "soundworld", "-o", "clap.safetensors")
    assert aai(*begin)[0] == 0
    # The CPU by its number: a device like another, to which the encoder is moved.
    measure = ("eval", "zeroshot", "sounds", "--encoder", "clap.safetensors", "--text", "soundworld")
    code, out, err = aai(*measure, "--device", "cpu:0", "--json")
    assert code == 0, err
    assert json.loads(out)["encoders"][0]["count"] == 4


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("--clap", "nowhere"), "no CLAP folder 'nowhere'"),
        (("--text", "sounds"), "'sounds' gives no CLIP text encoder"),
        (("-o", "nowhere/clap.safetensors"), "no folder 'nowhere'"),
        (("-o", "clap.pth"), "end in .safetensors"),
        (("-o", "sounds"), "'sounds' is a folder"),
        (("--sounds", "sounds"), "3 sounds do not tell"),
        (("--most", "3"), "so --most does nothing: give --sounds too"),
        (("--sounds", "nothing"), "'nothing' holds no sounds"),
        (("--captions", "nothing.txt"), "nothing.txt"),
    ],
)
def test_bad_input_gets_a_sentence(aai, clap_folder, tmp_path, change, says):
    given = {"--clap": clap_folder, "--text": "soundworld", "-o": "clap.safetensors", change[0]: change[1]}
    code, _, err = aai("align", "bridge", *(word for pair in given.items() for word in pair))
    assert code == 2 and says in err and err.count("\n") == 1
    assert not (tmp_path / "clap.safetensors").exists()
