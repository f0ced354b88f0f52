"""`aai adapt`: adapters that make every sound a word of a picture model at once.

`aai adapt train` runs under `accelerate launch -m aai adapt train ...` or `torchrun` too: the processes share
a batch, so all hosts must see the same folders.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .arguments import add_encoder_argument, add_force_argument, add_model_arguments
from .models import load_encoder, load_model
from .outputs import check_adapter_file, make_folder, save_trained
from .terminal import Commands, limit, positive, print_report, progress, say, seed

if TYPE_CHECKING:
    from ..adapt.universal import SoundAdapter
    from ..adapt.universal_settings import AdapterSettings
    from ..data.clips import Clip
    from ..distributed import Distributed


def add(commands: Commands) -> None:
    adapt = commands.group("adapt", "teach an adapter to make any sound a word at once")
    _add_train(adapt)
    sub = adapt.add("info", info, "tell where an adapter comes from", "aai adapt info sounds.safetensors")
    sub.add_argument("adapter", type=Path, metavar="FILE", help="an adapter of aai adapt train")


def _add_train(adapt: Commands) -> None:
    sub = adapt.add(
        "train",
        train,
        "train an adapter for a picture model on sounds with their pictures, or with labels alone",
        "aai adapt train vggsound -o vgg.safetensors --encoder aligned.safetensors --model sd15 --steps 5000",
    )
    sub.add_argument(
        "data",
        metavar="DATA",
        help="a folder of classes, or one that aai data prepare made; without any pictures in it, the "
        "words are learned from the labels",
    )
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the adapter's file")
    add_force_argument(sub)
    add_encoder_argument(sub)
    add_model_arguments(sub)
    sub.add_argument("--split", metavar="NAME", help="a split of prepared data (train, where there is one)")
    sub.add_argument("--steps", type=positive, default=300, metavar="N", help="training steps (%(default)s)")
    sub.add_argument("--rate", type=float, default=1e-3, metavar="R", help="Adam's rate (%(default)s)")
    sub.add_argument(
        "--batch",
        type=positive,
        default=8,
        metavar="N",
        help="sounds a step, over all processes (%(default)s)",
    )
    sub.add_argument(
        "--chunk", type=int, default=0, metavar="N", help="how many at a time: less memory (all)"
    )
    sub.add_argument("--checkpointing", action="store_true", help="much less memory, a third more time")
    sub.add_argument(
        "--rho",
        type=limit,
        default=1.0,
        metavar="R",
        help="how long the adapter's part may become, as a share of the sound's; 0: no limit (%(default)s)",
    )
    sub.add_argument(
        "--vectors", type=positive, default=1, metavar="N", help="words' places of a token (%(default)s)"
    )
    sub.add_argument(
        "--template",
        default="a photo of *",
        metavar="TEXT",
        help="the training prompt, 'objects' or 'styles' (%(default)s)",
    )
    sub.add_argument("--size", type=positive, metavar="N", help="pixels a side (the model's own)")
    sub.add_argument("--seed", type=seed, default=0, help="the same seed, the same result (%(default)s)")
    sub.add_argument("--licence", metavar="TEXT", help="what the adapter's file says of the rights in it")
    sub.add_argument("--half", action="store_true", help="save the adapter in half precision")
    sub.add_argument(
        "--work",
        type=Path,
        metavar="DIR",
        help="where the training is kept, to go on from when it is stopped (beside the output)",
    )
    sub.add_argument("--save-every", type=positive, default=100, metavar="N", help="steps (%(default)s)")
    sub.add_argument("--restart", action="store_true", help="begin anew")


def train(options: argparse.Namespace) -> None:
    from ..distributed import join, leave

    try:
        _train(options, join())
    finally:
        leave()


def _train(options: argparse.Namespace, distributed: Distributed) -> None:
    from ..adapt import universal_file
    from ..adapt.examples import digest_of, from_clips
    from ..adapt.resumption import check_alike
    from ..adapt.universal_train import AdapterRun, train_adapter
    from ..align.log import figures_log
    from ..encoders.fingerprint import encoder_fingerprint

    check_adapter_file(options.output, options.force)
    settings = _settings(options)
    # Before the clips are encoded, which may take hours.
    distributed.check(settings.batch)
    first, quiet = distributed.rank == 0, options.json or distributed.rank > 0
    clips = _clips(options, (lambda text: None) if not first else say(options))
    device = str(distributed.device) if distributed.count > 1 else options.device
    encoder, model = load_encoder(options.encoder), load_model(options.model, device, options.dtype)
    encoder.to(model.device)

    work = options.work or options.output.with_suffix(".training")
    state = work / "state.safetensors"
    make_folder(work, "The training", "--work")
    resume = universal_file.load(state) if state.exists() and not options.restart else None
    name = Path(options.data).name or str(options.data)
    if resume is not None and resume.steps == settings.steps:
        finished = _as_asked(options, resume)
        # Another process must not find what this one has written.
        if distributed.agree(float(not _is_written(options, finished))):
            heard_by = encoder_fingerprint(encoder.family, encoder.state()[0])
            held = digest_of(clips, options.size or model.native_size)
            check_alike(resume, settings, heard_by, model.fingerprint, held)
            if first:
                _write(options, finished)
            return

    def keep(adapter: SoundAdapter) -> None:
        if first:
            universal_file.save(adapter, state, training=True)

    with progress("encoding", 1, quiet) as tick:
        examples = from_clips(
            clips, encoder, model, settings, options.size,
            name=name, distributed=distributed, resume=resume,
            callback=lambda done, total: tick(done / total),
        )  # fmt: skip
    if options.restart and first:
        # Not before: what is wrong with the command shall not cost the training that is kept.
        state.unlink(missing_ok=True)
    run = AdapterRun(model, examples, settings, distributed)
    with progress("training", settings.steps, quiet) as tick, figures_log(work, distributed, "adapt") as log:

        def step(done: int, total: int, loss: float) -> None:
            tick(done)
            log(done, {"loss": loss})

        try:
            adapter = train_adapter(
                run, options.output.stem, callback=step, on_stop=keep, watch=keep,
                watch_every=options.save_every, resume=resume,
                provenance={"licence": options.licence} if options.licence else {},
            )  # fmt: skip
        except KeyboardInterrupt:
            if first and state.exists():
                without = ", without --restart," if options.restart else ""
                print(f"The same command{without} goes on from the last state.", file=sys.stderr)
            raise
    if first:
        try:
            keep(adapter)
        finally:
            # Also where its state cannot be kept.
            _write(options, adapter)


def _as_asked(options: argparse.Namespace, adapter: SoundAdapter) -> SoundAdapter:
    """The adapter with the name and the licence that were asked for."""
    licence = {"licence": options.licence} if options.licence else {}
    return replace(adapter, name=options.output.stem, provenance={**adapter.provenance, **licence})


def _is_written(options: argparse.Namespace, adapter: SoundAdapter) -> bool:
    """Whether the output is the adapter's file, written as is asked for now."""
    from ..adapt.universal_file import load

    try:
        written = load(options.output)
    except InputError:
        return False
    same = (written.losses, written.provenance) == (adapter.losses, adapter.provenance)
    return same and not options.half


