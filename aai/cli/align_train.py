"""`aai align train`: eq. 1 at any size, on one machine or many.

The same command runs under `accelerate launch -m aai align train ...` or `torchrun -m aai align train ...`:
the processes share a batch, the work of encoding and its store, so all hosts must see the same folders.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..align.log import LOG, figures_log
from ..errors import InputError, encodable
from ..files import is_dir
from .arguments import add_force_argument
from .models import SOUNDWORLD, load_text_tower
from .outputs import check_encoder_file, free_name, make_folder
from .terminal import Commands, finite, positive, print_report, progress, say, seed

if TYPE_CHECKING:
    from ..align.pipeline import AlignData, Aligned
    from ..align.settings import AlignSettings
    from ..align.train import AlignResult
    from ..distributed import Distributed
    from ..encoders.cavmae_encoder import CAVMAEEncoder


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
        help="a share of every class to measure on, in whole recordings where names or folds tell them; the "
        "best weights are kept (%(default)s)",
    )  # fmt: skip
    sub.add_argument("--measure-every", type=positive, metavar="N", help="steps between two (one epoch)")
    sub.add_argument(
        "--augment", choices=AUGMENTS, default="noise",
        help="noise and turns in time (the paper), hidden bands and spans, both, or none (%(default)s)",
    )  # fmt: skip
    sub.add_argument("--gain", type=finite, default=0.0, metavar="DB", help="louder or softer by up to (0)")
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
    group.add_argument("--seed", type=seed, default=0, help="the same seed, the same result (%(default)s)")


def train(options: argparse.Namespace) -> None:
    from ..distributed import join, leave

    try:
        _train(options, join())
    finally:
        leave()


def _train(options: argparse.Namespace, distributed: Distributed) -> None:
    from ..align.augment import Augment
    from ..align.checkpoint import Checkpoint
    from ..align.pipeline import Callbacks, align_clips
    from ..precision import has_bfloat16

    check_encoder_file(options.output, options.force)
    if options.template != "label" and not options.text:
        raise InputError(
            f"--template {options.template} is for a text encoder, which reads it: name one with --text, or "
            "leave --template out."
        )
    # Before the clips are encoded, which may take a day.
    distributed.check(options.batch)
    notify = (lambda text: None) if distributed.rank else say(options)
    data = _data(options, notify)
    settings = _settings(options, len(data.train))
    if settings.bf16 and not has_bfloat16(distributed.device):
        notify("--bf16: this processor has no bfloat16 of its own, and trains faster without it.")
    encoder = _start(options)
    if options.text:
        data = replace(data, tower=load_text_tower(options.text), template=options.template)

    work = options.work or options.output.with_suffix(".training")
    state = work / "state.safetensors"
    make_folder(work, "The training", "--work")
    if options.restart and distributed.rank == 0:
        state.unlink(missing_ok=True)
    distributed.wait()

    def keep(stopped: AlignResult) -> None:
        path = free_name(options.output, len(stopped.curve))
        _save(options, path, encoder, settings, stopped)
        print(f"Training stopped; the encoder so far is {path}.", file=sys.stderr)

    quiet = options.json or distributed.rank > 0
    shown = _Progress(settings.steps, quiet, notify)
    with shown, figures_log(work, distributed) as log:

        def step(step: int, total: int, figures: dict) -> None:
            shown.step(step, figures)
            log(step, figures)

        try:
            aligned = align_clips(
                encoder,
                data,
                settings,
                Augment.named(options.augment, options.gain),
                Callbacks(shown.encoding, step, keep if distributed.rank == 0 else None, shown.encoded),
                measure_every=options.measure_every or _epoch(options, len(data.train)),
                store=options.store or work / "towers",
                checkpoint=Checkpoint(state, options.save_every, restart="--restart"),
                distributed=distributed,
            )
        except KeyboardInterrupt:
            if distributed.rank == 0 and state.exists():
                without = ", without --restart," if options.restart else ""
                print(f"The same command{without} goes on from the last state.", file=sys.stderr)
            raise
    if distributed.rank == 0:
        _save(options, options.output, encoder, settings, aligned.result)
        _report(options, aligned)


def _data(options: argparse.Namespace, notify: Callable[[str], None]) -> AlignData:
    """What to train on and what to measure on."""
    from ..align.pipeline import AlignData, hold_out
    from ..data.clips import scan, splits_of, train_split
    from ..soundworld.outside import examples

    scanned = scan(options.data, options.split)
    clips = train_split(scanned)
    if len(clips) < len(scanned):
        notify(f"training on the {len(clips)} clips of the split {splits_of(clips)}; --split takes another")
    if not 0 <= options.held_out < 1:
        raise InputError(f"A share of {options.held_out:g} cannot be held out: take 0 or more, and below 1.")
    train, held_out = hold_out(clips, options.held_out, options.seed)
    if options.held_out:
        if not held_out:
            raise InputError(
                f"No class of '{options.data}' has clips enough, and recordings enough, to hold out "
                f"{options.held_out:.0%}: add some, hold out more, or leave --held-out away."
            )
        unmeasured = sorted({clip.label for clip in train} - {clip.label for clip in held_out})
        if unmeasured:
            notify(f"trained on and not measured, for too few clips or recordings: {', '.join(unmeasured)}")
    path = Path(options.data)
    folder = path if is_dir(path) else path.parent
    return AlignData(train, held_out, folder=folder, outside=examples)


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
    InputError for another precision of accelerate's."""
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if not options.bf16 and precision not in ("no", "bf16"):
        raise InputError(
            f"accelerate asks for mixed precision {precision}, but the audio tower trains in float32 or "
            "bf16: launch with --mixed_precision bf16, or no."
        )
    return options.bf16 or precision == "bf16"


