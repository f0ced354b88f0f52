"""`aai film`: a recording becomes a film."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .arguments import add_force_argument, add_model_arguments, add_sound_arguments, check_together
from .edit import add_injection_arguments, injection_settings, with_blend
from .generate import STEPS, warn_of_weights
from .models import check_editable, load_encoder, load_model
from .outputs import check_folder, check_output
from .photograph import mask_of
from .terminal import Commands, finite, positive, print_report, progress, progress_bar, seed, side

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..encoders.base import SoundEncoder
    from ..inject.film import FilmPlan, Shot, WordOf
    from ..inject.frame_store import FrameStore
    from ..inject.timeline import Envelope, Timeline
    from ..picture.model import Conditioning, PictureModel
    from ..token import SoundToken

FPS, CHUNK = 8.0, 8
DIGITS = 4
"""How many digits a frame's name has at least."""
ENVELOPE = (
    ("hold", "S", "a word that is heard for less seconds gives way to those around it (0.75)"),
    ("attack", "S", "seconds in which a sound comes (0.05)"),
    ("release", "S", "seconds in which it goes (0.4)"),
    ("threshold", "LUFS", "what is quieter draws nothing (-60)"),
    ("gain", "LU", "added to the loudness (0)"),
    ("reference", "LUFS", "the loudness that counts as scale 1 (the sound's own)"),
    ("ratio", "N", "how many LU count as one, as a compressor's; 1 is the paper's eq. 8 (2)"),
)


def add(commands: Commands) -> None:
    sub = commands.add(
        "film",
        film,
        "make a film of a recording: a scene stays, and what is heard comes and goes in it",
        'aai film storm.wav --source "a city" --edited "a city under *" -o storm.mp4',
    )
    sub.add_argument("sound", metavar="SOUND", help="an audio file, or a video with sound; of any length")
    sub.add_argument("--source", required=True, metavar="PROMPT", help="the scene without a sound")
    sub.add_argument(
        "--edited", required=True, metavar="PROMPT", help="the scene with it: * is what sounds at the moment"
    )
    sub.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE",
        help="the film: .mp4, .mov or .mkv; or a folder for its frames as PNG files",
    )  # fmt: skip
    add_force_argument(sub)
    sub.add_argument(
        "--token", metavar="FILE",
        help="a sound token whose own adapter every moment's sound takes, in place of --adapter",
    )  # fmt: skip
    sub.add_argument(
        "--adapter", type=Path, metavar="FILE",
        help="the adapter that makes every moment's word, of aai adapt train (SoundWorld's; for another "
        "model without one, the sounds stand alone)",
    )  # fmt: skip
    sub.add_argument("--fps", type=float, default=FPS, metavar="N", help="frames a second (%(default)g)")
    sub.add_argument(
        "--chunk", type=positive, default=CHUNK, metavar="N",
        help="how many pictures are drawn beside one source: fewer need less memory (%(default)s)",
    )  # fmt: skip
    sub.add_argument("--negative", default="", metavar="PROMPT", help="what the frames should not be")
    sub.add_argument("--seed", type=seed, default=0, help="the noise of all frames (%(default)s)")
    sub.add_argument("--steps", type=positive, default=STEPS, help="sampling steps (%(default)s)")
    sub.add_argument("--guidance", type=finite, help="classifier-free guidance (the model's usual one)")
    sub.add_argument("--width", type=side, help="pixels (the model's own)")
    sub.add_argument("--height", type=side, help="pixels (the model's own)")
    add_sound_arguments(sub)
    add_model_arguments(sub)
    group = sub.add_argument_group("how the film follows the sound")
    group.add_argument(
        "--window", type=float, metavar="S", help="seconds of sound by which a moment is heard (2)"
    )
    group.add_argument(
        "--new-scenes", action="store_true", help="each cut of the story begins a new scene, of another noise"
    )
    for name, metavar, text in ENVELOPE:
        group.add_argument(f"--{name}", type=float, metavar=metavar, help=text)
    add_injection_arguments(sub.add_argument_group("what the edits keep of the scene"))


def film(options: argparse.Namespace) -> None:
    from .. import video
    from ..inject.film import plan
    from ..inject.frame_store import FrameStore, check_free, is_ours

    check_together(options, "film")
    is_folder = not options.output.suffix or options.output.is_dir()
    if is_folder:
        check_folder(options.output)
        kept = options.output / ".parts"
        if not options.force:
            _check_frames(options.output)
    else:
        check_output(options.output, "a film", tuple(video.CONTAINERS), video.is_ours, options.force)
        video.codecs()
        kept = options.output.with_name(f"{options.output.name}.parts")
    if kept.exists() and not is_ours(kept):
        raise InputError(
            f"'{kept}' is where this film's pictures are kept while it is drawn, but was not made by aai: "
            "choose another name for the film."
        )
    check_free(kept)
    warn_of_weights(options.source, options.edited, options.negative)
    envelope, encoder = _envelope(options), load_encoder(options.encoder)
    _check_hearing(options, encoder)
    scene = _scene(options, encoder)
    timeline = _timeline(options, encoder, envelope)
    planned = plan(timeline)
    store = FrameStore(kept, {**_given(options), **scene.settings, "unet": scene.model.fingerprint})
    with store.held():
        drawn, count = _draw(options, scene, timeline, planned, store)
        (_write_frames if is_folder else _write_film)(options, drawn, planned)
    store.discard()
    report = {
        "file": str(options.output),
        "fps": options.fps,
        "pictures": len(planned.shots),
        "drawn": count,
        "frames": timeline.rows(),
    }
    print_report(options, report, f"{options.output}: {_told(timeline)}")


