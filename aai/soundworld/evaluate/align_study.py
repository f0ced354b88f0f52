"""`python -m aai.soundworld.align_study`: what eq. 1's parts are worth, and what SoundWorld teaches about
real sound.

- ablation: eq. 1 whole, without momentum, without L_c(A, V), without L_c(A, T), on SoundWorld's synthesized
  sounds, pictures and words, some seeds each: the paper's Tables 1 to 3.
- cheaper: eq. 1 in forms that cost less a step, in the same way, with their seconds a step.
- real: ten classes of recordings (ESC-10), each fold in turn held out, from random weights and from an
  encoder pre-trained on SoundWorld's synthesized sounds only. Fold 5 is never opened.

The visual tower is the shipped one, frozen; the audio branch starts from random weights, since the
shipped one is trained by the whole of eq. 1. A finished run is kept, so a stopped study resumes where it was.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ... import files
from ...align.evaluate import retrieval_tables
from ...align.settings import AlignSettings
from ...align.train import Pairs, align
from ...encoders.cavmae import CAVMAE
from ...encoders.loaders import load as load_encoder
from ...encoders.loaders import save as save_encoder
from ...errors import InputError
from ...metrics import Share, nearest_label
from ..build.sound_encoder import as_encoder, level_vectors, nepers
from ..captions import phrase
from ..world import ESC10, EVENTS, FOLDS
from .align_data import Study, embed_fbanks, new_model
from .align_sounds import SILENCE_LOG_ENERGY, at_level, mix, vary

OUT = Path("out/align_study")
TEMPLATE = "the sound of {}"
VARIANTS = {
    "eq. 1": {},
    # Without pseudo-targets alpha has nothing to weigh: L_c(A, V) counts whole, as the paper's "w/o m".
    "without momentum": {"momentum": "none", "alpha": 0.0},
    # L_t compares sounds with pictures too, so it goes with L_c(A, V): what is left is L_c(A, T).
    "without L_c(A, V)": {"audio_visual": False, "momentum": "none"},
    "without L_c(A, T)": {"audio_text": False},
}
FORMS = {
    # As the ablation has it: a quarter of the patches, which is what CAV-MAE's pre-training sees.
    "eq. 1": {},
    "in bf16": {"bf16": True},
    "an eighth of the patches": {"keep": 0.125},
    "the twin every other step": {"twin_every": 2},
    "the twin every fourth step": {"twin_every": 4},
    "bf16, an eighth, every other step": {"bf16": True, "keep": 0.125, "twin_every": 2},
}
ROUNDS = (1e-3, 8e-4, 6e-4, 4e-4)
ARMS = ("from nothing", "from SoundWorld")


def share(hits: Share) -> dict:
    return {"hits": hits.hits, "count": hits.count, "value": hits.value, "interval": hits.interval}


# --- eq. 1's parts


def ablation(study: Study, steps: int, seeds: int) -> dict:
    """Eq. 1's parts: every variant and seed; a table of means."""
    return compared(study, "ablation", VARIANTS, steps, seeds)


def cheaper(study: Study, steps: int, seeds: int) -> dict:
    """Eq. 1's cheaper forms: every form and seed; a table of means."""
    return compared(study, "cheaper", FORMS, steps, seeds)


def compared(study: Study, part: str, variants: dict[str, dict], steps: int, seeds: int) -> dict:
    """Trains from the same random weights with each variant's settings; figures, and a table of means."""
    next_batch = study.training()
    settings = AlignSettings(
        steps=steps, batch=study.batch, rate=1e-3, multi_positive=True, keep=0.25, ramp_steps=steps // 4
    )
    results: dict[str, list[dict]] = {name: [] for name in variants}
    # Seed by seed, so that a study that is stopped has compared all variants.
    for seed in range(seeds):
        for number, (name, changed) in enumerate(variants.items()):

            def make(seed: int = seed, changed: dict = changed) -> dict:
                model, begun = new_model(study, seed), time.process_time()
                align(model, next_batch, replace(settings, seed=seed, **changed))
                seconds = (time.process_time() - begun) / steps
                return {**measured(study, model), "seconds a step": seconds}

            results[name].append(study.run(f"{part}_{steps}/{number}_{seed}", make))
            study.say(f"seed {seed}, {name}: {summary(results[name][-1])}")
    done = {"steps": steps, "seeds": seeds, "variants": results}
    table = table_of_means(results)
    files.write(study.out / f"{part}_{steps}.json", json.dumps(done, indent=1).encode(), "The study")
    files.write(study.out / f"{part}_{steps}.md", table.encode(), "The study's table")
    print(table, flush=True)
    return done


