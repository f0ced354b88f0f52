"""`aai eval` on SoundWorld: the tables beside the paper's rows, and one sentence for bad input."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from aai import audio, cli
from aai.data.clips import MANIFEST, as_row, scan
from aai.encoders.cavmae import CAVMAE, CAVMAEConfig
from aai.encoders.cavmae_encoder import CAVMAEEncoder
from aai.encoders.loaders import load, save
from aai.encoders.wav2clip import Wav2CLIPTower
from aai.metrics import nearest_label, retrieval
from aai.soundworld.loaders import load_sound_encoder
from aai.soundworld.pictures import render
from aai.soundworld.sounds import synthesize

EVENTS = ("rain", "fire", "helicopter")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three classes of two synthesized sounds, each with a picture of its own; the same as ESC-50 has them;
    and a small encoder with random weights."""
    folder = tmp_path_factory.mktemp("eval")
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    (folder / "esc" / "audio").mkdir(parents=True)
    (folder / "esc" / "meta").mkdir()
    for number, event in enumerate(EVENTS):
        (folder / "classes" / event).mkdir(parents=True)
        for i in range(2):
            sound = synthesize(event, 0.7, 500 + i)
            audio.save(sound, folder / "classes" / event / f"{i}.wav")
            audio.save(sound, folder / "esc" / "audio" / f"{number}-{i}.wav")
            Image.fromarray(render("city", event, 0.7, i)).save(folder / "classes" / event / f"{i}.png")
            lines.append(f"{number}-{i}.wav,{i + 1},{number},{event},{event == 'rain'},x,A")
    (folder / "esc" / "meta" / "esc50.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    torch.manual_seed(0)
    config = CAVMAEConfig(dim=16, depth_a=1, depth_v=1, heads=2, frames=64, image_size=32, seconds=0.64)
    encoder = CAVMAEEncoder(CAVMAE(config).requires_grad_(False), ["rain"], torch.eye(16)[:1], name="small")
    save(encoder, folder / "small.safetensors")
    return folder


@pytest.fixture
def aai(data, monkeypatch, capsys):
    """aai("retrieval", "classes") -> exit code, stdout, stderr; run in `data`."""
    monkeypatch.chdir(data)

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(["eval", *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_retrieval_of_two_encoders_beside_table_1(aai, data):
    code, out, err = aai(
        "retrieval", "classes", "--encoder", "soundworld", "--encoder", "small.safetensors", "-o", "r.json"
    )
    assert code == 0 and not err
    assert any(line.split()[:2] == ["all", "soundworld"] for line in out.splitlines())
    assert "all paper: CAVT-MAE w/o m sound, picture 7.96 22.26 31.64" in " ".join(out.split())
    assert "small.safetensors: no text" in out and "no targets" in out
    report = json.loads((data / "r.json").read_text(encoding="utf-8"))
    (world,) = [row for row in report["encoders"] if row["encoder"] == "soundworld"]
    (table,) = world["subsets"]
    assert (table["subset"], table["clips"], table["classes"]) == ("all", 6, 3)
    # Three events that SoundWorld's encoder knows well; chance is 1 in 6, and 1 in 3 for the labels.
    assert table["sound to picture"]["R@5"] >= 5 / 6 and table["picture to sound"]["R@5"] >= 5 / 6
    assert report["paper"]["CAVT-MAE"]["all"] == [8.86, 23.46, 32.83]


def test_clips_of_one_picture_have_one_target(aai, data, tmp_path):
    """A folder of classes whose sounds share the pictures of their class."""
    for event in EVENTS:
        (tmp_path / event).mkdir()
        for name in ("0.wav", "1.wav"):
            (tmp_path / event / name).symlink_to(data / "classes" / event / name)
        (tmp_path / event / "picture.png").symlink_to(data / "classes" / event / "0.png")
    code, out, _ = aai("retrieval", str(tmp_path), "--json")
    report = json.loads(out)
    (table,) = report["encoders"][0]["subsets"]
    assert code == 0 and (table["clips"], table["pictures"]) == (6, 3)
    assert table["sound to picture"]["R@1"] >= 5 / 6 and table["picture to sound"]["R@1"] == 1
    assert "The 6 clips have 3 pictures; those that share one share a target." in report["notes"]


def test_zero_shot_with_raw_labels_and_the_template(aai):
    code, out, _ = aai("zeroshot", "esc", "--text", "soundworld", "--json")
    report = json.loads(out)
    assert code == 0 and report["set"] == "ESC-50" and report["labels"] == sorted(EVENTS)
    raw, template = report["encoders"]
    assert (raw["template"], template["template"]) == ("{label}", "the sound of {label}")
    assert raw["count"] == template["count"] == 6 and raw["hits"] >= 5
    code, out, _ = aai("zeroshot", "esc", "--text", "soundworld", "--folds", "2", "--json")
    assert json.loads(out)["encoders"][0]["count"] == 3
    code, out, err = aai("zeroshot", "esc", "--text", "soundworld", "--esc10")
    assert code == 2 and "1 classes" in err


def test_audio_text_beside_table_3(aai):
    code, out, _ = aai("audiotext", "classes", "--text", "soundworld")
    assert code == 0 and "paper: CAVT-MAE w/o m" in out and "49.32" in out
    (own,) = [line for line in out.splitlines() if line.startswith("soundworld")]
    assert float(own.split()[1]) >= 80


@pytest.fixture(scope="module")
def rival(tmp_path_factory, make_tokenizer):
    """Wav2CLIP's file and a CLIP with 512 numbers and patches of 32, both with random weights."""
    from transformers import CLIPConfig, CLIPModel

    folder, tokenizer = tmp_path_factory.mktemp("rival"), make_tokenizer()
    torch.manual_seed(0)
    torch.save(Wav2CLIPTower().state_dict(), folder / "Wav2CLIP.pt")
    text = dict(hidden_size=24, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id)  # fmt: skip
    for patch in (16, 32):
        vision = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                      image_size=64, patch_size=patch)  # fmt: skip
        clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=512))
        clip.save_pretrained(folder / f"clip{patch}")
        tokenizer.save_pretrained(folder / f"clip{patch}")
    return folder


