"""`aai token` and `aai rebind`: where a token comes from, what it may be called, and what it replaces."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from aai import token as tokens
from aai.adapt.trainer import TokenTrainer
from aai.token import SoundToken, word_vectors


def test_a_token_is_made_and_says_where_it_comes_from(aai, rain_token):
    made = tokens.load(rain_token)
    assert made.name == "rain" and made.f_a.shape == (192,)
    assert made.provenance["sound"] == "rain.wav" and "library" in made.provenance["pictures"]
    code, out, _ = aai(
        "token", "dog.flac", "--refs", "pictures", "-k", "3", "-o", "d.safetensors", "--train-steps", "2"
    )
    assert code == 0 and "<dog>" in out
    assert "1.png" in tokens.load("d.safetensors").provenance["pictures"]


def test_a_token_is_trained_on_what_is_called_like_its_sound(aai, folder):
    shutil.copy(folder / "rain1.wav", folder / "drops.wav")
    (folder / "meant").mkdir()
    shutil.copy(folder / "photos" / "rain1.png", folder / "meant" / "drops.png")
    shutil.copy(folder / "photos" / "hot.png", folder / "meant" / "hot.png")
    arguments = ("-k", "2", "--train-steps", "1", "--json")
    code, _, err = aai("token", "drops.wav", "--refs", "meant", "-o", "drops.safetensors", *arguments)
    used = tokens.load(folder / "drops.safetensors").provenance["pictures"]
    assert code == 0 and "left out" not in err
    assert used.startswith("drops.png ") and "hot.png" in used
    code, _, err = aai("token", "rain1.wav", "--refs", "photos", "-o", "numbered.safetensors", *arguments)
    assert code == 0 and "'rain1.png' is left out" in err
    assert "rain1.png" not in tokens.load(folder / "numbered.safetensors").provenance["pictures"]


def test_a_token_replaces_its_like_and_others_when_forced(aai, folder):
    save_file({"<mine>": torch.ones(1, 768)}, folder / "someones.safetensors")
    said = ("token", "rain.wav", "--train-steps", "1", "-o", "someones.safetensors")
    code, _, err = aai(*said)
    assert code == 2 and "--force" in err
    assert aai(*said, "--force")[0] == 0 and aai(*said)[0] == 0
    assert tokens.load(folder / "someones.safetensors").name == "rain"


@pytest.mark.parametrize("name", ["thunder (1)", "rock & roll's, [live]", "x" * 200, "雷 ⛈️"])
def test_any_files_name_can_name_its_token(aai, folder, name):
    shutil.copy(folder / "rain.wav", folder / f"{name}.wav")
    code, out, err = aai("token", f"{name}.wav", "-o", "named.safetensors", "--train-steps", "1")
    assert code == 0, err
    assert tokens.load(folder / "named.safetensors").provenance["sound"] == f"{name}.wav"


def test_a_stopped_training_replaces_no_file(aai, folder, monkeypatch):
    step = TokenTrainer.step

    def stopping(self):
        if self.steps == 2:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(TokenTrainer, "step", stopping)
    (folder / "stopped-step2.safetensors").write_bytes(b"another's")
    code, _, err = aai("token", "rain.wav", "--train-steps", "3", "-o", "stopped.safetensors")
    assert code == 130 and "the token so far is stopped-step2-2.safetensors" in err
    assert tokens.load(folder / "stopped-step2-2.safetensors").provenance["steps"] == "2"
    assert (folder / "stopped-step2.safetensors").read_bytes() == b"another's"


def test_a_resumed_training_may_end_at_once(aai, folder):
    arguments = ("token", "rain.wav", "-o", "r.safetensors", "--validate", "2", "--patience", "1", "--json")
    assert aai(*arguments, "--train-steps", "2")[0] == 0
    made = tokens.load(folder / "r.safetensors")
    # As where it was stopped between its last step and the measurement; and nothing is better than 0.
    replace(made, measured={"best": 0.0, "step": 0, "waited": 0}).save(folder / "r.safetensors")
    code, out, err = aai(*arguments, "--train-steps", "4", "--resume", "r.safetensors")
    report = json.loads(out)
    assert code == 0, err
    assert report["steps"] == 2 and report["loss"] is None and "Stopped at step 2" in report["note"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("rain.wav", "--refs", "nowhere", "-o", "x.safetensors"), "nowhere"),
        (("rain.wav", "--refs", "empty", "-o", "x.safetensors"), "empty"),
        (("rain.wav", "-o", "rain.wav/x.safetensors"), "x.safetensors"),
        (("rain.wav", "--name", "<b>", "-o", "x.safetensors"), "cannot name"),
        (("rain.wav", "--encoder", "rain.wav", "-o", "x.safetensors"), "rain.wav"),
        (("rain.wav", "--model", "empty", "-o", "x.safetensors"), "empty"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_bad_input_gets_one_sentence(aai, folder, arguments, says):
    code, out, err = aai("token", *arguments, "--train-steps", "1")
    assert code == 2 and not out
    assert says in err and err.startswith("aai: ") and err.count("\n") == 1
    assert not list(folder.glob("x.*")) and not list(folder.rglob("*.part"))


def test_rebind_keeps_the_adapter(aai, folder):
    f_a, adapter = torch.randn(192), torch.randn(1, 192) * 0.01
    vectors = {"clip_l": word_vectors(f_a, 0.4, adapter)}
    token = SoundToken("wet", vectors, f_a, {"clip_l": adapter}, {"clip_l": 0.4}, -20.0, {"sound": "old"})
    token.save(folder / "wet.safetensors")
    code, out, err = aai("rebind", "wet.safetensors", "rain1.wav", "-o", "new.safetensors", "--json")
    made = tokens.load(folder / "new.safetensors")
    assert code == 0 and not err and json.loads(out)["sound"] == "rain1.wav"
    torch.testing.assert_close(made.f_adapter["clip_l"], adapter)
    assert made.provenance["adapter_sound"] == "old" and made.provenance["sound"] == "rain1.wav"
    assert made.name == "wet" and made.cosine()["clip_l"] > 0.9
    code, _, err = aai("rebind", "rain1.wav", "rain1.wav", "-o", "x.safetensors")
    assert code == 2 and "rain1.wav" in err and not (folder / "x.safetensors").exists()