def _check_frames(folder: Path) -> None:
    """Raises InputError where a folder holds a picture that a frame would replace and that is not ours."""
    from .. import image

    frames = (path for path in folder.glob("*.png") if path.stem.isdecimal() and len(path.stem) >= DIGITS)
    other = next((path for path in sorted(frames) if not image.is_ours(path)), None)
    if other is not None:
        raise InputError(
            f"'{other}' has a frame's name, but was not written by aai: name another folder, or replace it "
            "with --force."
        )


def _envelope(options: argparse.Namespace) -> Envelope:
    from ..inject.timeline import Envelope

    given = {name: getattr(options, name) for name, *_ in ENVELOPE}
    return Envelope(**{name: value for name, value in given.items() if value is not None})


def _check_hearing(options: argparse.Namespace, encoder: SoundEncoder) -> None:
    """Raises InputError for what would only be found while the sound is heard, which may take minutes: its
    file, the part of it, the windows and the frame rate."""
    from .. import audio
    from ..inject.timeline import check_rate
    from ..inject.windows import check_windows

    check_rate(options.fps)
    check_windows(encoder, _window(options))
    next(audio.stream(options.sound, options.start or 0.0, options.length, block=1.0))


def _window(options: argparse.Namespace) -> float:
    """The seconds of sound by which a moment is heard."""
    from ..inject.windows import WINDOW

    return WINDOW if options.window is None else options.window


def _timeline(options: argparse.Namespace, encoder: SoundEncoder, envelope: Envelope) -> Timeline:
    from .. import audio
    from ..inject.timeline import timeline
    from ..inject.windows import embed_windows

    length = options.length or audio.length(options.sound)
    blocks = audio.stream(options.sound, options.start or 0.0, options.length)
    with progress("hearing", None if length is None else round(length), options.json) as tick:
        windows = embed_windows(
            blocks,
            encoder,
            _window(options),
            name=Path(options.sound).name,
            callback=lambda seconds: tick(round(seconds)),
        )
    return timeline(windows, options.fps, envelope, options.new_scenes)


@dataclass(frozen=True)
class _Scene:
    """What draws a film's pictures: the model, the words of its sounds, `Edit`'s settings, where the edits
    may change the picture (`mask_of`'s), and the negative prompt."""

    model: PictureModel
    word_of: WordOf
    settings: dict
    mask: Tensor | None
    uncond: Conditioning


def _scene(options: argparse.Namespace, encoder: SoundEncoder) -> _Scene:
    """What the options ask to draw with. Raises InputError for anything in them that nothing can be drawn
    of."""
    import torch

    from .. import token as tokens
    from ..inject.edit import encode, stack_of
    from ..inject.film import NOTHING, chunk_edit
    from ..prompt import Prompt

    token = None if options.token is None else tokens.load(options.token)
    mask = mask_of(options.mask)
    model = load_model(options.model, options.device, options.dtype)
    check_editable(model)
    if options.guidance is None:
        options.guidance = model.guidance
    word_of, settings = _word_of(options, model, encoder, token), injection_settings(options, model)
    stand_in = word_of(torch.zeros(encoder.dim))
    edit = chunk_edit(options.source, options.edited, [NOTHING], lambda stretch: stand_in, **settings)
    encode(model.encode_prompt, with_blend(options, edit, model.encode_prompt, mask), stack_of(model))
    return _Scene(model, word_of, settings, mask, model.encode_prompt(Prompt(options.negative)))


def _word_of(
    options: argparse.Namespace, model: PictureModel, encoder: SoundEncoder, token: SoundToken | None
) -> WordOf:
    """What makes a moment's sound a word: a token's adapter or one for all sounds, or nothing where the model
    has none."""
    import torch

    from ..adapt.universal_file import load
    from ..encoders.base import SoundEmbedding
    from ..encoders.fingerprint import encoder_fingerprint
    from ..inject.film import check_adapter, plain_word
    from ..soundworld.loaders import load_adapter

    if token is not None:
        check_adapter(token, encoder.name, encoder.dim)
        return token.with_sound
    if options.adapter is not None:
        adapter = load(options.adapter)
    else:
        try:
            adapter = load_adapter(model)
        except InputError as error:
            print(f"aai: {error} Until then, the sounds stand alone.", file=sys.stderr)
            return plain_word({key: info.mean_norm for key, info in model.text_encoders.items()})
    heard_by = encoder_fingerprint(encoder.family, encoder.state()[0])
    nothing = SoundEmbedding(torch.zeros(encoder.dim), 0.0, "", encoder.name, fingerprint=heard_by)
    adapter.check(nothing, model)
    return partial(adapter.token, name="sound")


