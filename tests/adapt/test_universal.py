"""The universal adapter: from a library of sounds to a word for any of them, and back from its file."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.testing import assert_close

from aai.adapt import universal_file
from aai.adapt.examples import Examples, draws
from aai.adapt.settings import TrainSettings
from aai.adapt.train import train_token
from aai.adapt.universal import WIDTH, Adapter, unknown
from aai.adapt.universal_settings import AdapterSettings
from aai.adapt.universal_train import AdapterRun, AdapterTrainer, train_adapter
from aai.encoders.base import SoundEmbedding
from aai.errors import InputError
from aai.picture.diffusers import DiffusersPictureModel
from aai.prompt import Prompt
from aai.token import load as load_token

SETTINGS = AdapterSettings(steps=6, batch=3, rate=1e-2)


@pytest.fixture
def examples(model, images):
    """Six sounds of three labels, each label with a picture of its own colour."""
    generator = torch.Generator().manual_seed(1)
    kinds = torch.randn(3, 32, generator=generator) + 1
    latents = model.encode_images(images)
    return Examples(
        ["red", "green", "blue"] * 2,
        [1] * 6,
        {i: kinds[i % 3] + 0.1 * torch.randn(32, generator=generator) for i in range(6)},
        {(i, 0): latents[i % 3] for i in range(6)},
        "cafe",
        "ear",
        name="colours",
        digest="1",
    )


@pytest.fixture
def run(model, examples):
    def make(**settings):
        return AdapterRun(model, examples, replace(SETTINGS, **settings))

    return make


@pytest.fixture
def adapter(run):
    return train_adapter(run())


def heard(f_a, **changes):
    return replace(SoundEmbedding(f_a, -20.0, "a.wav", "ear", fingerprint="cafe"), **changes)


@torch.no_grad()
def loss_of(adapter, model, examples):
    """Eq. 6's loss of every example on fixed noise."""
    total = 0.0
    for i, f_a in examples.f_a.items():
        cond = model.encode_prompt(Prompt("a photo of *", (adapter.token(f_a),)))
        noise = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(i))
        t = torch.arange(8) * 125 + 62
        total += float(model.denoising_loss(examples.latents[i, 0].expand(8, -1, -1, -1), cond, noise, t))
    return total


def weights_of(model):
    modules = (model.unet, model.vae, *(t.model for t in model._text_encoders.values()))
    return {f"{i} {k}": v.clone() for i, m in enumerate(modules) for k, v in m.state_dict().items()}


def test_it_begins_at_the_sound_alone_and_its_loss_falls(run, model, examples):
    before, gradients = weights_of(model), [p.requires_grad for p in model.unet.parameters()]
    length = model.text_encoders["clip_l"].mean_norm
    untrained = Adapter(32, {"clip_l": 32}, {"clip_l": length}, 1.0, 1)
    untrained.begin(torch.stack(list(examples.f_a.values())), 0)
    assert not untrained(examples.f_a[0][None])["clip_l"].any()
    adapter = train_adapter(run(steps=60, batch=6, rate=0.05, rho=None))
    alone = replace(adapter, g=untrained)
    assert len(adapter.losses) == 60
    assert loss_of(adapter, model, examples) < loss_of(alone, model, examples)
    after = weights_of(model)
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert [p.requires_grad for p in model.unet.parameters()] == gradients


def test_a_word_is_made_for_each_sound_within_the_radius(run, model, examples):
    adapter = train_adapter(run(steps=10, rate=1.0, rho=0.5, vectors=2))
    length = model.text_encoders["clip_l"].mean_norm
    sounds = torch.stack(list(examples.f_a.values()))
    made = adapter.g(sounds)["clip_l"]
    assert made.shape == (6, 2, 32)
    assert made.norm(dim=-1).max() <= 0.5 * length * (1 + 1e-5)
    assert not torch.allclose(made[0], made[1], rtol=1e-3)
    # A sound's length says nothing.
    assert_close(adapter.g(sounds * 7)["clip_l"], made)
    free = train_adapter(run(steps=10, rate=1.0, rho=None))
    assert free.g(sounds)["clip_l"].norm(dim=-1).max() > length