def test_a_rival_has_a_row_by_the_clip_of_its_space(aai, data, rival):
    file, clip = str(rival / "Wav2CLIP.pt"), str(rival / "clip32")
    encoder = load(file)
    tower = encoder.text_tower(clip)
    clips = scan(data / "classes")
    f_a = encoder.embed([clip.load_sound() for clip in clips])
    truth = torch.tensor([sorted(EVENTS).index(clip.label) for clip in clips])
    hits = nearest_label(f_a, tower.embed(sorted(EVENTS)), truth).hits
    for command, where in (("audiotext", "classes"), ("zeroshot", "esc")):
        code, out, err = aai(command, where, "--encoder", file, "--text", clip, "--json")
        report = json.loads(out)
        assert code == 0 and report["encoders"][0]["hits"] == hits
        assert any("Wav2CLIP, licence MIT" in note for note in report["notes"])
    code, out, err = aai("retrieval", "classes", "--encoder", file, "--text", clip, "--json")
    (table,) = json.loads(out)["encoders"][0]["subsets"]
    pictures = torch.stack([clip.load_picture(clip.middle) for clip in clips])
    expected = retrieval(f_a, encoder.clip(clip).embed_images(pictures))
    assert table["sound to picture"] == expected and "sound to text" in table


@pytest.fixture
def flawed(data, tmp_path):
    """The classes, each with four more sounds, with a picture each: silent, too short, of channels that
    cancel out, and torn."""
    folder = Path(shutil.copytree(data / "classes", tmp_path / "flawed"))
    wave = synthesize("rain", 0.7, 500).waveform[:1]
    for event in EVENTS:
        for name, unheard in (("a", 0 * wave), ("b", wave[:, :80]), ("c", torch.cat([wave, -wave]))):
            audio.save(audio.Sound(unheard, 16000), folder / event / f"{name}.wav")
        (folder / event / "d.wav").write_bytes(b"RIFF torn")
        for name in "abcd":
            shutil.copy(folder / event / "0.png", folder / event / f"{name}.png")
    return folder


@pytest.mark.parametrize("command", ["retrieval", "audiotext", "zeroshot"])
def test_sounds_that_cannot_be_heard_are_not_measured(aai, flawed, command):
    rest = ("--text", "soundworld", "--json")
    clean = json.loads(aai(command, "classes", *rest)[1])
    code, out, _ = aai(command, str(flawed), *rest)
    report = json.loads(out)
    assert code == 0 and report["encoders"] == clean["encoders"]
    assert clean["left_out"] == [] and len(report["left_out"]) == 12
    first, *_, torn = report["left_out"]
    assert str(flawed / "fire" / "a.wav") in first and "silent" in first
    assert str(flawed / "rain" / "d.wav") in torn
    assert f"12 of 18 clips left out; the first: {first}" in report["notes"]
    for path in flawed.rglob("[01].wav"):
        path.unlink()
    code, out, err = aai(command, str(flawed), *rest)
    assert code == 2 and not out and "None of the 12 sounds can be measured. '" in err.splitlines()[-1]


