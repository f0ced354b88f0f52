"""A universal adapter is trained through every family's own text encoders and transformer, which stay as they
were."""

from __future__ import annotations

import pytest
import torch

from tests.weights import fingerprint

SOUNDS = 4


@pytest.fixture
def examples(tiny, pack, table):
    """Four sounds near two labels, each with a latent of its label's."""
    labels, vectors = table
    noise = torch.randn(SOUNDS, 48, generator=torch.Generator().manual_seed(1))
    kinds = [i % 2 for i in range(SOUNDS)]
    latents = [tiny.latents[k % len(tiny.latents)].clone() for k in kinds]
    return pack.part("aai.adapt.examples").Examples(
        [labels[k] for k in kinds],
        [1] * SOUNDS,
        {i: vectors[k] + 0.02 * noise[i] for i, k in enumerate(kinds)},
        {(i, 0): latent for i, latent in enumerate(latents)},
        "cafe",
        "ear",
        table,
    )


@pytest.fixture
def train(pack, picture, examples):
    """train(**settings) -> a SoundAdapter; `stopping` is train_adapter's callback and on_stop."""
    universal = pack.part("aai.adapt.universal_train")

    def run(resume=None, given=None, stopping=None, **changes):
        settings = pack.part("aai.adapt.universal_settings").AdapterSettings(
            **{**dict(steps=3, batch=4, seed=3, rate=5e-3), **changes}
        )
        with torch.inference_mode(), picture.training() as trainable:
            run = universal.AdapterRun(trainable, given or examples, settings)
            return universal.train_adapter(run, resume=resume, **(stopping or {}))

    return run


def loss_of(pack, picture, examples, adapter) -> float:
    """Eq. 6's loss of every example on fixed noise."""
    prompt, total = pack.part("aai.prompt").Prompt, 0.0
    with torch.inference_mode():
        for (i, _), latent in examples.latents.items():
            cond = picture.encode_prompt(prompt("a photo of *", (adapter.token(examples.f_a[i]),)))
            noise = torch.randn(4, *latent.shape, generator=torch.Generator().manual_seed(i))
            latents = latent.expand(4, *latent.shape).to(picture.device)
            total += float(picture.denoising_loss(latents, cond, noise, torch.arange(4) * 250 + 125))
    return total


def test_training_lowers_the_loss_and_changes_nothing_else(tiny, train, picture, examples, pack):
    modules = tiny.model.model.diffusion_model, tiny.clip.cond_stage_model
    before = fingerprint(*modules)
    begun, trained = train(steps=1, rate=1e-30), train(steps=15, rho=None)
    assert fingerprint(*modules) == before
    assert all(p.is_inference() for module in modules for p in module.parameters())
    losses = [loss_of(pack, picture, examples, adapter) for adapter in (begun, trained)]
    assert losses[1] < losses[0]
    assert trained.widths == tiny.widths and set(trained.translation) == set(tiny.widths)


def test_a_stopped_training_goes_on_on_the_same_curve_from_its_file(train, pack, tmp_path):
    files = pack.part("aai.adapt.universal_file")
    whole, kept = train(steps=4), []

    def stop(step, *_):
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(steps=4, stopping={"callback": stop, "on_stop": kept.append})
    files.save(kept[0], tmp_path / "half.safetensors", training=True)
    rest = train(files.load(tmp_path / "half.safetensors"), steps=4)
    assert rest.losses == whole.losses
    for name, value in whole.g.state_dict().items():
        assert torch.equal(rest.g.state_dict()[name], value), name


def test_labels_alone_teach_it(train, examples):
    from dataclasses import replace

    bare = replace(examples, pictures=[0] * SOUNDS, latents={})
    losses = train(given=bare, steps=20).losses
    assert losses[-1] < losses[0]
