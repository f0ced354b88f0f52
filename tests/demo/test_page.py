"""The demo's page and contact sheet."""

import numpy as np
import pytest
import torch

from aai import audio
from aai.demo.page import PAPER, WAVE, DemoSound, Drawn, Edited, contact_sheet, page
from aai.soundworld.sounds import synthesize

ODD = '<b>"rain" & fog</b>'
ESCAPED = "&lt;b&gt;&quot;rain&quot; &amp; fog&lt;/b&gt;"


@pytest.fixture
def drawn(tmp_path):
    """Two prompts of one sound, with two pictures each: red ones, then green ones."""
    file = tmp_path / "rain.wav"
    audio.save(synthesize("rain", 0.7, 1, 1.0), file)
    words, prompts = [(ODD, 0.75), ("wind", 0.25)], ("a photo of *", "a city under *")
    sound = DemoSound(ODD, file, 0.7, -21.0, words, prompts)
    colours = torch.eye(3)[:2, None, :, None, None].expand(2, 2, 3, 16, 16)
    return [Drawn(sound, prompt, "rain", c, ["1", "2"], 1.0) for prompt, c in zip(prompts, colours)]


def row(prompt: str, number: int) -> dict:
    return {
        "file": f"{number}.png",
        "sound": "sounds/rain.wav",
        "prompt": prompt,
        "grade": {"event": "rain"},
    }


def test_names_are_escaped_and_each_sound_has_its_player(drawn):
    report = {
        "event_named_by_the_oracle": {"right": 3, "pictures": 4},
        "pictures": [row(ODD, 1), row("a city under *", 2)],
        "edits": [{"example": "loudness_sweep", "file": "3.png", "shows": ODD, "grade": {"event": "dog"}}],
        "engine": ODD,
        "seconds": 12.4,
    }
    text = page(report, drawn)
    assert "<b>" not in text and text.count(f"<h2>{ESCAPED}</h2>") == 1
    assert f"{ESCAPED} 75%, wind 25%" in text and f"{ESCAPED}, 12 s." in text
    assert text.count("<audio") == 1 and 'src="sounds/rain.wav"' in text
    assert [text.count(f'<img src="{i}.png" alt="') for i in (1, 2, 3)] == [1, 1, 1]
    assert "in 3 of 4 pictures" in text and "<h2>loudness sweep</h2>" in text


def test_the_sheet_shows_every_picture_and_the_wave(drawn):
    blue = torch.tensor([0.0, 0.0, 1.0])[:, None, None].expand(2, 3, 16, 16)
    edit = Edited("An edit", "edit", "rain", blue, ("a city", "a city under *"), 1.0)
    pixels = np.asarray(contact_sheet(drawn, [edit]))
    for colour in np.eye(3, dtype=np.uint8) * 255:
        assert (pixels == colour).all(-1).sum() == 2 * 128 * 128
    assert (pixels == WAVE).all(-1).sum() > 100
    assert (pixels[-1] == PAPER).all() and pixels.shape[1] == 250 + 4 * (128 + 8) + 16
