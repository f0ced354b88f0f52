"""Sound in time: what a recording says moment by moment, and films of it."""

from __future__ import annotations

import json
import os

from comfy_api.latest import io

from ..aai.errors import InputError
from .sound import missing_sound, sound_file, sound_files, sound_of
from .types import (
    CATEGORY,
    NONE,
    Node,
    SoundAdapterType,
    SoundEncoderType,
    SoundTimelineType,
    fold,
    search_aliases,
)

SHOWN = 480
"""Columns of the plot on the node: more than it has pixels say nothing."""


def _seconds(name: str, default: float, most: float, tooltip: str) -> io.Float.Input:
    return io.Float.Input(name, default=default, min=0.0, max=most, step=0.05, tooltip=tooltip)


class SoundTimeline(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="AAI_SoundTimeline",
            display_name="Sound Timeline",
            category=CATEGORY,
            **search_aliases("audio reactive", "sound to video", "music video", "envelope", "film"),
            description=(
                "Hears a sound moment by moment: for each frame of a film its word and how much of it shows. "
                "Takes a sound, or a file of any length, of which it keeps a few seconds at a time."
            ),
            inputs=[
                SoundEncoderType.Input(
                    "sound_encoder", tooltip="From Load SoundWorld or Load Sound Encoder."
                ),
                io.Float.Input(
                    "frame_rate",
                    default=8.0,
                    min=0.1,
                    max=60.0,
                    step=0.001,
                    tooltip="Frames a second; each is a picture to draw, so 4 to 12 do for a first try. "
                    "For a video model, the video's own.",
                ),
                io.Combo.Input(
                    "file",
                    options=[NONE, *sound_files()],
                    default=NONE,
                    tooltip="A file of the input folder, read as it is heard, however long; none takes the "
                    "audio.",
                ),
                io.Float.Input(
                    "start", default=0.0, min=0.0, max=86400.0, step=0.1,
                    tooltip="Where the part of the file begins, in seconds.",
                ),
                io.Float.Input(
                    "length", default=0.0, min=0.0, max=86400.0, step=0.1,
                    tooltip="How long the part of the file is, in seconds; 0 takes all to the end.",
                ),
                _seconds("hold", 0.75, 60.0, "A word that is heard for less seconds gives way to its "
                         "neighbours: more flickers less."),
                _seconds("attack", 0.05, 60.0, "Seconds in which a sound comes into the picture."),
                _seconds("release", 0.4, 60.0, "Seconds in which it goes again."),
                io.Float.Input(
                    "threshold", default=-60.0, min=-70.0, max=0.0, step=0.5,
                    tooltip="What is quieter than so many LUFS draws nothing.",
                ),
                io.Float.Input(
                    "gain", default=0.0, min=-40.0, max=40.0, step=0.5,
                    tooltip="LU added to the loudness: more shows more of every sound.",
                ),
                io.Float.Input(
                    "ratio", default=2.0, min=1.0, max=20.0, step=0.1,
                    tooltip="How many LU count as one, as on a compressor: more brings loud and quiet "
                    "together. 1 is the paper's eq. 8.",
                ),
                io.Float.Input(
                    "reference", default=0.0, min=-70.0, max=0.0, step=0.5,
                    tooltip="The loudness in LUFS that counts as 1; 0 takes the recording's own.",
                ),
                io.Float.Input(
                    "window", default=2.0, min=0.1, max=60.0, step=0.1,
                    tooltip="By how many seconds of sound a moment is heard: longer ones are heard better, "
                    "shorter ones tell what follows what.",
                ),
                io.Audio.Input("audio", optional=True, tooltip="The sound, where no file is chosen."),
                io.Boolean.Input(
                    "new_scenes", default=False, optional=True,
                    tooltip="Each cut of the story begins a new scene, with a noise of its own. Off: one "
                    "scene throughout.",
                ),
            ],
            outputs=[
                SoundTimelineType.Output(
                    "timeline",
                    display_name="timeline",
                    tooltip="For Prompt To Prompt Edit, Loudness Reweight, Join Frames and Timeline Values.",
                )
            ],
            is_output_node=True,
        )  # fmt: skip
        return fold(schema, in_sight=["frame_rate", "file", "start", "length", "hold", "release", "gain"])

    @classmethod
    def fingerprint_inputs(cls, file=NONE, **others):
        path = file not in (None, NONE) and sound_file(file)
        return [file, os.stat(path).st_mtime_ns if path else None]

    @classmethod
    def validate_inputs(cls, file):
        # A link's value is None before it ran.
        return True if file in (None, NONE) or sound_file(file) else missing_sound(file)

    @classmethod
    def execute(
        cls, sound_encoder, frame_rate, file, start, length, window, reference, audio=None, new_scenes=False,
        **envelope,
    ) -> io.NodeOutput:  # fmt: skip
        from ..aai import audio as sounds
        from ..aai.inject.timeline import Envelope, check_rate, timeline
        from ..aai.inject.windows import embed_windows
        from .comfy.progress import Bar

        check_rate(frame_rate)
        settings = Envelope(**envelope, reference=reference or None)
        if file != NONE:
            path, name = sound_file(file), os.path.basename(file)
            if path is None:
                raise InputError(missing_sound(file))
            blocks, seconds = sounds.stream(path, start, length or None), length or sounds.length(path)
        elif audio is None:
            raise InputError("Sound Timeline has no sound: choose a file, or connect an audio.")
        else:
            sound, name = sound_of(audio), audio.get("name", "")
            blocks, seconds = [sound], sound.seconds
        total = max(1, round(seconds or 1))
        bar = Bar(total)
        windows = embed_windows(
            blocks,
            sound_encoder,
            window,
            name=name,
            callback=lambda done: bar(min(round(done), total), total),
        )
        made = timeline(windows, frame_rate, settings, new_scenes)
        return io.NodeOutput(made, ui={"timeline": [_plot(made)]})