def test_a_stopped_training_goes_on_on_the_same_curve(run, tmp_path):
    whole, kept = train_adapter(run()), []

    def stop(step, total, loss):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_adapter(run(), callback=stop, on_stop=kept.append)
    universal_file.save(kept[0], tmp_path / "stopped.safetensors", training=True)
    stopped = universal_file.load(tmp_path / "stopped.safetensors")
    assert stopped.steps == 3 and stopped.losses == whole.losses[:3]
    rest = train_adapter(run(), resume=stopped)
    assert rest.losses == whole.losses
    for name, value in whole.g.state_dict().items():
        assert torch.equal(rest.g.state_dict()[name], value), name


def test_the_rate_falls(run):
    trainer, rates = AdapterTrainer(run(steps=4, rate=0.5)), []
    with torch.enable_grad():
        for _ in range(4):
            trainer.step()
            rates.append(trainer.optimizer.param_groups[0]["lr"])
    assert rates[0] == 0.5 and rates == sorted(rates, reverse=True) and rates[-1] < 0.1


def test_memory_is_spared_and_the_adapter_is_the_same(run):
    whole = train_adapter(run())
    for spared in ({"chunk": 1}, {"checkpointing": True}):
        assert_close(train_adapter(run(**spared)).losses, whole.losses, rtol=1e-4, atol=1e-5)


def test_prompts_that_cannot_be_stacked_pass_one_by_one(run, examples):
    class Masked(DiffusersPictureModel):
        """Its prompts hold what a family reads beside the rows."""

        def encode_prompt(self, *given):
            return replace(super().encode_prompt(*given), extra={"mask": torch.ones(1)})

    whole, model = train_adapter(run()), run().model
    model.__class__ = Masked
    assert_close(train_adapter(run()).losses, whole.losses, rtol=1e-4, atol=1e-5)


def test_without_pictures_words_are_drawn_to_their_labels(run, model, examples):
    labels = replace(examples, pictures=[0] * 6, latents={})
    adapter = train_adapter(AdapterRun(model, labels, replace(SETTINGS, steps=80, batch=6)))
    assert adapter.losses[-1] < 0.5 * adapter.losses[0]
    assert "labels alone" in adapter.data
    words = torch.nn.functional.normalize(model.embed_words(["red", "green", "blue"])["clip_l"], dim=-1)
    for i in range(3):
        e = torch.nn.functional.normalize(adapter.token(examples.f_a[i]).vectors["clip_l"], dim=-1)
        assert int((e @ words.T).argmax()) == i


@pytest.mark.parametrize("given", [False, True])
def test_beside_pictures_words_can_be_kept_near_others(model, examples, given):
    words = model.embed_words(["green"] * 6 if given else examples.labels)["clip_l"]
    words = torch.nn.functional.normalize(words, dim=-1)
    if given:
        length = model.text_encoders["clip_l"].mean_norm
        examples = replace(examples, words={"clip_l": words * length})

    def far(adapter):
        made = torch.stack([adapter.token(f_a).vectors["clip_l"][0] for f_a in examples.f_a.values()])
        return 1 - torch.nn.functional.cosine_similarity(made, words).mean()

    near = replace(SETTINGS, steps=20, near=0.5)
    plain, kept = (train_adapter(AdapterRun(model, examples, s)) for s in (replace(near, near=0.0), near))
    assert far(kept) < 0.8 * far(plain)
    assert "pictures" in kept.data and kept.losses[0] > plain.losses[0]
    # As it was begun: the weight may not change where a training goes on.
    for begun, other in ((kept, 0.1), (kept, 0.0), (plain, 0.5)):
        with pytest.raises(InputError, match=f"near {begun.settings['near']}, not {other}"):
            train_adapter(AdapterRun(model, examples, replace(near, steps=21, near=other)), resume=begun)
    for weight in (-1, float("inf")):
        with pytest.raises(InputError, match=f"weight of {weight}"):
            AdapterSettings(near=weight)


@pytest.mark.parametrize("words", [
    {"clip_g": torch.ones(6, 32)}, {"clip_l": torch.ones(5, 32)}, {"clip_l": torch.ones(6, 31)},
    {"clip_l": torch.full((6, 32), float("nan"))},
])  # fmt: skip
def test_words_that_are_not_the_models_are_refused(model, examples, words):
    run = AdapterRun(model, replace(examples, words=words), replace(SETTINGS, near=0.5))
    with pytest.raises(InputError, match="'clip_l' are not 6 rows of 32 numbers"):
        train_adapter(run)


