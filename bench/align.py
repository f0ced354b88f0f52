"""A training step of stage 1 part by part, against the audio tower alone, which it cannot do without; the
step in its cheaper forms, against the plain one; the step with the frozen towers' features stored, against
the same step that reads its files and runs the towers again; and the filter bank of a batch against
torchaudio one clip at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import torch
from PIL import Image
from torch import nn

from aai.align.augment import Augment
from aai.align.batches import Batches
from aai.align.features import encode
from aai.align.settings import AlignSettings
from aai.align.train import AlignTrainer, Pairs, eq1, follow
from aai.audio import Sound, save
from aai.data.clips import Clip, scan
from aai.distributed import ALONE
from aai.encoders.cavmae import CAVMAE, CAVMAEConfig
from aai.encoders.cavmae_encoder import CAVMAEEncoder
from aai.encoders.clip import CLIPText
from aai.encoders.text import TextTower, label_vectors
from aai.precision import has_bfloat16
from bench import fbank

RATE, SECONDS = 44100, 10
NOISE = Augment.named("noise")
TOWER = "the audio tower, forwards and backwards"
OF_CLIPS = (TOWER, "the twin, forwards", "losses", "reading and augmentation")
"""The parts of a step that a larger batch makes longer."""
BATCH = 32
PLAIN = AlignSettings(steps=10**6, rate=1e-6, batch=2)
FORMS = {
    "plain": PLAIN,
    "in bf16": replace(PLAIN, bf16=True),
    "half of the patches": replace(PLAIN, keep=0.5),
    "a quarter of the patches": replace(PLAIN, keep=0.25),
    "the twin every other step": replace(PLAIN, twin_every=2),
    "all three, a quarter": replace(PLAIN, bf16=True, keep=0.25, twin_every=2),
}


def make_clips(folder: Path, count: int, pictures: int = 10) -> list[Clip]:
    """Sounds of 10 s at 44.1 kHz in stereo, each with its own ten pictures of 640 x 360, in two classes."""
    for i in range(count):
        group = folder / ("rain", "dog")[i % 2]
        group.mkdir(exist_ok=True)
        save(Sound(0.1 * torch.randn(2, SECONDS * RATE), RATE), group / f"{i}.wav")
        for j in range(pictures):
            colours = torch.randint(256, (9, 16, 3), dtype=torch.uint8).numpy()
            Image.fromarray(colours).resize((640, 360)).save(group / f"{i}_{j}.jpg", quality=90)
    return scan(folder)


def stepper(model: CAVMAE) -> Callable[..., None]:
    """A training step as `align` makes it, on a batch, with the settings of any form."""
    given: list[Pairs] = []
    trainer = AlignTrainer(model, lambda *_: given.pop(), PLAIN, ALONE)
    trainer.begin(None)

    def step(pairs: Pairs, settings: AlignSettings = PLAIN) -> None:
        given.append(pairs)
        trainer.settings = settings
        trainer.update(trainer.gradients(len(trainer.state.curve))[0])

    return step


def form_rows(measure, name: str, model: CAVMAE, count: int) -> list[dict]:
    """A step of `count` clips in each form, in seconds and as a share of the plain one; those in bfloat16
    where the processor has it."""
    there = has_bfloat16(torch.device("cpu"))
    forms = {form: settings for form, settings in FORMS.items() if there or not settings.bf16}
    c, step = model.config, stepper(model)
    f_t, f_v = torch.randn(2, count, c.dim)
    pairs = Pairs(torch.randn(count, c.frames, c.mel_bins), f_t, f_v, torch.arange(count))

    def steps(settings: AlignSettings) -> Callable[[], None]:
        # As many as have one pass of the twin.
        return lambda: [step(pairs, settings) for _ in range(settings.twin_every)]

    seconds = measure({form: steps(settings) for form, settings in forms.items()})
    each = {form: seconds[form] / settings.twin_every for form, settings in forms.items()}
    return [
        {
            "what": f"a step of {count} clips, {name} size, {form}",
            "value": value,
            "unit": "s",
            "ratio": value / each["plain"],
        }
        for form, value in each.items()
    ]


def jobs(encoder: CAVMAEEncoder, tower: TextTower, clips: list[Clip]) -> dict[str, Callable[[], None]]:
    """One step on all the clips: from what was stored, and from their files (one picture of each)."""
    step, random, size = stepper(encoder.model), torch.Generator().manual_seed(0), len(clips)
    config, words = encoder.model.config, sorted({clip.label for clip in clips})
    vectors = dict(zip(words, label_vectors(tower, words)))
    stored = Batches(encode(encoder, clips, vectors), config, NOISE)

    def recomputed() -> None:
        # Text is encoded again for every sound of the batch, as a loop that keeps nothing does.
        tower.embed([clip.label for clip in clips])
        which = torch.randint(10, (size,), generator=random).tolist()
        seen = [Clip(c.id, c.label, c.sound, (c.pictures[i],)) for c, i in zip(clips, which)]
        step(Batches(encode(encoder, seen, vectors), config, NOISE)(random, size))

    return {"stored": lambda: step(stored(random, size)), "recomputed": recomputed}


def step_parts(model: CAVMAE, count: int) -> dict[str, Callable[[], None]]:
    """What a step of `count` stored clips does, part by part; the step is their sum. They are measured one by
    one, since a step at CAV-MAE's size needs more memory than a small machine has."""
    config, settings = model.config, AlignSettings(batch=count)
    fbanks = torch.randn(count, config.frames, config.mel_bins)
    vectors = torch.randn(3, count, config.dim)
    parameters = model.audio_parameters()
    for parameter in parameters:
        parameter.requires_grad_(True)

    def tower() -> None:
        for parameter in parameters:
            parameter.grad = None
        model.audio_features(fbanks).square().mean().backward()

    def twin() -> None:
        with torch.no_grad():
            model.audio_features(fbanks)

    def losses() -> None:
        f_a = vectors[0].clone().requires_grad_(True)
        pairs = Pairs(fbanks, vectors[1], vectors[2], torch.arange(count))
        stored = SimpleNamespace(audio_features=lambda *given: vectors[0])
        eq1(model, stored, pairs, settings, 0.4, None, audio_features=lambda *given: f_a)[0].backward()

    def augmented() -> None:
        random = torch.Generator().manual_seed(0)
        for row in fbanks:
            NOISE(row[None].half().float(), config, random)

    optimizer = torch.optim.AdamW(parameters, lr=1e-6)

    def update() -> None:
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.full_like(parameter, 1e-4)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    def followed() -> None:
        follow(model, model, settings.m)

    return {
        TOWER: tower,
        "the twin, forwards": twin,
        "losses": losses,
        "reading and augmentation": augmented,
        "clipping and optimizer": update,
        "the twin follows": followed,
    }


