"""`aai eval retrieval`, `aai eval zeroshot`, `aai eval audiotext`: the paper's Tables 1 to 3."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from . import eval_pictures
from .arguments import add_device_argument, add_force_argument
from .models import SOUNDWORLD, device_of, load_encoder, load_text_tower
from .outputs import check_json_file
from .terminal import Commands, progress, report_table, say, seed

if TYPE_CHECKING:
    from torch import Tensor

    from ..align.evaluate import Embedded
    from ..audio import Sound
    from ..data.benchmarks import Recording
    from ..data.clips import Clip, File
    from ..encoders.base import SoundEncoder
    from ..library.towers import VisualTower
    from ..metrics import Share

ESC = re.compile(r"([1-5])-\d+-[A-Z]")
"""How names of ESC-50's and ESC-10's files begin: with the fold."""
DIRECTIONS = ("sound to picture", "picture to sound", "sound to text", "text to sound")


def add(commands: Commands) -> None:
    group = commands.group("eval", "measure sound encoders as the paper does, beside its figures")
    sub = group.add(
        "retrieval",
        retrieval,
        "R@1, R@5, R@10 and the median rank between sounds, pictures and labels (Table 1)",
        "aai eval retrieval vggsound --split test --encoder cavt.safetensors --text stable-diffusion-v1-5",
    )
    sub.add_argument("data", type=Path, metavar="DATA", help="a prepared dataset, shards, or classes")
    sub.add_argument("--seed", type=seed, default=0, help="draws the subsets (%(default)s)")
    _add_arguments(sub, split=True)

    sub = group.add(
        "zeroshot",
        zeroshot,
        "the label nearest to a sound, on a set that no training has seen (Table 2)",
        "aai eval zeroshot ESC-50-master --encoder cavt.safetensors --text stable-diffusion-v1-5",
    )
    sub.add_argument("data", type=Path, metavar="DATA", help="ESC-50's or UrbanSound8K's folder, or classes")
    sub.add_argument("--esc10", action="store_true", help="only ESC-10's ten classes of ESC-50")
    sub.add_argument("--folds", metavar="N,N", help="only these folds (all)")
    _add_arguments(sub)

    sub = group.add(
        "audiotext",
        audiotext,
        "the label nearest to a sound, among all labels of the set (Table 3)",
        "aai eval audiotext vggsound --split test --encoder cavt.safetensors --text stable-diffusion-v1-5",
    )
    sub.add_argument("data", type=Path, metavar="DATA", help="a prepared dataset, shards, or classes")
    _add_arguments(sub, split=True)

    eval_pictures.add(group)


def _add_arguments(sub: argparse.ArgumentParser, split: bool = False) -> None:
    sub.add_argument(
        "--encoder",
        action="append",
        metavar="FILE",
        help=f"a sound encoder's file; may be given again, a row for each ({SOUNDWORLD})",
    )
    sub.add_argument(
        "--text",
        metavar="DIR",
        help=f"the text tower: a Stable Diffusion folder, a CLIP, or {SOUNDWORLD} (the encoder's own labels)"
        "; for Wav2CLIP and SGSIM CLIP ViT-B/32's folder, for AudioCLIP any of OpenAI's CLIPs",
    )
    if split:
        sub.add_argument(
            "--split", metavar="NAME", help="a split of prepared data (test, where there is one)"
        )
    add_device_argument(sub, "the encoder")
    sub.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the result as JSON too (.json)")
    add_force_argument(sub)


def retrieval(options: argparse.Namespace) -> None:
    import torch

    from ..align.evaluate import embed_pictures, retrieval_tables
    from ..align.paper_tables import NO_TARGETS, RETRIEVAL

    _check_output(options)
    clips, split = _clips(options)
    words, numbers = _labels(clips)
    shown: dict[File, Clip] = {}
    for clip in clips:
        shown.setdefault(clip.pictures[clip.middle], clip)
    places = {file: place for place, file in enumerate(shown)}
    pictures = torch.tensor([places[clip.pictures[clip.middle]] for clip in clips])
    rows, lines, notes = [], [], [NO_TARGETS["retrieval"]]
    refusals: list[str] = []
    left_out = 0
    if len(shown) < len(clips):
        notes.append(
            f"The {len(clips)} clips have {len(shown)} pictures; those that share one share a target."
        )
    for name, encoder in _encoders(options):
        heard = _heard(options, encoder, [(str(clip.sound), clip.load_sound) for clip in clips])
        f_v, f_t, own, refusals = None, None, pictures, [*refusals, *heard.refusals]
        notes += _origin(name, encoder)
        if tower := _visual_tower(options, encoder):
            with progress("seeing", len(shown), options.json) as tick:
                loaders = [partial(clip.load_picture, clip.middle) for clip in shown.values()]
                seen = embed_pictures(tower, loaders, tick)
            f_v, own, refusals = seen.features, seen.places(pictures), [*refusals, *seen.refusals]
        else:
            notes.append(f"{name} has no visual tower, so it finds no pictures.")
        try:
            f_t = _vectors(options, encoder, words)
        except InputError as error:
            if options.text or f_v is None:
                raise
            notes.append(f"{name}: no text. {error}")
        whole = own[heard.rows] >= 0
        if not whole.any():
            raise InputError(f"None of the {len(clips)} clips can be measured. {refusals[0]}")
        kept = torch.tensor(heard.rows)[whole]
        left_out = max(left_out, len(clips) - len(kept))
        # Every encoder hears the same clips, and only those that see may miss some of them.
        audible = torch.tensor(numbers)[heard.rows]
        truth, among = audible[whole], (audible, whole.nonzero()[:, 0])
        tables = retrieval_tables(heard.features[whole], f_v, f_t, truth, options.seed, own[kept], among)
        rows.append({"encoder": name, "subsets": tables})
        for table in tables:
            for direction in (direction for direction in DIRECTIONS if direction in table):
                measures = table[direction]
                rates = [f"{100 * measures[f'R@{k}']:.2f}" for k in (1, 5, 10)]
                size = f"{table['clips']} clips, {table['classes']} classes"
                lines.append((table["subset"], name, direction, *rates, f"{measures['MedR']:g}", size))
    measured = {line[0] for line in lines}
    for name, subsets in RETRIEVAL.items():
        for subset, rates in ((s, r) for s, r in subsets.items() if s in measured):
            shown = [f"{rate:.2f}" for rate in rates]
            lines.append((subset, f"paper: {name}", "sound, picture", *shown, "", "VGGSound"))
    order = {"5 a class": 0, "10 a class": 1, "all": 2}
    lines.sort(key=lambda line: order[line[0]])
    head = ("subset", "encoder", "from, to", "R@1 %", "R@5 %", "R@10 %", "MedR", "set")
    report = {"data": str(options.data), "split": split, "encoders": rows, "paper": RETRIEVAL}
    refusals = list(dict.fromkeys(refusals))
    notes += _left_out(refusals, left_out, len(clips))
    report_table(options, {**report, "left_out": refusals}, head, lines, notes)


def zeroshot(options: argparse.Namespace) -> None:
    import torch

    from ..align.paper_tables import NO_TARGETS, ZERO_SHOT
    from ..data.benchmarks import read_recordings
    from ..encoders.text import TEMPLATES
    from ..metrics import nearest_label

    _check_output(options)
    folds = _folds(options.folds)
    name_of_set, recordings = read_recordings(options.data, folds, options.esc10)
    words, numbers = _labels(recordings)
    rows, lines, notes = [], [], [NO_TARGETS["zeroshot"]]
    for name, encoder in _encoders(options):
        notes += _origin(name, encoder) + _learned(name, recordings)
        heard = _heard(options, encoder, [(str(r.path), r.load_sound) for r in recordings])
        truth = torch.tensor(numbers)[heard.rows]
        for template in TEMPLATES["both" if options.text else "label"]:
            top1 = nearest_label(heard.features, _vectors(options, encoder, words, template), truth)
            rows.append({"encoder": name, "template": template, **_as_json(top1)})
            lines.append((name, template, _percent(top1.value), _interval(top1), name_of_set))
    for name, sets in ZERO_SHOT.items():
        for name_of, value in sets.items():
            if name_of_set in (name_of, "ESC-10") or name_of_set not in ("ESC-50", "UrbanSound8K"):
                lines.append((f"paper: {name}", "", f"{value:.2f}", "", name_of))
    notes.append(f"{len(recordings)} recordings of {len(words)} classes.")
    notes += _left_out(heard.refusals, len(heard.refusals), len(recordings))
    if not options.text:
        notes.append("Without --text only the encoder's own labels: the template was not tried.")
    head = ("encoder", "label as", "top-1 %", "95 % interval", "set")
    report = {"data": str(options.data), "set": name_of_set, "folds": folds, "labels": words}
    report |= {"encoders": rows, "left_out": heard.refusals, "paper": ZERO_SHOT}
    report_table(options, report, head, lines, notes)


def audiotext(options: argparse.Namespace) -> None:
    import torch

    from ..align.paper_tables import AUDIO_TEXT
    from ..metrics import nearest_label

    _check_output(options)
    clips, split = _clips(options)
    words, numbers = _labels(clips)
    rows, lines, notes = [], [], []
    for name, encoder in _encoders(options):
        notes += _origin(name, encoder)
        f_t = _vectors(options, encoder, words)
        heard = _heard(options, encoder, [(str(clip.sound), clip.load_sound) for clip in clips])
        top1 = nearest_label(heard.features, f_t, torch.tensor(numbers)[heard.rows])
        rows.append({"encoder": name, **_as_json(top1)})
        lines.append((name, _percent(top1.value), _interval(top1), f"{len(words)} labels"))
    lines += [(f"paper: {name}", f"{value:.2f}", "", "VGGSound") for name, value in AUDIO_TEXT.items()]
    head = ("encoder", "top-1 %", "95 % interval", "set")
    report = {"data": str(options.data), "split": split, "labels": words, "encoders": rows}
    report |= {"left_out": heard.refusals, "paper": AUDIO_TEXT}
    notes += _left_out(heard.refusals, len(heard.refusals), len(clips))
    report_table(options, report, head, lines, notes)


def _check_output(options: argparse.Namespace) -> None:
    if options.output:
        check_json_file(options.output, "a result", {"data", "encoders", "paper"}, options.force)


def _encoders(options: argparse.Namespace):
    """Each encoder with its name in the table, loaded when its turn comes."""
    device = device_of(options.device)
    for name in options.encoder or [SOUNDWORLD]:
        yield Path(name).name, load_encoder(name).to(device)


def _clips(options: argparse.Namespace) -> tuple[list[Clip], str | None]:
    """The clips to measure on, and their split: "test", as in the paper, else what there is to measure on,
    unless another is named."""
    from ..data.clips import scan
    from ..data.names import MEASURED, split_of

    clips = scan(options.data, options.split)
    splits = {clip.split for clip in clips}
    if options.split is not None:
        return clips, split_of(options.split)
    split = next((name for name in MEASURED if {name} < splits), None)
    if split is None:
        return clips, None
    clips = [clip for clip in clips if clip.split == split]
    say(options)(f"measuring on the {len(clips)} clips of the split '{split}'; --split takes another")
    return clips, split


def _labels(clips: list) -> tuple[list[str], list[int]]:
    """The labels in order, and each clip's number among them."""
    words = sorted({clip.label for clip in clips})
    numbers = {word: number for number, word in enumerate(words)}
    return words, [numbers[clip.label] for clip in clips]