def test_every_sound_is_drawn_once_before_any_again_and_by_the_seed_alone():
    settings = AdapterSettings(batch=4, seed=3)
    drawn = draws([2, 5, 1, 1, 3, 1], settings)
    first = [next(drawn) for _ in range(6)]
    pairs = [pair for step in first for pair in step]
    for begin in range(0, 24, 6):
        assert sorted(i for i, _ in pairs[begin : begin + 6]) == list(range(6))
    assert all(j < (2, 5, 1, 1, 3, 1)[i] for i, j in pairs) and len(set(pairs)) > 6
    again = draws([2, 5, 1, 1, 3, 1], settings)
    assert [next(again) for _ in range(6)] == first


def test_an_instant_token_is_a_token_as_any_other(adapter, model, examples, tmp_path):
    sound = heard(examples.f_a[1])
    adapter.check(sound, model)
    token = adapter.token(sound.f_a, "wet", sound.loudness, sound.provenance())
    token.save(tmp_path / "wet.safetensors")
    read = load_token(tmp_path / "wet.safetensors")
    assert torch.equal(read.vectors["clip_l"], token.vectors["clip_l"])
    assert read.provenance["sound"] == "a.wav" and "6 steps on colours" in read.provenance["adapter"]
    assert model.encode_prompt(Prompt("a photo of *", (read,))).cross.isfinite().all()
    other = read.with_sound(examples.f_a[2], -30.0)
    assert_close(other.f_adapter["clip_l"], read.f_adapter["clip_l"])
    assert other.cosine()["clip_l"] > 0.5


def test_a_training_starts_from_an_instant_token(adapter, model, examples, images):
    settings = TrainSettings(steps=4, rate=0.01, validate=2)
    token = adapter.token(examples.f_a[0])
    begun = train_token(model, examples.f_a[0], images[:1], settings, resume=token)
    anew = train_token(model, examples.f_a[0], images[:1], settings)
    assert [step for step, _ in begun.validations] == [0, 2, 4]
    assert begun.validations[0][1] != anew.validations[0][1]
    assert len(begun.losses) == 4 and begun.token.provenance["steps"] == "4"
    assert begun.token.provenance["adapter"] == token.provenance["adapter"]
    held = train_token(
        model, examples.f_a[0], images[:1], replace(settings, steps=1, rate=1e-9), resume=token
    )
    assert_close(held.token.f_adapter["clip_l"], token.f_adapter["clip_l"], atol=1e-6, rtol=1e-5)
    with pytest.raises(InputError, match="another sound"):
        train_token(model, examples.f_a[1], images[:1], settings, resume=token)
    with pytest.raises(InputError, match="scale 'vocabulary'"):
        train_token(model, examples.f_a[0], images[:1], replace(settings, scale="raw"), resume=token)


def test_a_file_holds_it_all(adapter, examples, tmp_path):
    path = tmp_path / "colours.safetensors"
    universal_file.save(adapter, path, torch.float16)
    read = universal_file.load(path)
    assert universal_file.is_ours(path) and read.name == "colours" and not read.training
    assert (read.encoder, read.model, read.base, read.steps) == ("cafe", adapter.model, adapter.base, 6)
    sounds = torch.stack(list(examples.f_a.values()))
    assert_close(read.g(sounds)["clip_l"], adapter.g(sounds)["clip_l"], rtol=0.05, atol=1e-3)
    told = read.describe()
    assert "colours: 6 sounds of 3 labels, with pictures" in told and "steps: 6" in told
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["format"] == universal_file.FORMAT
        assert not [k for k in file.keys() if k.startswith("training.")]


