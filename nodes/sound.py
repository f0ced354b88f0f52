"""Sounds: a file becomes a sound, a sound an embedding in the text encoder's space."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import folder_paths
from comfy_api.latest import io

from ..aai.errors import InputError, sentence
from . import encoders, folders
from .types import CATEGORY, SOUNDWORLD, Node, SoundEmbeddingType, SoundEncoderType, search_aliases

if TYPE_CHECKING:
    from ..aai.encoders.apart import Part

NO_WORDS = "no words: this encoder is in no text encoder's space yet; align or bridge it"

OUTSIDE = "outside of what this encoder knows"


class LoadAudio(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AAI_LoadAudio",
            display_name="Load Audio (AAI)",
            category=CATEGORY,
            **search_aliases("open sound", "recording", "trim audio", "video sound", "loudness", "lufs"),
            description="A part of an audio file or of a video's sound track, and how loud it is.",
            inputs=[
                # The front end ties its upload button and its player to an input of this name.
                io.Combo.Input(
                    "audio",
                    options=sound_files(),
                    upload=io.UploadType.audio,
                    tooltip="A file of the input folder: wav, flac, ogg, mp3, m4a, or a video with sound.",
                ),
                io.Float.Input(
                    "start",
                    default=0.0,
                    min=0.0,
                    max=86400.0,
                    step=0.1,
                    tooltip="Where the part begins, in seconds.",
                ),
                io.Float.Input(
                    "length",
                    default=0.0,
                    min=0.0,
                    max=86400.0,
                    step=0.1,
                    tooltip="How long the part is, in seconds; 0 takes all to the end.",
                ),
            ],
            outputs=[
                io.Audio.Output("sound", display_name="audio", tooltip="The sound, at the file's own rate."),
                io.Float.Output(
                    "loudness",
                    display_name="loudness",
                    tooltip="Integrated loudness in LUFS (ITU-R BS.1770).",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, audio, start, length):
        path = audio and sound_file(audio)
        stamp = os.stat(path).st_mtime_ns if path else None
        return [audio, start, length, stamp]

    @classmethod
    def validate_inputs(cls, audio):
        # A link's value is None before it ran.
        return True if audio is None or sound_file(audio) else missing_sound(audio)

    @classmethod
    def execute(cls, audio, start, length) -> io.NodeOutput:
        from ..aai import audio as sounds

        path = sound_file(audio)
        if path is None:
            raise InputError(missing_sound(audio))
        try:
            sound = sounds.load(path, start=start, seconds=length or None)
        except sounds.TooLong as error:
            raise InputError(f"{error} Sound Timeline reads it whole, as a file.") from error
        core = {"waveform": sound.waveform[None], "sample_rate": sound.rate}
        # Core's AUDIO has neither the name, by which a token knows its sound, nor where the channels stand.
        ours = {"name": os.path.basename(path), "layout": sound.layout}
        return io.NodeOutput({**core, **ours}, sounds.loudness(sound))


class LoadSoundEncoder(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AAI_LoadSoundEncoder",
            display_name="Load Sound Encoder",
            category=CATEGORY,
            **search_aliases("cav-mae", "clap", "audio encoder loader"),
            description=(
                "A sound encoder from models/audio_encoders, or SoundWorld's own. Public ones, CAV-MAE "
                "(audio_model.21.pth, BSD-2-Clause) and LAION-CLAP (its whole folder, Apache-2.0), are to be "
                "aligned or bridged with the checkpoint's text encoder first."
            ),
            inputs=[
                io.Combo.Input(
                    "encoder",
                    options=[SOUNDWORLD, *encoders.names()],
                    default=SOUNDWORLD,
                    tooltip="A file of models/audio_encoders that this pack made for the checkpoint's text "
                    "encoder, a public CAV-MAE file, or a CLAP's folder; SoundWorld's goes with Load "
                    "SoundWorld.",
                )
            ],
            outputs=[
                SoundEncoderType.Output(
                    "sound_encoder", display_name="sound_encoder", tooltip="The sound encoder."
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, encoder):
        return [encoder, None if encoder in (None, SOUNDWORLD) else encoders.stamp(encoder)]

    @classmethod
    def validate_inputs(cls, encoder):
        # A link's value is None before it ran.
        if encoder not in (None, SOUNDWORLD) and encoders.find(encoder) is None:
            return encoders.missing(encoder)
        return True

    @classmethod
    def execute(cls, encoder) -> io.NodeOutput:
        if encoder == SOUNDWORLD:
            from ..aai.soundworld.loaders import load_sound_encoder

            return io.NodeOutput(load_sound_encoder())
        from ..aai.encoders.loaders import load

        return io.NodeOutput(load(encoders.require(encoder)))


class EncodeSound(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AAI_EncodeSound",
            display_name="Encode Sound",
            category=CATEGORY,
            **search_aliases("hear", "audio to text", "sound to prompt", "tag audio", "classify sound"),
            description="Hears a sound: its embedding, and the words that are nearest to it.",
            inputs=[
                SoundEncoderType.Input(
                    "sound_encoder", tooltip="From Load SoundWorld or Load Sound Encoder."
                ),
                io.Audio.Input("audio", tooltip="The sound; any rate, mono or stereo."),
                io.Int.Input(
                    "count",
                    default=1,
                    min=1,
                    max=10,
                    tooltip="How many of the nearest words the output `words` holds.",
                ),
                io.Int.Input(
                    "sounds",
                    default=1,
                    min=1,
                    max=3,
                    optional=True,
                    tooltip="How many sounds the recording has at once; 1 hears it as one.",
                ),
            ],
            outputs=[
                SoundEmbeddingType.Output(
                    "embedding",
                    display_name="embedding",
                    tooltip="The sound in the text encoder's space, f_a.",
                ),
                io.String.Output(
                    "words",
                    display_name="words",
                    tooltip="The nearest words; a prompt for any model, with no token at all.",
                ),
                io.String.Output(
                    "scores",
                    display_name="scores",
                    tooltip='The five nearest words with their shares, "unknown" among them where the '
                    "encoder tells what it does not know.",
                ),
                SoundEmbeddingType.Output(
                    "second",
                    display_name="second",
                    tooltip="The second sound of the recording, where `sounds` is 2 or 3; `embedding` is the "
                    "first.",
                ),
                SoundEmbeddingType.Output(
                    "third", display_name="third", tooltip="The third sound, where `sounds` is 3."
                ),
                io.String.Output(
                    "parts",
                    display_name="parts",
                    tooltip="Each sound of the recording: its word, its loudness in LUFS and its share.",
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, sound_encoder, audio, count, sounds=1) -> io.NodeOutput:
        from ..aai.encoders.base import UNKNOWN, encode_sound, nearest_words

        sound, name = sound_of(audio), (audio or {}).get("name", "")
        parts = _apart(sound_encoder, sound, sounds, name) if sounds > 1 else []
        embeddings = [part.embedding for part in parts] or [encode_sound(sound_encoder, sound, name)]
        embedding, *more = embeddings + [None] * (3 - len(embeddings))
        near = nearest_words(sound_encoder, embedding.f_a[None], k=max(5, count))[0]
        shares = near.with_unknown()[:5]
        scores = "\n".join(f"{word} {100 * score:.0f} %" for word, score in shares)
        if embedding.is_known is False:
            scores = f"{OUTSIDE}\n{scores}"
        shown = [{"word": w, "score": score, "unknown": w == UNKNOWN} for w, score in shares]
        words = ", ".join(word for word, _ in near.words[:count])
        lines = [f"{p.word}: {p.embedding.loudness:.1f} LUFS, {100 * p.share:.0f} %" for p in parts]
        told = [{"word": part.word, "share": part.share} for part in parts]
        ui = {"words": shown, "known": [embedding.is_known], "parts": told}
        return io.NodeOutput(embedding, words, scores or NO_WORDS, *more, "\n".join(lines), ui=ui)


def _apart(encoder, sound, count: int, name: str) -> list[Part]:
    """So many sounds of a recording. Raises InputError for a recording of fewer."""
    from ..aai.encoders.apart import take_apart

    parts = take_apart(encoder, sound, count, name)
    found = ", ".join(part.word for part in parts)
    if len(parts) < count:
        raise InputError(
            f"{count} sounds were asked for, but only {len(parts)} can be told apart here ({found}): set "
            f"sounds to {len(parts)}, or take a recording in which they are nearer in loudness."
        )
    return parts


def sound_file(name: str) -> str | None:
    """The path of a file in the input folder, or in the one that the name's end names, as " [output]"; None
    where there is none."""
    plain, _ = folder_paths.annotated_filepath(name)
    path = folder_paths.get_annotated_filepath(name) if folders.is_inside(plain) else None
    return path if path and os.path.isfile(path) else None


def missing_sound(name: str) -> str:
    return sentence(f"There is no sound '{name}' in the input folder: upload it or choose another.")


def sound_of(audio: dict | None):
    """A Sound of core's AUDIO; six channels of no stated layout are 5.1 in ffmpeg's order, as core decodes
    them. Raises InputError for none, as core gives for a video without sound, and for what holds no sound."""
    from ..aai.audio import SURROUND_5_1, from_tensor

    if audio is None:
        raise InputError("No sound came in, as from a video without a sound track: connect another.")
    # What does not fit the channels, as six names for two, counts for nothing.
    layout = audio.get("layout", SURROUND_5_1)
    return from_tensor(audio["waveform"], audio["sample_rate"], layout=layout)


def sound_files() -> list[str]:
    from ..aai.audio import SUFFIXES

    folder = folder_paths.get_input_directory()
    os.makedirs(folder, exist_ok=True)
    names = os.listdir(folder)
    # The system's list of endings lacks some of what decodes, .wv or .caf for example.
    decoded = [name for name in names if os.path.splitext(name)[1].lower() in SUFFIXES]
    return sorted({*decoded, *folder_paths.filter_files_content_types(names, ["audio", "video"])})


NODES = [LoadAudio, LoadSoundEncoder, EncodeSound]