@dataclass(frozen=True)
class _Drawn:
    """Where the pictures of a film lie: every shot's, and its scenes' sources."""

    store: FrameStore
    shots: list[Path]

    def frames(self, planned: FilmPlan) -> Iterator[Path]:
        """Every frame's file."""
        from ..inject.film import SOURCE

        return (
            self.shots[number] if number >= 0 else self.store.path(SOURCE - number)
            for number in planned.frames
        )


def _draw(
    options: argparse.Namespace, scene: _Scene, timeline: Timeline, planned: FilmPlan, store: FrameStore
) -> tuple[_Drawn, int]:
    """Draws every picture that does not lie in the store yet; returns where all are, and how many it
    drew."""
    from ..inject.edit import encode, stack_of
    from ..inject.film import SOURCE, chunk_edit, chunks, encoding_once, words_of

    model, settings, done = scene.model, scene.settings, 0
    token_of = words_of(timeline, scene.word_of)

    def path(shot: Shot) -> Path:
        bare = shot.stretch == SOURCE
        return store.path(shot.scene, shot.scale, None if bare else token_of(shot.stretch))

    drawn = _Drawn(store, [path(shot) for shot in planned.shots])
    missing = [shot for shot in planned.drawn if not path(shot).exists()]

    def sampled(chunk: tuple[Shot, ...]) -> Tensor:
        encode_prompt = encoding_once(model.encode_prompt)
        edit = chunk_edit(options.source, options.edited, chunk, token_of, **settings)
        edit = with_blend(options, edit, encode_prompt, scene.mask)
        latents = model.sample(
            encode(encode_prompt, edit, stack_of(model)),
            scene.uncond,
            seeds=[options.seed + chunk[0].scene],
            steps=options.steps,
            guidance=options.guidance,
            width=options.width,
            height=options.height,
            callback=lambda step, steps, x: tick(done * steps + step * len(chunk)),
            edit=edit,
        )
        return model.decode(latents)

    try:
        with progress("drawing", len(missing) * options.steps, options.json) as tick:
            for chunk in chunks(missing, options.chunk):
                source, *pictures = sampled(chunk)
                store.save(source, store.path(chunk[0].scene))
                for shot, picture in zip(chunk, pictures):
                    if shot.stretch != SOURCE:
                        store.save(picture, path(shot))
                done += len(chunk)
    except KeyboardInterrupt:
        print(f"aai: {done} of {len(missing)} pictures are kept; the same command resumes.", file=sys.stderr)
        raise
    return drawn, done


def _given(options: argparse.Namespace) -> dict[str, str]:
    """What else every picture of a film depends on."""
    names = ("source", "edited", "negative", "seed", "steps", "guidance", "width", "height", "model", "dtype")
    blending = ("blend", "blend_changes", "blend_start", "blend_threshold", "mask")
    stamp = options.mask and options.mask.exists() and options.mask.stat().st_mtime_ns
    return {name: str(getattr(options, name)) for name in (*names, *blending)} | {"stamp": str(stamp)}


def _write_film(options: argparse.Namespace, drawn: _Drawn, planned: FilmPlan) -> None:
    from .. import audio, video

    def pictures() -> Iterator[np.ndarray]:
        last, pixels = None, None
        for path in drawn.frames(planned):
            if path != last:
                last, pixels = path, drawn.store.pixels(path)
            tick(1)
            yield pixels

    sound = audio.stream(options.sound, options.start or 0.0, options.length, block=1.0)
    with progress_bar("writing", len(planned.frames), options.json) as bar:
        tick = bar.update
        video.write(options.output, pictures(), options.fps, sound)


def _write_frames(options: argparse.Namespace, drawn: _Drawn, planned: FilmPlan) -> None:
    from .. import files, image

    options.output.mkdir(parents=True, exist_ok=True)
    digits = max(DIGITS, len(str(len(planned.frames))))
    with progress_bar("writing", len(planned.frames), options.json) as bar:
        for number, path in enumerate(drawn.frames(planned)):
            files.write(options.output / f"{number:0{digits}}.png", path.read_bytes(), "The frame")
            bar.update(1)
    # Of a longer film that stood here, the rest would be read as this one's.
    for path in options.output.glob("*.png"):
        if path.stem.isdecimal() and int(path.stem) >= len(planned.frames) and image.is_ours(path):
            path.unlink()


def _told(timeline: Timeline) -> str:
    """What is heard from when to when."""
    told, before = [], None
    for time, word in zip(timeline.times, timeline.words):
        if word != before:
            begin = time - 0.5 / timeline.rate
            told.append(f"{int(begin) // 60}:{begin % 60:04.1f} {word or 'nothing known'}")
            before = word
    shown = ", ".join(told[:12]) + (f" and {len(told) - 12} more" if len(told) > 12 else "")
    return f"{len(timeline)} frames; {shown}"