def test_of_another_encoder_or_picture_model_is_refused(adapter, model, examples, make_parts):
    sound = heard(examples.f_a[0])
    with pytest.raises(InputError, match="encoder 'ear', and another one .*'far'"):
        adapter.check(replace(sound, encoder="far", fingerprint="beef"), model)
    with pytest.raises(InputError, match="encoder 'ear'"):
        adapter.check(replace(sound, f_a=torch.ones(31)), model)
    torch.manual_seed(5)
    other = DiffusersPictureModel(**vars(make_parts()))
    with torch.no_grad():
        next(other.unet.parameters()).add_(1)
    # Nothing tells a model without a name from another but its weights.
    with pytest.raises(InputError, match="another picture model .*aai token"):
        adapter.check(sound, other)
    model.family = other.family = "Named"
    named = replace(adapter, base="Named that reads clip_l of 32")
    named.check(sound, other)
    other.family = "Else"
    with pytest.raises(InputError, match="Named that reads clip_l of 32.*Else that reads"):
        named.check(sound, other)


def test_what_no_adapter_can_learn_from_is_refused(model, examples, run):
    def tried(**changes):
        return train_adapter(AdapterRun(model, replace(examples, **changes), SETTINGS))

    with pytest.raises(InputError, match="holds 1 sound: .* many"):
        tried(labels=["red"], pictures=[1])
    with pytest.raises(InputError, match="2 sounds without pictures .*'red'"):
        tried(pictures=[0, 1, 1, 0, 1, 1])
    with pytest.raises(InputError, match="finite numbers"):
        tried(f_a={**examples.f_a, 3: torch.full((32,), torch.nan)})
    with pytest.raises(InputError, match=r"has no \* for the sound"):
        train_adapter(run(template="a photo"))
    with pytest.raises(InputError, match="diverged at step"):
        train_adapter(run(steps=50, rate=1e30, rho=None))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seed": 1}, "begun with seed 0, not 1"),
        ({"batch": 5}, "begun with batch"),
        ({"steps": 3}, "6 steps behind it already"),
    ],
)
def test_a_training_goes_on_as_it_began(run, adapter, changes, says):
    with pytest.raises(InputError, match=says):
        train_adapter(run(**{"steps": 8, **changes}), resume=adapter)


def test_another_rate_goes_on_with_its_licence(run, adapter):
    """As a training that diverged is told to."""
    begun = replace(adapter, provenance={**adapter.provenance, "licence": "CC-BY 4.0"})
    more = train_adapter(run(steps=8, rate=1e-4), resume=begun)
    assert more.steps == 8 and more.provenance["licence"] == "CC-BY 4.0"


def test_what_was_trained_before_a_loss_that_is_no_number_is_kept(model, run):
    kept, losses = [], [0]
    inner = model.denoising_loss

    def stop(step, *_):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_adapter(run(steps=9), callback=stop, on_stop=kept.append)
    (whole,) = kept
    kept.clear()

    def broken(*given):
        losses[0] += 1
        return inner(*given) * (float("nan") if losses[0] > 3 else 1)

    model.denoising_loss = broken
    with pytest.raises(InputError, match="diverged at step 4"):
        train_adapter(run(steps=9), on_stop=kept.append)
    assert len(kept) == (whole.losses[-1] <= whole.losses[0])
    for key, value in whole.g.state_dict().items():
        assert all(torch.equal(stopped.g.state_dict()[key], value) for stopped in kept)
    kept.clear()
    model.denoising_loss = inner
    with pytest.raises(InputError, match="diverged at step"):
        train_adapter(run(steps=50, rate=1e30, rho=None), on_stop=kept.append)
    assert not kept


def test_prompts_that_cannot_stand_together_are_encoded_one_by_one_from_then_on(model, run):
    def masked(encode):
        def made(*given):
            model.read += 1
            return replace(encode(*given), extra={"attention_mask": torch.ones(1, 1)})

        return made

    model.read = 0
    inner, loss = model.encode_prompt, model.denoising_loss
    model.encode_prompt = masked(inner)
    model.denoising_loss = lambda latents, cond, *rest: loss(latents, replace(cond, extra={}), *rest)
    train_adapter(run(steps=1))
    first, model.read = model.read, 0
    train_adapter(run(steps=3))
    # Of the first step's chunk, those that were encoded in vain.
    batch = SETTINGS.batch
    assert first == 3 * batch and model.read == batch + 3 * 2 * batch