def _plot(made) -> dict:
    """A timeline as its view draws it, at most SHOWN columns: the loudest moment of each."""
    import numpy as np

    parts = np.array_split(np.arange(len(made)), min(len(made), SHOWN))
    levels = np.maximum(made.loudness, -70.0)
    loudest = [int(part[levels[part].argmax()]) for part in parts]
    return {
        "seconds": len(made) / made.rate,
        "frames": len(made),
        "words": [made.words[i] for i in loudest],
        "loudness": [round(float(levels[i]), 1) for i in loudest],
        "scales": [round(float(made.scale[part].max()), 3) for part in parts],
    }


class JoinFrames(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AAI_JoinFrames",
            display_name="Join Frames",
            category=CATEGORY,
            **search_aliases("film", "rebatch frames", "image list to batch", "combine frames"),
            description=(
                "Lays the pictures that were drawn along a timeline out in time: each frame once, without "
                "the sources. For Create Video, with the sound."
            ),
            inputs=[
                io.Image.Input(
                    "images",
                    tooltip="What VAE Decode gives of KSampler's latents, all of them and in their order.",
                ),
                SoundTimelineType.Input("timeline", tooltip="The timeline that Prompt To Prompt Edit had."),
            ],
            outputs=[
                io.Image.Output("frames", display_name="images", tooltip="The film's frames."),
                io.Float.Output("fps", display_name="fps", tooltip="Their rate, for Create Video."),
            ],
            is_input_list=True,
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, images, timeline) -> io.NodeOutput:
        import torch

        from ..aai.inject.film import SOURCE, plan
        from .comfy.kept import joined

        planned = plan(timeline[0])
        shots, found = planned.drawn, sum(map(len, images))
        if found != len(shots) + len(images) or len({tuple(part.shape[1:]) for part in images}) != 1:
            raise InputError(
                f"The timeline has {len(shots)} different pictures, but {found} in {len(images)} chunks came "
                "in: connect all that KSampler drew of Prompt To Prompt Edit with this timeline, sources "
                "included, and nothing between that adds or takes pictures."
            )
        # A chunk's source stands before its frames.
        places, sources, place = {}, {}, 0
        shown = iter(shots)
        for part in images:
            for number in range(1, len(part)):
                shot = next(shown)
                sources.setdefault(shot.scene, place)
                places[shot] = place + number
            place += len(part)
        order = [
            places[planned.shots[number]] if number >= 0 else sources[SOURCE - number]
            for number in planned.frames
        ]
        frames = torch.cat(images)[torch.tensor(order)]
        joined(cls.hidden)
        return io.NodeOutput(frames, float(timeline[0].rate))