def _heard(
    options: argparse.Namespace, encoder: SoundEncoder, sounds: list[tuple[str, Callable[[], Sound]]]
) -> Embedded:
    from ..align.evaluate import embed_sounds

    with progress("hearing", len(sounds), options.json) as tick:
        return embed_sounds(encoder, sounds, tick)


def _left_out(refusals: list[str], count: int, total: int) -> list[str]:
    """The note on clips that were not measured, where there are any."""
    return [f"{count} of {total} clips left out; the first: {refusals[0]}"] if refusals else []


def _origin(name: str, encoder: SoundEncoder) -> list[str]:
    """What is to be said of an encoder that others published, whose it is and its licence, and of one that
    was tuned: on what."""
    from ..encoders.clip_space import CLIPSpaceEncoder

    if isinstance(encoder, CLIPSpaceEncoder):
        return [f"{name} is {encoder.title}, licence {encoder.licence}."]
    if data := encoder.notes.get("data"):
        return [f"{name} was tuned on '{data}': what it has learned from there is no test."]
    return []


def _learned(name: str, recordings: list[Recording]) -> list[str]:
    """Says how many recordings SoundWorld's encoder was tuned on, where there are any."""
    from ..soundworld.world import FOLDS

    learned = sum((fold := ESC.match(r.path.name)) is not None and int(fold[1]) in FOLDS for r in recordings)
    if name != SOUNDWORLD or not learned:
        return []
    return [
        f"{name} was tuned on folds {FOLDS[0]} to {FOLDS[-1]} of ESC-10, to which up to {learned} of these "
        "recordings belong: its model card says what encoders without each fold name right."
    ]


