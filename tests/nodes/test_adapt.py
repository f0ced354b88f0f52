"""Training a token through its node, in process."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close


def test_training_makes_a_token_of_the_sound(train, small, embedding):
    token, curve = train()
    words = small.tower.get_input_embeddings().weight
    s = words.norm(dim=1).mean()
    assert_close(
        token.vectors["clip_l"] - token.f_adapter["clip_l"], s * (embedding.f_a / embedding.f_a.norm())[None]
    )
    assert 0 < token.f_adapter["clip_l"].norm() <= s * 1.0001
    assert token.loudness == -21.5
    assert {"sound": "c0ffee", "encoder": "small", "steps": "4"}.items() <= token.provenance.items()
    assert curve.shape == (1, 256, 512, 3) and curve.std() > 0.05


def test_the_same_seed_gives_the_same_token_and_the_model_stays_as_it_was(train, small):
    weights = {k: v.clone() for k, v in small.model.model.state_dict().items()}
    first, second, other = (train(seed=seed)[0].vectors["clip_l"] for seed in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, other)
    after = small.model.model.state_dict()
    assert all(torch.equal(after[k], v) for k, v in weights.items())
    assert all(p.is_inference() for p in small.model.model.diffusion_model.parameters())


def test_the_same_latents_give_diffusers_token(train, small, embedding, reference_images, pack):
    diffusion, training = pack.part("aai.picture.diffusers"), pack.part("aai.adapt.train")
    schedule = pack.part("aai.soundworld.models").SCHEDULER_CONFIG
    model = diffusion.DiffusersPictureModel(
        small.unet, small.tower, small.tokenizer, small.autoencoder, schedule
    )
    latents = small.autoencoder.encode(reference_images.movedim(-1, 1) * 2 - 1)
    settings = training.TrainSettings(steps=3, rate=0.01, batch=2, seed=5)
    theirs = training.train_token(model, embedding.f_a, latents, settings, "rain", encoded=True).token
    assert_close(train(steps=3)[0].vectors["clip_l"], theirs.vectors["clip_l"], atol=1e-4, rtol=0)


def test_pictures_of_any_shape_and_with_alpha_are_taken(train):
    assert train(images=torch.rand(1, 64, 64, 1), steps=1)[0].name == "rain"
    assert train(images=torch.rand(1, 4000, 3000, 3), steps=1)[0].name == "rain"
    assert train(images=torch.rand(200, 64, 64, 3), steps=1)[0].provenance["references"] == "200"
    assert train(images=torch.rand(1, 90, 50, 4), steps=1)[0].name == "rain"


def test_cancel_keeps_the_token_so_far(train, embeddings_folder, monkeypatch, pack):
    import comfy.model_management as management

    progress = pack.part("nodes.comfy.progress").LossCurve
    call = progress.__call__

    def cancel_at_two(self, step, total, loss):
        if step == 2:
            management.interrupt_current_processing(True)
        call(self, step, total, loss)

    monkeypatch.setattr(progress, "__call__", cancel_at_two)
    with pytest.raises(management.InterruptProcessingException):
        train(name="stopped", steps=50)
    kept = pack.part("aai.token").load(embeddings_folder / "stopped-step2.safetensors")
    assert kept.name == "stopped" and kept.provenance["steps"] == "2"


def test_fifty_cancels_at_any_step_leave_a_token_and_a_model_that_works(
    train, small, embeddings_folder, monkeypatch, pack
):
    import random

    import comfy.model_management as management

    import nodes

    picture = pack.part("nodes.comfy.picture").ComfyPictureModel
    loss, draw, waiting = picture.denoising_loss, random.Random(0), [0]

    def cancel_in_time(self, *given):
        waiting[0] -= 1
        if not waiting[0]:
            management.interrupt_current_processing(True)
        return loss(self, *given)

    monkeypatch.setattr(picture, "denoising_loss", cancel_in_time)
    with torch.inference_mode():
        (words,) = nodes.CLIPTextEncode().encode(small.clip, "rain")
    weights = {k: v.clone() for k, v in small.model.model.state_dict().items()}
    for turn in range(50):
        step = waiting[0] = draw.randint(1, 4)
        with pytest.raises(management.InterruptProcessingException):
            train(name=f"cut {turn}", steps=9, batch=1)
        paths = list(embeddings_folder.glob(f"cut_{turn}-step*.safetensors"))
        # Within the first step nothing has been learnt yet; versions differ in when they notice a cancel.
        assert len(paths) == 1 or (step == 1 and not paths)
        for path in paths:
            assert pack.part("aai.token").load(path).name == f"cut {turn}"
            path.unlink()
        if turn % 10 == 0:
            latent = {"samples": torch.zeros(1, 32, 8, 8)}
            with torch.inference_mode():
                (drawn,) = nodes.KSampler().sample(
                    small.model, 1, 1, 5.0, "euler", "normal", words, words, latent
                )
            assert torch.isfinite(drawn["samples"]).all()
    waiting[0] = 0
    assert not [p for p in embeddings_folder.iterdir() if p.name.startswith(".")]
    after = small.model.model.state_dict()
    assert all(torch.equal(after[k], v) for k, v in weights.items())
    assert train(steps=1)[0].provenance["steps"] == "1"


def test_a_cancelled_run_goes_on_from_its_token(train, run, embeddings_folder, monkeypatch, pack):
    whole = train(name="whole", steps=5)[0]
    progress = pack.part("nodes.comfy.progress").LossCurve
    call = progress.__call__

    def stop_at_three(self, step, total, loss):
        call(self, step, total, loss)
        if step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(progress, "__call__", stop_at_three)
        with pytest.raises(KeyboardInterrupt):
            train(name="half", steps=5)
    token, _ = run("AAI_LoadSoundToken", file="half-step3.safetensors")
    rest = train(name="half", steps=5, resume=token)[0]
    assert_close(rest.vectors["clip_l"], whole.vectors["clip_l"], atol=1e-6, rtol=0)
    assert rest.provenance["steps"] == "5"


def test_a_resumed_curve_begins_where_its_run_did(trained, pack, monkeypatch):
    progress, charts = pack.part("nodes.comfy.progress"), pack.part("aai.charts")
    as_image = pack.part("nodes.pictures").as_image
    token = trained(steps=2).args[0]
    bars, events = [], []
    monkeypatch.setattr(progress.Bar, "__call__", lambda self, done, *_: bars.append(done))
    monkeypatch.setattr(progress, "send", lambda event, output: events.append(output["curve"][0]))
    (curve,) = trained(steps=4, resume=token, sample_every=2).ui["curve"]
    assert (curve["begun"], curve["step"], curve["total"], len(curve["losses"])) == (2, 4, 4, 2)
    # The picture that is drawn after the last step leaves the bar where it is.
    assert bars[-3:] == [3, 4, 4] and events[-1] == curve
    drawn = [as_image(charts.loss_curve([0.5, 0.4], 4, begun))[0, 30:, :, 0] for begun in (0, 2)]
    columns = [(red > 0.9).any(0).nonzero() for red in drawn]
    assert columns[0].max() < 256 < columns[1].min()


def test_what_training_has_to_say_is_shown(trained, pack, monkeypatch):
    assert trained().ui["text"] == []
    monkeypatch.setattr(pack.part("aai.adapt.trainer").TokenTrainer, "validate", lambda self: 1.0)
    (note,) = trained(validate=1, patience=1).ui["text"]
    assert note.startswith("Stopped at step 1: the validation loss had not fallen")


def test_samples_show_on_the_node_and_change_nothing(train, monkeypatch, pack):
    shown = []
    progress = pack.part("nodes.comfy.progress").LossCurve
    show = progress.show
    monkeypatch.setattr(
        progress, "show", lambda self, picture: (shown.append(picture.shape), show(self, picture))
    )
    with_samples = train(steps=4, sample_every=2)[0]
    assert shown == [(3, 64, 64)] * 2
    assert torch.equal(with_samples.vectors["clip_l"], train(steps=4)[0].vectors["clip_l"])


def test_chunks_checkpointing_and_the_norm_reach_the_training(train, small):
    plain = train()[0].vectors["clip_l"]
    assert_close(train(chunk=1)[0].vectors["clip_l"], plain, atol=1e-5, rtol=1e-4)
    assert_close(train(checkpointing=True)[0].vectors["clip_l"], plain, atol=1e-6, rtol=1e-5)
    pinned = train(norm="pinned", validate=2, patience=1, average=0.5, licence="CC BY 4.0")[0]
    s = small.tower.get_input_embeddings().weight.norm(dim=1).mean()
    assert_close(pinned.vectors["clip_l"].norm(), s, rtol=1e-4, atol=0)
    assert pinned.provenance["licence"] == "CC BY 4.0"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"template": "a photo"}, r"no \* for the sound"),
        ({"images": torch.zeros(0, 64, 64, 3)}, "reference pictures"),
        ({"name": "a/b"}, "cannot name a sound token"),
        ({"rate": 1e30, "rho": 0.0}, "diverged"),
        ({"images": torch.zeros(3, 8, 8, 3)}, "8 x 8 pixels"),
        ({"patience": 2}, "needs a validation"),
    ],
)
def test_mistakes_in_training_get_a_sentence(train, pack, changes, sentence):
    with pytest.raises(pack.part("aai.errors").InputError, match=sentence):
        train(**changes)


def test_a_sound_of_another_width_is_refused(train, pack):
    wide = pack.part("aai.encoders.base").SoundEmbedding(torch.ones(768), -20.0, "x", "y")
    with pytest.raises(pack.part("aai.errors").InputError, match="768.*192"):
        train(embedding=wide)