def _start(options: argparse.Namespace) -> CAVMAEEncoder:
    if options.encoder == SOUNDWORLD:
        from ..soundworld.loaders import load_sound_encoder

        return load_sound_encoder()
    from ..encoders.loaders import load_start

    return load_start(options.encoder)


def _save(
    options: argparse.Namespace,
    path: Path,
    encoder: CAVMAEEncoder,
    settings: AlignSettings,
    result: AlignResult,
) -> None:
    import torch

    from ..encoders.loaders import save

    encoder.name = path.stem
    save(
        encoder,
        path,
        torch.float16 if options.half else torch.float32,
        made_by="aai align train",
        start=Path(options.encoder).name,
        data=encodable(Path(options.data).resolve().name),
        text=encoder.space if options.text else "",
        template=options.template,
        settings=json.dumps(asdict(settings)),
        step=str(result.step),
    )


def _report(options: argparse.Namespace, aligned: Aligned) -> None:
    result, steps = aligned.result, len(aligned.losses)
    recent = aligned.losses[-50:]
    report = {
        "file": str(options.output),
        "clips": aligned.clips,
        "labels": aligned.labels,
        "steps": steps,
        "kept_step": result.step,
        "loss": sum(recent) / len(recent),
        "tau": result.tau,
        "held_out": aligned.held_out,
        "measured": result.measured,
        "measured_last": result.last,
        "left_out": [str(clip.sound) for clip in aligned.left_out],
    }
    text = (
        f"{options.output}: {steps} steps on {aligned.clips} clips of {aligned.labels} labels, loss "
        f"{report['loss']:.3f}"
    )
    if result.measured is not None:
        text += (
            f"; step {result.step} names {result.measured:.1%} of {aligned.held_out} held-out clips, on "
            "which it was chosen"
        )
    if result.last is not None:
        text += f"; the last step {result.last:.1%}"
    print_report(options, report, text)


class _Progress(contextlib.ExitStack):
    """The bars of a training, one after the other, and a line for each measurement."""

    def __init__(self, steps: int, quiet: bool, notify: Callable[[str], None]):
        super().__init__()
        self.steps, self.quiet, self.notify = steps, quiet, notify
        self.held_out = 0
        self.tick: Callable[[int], None] | None = None
        self.last = 0

    def encoding(self, done: int, clips: int) -> None:
        if self.tick is None:
            self.tick = self.enter_context(progress("encoding", clips, self.quiet))
        self.tick(done)

    def encoded(self, held_out: int, note: str) -> None:
        # Ends the bar of the encoding.
        self.close()
        self.held_out = held_out
        if note:
            self.notify(note)

    def step(self, step: int, figures: dict) -> None:
        if not self.last:
            self.tick = self.enter_context(progress("training", self.steps, self.quiet))
        if step > self.last + 1:
            self.notify(f"goes on from step {step - 1}")
        self.last = step
        self.tick(step)
        if "measured" in figures:
            if sys.stderr.isatty() and not self.quiet:
                # Ends the bar's line.
                print(file=sys.stderr)
            self.notify(
                f"step {step} of {self.steps}: names {figures['measured']:.1%} of {self.held_out} held-out "
                f"clips, loss {figures['loss']:.3f}"
            )