def _visual_tower(options: argparse.Namespace, encoder: SoundEncoder) -> VisualTower | None:
    """What sees the pictures: the encoder, or the CLIP whose joint space it is in, where --text names it."""
    from ..encoders.clip_space import CLIPSpaceEncoder

    if encoder.sees:
        return encoder
    if options.text and isinstance(encoder, CLIPSpaceEncoder):
        return encoder.clip(options.text)
    return None


_text_tower = cache(load_text_tower)


def _vectors(
    options: argparse.Namespace, encoder: SoundEncoder, words: list[str], template: str = "{label}"
) -> Tensor:
    """The labels' text vectors [L, dim]: of the text tower, or of the encoder's own table."""
    import torch

    from ..encoders.clip_space import CLIPSpaceEncoder

    if options.text:
        joint = isinstance(encoder, CLIPSpaceEncoder)
        tower = encoder.text_tower(options.text) if joint else _text_tower(options.text)
        if tower.dim != encoder.dim:
            raise InputError(
                f"The text tower {options.text} has vectors of {tower.dim} numbers, but {encoder.name} of "
                f"{encoder.dim}: give the text tower that the encoder was aligned with."
            )
        return tower.embed([template.format(label=word) for word in words])
    table = dict(zip(encoder.labels, encoder.label_vectors))
    unknown = [word for word in words if word not in table]
    if unknown:
        raise InputError(
            f"The encoder {encoder.name} has no vector of the label '{unknown[0]}': give the text tower that "
            "it was aligned with (--text)."
        )
    return torch.stack([table[word] for word in words])


def _folds(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"'{text}' names no folds: write them as 1,2,3.")


def _as_json(top1: Share) -> dict:
    return {"hits": top1.hits, "count": top1.count, "top1": top1.value, "interval": [*top1.interval]}


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _interval(share: Share) -> str:
    low, high = share.interval
    return f"{100 * low:.1f} to {100 * high:.1f}"