def measured(study: Study, model: CAVMAE) -> dict:
    """Retrieval, audio-text and zero-shot of a model on sounds that it was not trained on."""
    test = study.test()
    f_a, f_t = embed_fbanks(model, test["fbanks"]), level_vectors(study.caption_encoder).flatten(0, 1)
    figures = {
        "retrieval": retrieval_tables(f_a, test["f_v"], f_t, test["labels"]),
        "audio-text": share(nearest_label(f_a, f_t, test["labels"])),
    }
    if study.recordings:
        real, words = study.real(), study.words()
        events = [event_of(words[label]) for label in real["labels"].tolist()]
        rows = torch.tensor([event is not None for event in events])
        truth = torch.tensor([EVENTS.index(event) for event in events if event])
        embeddings = embed_fbanks(model, real["fbanks"][rows])
        for prompt in ("{}", TEMPLATE):
            texts = [prompt.format(phrase(event, None)) for event in EVENTS]
            figures[f"zero-shot, {prompt}"] = share(
                nearest_label(embeddings, study.caption_encoder.sentence(texts).detach(), truth)
            )
    return figures


def event_of(word: str) -> str | None:
    """SoundWorld's event that a recording's label names, if it has it."""
    return ESC10.get(word.replace(" ", "_"))


def summary(figures: dict) -> str:
    table = figures["retrieval"][-1]
    rates = ", ".join(f"{name} {table[name]['R@1']:.3f}" for name in ("sound to picture", "sound to text"))
    zero = "".join(f", {k} {v['value']:.3f}" for k, v in figures.items() if k.startswith("zero"))
    return f"R@1 {rates}; audio-text {figures['audio-text']['value']:.3f}{zero}"


def table_of_means(results: dict[str, list[dict]]) -> str:
    """Markdown: mean and standard deviation over the seeds, in percent (MedR in rows)."""
    first = next(iter(results.values()))[0]
    columns: dict[str, Callable[[dict], float]] = {}
    for number, table in enumerate(first["retrieval"]):
        for direction in ("sound to picture", "picture to sound"):
            for figure in ("R@1", "R@5", "R@10", "MedR"):
                scale = 1 if figure == "MedR" else 100
                columns[f"{direction}, {table['subset']}, {figure}"] = (
                    lambda r, n=number, w=direction, f=figure, s=scale: s * r["retrieval"][n][w][f]
                )
    last = len(first["retrieval"]) - 1
    columns["text to sound, R@1"] = lambda r: 100 * r["retrieval"][last]["text to sound"]["R@1"]
    for name in first:
        if name not in ("retrieval", "seconds a step"):
            columns[f"{name}, top-1"] = lambda r, n=name: 100 * r[n]["value"]

    # Results from before a step's time was kept lack it.
    if all("seconds a step" in run for runs in results.values() for run in runs):
        columns["milliseconds of the processor a step"] = lambda r: 1000 * r["seconds a step"]

    def mean_and_spread(runs: list[dict], figure: Callable[[dict], float]) -> str:
        values = [figure(run) for run in runs]
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        return f"{statistics.mean(values):.1f}{spread}"

    lines = ["| | " + " | ".join(results) + " |", "| --- |" + " --- |" * len(results)]
    for name, figure in columns.items():
        lines.append(f"| {name} | " + " | ".join(mean_and_spread(r, figure) for r in results.values()) + " |")
    return "\n".join(lines) + "\n"