def test_clips_whose_picture_cannot_be_read_are_not_measured(aai, data, flawed):
    for path in flawed.rglob("[a-d].*"):
        path.unlink()
    (flawed / "rain" / "1.wav").write_bytes(b"RIFF torn")
    (flawed / "fire" / "0.png").write_bytes(b"torn")
    both = ("--encoder", "soundworld", "--encoder", "soundworld", "--text", "soundworld", "--json")
    code, out, _ = aai("retrieval", str(flawed), *both)
    report = json.loads(out)
    assert code == 0 and len(report["left_out"]) == 2
    assert [name in told for name, told in zip(("1.wav", "0.png"), report["left_out"])] == [True, True]
    assert f"2 of 6 clips left out; the first: {report['left_out'][0]}" in report["notes"]
    # As though the two had never been there.
    shutil.copytree(flawed, flawed.with_name("rest"))
    for name in ("rain/1", "fire/0"):
        for suffix in (".wav", ".png"):
            (flawed.with_name("rest") / name).with_suffix(suffix).unlink()
    rest = json.loads(aai("retrieval", str(flawed.with_name("rest")), *both)[1])
    assert report["encoders"] == rest["encoders"]
    for path in flawed.rglob("*.png"):
        path.write_bytes(b"torn")
    code, out, err = aai("retrieval", str(flawed), *both)
    assert code == 2 and not out and "None of the 6 pictures can be measured. '" in err.splitlines()[-1]


@pytest.mark.parametrize(("written", "split"), [("test", "test"), ("Validation", "val")])
def test_of_split_data_what_there_is_to_measure_on_is_measured(aai, data, tmp_path, written, split):
    rows = [as_row(clip, data / "classes") for clip in scan(data / "classes")]
    for i, row in enumerate(rows):
        row["split"] = "Train" if i % 2 else written
    folder = tmp_path / "prepared"
    folder.mkdir()
    for event in EVENTS:
        (folder / event).symlink_to(data / "classes" / event)
    (folder / MANIFEST).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    code, out, err = aai("audiotext", str(folder), "--text", "soundworld", "--json")
    report = json.loads(out)
    assert code == 0 and report["split"] == split and report["encoders"][0]["count"] == 3
    assert f"measuring on the 3 clips of the split '{split}'" in err
    code, out, err = aai("audiotext", str(folder), "--text", "soundworld", "--json", "--split", "TRAIN")
    assert json.loads(out)["split"] == "train" and not err


def test_recordings_that_an_encoder_has_learned_from_are_said(aai, data, tmp_path):
    for number, event in enumerate(EVENTS):
        (tmp_path / event).mkdir()
        for i, fold in enumerate((1, 5)):
            name = f"{fold}-10{number}-A-0.wav"
            shutil.copy(data / "classes" / event / f"{i}.wav", tmp_path / event / name)
    code, out, _ = aai("zeroshot", str(tmp_path), "--text", "soundworld")
    assert code == 0 and "folds 1 to 4 of ESC-10, to which up to 3 of these recordings belong" in out
    assert "ESC-10, to which" not in aai("zeroshot", "classes", "--text", "soundworld")[1]
    save(load_sound_encoder(), tmp_path / "tuned.safetensors", data="field recordings")
    code, out, _ = aai(
        "zeroshot", "classes", "--encoder", str(tmp_path / "tuned.safetensors"), "--text", "soundworld"
    )
    assert code == 0 and "tuned.safetensors was tuned on 'field recordings'" in out


def test_a_rivals_words_need_the_clip_of_its_space(aai, rival):
    for text, says in (("clip16", "a CLIP of 512 and 16"), ("nowhere", "no CLIP")):
        arguments = ("--encoder", str(rival / "Wav2CLIP.pt"), "--text", str(rival / text))
        code, out, err = aai("audiotext", "classes", *arguments)
        assert code == 2 and not out and says in err.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("retrieval", "nowhere"), "nowhere"),
        (("retrieval", "classes", "--split", "test"), "not split"),
        (("audiotext", "classes", "--encoder", "small.safetensors"), "no vector of the label 'fire'"),
        (("audiotext", "classes", "--encoder", "small.safetensors", "--text", "soundworld"), "192"),
        (("zeroshot", "esc", "--folds", "one"), "names no folds"),
        (("zeroshot", "esc", "--folds", "1,7"), "no fold 7: it has the folds 1, 2,"),
        (("zeroshot", "classes", "--esc10"), "ESC-10 is a part of ESC-50, which 'classes' is not"),
        (("zeroshot", "classes", "--encoder", "nothing.safetensors"), "nothing.safetensors"),
        (("zeroshot", "classes", "--text", "nowhere"), "no CLIP"),
        (("zeroshot", "classes", "--text", "soundworld", "--device", "cuda:63"), "no device 'cuda:63'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input_is_one_sentence(aai, arguments, words):
    code, out, err = aai(*arguments)
    assert code == 2 and not out
    assert words in err and "Traceback" not in err and err.count("\n") == 1
