"""`aai study`: the paper's studies on SoundWorld, or on sounds, pictures and models of one's own."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from ..errors import InputError
from .arguments import add_device_argument, add_force_argument
from .models import SOUNDWORLD, load_encoder, load_model
from .outputs import check_folder, check_json_file, check_output
from .terminal import Commands, finite, positive, print_report, progress, seed


def add(commands: Commands) -> None:
    group = commands.group("study", "repeat the paper's studies: references, adapter, compare, people")
    sub = group.add(
        "references",
        references,
        "vary the number of references and of training steps (Fig. 10)",
        "aai study references --events rain fire --steps 100 300 -o out/references",
    )
    sub.add_argument(
        "--steps",
        type=positive,
        nargs="+",
        default=[100, 300, 500, 1000, 3000],
        metavar="N",
        help="training steps (100 300 500 1000 3000)",
    )
    sub.add_argument(
        "--references", type=positive, nargs="+", default=[1, 3, 5], metavar="K", help="pictures (1 3 5)"
    )
    add_study_arguments(sub)
    for name, run, text in (
        ("adapter", adapter, "take f_a away, exchange it, or the references (Fig. 6)"),
        ("compare", compare, "text only, textual inversion, and the sound token (Fig. 5)"),
    ):
        sub = group.add(name, run, text, f"aai study {name} --events rain fire -o out/{name}")
        sub.add_argument(
            "--steps", type=positive, default=500, metavar="N", help="training steps (%(default)s)"
        )
        sub.add_argument("-k", type=positive, default=4, help="reference pictures (%(default)s)")
        add_study_arguments(sub)
        if name == "compare":
            sub.add_argument(
                "--gluenet",
                type=Path,
                metavar="FILE",
                help="GlueNet's weights (Apache-2.0): pictures of its states",
            )
            sub.add_argument(
                "--audioclip",
                type=Path,
                metavar="FILE",
                help="AudioCLIP's weights (MIT), through which it hears",
            )
    sub = group.add(
        "people",
        people,
        "let people rate pictures blindly (4.4): write the page, and count the answers",
        "aai study people out/compare -o out/people.html; aai study people --tally answers_*.json",
    )
    sub.add_argument(
        "study", type=Path, nargs="?", metavar="FOLDER", help="the folder of an `aai study compare`"
    )
    sub.add_argument(
        "-o", "--output", type=Path, default=Path("people.html"), metavar="FILE", help="%(default)s"
    )
    add_force_argument(sub)
    sub.add_argument(
        "--questions", type=positive, default=20, metavar="N", help="how many, at most (%(default)s)"
    )
    sub.add_argument(
        "--seed", type=seed, default=0, help="of what is asked, and in which order (%(default)s)"
    )
    sub.add_argument(
        "--key", type=Path, metavar="FILE", help="with --tally: the page's key (beside the page, -o)"
    )
    sub.add_argument(
        "--tally", type=Path, nargs="+", metavar="ANSWERS", help="count the answers that people sent back"
    )


def add_study_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="resumes there where it was stopped"
    )
    sub.add_argument("--seeds", type=positive, default=3, metavar="N", help="trainings (%(default)s)")
    sub.add_argument(
        "--events",
        nargs="+",
        metavar="NAME",
        help="which of SoundWorld's events, or of --sounds' classes (all)",
    )
    sub.add_argument(
        "--pictures", type=positive, default=4, metavar="N", help="how many a training draws (%(default)s)"
    )
    sub.add_argument("--batch", type=positive, default=4, help="of the training (%(default)s)")
    sub.add_argument("--rate", type=float, default=5e-3, help="of the training (%(default)s)")
    add_device_argument(sub)
    own = sub.add_argument_group("instead of SoundWorld")
    own.add_argument("--model", default=SOUNDWORLD, metavar="DIR", help="a diffusers model's folder")
    own.add_argument("--encoder", default=SOUNDWORLD, metavar="FILE", help="a sound encoder's file")
    own.add_argument("--sounds", type=Path, metavar="DIR", help="a folder of classes of sounds")
    own.add_argument("--library", type=Path, metavar="DIR", help="a folder of pictures")
    own.add_argument(
        "--clip", type=Path, metavar="DIR", help="a CLIP model: measures, and sees for an encoder that cannot"
    )
    own.add_argument("--wav2clip", type=Path, metavar="FILE", help="Wav2CLIP's weights, for AIS with --clip")
    own.add_argument("--sampling-steps", type=positive, metavar="N", help="of each picture (15; else 30)")
    own.add_argument("--guidance", type=finite, help="classifier-free guidance (4; else 7.5)")


def references(options: argparse.Namespace) -> None:
    from ..study.ablation import run

    count = len(options.steps) * len(options.references)
    _run(options, run, count, steps=options.steps, references=options.references)


def adapter(options: argparse.Namespace) -> None:
    from ..study.adapter import CONDITIONS, run

    _run(options, run, len(CONDITIONS), k=options.k)


def compare(options: argparse.Namespace) -> None:
    from ..study.compare import CONDITIONS, run

    if (options.gluenet is None) != (options.audioclip is None):
        raise InputError("GlueNet hears through AudioCLIP: give both --gluenet and --audioclip, or neither.")
    more = {}
    if options.gluenet:
        from ..encoders.gluenet import load

        more["gluenet"] = load(options.gluenet, options.audioclip)
    _run(options, run, len(CONDITIONS) + len(more), k=options.k, **more)


def people(options: argparse.Namespace) -> None:
    from ..study import user_study, user_study_tally

    if options.tally:
        report = user_study_tally.tally(options.tally, options.key or user_study.key_file(options.output))
        print_report(options, report, user_study_tally.shown(report))
        return
    if options.study is None:
        raise InputError("There is nothing to ask about: name the folder of an `aai study compare`.")
    check_output(options.output, "a page", (".html", ".htm"), user_study.is_ours, options.force)
    key = user_study.key_file(options.output)
    check_json_file(key, "a page's key", {"format", "study", "codes"}, options.force)
    report = user_study.write(options.study, options.output, options.questions, options.seed)
    shown = (
        f"{options.output}: {report['questions']} questions; send it to people, then --tally their answers"
    )
    print_report(options, report, shown)


def _run(options: argparse.Namespace, run: Callable, each: int, **more) -> None:
    from ..adapt.train import TrainSettings

    check_folder(options.output)
    setting = _setting(options)
    total = len(setting.subjects) * options.seeds * each
    steps = max(options.steps) if isinstance(options.steps, list) else options.steps
    settings = TrainSettings(steps=steps, rate=options.rate, batch=options.batch)
    done = 0
    with progress("pictures", total, options.json) as show:

        def tick(name: str) -> None:
            nonlocal done
            done += 1
            show(done)

        report = run(
            setting,
            options.output,
            seeds=options.seeds,
            count=options.pictures,
            settings=settings,
            tick=tick,
            **more,
        )
    findings = "\n".join(f"- {sentence}" for sentence in report["words"])
    print_report(options, report, f"{options.output / 'report.md'}\n{findings}")


def _setting(options: argparse.Namespace):
    from dataclasses import replace

    from ..study.setting import folder_setting, soundworld_setting

    if (options.sounds is None) != (options.library is None):
        raise InputError("Sounds and pictures of your own go together: give --sounds and --library.")
    if options.wav2clip is not None and options.clip is None:
        raise InputError("Wav2CLIP measures beside a CLIP: give --clip as well, or leave --wav2clip out.")
    if options.sounds is None:
        from ..soundworld.world import EVENTS

        own = {"--model": options.model, "--encoder": options.encoder, "--clip": options.clip}
        unused = next((name for name, given in own.items() if given not in (None, SOUNDWORLD)), None)
        if unused:
            raise InputError(
                f"{unused} is for a study of your own sounds and pictures: give --sounds and --library as "
                "well, or leave it out."
            )

        unknown = [name for name in options.events or () if name not in EVENTS]
        if unknown:
            raise InputError(f"SoundWorld has no event '{unknown[0]}': choose among {', '.join(EVENTS)}.")
        setting = soundworld_setting(options.events or EVENTS, load_model(SOUNDWORLD, options.device))
    else:
        setting = folder_setting(
            load_model(options.model, options.device),
            load_encoder(options.encoder),
            options.sounds,
            options.library,
            clip=options.clip,
            wav2clip=options.wav2clip,
            classes=options.events or (),
        )
    chosen = {"sampling_steps": options.sampling_steps, "guidance": options.guidance}
    return replace(setting, **{key: value for key, value in chosen.items() if value is not None})
