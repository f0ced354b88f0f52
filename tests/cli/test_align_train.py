"""`aai align train`: the main path, a real kill, and one sentence for bad input."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from aai import cli
from aai.align.checkpoint import curve_of, read
from aai.align.settings import AlignSettings
from aai.audio import Sound, save
from aai.encoders import cavmae_checkpoint, cavmae_encoder, loaders
from aai.encoders.cavmae import CAVMAE
from aai.errors import InputError

PITCH = {"rain": 150, "dog": 3000}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_cavmae, public_file):
    """Two classes of four clips with a picture each, an encoder that knows them, and a public file."""
    folder = tmp_path_factory.mktemp("align")
    for label, hertz in PITCH.items():
        (folder / "data" / label).mkdir(parents=True)
        for i in range(4):
            time_ = torch.arange(10240) / 16000
            wave = 0.3 * torch.sin(2 * math.pi * hertz * (1 + 0.1 * i) * time_)
            save(Sound(wave[None], 16000), folder / "data" / label / f"{i}.wav")
        Image.new("RGB", (40, 32), (200, 40, hertz % 256)).save(folder / "data" / label / "view.png")
    torch.manual_seed(0)
    loaders.save(
        cavmae_encoder.CAVMAEEncoder(CAVMAE(tiny_cavmae), ["dog", "rain"], torch.randn(2, 32), name="tiny"),
        folder / "tiny.safetensors",
        torch.float32,
    )
    shutil.copy(public_file, folder)
    return folder


@pytest.fixture
def aai(folder, tmp_path, monkeypatch, capsys, tiny_cavmae):
    """aai("align", ...) -> exit code, stdout, stderr; run in a folder of its own beside `folder`'s files."""
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cavmae_checkpoint, "CAVMAEConfig", lambda: tiny_cavmae)

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(list(arguments))
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


TRAIN = ("align", "train", "data", "-o", "out.safetensors", "--encoder", "tiny.safetensors", "--batch", "6")


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="a system whose names are Unicode")
def test_names_that_are_not_utf8_are_trained_on(aai, folder, tmp_path):
    data = os.fsencode(tmp_path) + b"/latin\xe9"
    shutil.copytree(os.fsencode(folder / "data"), data)
    os.rename(data + b"/rain/0.wav", data + b"/rain/caf\xe9.wav")
    os.rename(data + b"/dog/view.png", data + b"/dog/\xe9t\xe9.png")
    arguments = ("align", "train", os.fsdecode(b"latin\xe9"), *TRAIN[3:], "--steps", "2")
    code, _, err = aai(*arguments)
    assert code == 0 and "Traceback" not in err
    code, _, err = aai("align", "train", os.fsdecode(b"gone\xe9"), *TRAIN[3:], "--steps", "2", "--force")
    assert code == 2 and "gone" in err and "Traceback" not in err


def curve(name="out"):
    return curve_of(read(Path(f"{name}.training/state.safetensors"))[0])