# --- real sound


def label_vectors(study: Study, words: list[str], seed: int = 0) -> Tensor:
    """Text vectors [L, D] of the recordings' labels, of length one.

    A word that SoundWorld knows has its text tower's vector. It does not know the others, so these get random
    directions orthogonal to all before them: as far apart as words can be, and nothing that an encoder could
    have learnt.
    """
    generator = torch.Generator().manual_seed(seed)
    known = [word for word in words if event_of(word)]
    texts = [phrase(event_of(word), None) for word in known]
    vectors = dict(zip(known, F.normalize(study.caption_encoder.sentence(texts).detach(), dim=-1)))
    for word in words:
        if word not in vectors:
            basis = torch.linalg.qr(torch.stack(list(vectors.values())).T)[0]
            fresh = torch.randn(len(basis), generator=generator)
            vectors[word] = F.normalize(fresh - basis @ (basis.T @ fresh), dim=-1)
    return torch.stack([vectors[word] for word in words])


def recorded_batches(
    fbanks: Tensor, levels: Tensor, labels: Tensor, f_t: Tensor
) -> Callable[[torch.Generator, int], Pairs]:
    """Batches of recordings, every class as often as another, varied as SoundWorld varies its sounds and up
    to 10 dB louder or softer. They have no pictures: f_v is zeros."""
    by_label = [(labels == label).nonzero()[:, 0] for label in range(len(f_t))]

    def next_batch(generator: torch.Generator, size: int) -> Pairs:
        chosen = torch.randint(len(f_t), (size,), generator=generator)

        def draw() -> Tensor:
            of = [by_label[i] for i in chosen.tolist()]
            rows = torch.stack([r[torch.randint(len(r), (), generator=generator)] for r in of])
            loud = nepers(levels[rows].clamp(min=-65.0))[:, None, None]
            return fbanks[rows].float() - loud

        energies = vary(mix(draw(), draw(), generator), generator)
        wanted = -25 + 10 * (2 * torch.rand(size, generator=generator) - 1)
        return Pairs(
            at_level(energies, wanted, generator), f_t[chosen], torch.zeros(size, f_t.shape[1]), chosen
        )

    return next_batch


