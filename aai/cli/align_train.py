"""`aai align train`: eq. 1 at any size, on one machine or many.

The same command runs under `accelerate launch -m aai align train ...` or `torchrun -m aai align train ...`:
the processes share a batch, the work of encoding and its store, so all hosts must see the same folders.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..align.log import LOG, _log
from ..errors import InputError
from ..files import is_dir
from .arguments import add_force_argument
from .models import SOUNDWORLD, load_text_tower
from .outputs import check_encoder_file
from .terminal import Commands, positive, print_report, progress, say

if TYPE_CHECKING:
    from ..align.augment import Augment
    from ..align.distributed import Distributed
    from ..align.features import Features
    from ..align.settings import AlignSettings
    from ..align.train import AlignResult
    from ..data.clips import Clip
    from ..encoders.cavmae_encoder import CAVMAEEncoder
    from ..encoders.text import TextTower


AUGMENTS = ("noise", "hide", "both", "none")


def add(align: Commands) -> None:
    sub = align.add(
        "train",
        train,
        "tune CAV-MAE's audio branch on sounds, pictures and labels",
        "aai align train vggsound -o sounds.safetensors --encoder audio_model.21.pth --text sd15",
    )
    sub.add_argument("data", metavar="DATA", help="a folder of classes, or one that `aai data prepare` made")
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the encoder's file")
    add_force_argument(sub)
    sub.add_argument(
        "--encoder", default=SOUNDWORLD, metavar="FILE",
        help="where to start: a public CAV-MAE file or an encoder of this pack (%(default)s)",
    )  # fmt: skip
    sub.add_argument(
        "--text", metavar="DIR",
        help="whose words: a Stable Diffusion folder or hub name, or soundworld (the encoder's own labels)",
    )  # fmt: skip
    sub.add_argument(
        "--template", choices=("label", "sound", "both"), default="label",
        help='a label as it is, as "the sound of {label}", or both (%(default)s)',
    )  # fmt: skip
    sub.add_argument("--split", metavar="NAME", help="a split of prepared data (train, where there is one)")
    sub.add_argument(
        "--held-out", type=float, default=0.0, metavar="SHARE",
        help="a share of every class to measure on; the best weights are kept (%(default)s)",
    )  # fmt: skip
    sub.add_argument("--measure-every", type=positive, metavar="N", help="steps between two (one epoch)")
    sub.add_argument(
        "--augment", choices=AUGMENTS, default="noise",
        help="noise and turns in time (the paper), hidden bands and spans, both, or none (%(default)s)",
    )  # fmt: skip
    sub.add_argument("--gain", type=float, default=0.0, metavar="DB", help="louder or softer by up to (0)")
    _about_settings(sub)
    sub.add_argument(
        "--work", type=Path, metavar="DIR",
        help=f"where the training is kept, to go on from when it is stopped, and {LOG}, its figures "
        "(beside the output)",
    )  # fmt: skip
    sub.add_argument(
        "--store", type=Path, metavar="DIR", help="where the frozen towers' features are kept (in --work)"
    )
    sub.add_argument("--save-every", type=positive, default=200, metavar="N", help="steps (%(default)s)")
    sub.add_argument("--restart", action="store_true", help="begin anew; the towers' features are kept")
    sub.add_argument("--half", action="store_true", help="save the encoder in half precision")


def _about_settings(sub: argparse.ArgumentParser) -> None:
    group = sub.add_argument_group("eq. 1")
    length = group.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=positive, default=10, metavar="N", help="(%(default)s)")
    length.add_argument("--steps", type=positive, metavar="N", help="instead of epochs")
    group.add_argument(
        "--batch", type=positive, default=120, metavar="N",
        help="sounds that are told from one another, over all processes (%(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--accumulate", type=positive, default=1, metavar="N",
        help="batches a step; each has its own negatives only (%(default)s)",
    )  # fmt: skip
    group.add_argument("--rate", type=float, default=5e-5, metavar="X", help="learning rate (%(default)s)")
    group.add_argument(
        "--schedule", choices=("cosine", "paper"), default="cosine",
        help="of the rate: warm-up and a cosine, with clipped gradients; or the paper's, which never changes "
        "and clips nothing (%(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--warmup", type=positive, metavar="N", help="steps until it is whole (50, or a tenth)"
    )
    group.add_argument("--weight-decay", type=float, default=0.02, metavar="X", help="(%(default)s)")
    group.add_argument("--tau", type=float, default=0.05, metavar="X", help="temperature (%(default)s)")
    group.add_argument("--learn-tau", action="store_true", help="learn it, from --tau on")
    group.add_argument("--alpha", type=float, default=0.4, metavar="X", help="weight of L_t (%(default)s)")
    group.add_argument("--ramp-steps", type=int, metavar="N", help="steps until alpha is whole (one epoch)")
    group.add_argument("--m", type=float, default=0.995, metavar="X", help="the twin's part (%(default)s)")
    group.add_argument(
        "--momentum", choices=("audio", "literal", "literal_shared", "none"), default="audio",
        help="what the twin follows: the audio branch, or the paper's words in two readings (%(default)s)",
    )  # fmt: skip
    group.add_argument("--multi-positive", action="store_true", help="sounds of one label are all positives")
    group.add_argument("--no-audio-visual", action="store_true", help="leave out L_c(A, V) and L_t")
    group.add_argument("--no-audio-text", action="store_true", help="leave out L_c(A, T)")
    group.add_argument("--keep", type=float, default=1.0, metavar="X", help="share of patches heard (1)")
    group.add_argument("--bf16", action="store_true", help="run the audio tower in bfloat16")
    group.add_argument("--seed", type=int, default=0, help="the same seed, the same result (%(default)s)")


def train(options: argparse.Namespace) -> None:
    from ..align.distributed import join, leave

    try:
        _train(options, join())
    finally:
        leave()


def _train(options: argparse.Namespace, ranks: Distributed) -> None:
    from ..align.checkpoint import Checkpoint
    from ..align.features import encode
    from ..align.pipeline import align_encoder
    from ..encoders.fingerprint import digest
    from ..encoders.text import label_vectors

    check_encoder_file(options.output, options.force)
    # Before the clips are encoded, which may take a day.
    ranks.check(options.batch)
    quiet = options.json or ranks.rank > 0
    told = (lambda text: None) if ranks.rank else say(options)
    clips, held_out = _clips(options, told)
    settings = _settings(options, len(clips))
    encoder = _start(options)
    tower = load_text_tower(options.text) if options.text else None
    words = sorted({clip.label for clip in clips})
    vectors = dict(zip(words, label_vectors(tower, words, options.template))) if tower else None
    start = digest(*encoder.model.parameters(), [(clip.id, clip.label) for clip in (*clips, *held_out)])
    encoder.model.to(ranks.device)

    work = options.work or options.output.with_suffix(".training")
    store = options.store or work / "towers"
    state = work / "state.safetensors"
    _make(work)
    if options.restart and ranks.rank == 0:
        state.unlink(missing_ok=True)
    ranks.wait()
    data = Path(options.data)
    folder = data if is_dir(data) else data.parent
    with progress("encoding", len(clips) + len(held_out), quiet) as tick:

        def encoded(some: list[Clip], tokens: bool, begun: int) -> Features:
            return encode(encoder, some, vectors, tokens, lambda i, _: tick(begun + i), store, ranks, folder)

        examples = encoded(clips, settings.momentum == "literal_shared", 0)
        test = encoded(held_out, False, len(clips)) if held_out else None
    about = digest(start, options.augment, options.gain)
    checkpoint = Checkpoint(state, options.save_every, about, examples.f_t)
    every = options.measure_every or max(1, _epoch(options, len(clips)))
    seen = 0
    with progress("training", settings.steps, quiet) as tick, _log(work, ranks) as log:

        def follow(step: int, total: int, figures: dict) -> None:
            nonlocal seen
            if step > seen + 1:
                told(f"goes on from step {step - 1}")
            seen = step
            tick(step)
            log(step, figures)
            if "measured" in figures:
                if sys.stderr.isatty() and not quiet:
                    # Ends the bar's line.
                    print(file=sys.stderr)
                told(
                    f"step {step} of {total}: names {figures['measured']:.1%} of {len(held_out)} held-out "
                    f"clips, loss {figures['loss']:.3f}"
                )

        def keep(stopped: AlignResult) -> None:
            path = options.output.with_stem(f"{options.output.stem}-step{len(stopped.curve)}")
            _save(options, path, encoder, tower, settings, stopped)
            print(f"Training stopped; the encoder so far is {path}.", file=sys.stderr)

        try:
            result = align_encoder(
                encoder,
                examples,
                settings,
                _augment(options),
                test,
                follow,
                every,
                ranks,
                checkpoint,
                keep if ranks.rank == 0 else None,
            )
        except KeyboardInterrupt:
            if ranks.rank == 0 and state.exists():
                without = ", without --restart," if options.restart else ""
                print(f"The same command{without} goes on from the last state.", file=sys.stderr)
            raise
    if ranks.rank == 0:
        _finish(options, encoder, tower, settings, result, len(clips), len(held_out))


def _clips(options: argparse.Namespace, told: Callable[[str], None]) -> tuple[list[Clip], list[Clip]]:
    """What to train on and what to measure on."""
    from ..align.pipeline import split
    from ..data.clips import scan

    clips = scan(options.data, options.split)
    if options.split is None and {"train"} < {clip.split for clip in clips}:
        clips = [clip for clip in clips if clip.split == "train"]
        told(f"training on the {len(clips)} clips of the split 'train'; --split takes another")
    if not 0 <= options.held_out < 1:
        raise InputError(f"A share of {options.held_out:g} cannot be held out: take 0 or more, and below 1.")
    if not options.held_out:
        return clips, []
    counts = Counter(clip.label for clip in clips)
    single = sorted(label for label, count in counts.items() if count == 1)
    clips, held_out = split(clips, options.held_out, options.seed)
    if not held_out:
        raise InputError(
            f"No class of '{options.data}' has clips enough to hold out {options.held_out:.0%}: add clips, "
            "hold out more, or leave --held-out away."
        )
    if single:
        told(f"only one clip, which is trained on and not measured: {', '.join(single)}")
    return clips, held_out


def _epoch(options: argparse.Namespace, clips: int) -> int:
    """The steps of an epoch."""
    return max(1, clips // (min(options.batch, clips) * options.accumulate))


def _settings(options: argparse.Namespace, clips: int) -> AlignSettings:
    from ..align.settings import AlignSettings

    if options.warmup and options.schedule == "paper":
        raise InputError(
            "The paper's schedule has no warm-up: leave --warmup out, or take --schedule cosine."
        )
    epoch = _epoch(options, clips)
    steps = options.steps or options.epochs * epoch
    return AlignSettings(
        steps=steps,
        batch=options.batch,
        rate=options.rate,
        weight_decay=options.weight_decay,
        tau=options.tau,
        learn_tau=options.learn_tau,
        alpha=options.alpha,
        ramp_steps=epoch if options.ramp_steps is None else options.ramp_steps,
        m=options.m,
        momentum=options.momentum,
        multi_positive=options.multi_positive,
        audio_visual=not options.no_audio_visual,
        audio_text=not options.no_audio_text,
        keep=options.keep,
        warmup=options.warmup or max(1, min(50, steps // 10)),
        seed=options.seed,
        accumulate=options.accumulate,
        bf16=_in_bf16(options),
        schedule=options.schedule,
    )


def _in_bf16(options: argparse.Namespace) -> bool:
    """Whether the command asks for bfloat16, or `accelerate launch --mixed_precision bf16` does. Raises
    InputError where accelerate asks for a precision that there is not."""
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if not options.bf16 and asked not in ("no", "bf16"):
        raise InputError(
            f"accelerate asks for mixed precision {asked}, but the audio tower trains in float32 or bf16: "
            "launch with --mixed_precision bf16, or no."
        )
    return options.bf16 or asked == "bf16"


def _start(options: argparse.Namespace) -> CAVMAEEncoder:
    from ..encoders.loaders import load_start

    if options.encoder == SOUNDWORLD:
        from ..soundworld.loaders import load_sound_encoder

        encoder = load_sound_encoder()
    else:
        encoder = load_start(options.encoder)
    if options.momentum == "literal_shared":
        encoder.model = encoder.model.shared().eval()
    return encoder


def _augment(options: argparse.Namespace) -> Augment | None:
    from ..align.augment import Augment

    if options.augment == "none" and not options.gain:
        return None
    noise, hide = options.augment in ("noise", "both"), options.augment in ("hide", "both")
    return Augment(hide=hide, noise=noise, gain=options.gain, turn=noise)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The training cannot be kept in '{folder}' ({error.strerror or error}): choose another --work."
        ) from error


def _save(
    options: argparse.Namespace,
    path: Path,
    encoder: CAVMAEEncoder,
    tower: TextTower | None,
    settings: AlignSettings,
    result: AlignResult,
) -> None:
    from dataclasses import asdict

    import torch

    from ..encoders.loaders import save

    encoder.name = path.stem
    if tower:
        encoder.space = tower.name
    save(
        encoder,
        path,
        torch.float16 if options.half else torch.float32,
        made_by="aai align train",
        start=Path(options.encoder).name,
        text=tower.name if tower else "",
        template=options.template,
        settings=json.dumps(asdict(settings)),
        step=str(result.step),
    )


def _finish(
    options: argparse.Namespace,
    encoder: CAVMAEEncoder,
    tower: TextTower | None,
    settings: AlignSettings,
    result: AlignResult,
    clips: int,
    held_out: int,
) -> None:
    _save(options, options.output, encoder, tower, settings, result)
    recent = [figures["loss"] for figures in result.curve[-50:]]
    report = {
        "file": str(options.output),
        "clips": clips,
        "labels": len(encoder.labels),
        "steps": settings.steps,
        "kept_step": result.step,
        "loss": sum(recent) / len(recent),
        "tau": result.tau,
        "held_out": held_out,
        "measured": result.measured,
    }
    text = (
        f"{options.output}: {settings.steps} steps on {clips} clips of {report['labels']} labels, loss "
        f"{report['loss']:.3f}"
    )
    if result.measured is not None:
        text += f"; step {result.step} names {result.measured:.1%} of {held_out} held-out clips"
    print_report(options, report, text)
