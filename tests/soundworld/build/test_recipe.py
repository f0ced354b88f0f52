"""The parts of SoundWorld's recipe: what they are made of, and that each is made once."""

import pytest
import torch

from aai.soundworld.build import recipe
from aai.soundworld.build.denoiser import caption_states, captions_of
from aai.soundworld.build.ears import Sources
from aai.soundworld.build.recipe import CAPTIONS, Build, Report


def test_a_part_is_made_once_and_read_back(tmp_path):
    build, made = Build(tmp_path / "work", Sources(), 0.0, 0.0, 0.0, 0), []

    def make() -> dict[str, torch.Tensor]:
        made.append(1)
        return {"x": torch.arange(3)}

    for _ in range(2):
        assert build.keep("part", make)["x"].tolist() == [0, 1, 2]
    assert len(made) == 1 and [path.name for path in (tmp_path / "work").iterdir()] == ["part.pt"]


def test_a_part_that_was_stopped_leaves_nothing(tmp_path):
    build = Build(tmp_path, Sources(), 0.0, 0.0, 0.0, 0)
    with pytest.raises(KeyboardInterrupt):
        build.keep("part", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    assert not list(tmp_path.iterdir())


def test_a_denoiser_learns_pictures_of_one_event_then_of_two_as_well(
    tmp_path, monkeypatch, caption_encoder, autoencoder, scenes, pictures
):
    monkeypatch.setattr(recipe, "PAIRS", 6)
    learned, train = [], recipe.train_denoiser

    def steps(model, loss, latents, states, *rest, **settings):
        assert len(latents) == len(states) and states.shape[1] == CAPTIONS
        learned.append((len(latents), settings["rate"]))
        return train(model, loss, latents, states, *rest, **settings)

    monkeypatch.setattr(recipe, "train_denoiser", steps)
    caption_encoder.tokenizer.save_pretrained(tmp_path / "tokenizer")
    states = caption_states(caption_encoder, captions_of(scenes, CAPTIONS, 0), CAPTIONS, 0)
    for name, part in {
        "text": caption_encoder.model.state_dict(),
        "autoencoder_linear": autoencoder.state_dict(),
        "pictures": pictures,
        "captions": states,
    }.items():
        torch.save(part, tmp_path / f"{name}.pt")
    flow = Build(tmp_path, Sources(), 0.0, 1e-9, 1e-9, 0).flow()
    assert learned == [(60, 1e-3), (66, 5e-4)]
    first, second = (torch.load(tmp_path / f"{name}.pt") for name in ("flow_of_one", "flow"))
    assert all(torch.equal(flow.state_dict()[key], value) for key, value in second.items())
    assert any(not torch.equal(first[key], value) for key, value in second.items())


def test_a_report_prints_one_line_in_so_many(capsys):
    report = Report()("unet", every=2)
    for step in range(4):
        report(step, 0.25, {"loss": 1.5})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("s  ")[1] for line in lines] == [f"unet {step}: 0.2500 loss 1.500" for step in (0, 2)]