def pretrained(study: Study, steps: int) -> CAVMAE:
    """Eq. 1 whole on synthesized sounds, in ROUNDS like SoundWorld's own encoder; each round is kept."""
    model = new_model(study, 0)
    for number, rate in enumerate(ROUNDS):
        path = study.out / f"pretrained_{steps}_{number}.safetensors"
        if not path.exists():
            part = max(steps // len(ROUNDS), 1)
            settings = AlignSettings(
                steps=part,
                batch=study.batch,
                rate=rate,
                multi_positive=True,
                keep=0.25,
                ramp_steps=part // 4,
                seed=number,
            )
            align(model, study.training(), settings, reporting(study, f"pre-training, round {number + 1}"))
            save_encoder(as_encoder(model, study.caption_encoder), path, torch.float32)
        model = load_encoder(path).model
    return model


def real(study: Study, steps: int, pretrain: int) -> dict:
    """Every fold held out in turn, from nothing and from SoundWorld."""
    clips, words = study.real(), study.words()
    f_t = label_vectors(study, words)
    # Set to one level before they are encoded: the microphone's distance says nothing about the class.
    levels = clips["loudness"]
    levelled = clips["fbanks"].float() + nepers(-25 - levels.clamp(min=-65.0))[:, None, None]
    levelled = levelled.clamp(min=SILENCE_LOG_ENERGY)
    start = pretrained(study, pretrain)
    known = torch.tensor([event_of(words[label]) is not None for label in clips["labels"].tolist()])
    untuned = nearest_label(embed_fbanks(start, levelled[known]), f_t, clips["labels"][known])
    study.say(f"from SoundWorld, not tuned, the {known.sum()} recordings of classes it knows: {untuned}")
    results: dict[str, list[dict]] = {arm: [] for arm in ARMS}
    for fold in FOLDS:
        test, train = clips["folds"] == fold, clips["folds"] != fold
        next_batch = recorded_batches(clips["fbanks"][train], levels[train], clips["labels"][train], f_t)
        for arm in ARMS:

            def make(fold: int = fold, arm: str = arm, test: Tensor = test, next_batch=next_batch) -> dict:
                model = new_model(study, fold)
                if arm == ARMS[1]:
                    model.load_state_dict(start.state_dict())
                curve = {}

                def measure(step: int, total: int, losses: dict) -> None:
                    if step % max(total // 5, 1) == 0 or step == total:
                        hits = nearest_label(embed_fbanks(model, levelled[test]), f_t, clips["labels"][test])
                        curve[step] = share(hits)
                        study.say(f"fold {fold}, {arm}, step {step}: {hits}")

                rate = 1e-3 if arm == ARMS[0] else 6e-4
                settings = AlignSettings(
                    steps=steps, batch=study.batch, rate=rate, multi_positive=True, keep=0.25, seed=fold,
                    audio_visual=False, momentum="none",
                )  # fmt: skip
                align(model, next_batch, settings, measure)
                return {"fold": fold, "arm": arm, "curve": curve}

            results[arm].append(study.run(f"real_{pretrain}_{steps}/{fold}_{ARMS.index(arm)}", make))
    done = {"steps": steps, "pretrain": pretrain, "not tuned": share(untuned), "arms": results}
    table = real_table(done, len(words))
    files.write(study.out / f"real_{pretrain}_{steps}.json", json.dumps(done, indent=1).encode(), "The study")
    files.write(study.out / f"real_{pretrain}_{steps}.md", table.encode(), "The study's table")
    print(table, flush=True)
    return done


def real_table(done: dict, classes: int) -> str:
    """Markdown: accuracy of each fold and of all, after the last step, and of all on the way there."""
    lines = [f"| {classes} classes | " + " | ".join(f"fold {f}" for f in FOLDS) + " | all |"]
    lines.append("| --- |" + " --- |" * (len(FOLDS) + 1))
    for arm, folds in done["arms"].items():
        for step in folds[0]["curve"]:
            ends = [fold["curve"][step] for fold in folds]
            every = Share(sum(e["hits"] for e in ends), sum(e["count"] for e in ends))
            cells = [f"{100 * e['value']:.1f}" for e in ends] + [str(every)]
            lines.append(f"| {arm}, {step} steps | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def reporting(study: Study, what: str) -> Callable[[int, int, dict], None]:
    def report(step: int, total: int, losses: dict) -> None:
        if step % 50 == 0:
            study.say(f"{what} {step}/{total}: loss {losses['loss']:.3f}")

    return report


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m aai.soundworld.align_study", description=__doc__)
    parser.add_argument("part", choices=("ablation", "cheaper", "real"))
    parser.add_argument("--out", type=Path, default=OUT, help="where it is kept (%(default)s)")
    parser.add_argument("--recordings", type=Path, help="ESC-10's folder of classes")
    parser.add_argument("--steps", type=int, default=300, help="training steps of each run (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="of each variant, not for real (%(default)s)")
    parser.add_argument(
        "--pretrain", type=int, default=1200, help="real: steps on synthesized sounds (%(default)s)"
    )
    parser.add_argument(
        "--sounds", type=int, default=2000, help="synthesized sounds to train on (%(default)s)"
    )
    options = parser.parse_args(arguments)
    if options.part == "real" and not options.recordings:
        raise InputError("Real sound needs recordings: give ESC-10's folder with --recordings.")
    study = Study(options.out, options.recordings, options.sounds)
    if options.part == "real":
        real(study, options.steps, options.pretrain)
    else:
        {"ablation": ablation, "cheaper": cheaper}[options.part](study, options.steps, options.seeds)


if __name__ == "__main__":
    main()