class TimelineValues(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AAI_TimelineValues",
            display_name="Timeline Values",
            category=CATEGORY,
            **search_aliases("prompt schedule", "prompt travel", "float list", "audio weights", "keyframes"),
            description=(
                "A timeline as numbers and as a prompt schedule, for other packs' nodes: a value for each "
                "frame."
            ),
            inputs=[
                SoundTimelineType.Input("timeline", tooltip="From Sound Timeline."),
                io.String.Input(
                    "word",
                    default="",
                    tooltip="The word whose share is wanted, as the encoder writes it; empty takes the one "
                    "that each frame draws.",
                ),
                io.String.Input(
                    "edited_prompt",
                    default="a city under *",
                    multiline=True,
                    tooltip="The schedule's prompt, with * for the word of the moment.",
                ),
                io.String.Input(
                    "source_prompt",
                    default="a city",
                    multiline=True,
                    tooltip="The schedule's prompt where nothing sounds that the encoder knows.",
                ),
            ],
            outputs=[
                io.Float.Output(
                    "loudness",
                    display_name="loudness",
                    tooltip="LUFS of each frame; silence is -70.",
                    is_output_list=True,
                ),
                io.Float.Output(
                    "scale",
                    display_name="scale",
                    tooltip="How much of its sound each frame shows, 0 to 2.",
                    is_output_list=True,
                ),
                io.Float.Output(
                    "share",
                    display_name="share",
                    tooltip="How much of the word each frame's sound is, 0 to 1.",
                    is_output_list=True,
                ),
                io.String.Output(
                    "schedule",
                    display_name="schedule",
                    tooltip="Frame numbers and prompts, as batch prompt schedules are written.",
                ),
            ],
        )

    @classmethod
    def execute(cls, timeline, word, edited_prompt, source_prompt) -> io.NodeOutput:
        from ..aai.prompt import in_words

        wanted = word.strip()
        words = [wanted] * len(timeline) if wanted else timeline.words
        shares = {each: timeline.shares(each) for each in {*words} - {""}}
        share = [float(shares[each][i]) if each else 0.0 for i, each in enumerate(words)]
        loudness = [max(float(level), -70.0) for level in timeline.loudness]
        lines, before = [], None
        for number, each in enumerate(timeline.words):
            prompt = in_words(edited_prompt, each) if each else in_words(source_prompt, "*")
            if prompt != before:
                lines.append(f'"{number}": {json.dumps(prompt, ensure_ascii=False)}')
                before = prompt
        return io.NodeOutput(loudness, [float(s) for s in timeline.scale], share, ",\n".join(lines))


def timeline_inputs() -> list:
    """What Prompt To Prompt Edit takes for a film."""
    return [
        SoundTimelineType.Input(
            "timeline",
            optional=True,
            tooltip="Sound Timeline's: draws a film, in which * is the sound of each moment.",
        ),
        io.Int.Input(
            "chunk",
            default=8,
            min=1,
            max=64,
            optional=True,
            tooltip="Only with a timeline: how many frames are drawn together beside one source.",
        ),
        SoundAdapterType.Input(
            "adapter",
            optional=True,
            tooltip="Only with a timeline: makes the word of each moment. SoundWorld's models need none; "
            "without one, the adapter that the token was trained with takes each sound.",
        ),
    ]


NODES = [SoundTimeline, JoinFrames, TimelineValues]