def _write(options: argparse.Namespace, adapter: SoundAdapter) -> None:
    """Writes the adapter's file and tells of it."""
    import torch

    from ..adapt import universal_file

    precision = torch.float16 if options.half else torch.float32
    save_trained(lambda path: universal_file.save(adapter, path, precision), options.output, adapter.steps)
    recent = adapter.losses[-50:]
    report = {
        "file": str(options.output),
        "data": adapter.data,
        "base": adapter.base,
        "steps": adapter.steps,
        "loss": sum(recent) / len(recent),
    }
    print_report(
        options,
        report,
        f"{options.output}: {adapter.steps} steps on {adapter.data}, loss {report['loss']:.4f}",
    )


def info(options: argparse.Namespace) -> None:
    from ..adapt.universal_file import load

    adapter = load(options.adapter)
    report = {
        "file": str(options.adapter),
        "base": adapter.base,
        "encoder": adapter.encoder_name,
        "data": adapter.data,
        "steps": adapter.steps,
        "words": adapter.widths,
        "vectors": adapter.g.vectors,
        "rho": adapter.g.rho,
        "provenance": adapter.provenance,
    }
    print_report(options, report, adapter.describe())


def _settings(options: argparse.Namespace) -> AdapterSettings:
    from ..adapt.universal_settings import AdapterSettings

    return AdapterSettings(
        steps=options.steps,
        rate=options.rate,
        batch=options.batch,
        seed=options.seed,
        rho=options.rho or None,
        vectors=options.vectors,
        template=options.template,
        chunk=options.chunk,
        checkpointing=options.checkpointing,
    )


def _clips(options: argparse.Namespace, notify) -> list[Clip]:
    """What to learn from. Raises InputError for a folder of which some sounds only have pictures."""
    from ..adapt.examples import check
    from ..data.clips import scan, splits_of, train_split

    scanned = scan(options.data, options.split, pictures=False)
    clips = train_split(scanned)
    if len(clips) < len(scanned):
        notify(f"training on the {len(clips)} clips of the split {splits_of(clips)}; --split takes another")
    check([clip.label for clip in clips], [len(clip.pictures) for clip in clips], f"'{options.data}'")
    if not clips[0].pictures:
        notify("no pictures: the words are learned from the labels alone")
    return clips