def step_rows(measure, name: str, model: CAVMAE, count: int) -> list[dict]:
    """The parts of a step, their sum, and what that makes of BATCH clips, in seconds and as shares of the
    audio tower alone."""
    seconds = measure(step_parts(model, count))
    tower, whole = seconds[TOWER], sum(seconds.values())
    more = (BATCH / count - 1) * sum(seconds[part] for part in OF_CLIPS)
    shares = {what: (value, value / tower) for what, value in seconds.items()}
    shares[f"a step of {count} clips, the sum of its parts"] = whole, whole / tower
    shares[f"reckoned for {BATCH} clips"] = whole + more, (whole + more) / (tower * BATCH / count)
    return [
        {"what": f"{name} size: {what}", "value": value, "unit": "s", "ratio": ratio}
        for what, (value, ratio) in shares.items()
    ]


def cavmae_and_clip() -> tuple[CAVMAEEncoder, TextTower]:
    """Both at their published sizes, with random weights; words are tokens by chance."""
    from transformers import CLIPTextConfig, CLIPTextModel

    def tokenizer(texts: list[str], max_length: int, **_) -> dict[str, torch.Tensor]:
        return {"input_ids": torch.randint(49405, (len(texts), max_length))}

    # CLIP ViT-L/14's text encoder.
    sizes = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12)
    model = CAVMAE(CAVMAEConfig()).requires_grad_(False)
    return CAVMAEEncoder(model, [], torch.zeros(0, 768)), CLIPText(tokenizer, CLIPTextModel(sizes))


def audio_branch() -> CAVMAE:
    """CAV-MAE's audio branch at its published size, with random weights; nothing stands in the visual one."""
    model = CAVMAE(CAVMAEConfig(depth_v=1)).requires_grad_(False)
    model.blocks_v = model.blocks_u_v = nn.ModuleList()
    return model


def soundworlds() -> tuple[CAVMAEEncoder, TextTower]:
    from aai.soundworld.loaders import WEIGHTS, load_sound_encoder, load_text
    from aai.soundworld.text import CaptionEncoder

    return load_sound_encoder(), CaptionEncoder(*load_text(WEIGHTS))


def rows(measure) -> list[dict]:
    made = step_rows(measure, "SoundWorld's", soundworlds()[0].model, 16)
    made += step_rows(measure, "CAV-MAE's", audio_branch(), 2)
    made += form_rows(measure, "SoundWorld's", soundworlds()[0].model, 16)
    made += form_rows(measure, "CAV-MAE's", audio_branch(), 2)
    for name, towers, count in (("SoundWorld's", soundworlds, 16), ("CAV-MAE's", cavmae_and_clip, 2)):
        with tempfile.TemporaryDirectory() as folder:
            clips = make_clips(Path(folder), count)
            seconds = measure(jobs(*towers(), clips))
        for job, how in (("stored", "features stored"), ("recomputed", "files and towers again")):
            made.append(
                {
                    "what": f"step, {name} size, {count} clips, {how}",
                    "value": count / seconds[job],
                    "unit": "clips/s",
                    "ratio": seconds["recomputed"] / seconds[job],
                }
            )
    return made + fbank.rows(measure)