def test_a_training_goes_on_with_the_same_data_and_models(model, examples, adapter):
    longer = replace(SETTINGS, steps=8)
    with pytest.raises(InputError, match="begun with other data"):
        train_adapter(AdapterRun(model, replace(examples, digest="2"), longer), resume=adapter)
    with pytest.raises(InputError, match="begun with the sound encoder 'ear'"):
        train_adapter(AdapterRun(model, replace(examples, encoder="beef"), longer), resume=adapter)
    with pytest.raises(InputError, match="no training's state"):
        train_adapter(AdapterRun(model, examples, longer), resume=replace(adapter, training={}))
    with pytest.raises(InputError, match="cannot be read"):
        train_adapter(
            AdapterRun(model, examples, longer), resume=replace(adapter, training={"0.step": torch.ones(())})
        )


@pytest.fixture
def damaged(adapter, tmp_path):
    """damaged(change) -> the file of an adapter whose tensors and facts were changed in place."""

    def make(change):
        path = tmp_path / "damaged.safetensors"
        universal_file.save(adapter, path)
        with safe_open(path, framework="pt") as file:
            tensors, metadata = {k: file.get_tensor(k) for k in file.keys()}, file.metadata()
        facts = json.loads(metadata["facts"])
        change(tensors, facts)
        save_file(tensors, path, {**metadata, "facts": json.dumps(facts)})
        return path

    return make


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, facts: tensors.pop("g.layers.0.weight"),
        lambda tensors, facts: tensors.update({"g.mean": torch.zeros(31)}),
        lambda tensors, facts: tensors["g.layers.1.bias"].fill_(torch.nan),
        lambda tensors, facts: tensors.update({"losses": torch.zeros(2)}),
        lambda tensors, facts: tensors.update({"translation.clip_l.up": torch.zeros(3)}),
        lambda tensors, facts: facts.update(dim=2**40),
        lambda tensors, facts: facts.update(dim=2**23),
        lambda tensors, facts: facts.update(vectors=0),
        lambda tensors, facts: facts.update(widths={}),
        lambda tensors, facts: facts.update(widths={"clip_l": "32"}),
        lambda tensors, facts: facts.update(lengths={"clip_l": -1.0}),
        lambda tensors, facts: facts.update(rho="far"),
        lambda tensors, facts: facts.update(steps=-1),
        lambda tensors, facts: facts.update(base=3),
        lambda tensors, facts: facts.update(provenance=[]),
        lambda tensors, facts: facts.pop("model"),
    ],
)
def test_a_damaged_file_gets_one_sentence(damaged, change):
    with pytest.raises(InputError, match="'damaged.safetensors' is no whole sound adapter"):
        universal_file.load(damaged(change))


def test_what_is_no_adapter_gets_one_sentence(tmp_path):
    with pytest.raises(InputError, match="There is no sound adapter .*aai adapt train"):
        universal_file.load(tmp_path / "none.safetensors")
    save_file({"a": torch.ones(1)}, tmp_path / "else.safetensors")
    with pytest.raises(InputError, match="'else.safetensors' is no sound adapter of this pack"):
        universal_file.load(tmp_path / "else.safetensors")
    (tmp_path / "half.safetensors").write_bytes((tmp_path / "else.safetensors").read_bytes()[:20])
    with pytest.raises(InputError, match="'half.safetensors' is no readable sound adapter"):
        universal_file.load(tmp_path / "half.safetensors")


@pytest.mark.parametrize(
    "bad", [{"steps": 0}, {"rate": 0.0}, {"batch": 0}, {"rho": -1.0}, {"vectors": 0}, {"chunk": -1}]
)
def test_settings_that_cannot_be_are_refused(bad):
    with pytest.raises(InputError):
        AdapterSettings(**bad)


def test_a_sound_that_is_not_known_is_said_to_be_one():
    sound = heard(torch.ones(3))
    assert unknown(sound) == "" == unknown(replace(sound, known=0.9, is_known=True))
    assert "does not know 'a.wav' (unknown by 97%)" in unknown(replace(sound, known=0.03, is_known=False))


def test_its_size_is_small():
    numbers = sum(p.numel() for p in Adapter(768, {"clip_l": 768}, {"clip_l": 1.0}, 1.0, 1).parameters())
    assert numbers < 500_000 and WIDTH == 256