def metadata(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


def test_an_encoder_is_trained_kept_and_said(aai):
    rest = ("--steps", "30", "--rate", "3e-3", "--held-out", "0.25", "--measure-every", "10", "--seed", "3")
    code, out, err = aai(*TRAIN, *rest, "--json")
    assert code == 0, err
    report = json.loads(out)
    assert (report["clips"], report["held_out"], report["labels"], report["steps"]) == (6, 2, 2, 30)
    encoder = loaders.load("out.safetensors")
    assert encoder.labels == ["dog", "rain"] and encoder.name == "out"
    told = metadata("out.safetensors")
    assert json.loads(told["settings"])["rate"] == 3e-3 and told["start"] == "tiny.safetensors"
    first, stored = curve(), sorted(p.stat().st_size for p in Path("out.training/towers").rglob("*.bin"))
    code, out, _ = aai(*TRAIN, *rest)
    assert code == 0 and "30 steps on 6 clips of 2 labels" in out
    measured = [
        json.loads(line).get("measured") for line in Path("out.training/log.jsonl").open(encoding="utf-8")
    ]
    assert (report["measured"], report["measured_last"]) == (max(filter(None, measured)), measured[-1])
    said = f"names {report['measured']:.1%} of 2 held-out clips, on which it was chosen; the last step "
    assert out.endswith(f"{said}{report['measured_last']:.1%}\n")
    assert curve() == first
    code, _, err = aai(*TRAIN, *rest, "--tau", "0.1")
    assert code == 2 and "tau 0.05, not 0.1" in err
    assert aai(*TRAIN, *rest, "--tau", "0.1", "--restart")[0] == 0
    assert curve()[0] != first[0]
    assert stored == sorted(p.stat().st_size for p in Path("out.training/towers").rglob("*.bin"))


@pytest.fixture
def one_thread():
    """As OMP_NUM_THREADS=1: sums of another number of threads round otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_killed_training_goes_on_to_the_same_curve(aai, folder, one_thread):
    rest = ("--steps", "300", "--save-every", "20", "--augment", "both", "--keep", "0.5", "--learn-tau")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", "aai", *TRAIN, *rest], env=environment)
    state, patience = Path("out.training/state.safetensors"), time.monotonic() + 120
    while not state.exists() and time.monotonic() < patience and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = curve()
    assert 0 < len(killed) < 300 and not Path("out.safetensors").exists()
    assert aai(*TRAIN, *rest)[0] == 0
    assert aai(*TRAIN, *rest, "-o", "whole.safetensors")[0] == 0
    assert curve() == curve("whole") and curve()[: len(killed)] == killed and len(curve()) == 300
    both = [loaders.load(name).model.state_dict() for name in ("out.safetensors", "whole.safetensors")]
    assert all(torch.equal(both[0][key], both[1][key]) for key in both[0])


def test_a_public_file_is_converted_and_trained_with_a_stable_diffusions_words(aai, make_parts):
    code, out, _ = aai("align", "convert", "public.pth", "-o", "start.safetensors")
    assert code == 0 and "public.pth is pre-trained" in out and "decoder (" in out
    assert loaders.load("start.safetensors").labels == []
    parts = make_parts()
    parts.text_encoder.save_pretrained("sd/text_encoder")
    parts.tokenizer.save_pretrained("sd/tokenizer")
    for start, momentum in (("start.safetensors", "audio"), ("public.pth", "literal_shared")):
        code, out, err = aai(
            "align", "train", "data", "-o", f"{momentum}.safetensors", "--encoder", start, "--text", "sd",
            "--template", "both", "--epochs", "2", "--momentum", momentum, "--json", "--store", "towers",
        )  # fmt: skip
        assert code == 0, err
        assert json.loads(out)["steps"] == 2
        assert loaders.load(f"{momentum}.safetensors").labels == ["dog", "rain"]
    assert metadata("audio.safetensors")["text"] == "sd"
    code, _, err = aai(
        "align", "train", "data", "-o", "x.safetensors", "--encoder", "audio.safetensors", "--momentum",
        "literal_shared", "--steps", "1",
    )  # fmt: skip
    assert code == 2 and "aligned already" in err


def test_the_options_are_the_settings():
    """What is not asked for is what AlignSettings says, but for the batch: the paper's."""
    import argparse

    from aai.cli.align_train import _settings, add
    from aai.cli.terminal import Commands

    parser = argparse.ArgumentParser()
    add(Commands(parser))
    options = parser.parse_args(["train", "data", "-o", "x", "--steps", "1000"])
    assert _settings(options, 12_000) == AlignSettings(batch=120, ramp_steps=100)
    options = parser.parse_args(["train", "data", "-o", "x", "--accumulate", "2", "--no-audio-visual"])
    settings = _settings(options, 12_000)
    assert (settings.steps, settings.ramp_steps, settings.audio_visual) == (500, 50, False)
    options = parser.parse_args(["train", "data", "-o", "x", "--schedule", "paper"])
    settings = _settings(options, 12_000)
    assert (settings.schedule, settings.steps, settings.rate) == ("paper", 1000, 5e-5)
    options.warmup = 3
    with pytest.raises(InputError, match="no warm-up: leave --warmup out"):
        _settings(options, 12_000)


def logged(name="out"):
    return [
        json.loads(line)
        for line in Path(f"{name}.training/log.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def stop_at(monkeypatch, step, error=KeyboardInterrupt):
    """A training that stops after so many steps."""
    from aai.align import pipeline

    align = pipeline.align

    def stopped(model, batches, settings, callback, *rest):
        def told(done, total, figures):
            callback(done, total, figures)
            if done == step:
                raise error

        return align(model, batches, settings, told, *rest)

    monkeypatch.setattr(pipeline, "align", stopped)


STOPPED = (*TRAIN, "--steps", "6", "--save-every", "2", "--held-out", "0.25", "--measure-every", "2")


def test_a_stop_keeps_the_encoder_so_far_and_the_same_command_goes_on(aai, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        code, out, err = aai(*STOPPED)
    assert code == 130 and not Path("out.safetensors").exists()
    assert "the encoder so far is out-step3.safetensors." in err
    assert "The same command goes on from the last state." in err
    assert loaders.load("out-step3.safetensors").labels == ["dog", "rain"]
    assert metadata("out-step3.safetensors")["step"] == "2"
    assert "step 2 of 6: names " in out and "of 2 held-out clips, loss " in out
    Path("out.training/log.jsonl").open("a", encoding="utf-8").write('{"step": 4, "lo')
    code, out, _ = aai(*STOPPED)
    assert code == 0 and out.startswith("goes on from step 2\n") and out.count("held-out clips, loss") == 2
    assert [line["step"] for line in logged()] == [1, 2, 3, 4, 5, 6]
    assert [step["loss"] for step in curve()] == [line["loss"] for line in logged()]
    assert all({"a_t", "a_v", "l_t", "rate", "tau", "alpha"} < line.keys() for line in logged())
    assert [line["step"] for line in logged() if "measured" in line] == [2, 4, 6]


def test_a_stop_before_the_first_state_promises_nothing(aai, monkeypatch):
    stop_at(monkeypatch, 1)
    Path("out-step1.safetensors").write_bytes(b"another's")
    code, _, err = aai(*STOPPED)
    assert code == 130 and "out-step1-2.safetensors" in err and "goes on" not in err
    assert Path("out-step1.safetensors").read_bytes() == b"another's"


def test_a_diverged_training_keeps_the_best_and_says_the_way_out(aai):
    rest = ("--steps", "4", "--warmup", "1", "--save-every")
    code, out, err = aai(*TRAIN, *rest, "1", "--rate", "1e30")
    assert code == 2 and not out and not Path("out.safetensors").exists()
    assert "the encoder so far is out-step1.safetensors" in err
    assert "diverged at step 2: lower the rate, and it goes on from its last state" in err
    kept = loaders.load("out-step1.safetensors").model.state_dict()
    assert all(value.abs().max() < 100 for value in kept.values())
    # That rate has spoilt the state, too.
    code, _, err = aai(*TRAIN, *rest, "1", "--rate", "1e-4")
    assert code == 2 and "begin anew with a lower rate (--restart)" in err and "so far" not in err
    assert aai(*TRAIN, *rest, "2", "--rate", "1e-4", "--restart")[0] == 0


def test_a_training_goes_on_with_a_lower_rate(aai, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        assert aai(*STOPPED, "--rate", "1e-3")[0] == 130
    code, out, _ = aai(*STOPPED, "--rate", "1e-4")
    assert code == 0 and "goes on from step 2" in out
    assert max(line["rate"] for line in logged()[2:]) <= 1e-4 < min(line["rate"] for line in logged()[:2])
    assert json.loads(metadata("out.safetensors")["settings"])["rate"] == 1e-4
    code, _, err = aai(*STOPPED, "--rate", "1e-5")
    assert code == 2 and "begun with rate 0.0001, not 1e-05" in err


def test_data_that_was_copied_is_not_encoded_again(aai, tmp_path):
    import shutil

    assert aai(*TRAIN, "--steps", "1")[0] == 0
    before = {path: path.stat().st_size for path in Path("out.training/towers").rglob("*.*")}
    shutil.copytree(tmp_path / "data", tmp_path / "scratch")
    code, _, err = aai(*TRAIN[:2], "scratch", *TRAIN[3:], "--steps", "1")
    assert code == 0, err
    assert before == {path: path.stat().st_size for path in Path("out.training/towers").rglob("*.*")}


def test_a_precision_that_there_is_not_is_said(aai, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    code, _, err = aai(*TRAIN, "--steps", "1")
    assert code == 2 and "mixed precision fp16" in err and "--mixed_precision bf16" in err
    assert not Path("out.training").exists()


@pytest.mark.parametrize("there", [True, False])
def test_a_processor_without_bfloat16_is_said(aai, monkeypatch, there):
    from aai import precision

    monkeypatch.setattr(precision, "has_bfloat16", lambda device: there)
    code, out, err = aai(*TRAIN, "--steps", "1", "--bf16")
    assert code == 0, err
    assert ("--bf16: this processor has no bfloat16" in out + err) != there


def test_a_batch_that_cannot_be_shared_is_said_before_the_clips_are_encoded(aai, monkeypatch):
    from aai import distributed

    monkeypatch.setattr(distributed, "join", lambda: distributed.Distributed(0, 4))
    code, _, err = aai(*TRAIN, "--steps", "1")
    assert code == 2 and "A batch of 6 cannot be shared by 4 processes" in err
    assert not Path("out.training").exists()


def test_a_silent_clip_is_left_out_and_said(aai, folder, tmp_path):
    shutil.copytree(folder / "data", tmp_path / "flawed")
    save(Sound(torch.zeros(1, 10240), 16000), tmp_path / "flawed" / "rain" / "9.wav")
    arguments = ("align", "train", "flawed", *TRAIN[3:], "--steps", "2", "--force")
    code, out, _ = aai(*arguments)
    said = "1 of 9 clips left out, which are silent, "
    assert code == 0 and out.startswith(said) and str(Path("flawed", "rain", "9.wav")) in out
    code, out, err = aai(*arguments, "--json")
    report = json.loads(out)
    assert report["clips"] == 8 and report["left_out"] == [str(Path("flawed", "rain", "9.wav"))]
    assert said in err


def test_a_class_with_one_clip_is_trained_on_and_not_measured(aai, folder, tmp_path):
    for label, count in (("dog", 3), ("rain", 1)):
        (tmp_path / "few" / label).mkdir(parents=True)
        for name in [*(f"{i}.wav" for i in range(count)), "view.png"]:
            (tmp_path / "few" / label / name).symlink_to(folder / "data" / label / name)
    arguments = (
        "align",
        "train",
        "few",
        "-o",
        "x.safetensors",
        "--encoder",
        "tiny.safetensors",
        "--steps",
        "1",
    )
    code, out, _ = aai(*arguments, "--held-out", "0.4", "--batch", "2")
    assert code == 0 and "not measured, for too few clips or recordings: rain\n" in out
    for i in (1, 2):
        (tmp_path / "few" / "dog" / f"{i}.wav").unlink()
    code, _, err = aai(*arguments, "--held-out", "0.4")
    assert code == 2 and "No class of 'few' has clips enough" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--batch", "1"), "1 sounds teach nothing"),
        (("--encoder", "nowhere.safetensors"), "no sound encoder's file 'nowhere.safetensors'"),
        (("--encoder", "public.pth"), "knows no labels yet: give a text encoder for 'dog'"),
        (("--encoder", "data/rain/0.wav"), "0.wav' cannot be read as a file of tensors"),
        (("--encoder", "family.safetensors"), "checkpoint of another family"),
        (("--text", "nowhere/to-be-found"), "gives no CLIP text encoder"),
        (("--text", "soundworld"), "192 numbers, but 'tiny' gives 32"),
        (("--held-out", "1"), "cannot be held out"),
        (("--split", "test"), "no clips of the split 'test'"),
        (("-o", "nowhere/out.safetensors"), "no folder 'nowhere'"),
        (("-o", "sounds.pth"), "'sounds.pth' is no name of a sound encoder"),
        (("-o", "sounds"), "let it end in .safetensors"),
        (("-o", "data"), "'data' is a folder"),
        (("--work", "tiny.safetensors/x"), "cannot be kept"),
        (("--tau", "nan"), "A tau of nan cannot train"),
        (("--template", "both"), "--template both is for a text encoder"),
        (("--no-audio-visual", "--no-audio-text"), "there is nothing to train"),
    ],
)
def test_bad_input_gets_a_sentence(aai, monkeypatch, arguments, says):
    from huggingface_hub import constants
    from safetensors.torch import save_file

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    save_file({"cond_stage_model.x": torch.zeros(1)}, "family.safetensors")
    code, out, err = aai(*TRAIN, "--steps", "1", *arguments)
    assert code == 2 and not out and err.startswith("aai: ") and says in err
    assert not list(Path().glob("out.safetensors"))


def test_a_label_that_the_encoder_does_not_know_is_named(aai, folder, tmp_path):
    for label, known in (("siren", "dog"), ("rain", "rain")):
        (tmp_path / "other").mkdir(exist_ok=True)
        (tmp_path / "other" / label).symlink_to(folder / "data" / known)
    code, _, err = aai("align", "train", "other", "-o", "x.safetensors", "--encoder", "tiny.safetensors")
    assert code == 2 and "The label 'siren' has no text vector" in err


def test_a_disk_that_fills_up_gets_a_sentence(aai):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        code, _, err = aai(*TRAIN, "--steps", "1")
        assert code == 2 and "cannot be stored" in err
        code, _, err = aai("align", "convert", "public.pth", "-o", "x.safetensors")
        assert code == 2 and "cannot be saved" in err and not Path("x.safetensors").exists()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert aai(*TRAIN, "--steps", "1")[0] == 0
