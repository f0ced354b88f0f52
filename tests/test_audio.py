"""Sounds in files and in memory, and everything that files do wrong."""

import math
import os
import re
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from aai import audio, decode
from aai.audio import Sound
from aai.data.frames import video_frames
from aai.errors import InputError


def write(path, codec, rate=44100, channels=2, seconds=1.0, hertz=440.0, **options):
    t = np.arange(int(rate * seconds)) / rate
    samples = np.stack([0.5 * np.sin(2 * np.pi * hertz * t)] * channels).astype(np.float32)
    layout = {1: "mono", 2: "stereo", 8: "7.1"}[channels]
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        interleaved = np.ascontiguousarray(samples.T.reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(interleaved, format="flt", layout=layout)
        frame.sample_rate = rate
        resampler = av.AudioResampler(
            format=stream.format, layout=layout, rate=rate, frame_size=stream.frame_size
        )
        for piece in (*resampler.resample(frame), *resampler.resample(None), None):
            container.mux(stream.encode(piece))
    return samples


@pytest.mark.parametrize(
    ("name", "codec", "rate", "channels", "error"),
    [
        ("a.wav", "pcm_s16le", 44100, 2, 1e-4),
        ("a8.wav", "pcm_s16le", 8000, 1, 1e-4),
        ("a192.wav", "pcm_f32le", 192000, 2, 1e-6),
        ("eight.wav", "pcm_s24le", 48000, 8, 1e-5),
        ("a.flac", "flac", 44100, 2, 1e-4),
        ("a.mp3", "libmp3lame", 44100, 2, 0.05),
        ("a.ogg", "libopus", 48000, 2, 0.05),
        ("a.m4a", "aac", 44100, 2, 0.05),
    ],
)
def test_files_of_every_kind_are_read(tmp_path, name, codec, rate, channels, error):
    written = write(tmp_path / name, codec, rate, channels)
    sound = audio.load(tmp_path / name)
    assert sound.rate == rate and len(sound.waveform) == channels
    assert sound.seconds == pytest.approx(1.0, abs=0.08)
    middle = sound.waveform[:, rate // 4 : 3 * rate // 4]
    assert middle.abs().max() == pytest.approx(np.abs(written).max(), abs=max(error, 1e-3))


def test_a_videos_sound_track_is_read(tmp_path):
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        sound = container.add_stream("aac", rate=44100, layout="mono")
        for _ in range(10):
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")))
        container.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(
            np.full((1, 44100), 0.25, np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 44100
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    assert audio.load(path).seconds == pytest.approx(1.0, abs=0.1)
    silent = tmp_path / "silent.mp4"
    with av.open(str(silent), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")))
        container.mux(video.encode(None))
    with pytest.raises(InputError, match=r"silent\.mp4.*no sound track"):
        audio.load(silent)


def write_late(path, begins, codec="aac", pictures=True, zero=0.0):
    """A video of 8 s whose tone sounds for a second from each of these seconds on; its time stamps begin at
    `zero`."""
    rate = 48000
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10) if pictures else None
        voice = container.add_stream(codec, rate=rate, layout="mono")
        if video:
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            for i in range(80):
                grey = np.full((48, 64, 3), 3 * i, np.uint8)
                frame = av.VideoFrame.from_ndarray(grey)
                frame.pts, frame.time_base = i + round(10 * zero), Fraction(1, 10)
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        size = voice.codec_context.frame_size or 1024
        tone = 0.5 * np.sin(2 * math.pi * 440 * np.arange(rate) / rate).astype(np.float32)
        for begin in begins:
            for at in range(0, rate, size):
                part = np.pad(tone[at : at + size], (0, max(0, at + size - rate)))[None]
                kind = voice.codec_context.format.name
                if kind != "fltp":
                    part = (part * 32767).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(part, kind, "mono")
                frame.pts, frame.time_base = round((begin + zero) * rate) + at, Fraction(1, rate)
                frame.sample_rate = rate
                container.mux(voice.encode(frame))
        container.mux(voice.encode(None))


def sounding(sound):
    """The seconds, to 0.1 s, in which something sounds."""
    step = sound.rate // 10
    blocks = sound.waveform[0, : sound.waveform.shape[1] // step * step].view(-1, step)
    return [round(i / 10, 1) for i in (blocks.abs().amax(1) > 0.1).nonzero()[:, 0].tolist()]


@pytest.mark.parametrize(
    ("name", "codec", "zero"),
    [("a.mp4", "aac", 0), ("a.mkv", "pcm_s16le", 0), ("a.ts", "mp2", 0), ("a.ts", "mp2", 30)],
)
@pytest.mark.parametrize("begins", [(4,), (0, 3), (2, 6)])
def test_sound_stands_where_the_files_time_has_it(tmp_path, name, codec, zero, begins):
    write_late(tmp_path / name, begins, codec, zero=zero)
    sound = audio.load(tmp_path / name)
    assert sound.seconds == pytest.approx(begins[-1] + 1, abs=0.15)
    expected = {round(begin + i / 10, 1) for begin in begins for i in range(9)}
    # A codec begins and ends a few samples before or behind.
    assert expected <= set(sounding(sound)) and len(sounding(sound)) <= 12 * len(begins)
    late = begins[-1]
    part = audio.load(tmp_path / name, late - 0.5, 1)
    assert part.seconds == 1 and sounding(part) in ([0.5, 0.6, 0.7, 0.8, 0.9], [0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    assert torch.equal(part.waveform, sound.cut(late - 0.5, 1).waveform)
    assert audio.load(tmp_path / name, late - 0.9, 0.5).waveform.abs().max() < 0.1
    frames = video_frames(tmp_path / name, 1, late, 0.2)
    assert np.asarray(frames[0]).mean() == pytest.approx(3 * 10 * (late + 0.1), abs=6)


def test_joined_pieces_of_television_play_one_after_the_other(tmp_path):
    for name, zero in (("a", 0), ("b", 3000)):
        write_late(tmp_path / f"{name}.ts", (0,), "mp2", pictures=False, zero=zero)
    parts = [(tmp_path / f"{name}.ts").read_bytes() for name in "ab"]
    for order in (parts, parts[::-1]):
        (tmp_path / "both.ts").write_bytes(b"".join(order))
        assert audio.load(tmp_path / "both.ts").seconds == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize("name", ["2024-08-20T13:28:35Z.wav", "data:x.wav", "file:x.wav", "a,b:c.flac"])
def test_a_colon_in_a_name_is_no_protocol(tmp_path, monkeypatch, name, make_noise):
    if os.name == "nt":
        pytest.skip("Windows has no such names")
    monkeypatch.chdir(tmp_path)
    sound = make_noise(0.3)
    audio.save(sound, name)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    torch.testing.assert_close(audio.load(name).waveform, sound.waveform, rtol=0, atol=4e-5)
    write_late(tmp_path / "v.mp4", (0,))
    (tmp_path / "v.mp4").rename("13:28:35.mp4")
    assert len(video_frames(Path("13:28:35.mp4"), 2, 0, 1)) == 2


def test_a_part_of_a_file_is_the_part_of_the_whole(tmp_path, make_noise):
    audio.save(make_noise(2), tmp_path / "n.flac")
    whole, part = audio.load(tmp_path / "n.flac"), audio.load(tmp_path / "n.flac", 0.5, 0.75)
    torch.testing.assert_close(part.waveform, whole.waveform[:, 8000:20000], rtol=0, atol=0)
    assert audio.load(tmp_path / "n.flac", 1.5).seconds == pytest.approx(0.5)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_what_is_saved_comes_back(tmp_path, suffix, make_noise):
    sound = make_noise(0.3, 22050, channels=2)
    audio.save(sound, tmp_path / f"n{suffix}")
    torch.testing.assert_close(
        audio.load(tmp_path / f"n{suffix}").waveform, sound.waveform, rtol=0, atol=4e-5
    )
    assert [p.name for p in tmp_path.iterdir()] == [f"n{suffix}"]


def test_twenty_minutes_are_heard(tmp_path):
    audio.save(Sound(torch.zeros(1, 20 * 60 * 8000), 8000), tmp_path / "long.flac")
    sound = audio.load(tmp_path / "long.flac")
    assert sound.seconds == 1200 and audio.loudness(sound) == -math.inf
    assert audio.load(tmp_path / "long.flac", 1100, 2).seconds == 2


def test_bad_files_are_told_by_name(tmp_path, make_noise):
    def refused(path, match, **cut):
        with pytest.raises(InputError, match=match) as caught:
            audio.load(path, **cut)
        assert path.name in str(caught.value) and "\n" not in str(caught.value)

    refused(tmp_path / "none.wav", "There is no file")
    (tmp_path / "folder.wav").mkdir()
    refused(tmp_path / "folder.wav", "folder.wav' is a folder")
    (tmp_path / "empty.wav").touch()
    refused(tmp_path / "empty.wav", "empty")
    (tmp_path / "text.wav").write_text("These are words, not a sound. " * 50, encoding="utf-8")
    refused(tmp_path / "text.wav", "cannot be read")
    audio.save(make_noise(1), tmp_path / "whole.wav")
    refused(tmp_path / "whole.wav", "Nothing is left", start=3.0)
    refused(tmp_path / "whole.wav", "cannot be cut at 0 s for 0 s: ", seconds=0.0)
    refused(tmp_path / "whole.wav", "cannot be cut at -1 s: ", start=-1.0)
    for number in (math.nan, math.inf):
        refused(tmp_path / "whole.wav", "cannot be cut", start=number)
        refused(tmp_path / "whole.wav", "cannot be cut", seconds=number)
    header = (tmp_path / "whole.wav").read_bytes()[:30]
    (tmp_path / "head.wav").write_bytes(header)
    refused(tmp_path / "head.wav", "cannot be read|Nothing is left")
    # 0x1234 is the format of no codec.
    strange = bytearray((tmp_path / "whole.wav").read_bytes())
    strange[20:22] = b"\x34\x12"
    (tmp_path / "strange.wav").write_bytes(strange)
    refused(tmp_path / "strange.wav", "cannot be decoded")
    (tmp_path / "nan.wav").write_bytes(b"")
    with av.open(str(tmp_path / "nan.wav"), "w") as container:
        stream = container.add_stream("pcm_f32le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.full((1, 800), np.nan, np.float32), format="flt", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    refused(tmp_path / "nan.wav", "not numbers")


@pytest.mark.parametrize("rate", [7, 6_000_011, 2**31 - 1])
def test_a_rate_that_no_recording_has_is_refused(tmp_path, rate):
    path = tmp_path / "odd.wav"
    header = struct.pack("<HHIIHH", 1, 1, rate, rate, 1, 8)
    data = b"WAVEfmt " + struct.pack("<I", 16) + header + b"data" + struct.pack("<I", 99) + b"\x80" * 99
    path.write_bytes(b"RIFF" + struct.pack("<I", len(data)) + data)
    with pytest.raises(InputError, match=f"'{re.escape(str(path))}' has a sample rate of {rate} Hz"):
        audio.load(path)
    with pytest.raises(InputError, match="The sound has a sample rate of"):
        audio.from_tensor(torch.zeros(99), rate)


def test_of_a_sound_that_would_fill_the_memory_a_part_is_read(tmp_path, monkeypatch):
    """A flac of half a megabyte may last for hours."""
    monkeypatch.setattr(audio, "MOST_SAMPLES", 8000 * 240)
    path = tmp_path / "long.flac"
    audio.save(Sound(torch.zeros(2, 8000 * 130), 8000), path)
    with pytest.raises(InputError, match="longer than 2 minutes.*: take a part of it, by its start and"):
        audio.load(path)
    assert audio.load(path, 20, 15).seconds == 15


def test_a_truncated_file_plays_up_to_its_end(tmp_path):
    write(tmp_path / "whole.mp3", "libmp3lame", seconds=3.0)
    data = (tmp_path / "whole.mp3").read_bytes()
    (tmp_path / "half.mp3").write_bytes(data[: len(data) // 2])
    assert 1.0 < audio.load(tmp_path / "half.mp3").seconds < 2.0


@pytest.mark.parametrize(
    ("first", "second"), [((44100, 2), (22050, 1)), ((22050, 1), (44100, 2)), ((32000, 2), (32000, 1))]
)
@pytest.mark.parametrize("tag", ["0", "3"])
def test_a_file_whose_rate_and_channels_change_midway_keeps_its_first(tmp_path, first, second, tag):
    for name, (rate, channels) in (("a", first), ("b", second)):
        write(tmp_path / f"{name}.mp3", "libmp3lame", rate, channels, id3v2_version=tag, write_xing="0")
    parts = [(tmp_path / f"{name}.mp3").read_bytes() for name in "ab"]
    (tmp_path / "both.mp3").write_bytes(b"".join(parts))
    sound = audio.load(tmp_path / "both.mp3")
    assert (sound.rate, len(sound.waveform)) == first and sound.seconds == pytest.approx(2, abs=0.2)
    for begin in (0.25, 1.35):
        part = sound.cut(begin, 0.5).waveform
        assert part.abs().max() == pytest.approx(0.5, abs=0.05)
        for channel in torch.fft.rfft(part).abs():
            assert channel.argmax() / 0.5 == pytest.approx(440, abs=2)
    late = audio.load(tmp_path / "both.mp3", 1.5, 0.25)
    assert torch.equal(late.waveform, sound.cut(1.5, 0.25).waveform)


def test_saving_where_it_cannot_be_saved(tmp_path, make_noise):
    with pytest.raises(InputError, match=r"\.wav or \.flac"):
        audio.save(make_noise(0.1), tmp_path / "n.mp3")
    with pytest.raises(InputError, match="cannot be saved"):
        audio.save(make_noise(0.1), tmp_path / "missing" / "n.wav")
    assert not list(tmp_path.iterdir())


def test_tensors_that_are_no_sound():
    for waveform, match in (
        (torch.zeros(1, 0), "no samples"),
        (torch.zeros(2, 1, 100), "batch of 2"),
        (torch.full((1, 10), torch.nan), "not numbers"),
    ):
        with pytest.raises(InputError, match=match):
            audio.from_tensor(waveform, 16000)
    with pytest.raises(InputError, match="rate"):
        # What core gives where it does not know the rate.
        audio.from_tensor(torch.zeros(1, 10), 1)
    assert audio.from_tensor(torch.zeros(1, 2, 10), 8000).waveform.shape == (2, 10)


def test_resampling_keeps_a_tone(make_tone):
    for rate in (8000, 22050, 48000, 192000):
        moved = make_tone(-6, 1.0, rate, channels=1, hertz=440).resample(16000)
        expected = make_tone(-6, 1.0, 16000, channels=1, hertz=440)
        middle = slice(1000, 15000)
        torch.testing.assert_close(moved.waveform[:, middle], expected.waveform[:, middle], rtol=0, atol=2e-3)


def test_mono_is_the_mean_and_hashes_tell_sounds_apart(make_noise):
    sound = make_noise(0.1, channels=2)
    torch.testing.assert_close(sound.mono().waveform, sound.waveform.mean(0, keepdim=True))
    assert audio.sound_hash(sound) == audio.sound_hash(Sound(sound.waveform.clone(), sound.rate))
    others = (Sound(sound.waveform, 8000), Sound(sound.waveform * 0.99, sound.rate))
    assert len({audio.sound_hash(s) for s in (sound, *others)}) == 3


@pytest.mark.parametrize(
    ("ending", "codec"),
    [
        *((".wv", "wavpack"), (".caf", "pcm_s16be"), (".mka", "aac"), (".ts", "mp2"), (".au", "pcm_s16be")),
        *((".aifc", "pcm_s16be"), (".w64", "pcm_s16le"), (".tta", "tta"), (".ac3", "ac3"), (".m4b", "aac")),
        *((".mp2", "mp2"), (".mts", "ac3"), (".weba", "libopus")),
    ],
)
def test_what_decodes_is_a_sound_by_its_ending(tmp_path, ending, codec):
    import av

    kinds = {
        ".aifc": "aiff",
        ".m4b": "mp4",
        ".mts": "mpegts",
        ".ts": "mpegts",
        ".weba": "webm",
        ".mka": "matroska",
    }
    path = tmp_path / f"a{ending}"
    tone = (0.5 * np.sin(np.arange(48000) * 0.05) * 32767).astype(np.int16)
    with av.open(str(path), "w", format=kinds.get(ending, ending[1:])) as container:
        stream = container.add_stream(codec, rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
        frame.sample_rate = 48000
        to_codec = av.AudioResampler(format=stream.format.name, rate=48000, layout="mono")
        size = stream.codec_context.frame_size
        fifo = av.AudioFifo()
        for part in to_codec.resample(frame):
            fifo.write(part)
        while piece := fifo.read(size or 4096, True):
            piece.pts = None
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    assert ending in audio.SUFFIXES
    assert audio.load(path).seconds == pytest.approx(1, abs=0.1)


def test_a_sound_of_more_channels_than_a_file_can_have_is_told(tmp_path):
    with pytest.raises(InputError, match="33 channels cannot be written"):
        audio.save(Sound(torch.zeros(33, 100), 16000), tmp_path / "many.wav")


ORDERS = {
    # Apple's numbers for "L R Ls Rs C LFE", and "C L R": neither is ffmpeg's order.
    ("5.1", 122): ("FL", "FR", "SL", "SR", "FC", "LFE"),
    ("3.0", 114): ("FC", "FL", "FR"),
}


@pytest.mark.parametrize(("layout", "tag"), ORDERS)
def test_channels_in_another_order_than_ffmpegs_are_read(tmp_path, layout, tag):
    """PyAV 18 ends the process that reads such a file's layout and forgets it: so another one reads it."""
    path, names = tmp_path / "sound.mov", ORDERS[layout, tag]
    samples = np.arange(1, len(names) + 1, dtype=np.int16) * 1000
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.tile(samples, 16000)[None], format="s16", layout=layout)
        frame.sample_rate = 16000
        for piece in (frame, None):
            container.mux(stream.encode(piece))
    written = bytearray(path.read_bytes())
    place = written.index(b"chan") + 8
    written[place : place + 4] = struct.pack(">I", tag << 16 | len(names))
    path.write_bytes(written)
    script = (
        "import gc, sys\n"
        "from aai import audio\n"
        "for _ in range(3):\n"
        "    sound = audio.load(sys.argv[1])\n"
        "    gc.collect()\n"
        "print(*sound.layout, *(sound.waveform[:, 0] * 32768).round().int().tolist())\n"
    )
    ran = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, encoding="utf-8")
    assert ran.returncode == 0, ran.stderr[-500:]
    assert ran.stdout.split() == [*names, *(str(1000 * (i + 1)) for i in range(len(names)))]


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_channels_are_written_in_ffmpegs_order(tmp_path, suffix):
    levels = torch.tensor([0.1, 0.2, 0.3])
    audio.save(Sound(levels[:, None].repeat(1, 8000), 16000, ("FC", "FL", "FR")), tmp_path / f"a{suffix}")
    read = audio.load(tmp_path / f"a{suffix}")
    assert read.layout == ("FL", "FR", "FC")
    torch.testing.assert_close(read.waveform[:, 100], levels[[1, 2, 0]], atol=1e-3, rtol=0)


def test_pauses_are_no_windows(make_noise):
    loud, quiet = make_noise(2, seed=1).waveform * 0.3, make_noise(2, seed=2).waveform
    parts = [loud, torch.zeros_like(loud), quiet * 0.3 * 10 ** (-18 / 20), quiet * 0.3 * 10 ** (-26 / 20)]
    rate = make_noise(2).rate
    kept = audio.windows(Sound(torch.cat(parts, dim=1), rate), rate, 2)
    assert len(kept) == 2
    torch.testing.assert_close(kept[1], parts[2].mean(0))
    assert len(audio.windows(Sound(torch.zeros(1, 6 * rate), rate), rate, 2)) == 3


def test_an_offset_does_not_make_a_sound_of_a_pause(make_noise):
    noise = make_noise(2, seed=1, channels=1)
    parts = [noise.waveform * 0.1, noise.waveform * 0.001]
    for offset in (0.0, 0.05):
        sound = Sound(torch.cat(parts, dim=1) + offset, noise.rate)
        assert len(audio.windows(sound, noise.rate, 2)) == 1


def test_what_is_beyond_full_scale_is_kept_where_it_can_be(tmp_path, make_tone, caplog):
    """As recorders of 32-bit floats make it; what a codec overshoots is cut off as ever."""
    tone = make_tone(-6, 0.5, 16000, channels=1, hertz=440)
    loud, over = (Sound(tone.waveform * peak / tone.waveform.abs().max(), 16000) for peak in (4.0, 1.3))
    audio.save(loud, tmp_path / "loud.wav")
    torch.testing.assert_close(audio.load(tmp_path / "loud.wav").waveform, loud.waveform, rtol=0, atol=1e-6)
    audio.save(over, tmp_path / "over.wav")
    assert audio.load(tmp_path / "over.wav").waveform.abs().max() <= 1 and not caplog.text
    audio.save(loud, tmp_path / "loud.flac")
    assert audio.load(tmp_path / "loud.flac").waveform.abs().max() <= 1
    assert "'loud.flac' is louder than a flac can be" in caplog.text


@pytest.mark.parametrize(
    ("name", "codec"), [("a.wav", "pcm_s16le"), ("a.flac", "flac"), ("a.aiff", "pcm_s16be")]
)
def test_a_part_late_in_a_file_is_found_to_the_sample_without_reading_what_is_before(
    tmp_path, monkeypatch, name, codec
):
    rate = 16000
    noise = (torch.rand(1, 40 * rate, generator=torch.Generator().manual_seed(0)) - 0.5) * 65535
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        for piece in noise.to(torch.int16).split(4096, 1):
            frame = av.AudioFrame.from_ndarray(piece.contiguous().numpy(), format="s16", layout="mono")
            frame.sample_rate = rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    whole = audio.load(tmp_path / name).waveform
    for start in (5.5, 17.12345, 30.0, 39.9):
        first = round(start * rate)
        part = audio.load(tmp_path / name, start, 2.0).waveform
        assert torch.equal(part, whole[:, first : first + 2 * rate]), start
    decoded = []
    frames = decode._float_frames

    def counted(container, stream):
        for time, piece in frames(container, stream):
            decoded.append(piece.samples)
            yield time, piece

    monkeypatch.setattr(decode, "_float_frames", counted)
    audio.load(tmp_path / name, 30.0, 1.0)
    assert sum(decoded) < 4 * rate
    with pytest.raises(InputError, match="Nothing is left"):
        audio.load(tmp_path / name, 41.0)


@pytest.mark.parametrize("codec", ["adpcm_ima_wav", "adpcm_ms"])
def test_a_part_late_in_a_wav_of_another_codec_is_the_part_of_the_whole(tmp_path, codec):
    write(tmp_path / "a.wav", codec, rate=22050, channels=1, seconds=20)
    whole = audio.load(tmp_path / "a.wav").waveform
    for start in (7.3, 13.777):
        first = round(start * 22050)
        part = audio.load(tmp_path / "a.wav", start, 1.0).waveform
        assert torch.equal(part, whole[:, first : first + 22050]), start


def test_the_browser_is_told_the_endings_of_sounds():
    """It names no type for .caf or .wv, and core's upload lets no file without a type through."""
    code = (Path(__file__).parents[1] / "web" / "load_audio.js").read_text(encoding="utf-8")
    listed = re.search(r"const ENDINGS = `(.*?)`", code, re.DOTALL)[1].split()
    assert sorted(f".{ending}" for ending in listed) == sorted(audio.SUFFIXES)
