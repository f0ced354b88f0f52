"""The kinds of input, and a generator of examples for each."""

from __future__ import annotations

import json
import os
import struct

from hypothesis import strategies as st

from . import seeds
from .commands import commands
from .example import FIFO, FOLDER, LOOP, Example
from .strategies import (
    changed,
    damaged,
    edited,
    mostly,
    numbers,
    pickles,
    stems,
    texts,
)

RATES = [0, 1, 7, 999, 1000, 8000, 11025, 44100, 96000, 192000, 384000, 6000011, 2**31 - 1, 2**32 - 1]
CHANNELS = [0, 1, 2, 3, 5, 6, 8, 24, 33, 64, 255, 256, 65535]


def _marker() -> str:
    return os.environ["AAI_FUZZ_MARKER"]


@st.composite
def wavs(draw) -> bytes:
    """A wav file whose header may say anything of its samples."""
    channels, rate = draw(st.sampled_from(CHANNELS)), draw(st.sampled_from(RATES))
    bits = draw(st.sampled_from([0, 1, 4, 8, 12, 16, 24, 32, 64, 255]))
    form = draw(st.sampled_from([1, 1, 1, 3, 2, 6, 7, 17, 85, 0xFFFE, 0, 9999]))
    frame = draw(st.sampled_from([max(1, channels * bits // 8) % 65536, 0, 1, 65535]))
    fill = draw(
        st.sampled_from([b"\0\0\0\0", b"\1\x40\2\xc0", b"\xff\xff\xff\x7f", b"\0\0\xc0\x7f", b"\0\0\x80\xff"])
    )
    data = fill * (draw(st.sampled_from([0, 1, 100, 4000, 20000])) // 4)
    size = draw(st.sampled_from([len(data), len(data), 0, 2**32 - 1, len(data) * 7 % 2**32]))
    header = struct.pack("<HHIIHH", form, channels, rate, rate * max(frame, 1) % 2**32, frame, bits)
    if form == 0xFFFE:
        mask = draw(st.sampled_from([0, 3, 0x3F, 0xFFFFFFFF]))
        header += (
            struct.pack("<HHI", 22, bits, mask)
            + struct.pack("<H", 1)
            + b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"
        )
    body = b"WAVEfmt " + struct.pack("<I", len(header)) + header + b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", len(body) % 2**32) + body


def sound_bytes():
    kept = list(seeds.sounds().values())
    return st.one_of(wavs(), damaged(kept), damaged(kept, 1), st.binary(max_size=200))


def _named(stem: str, ending: str) -> str:
    return f"{stem}.{ending}"


@st.composite
def sounds(draw) -> Example:
    name = _named(draw(stems), draw(st.sampled_from([*seeds.sounds(), "WAV", "xyz", "tar"])))
    content = draw(
        st.one_of(sound_bytes(), sound_bytes(), sound_bytes(), st.sampled_from([FOLDER, FIFO, LOOP]))
    )
    cut = {}
    if draw(st.booleans()):
        cut = {"start": draw(numbers), "seconds": draw(st.one_of(st.none(), numbers))}
    return Example("sound", "load_sound", {"name": name, **cut}, {name: content})


@st.composite
def huge_pngs(draw) -> bytes:
    """A PNG of few bytes and many pixels."""
    import zlib

    width, height = (draw(st.sampled_from([0, 1, 60, 9000, 40000, 2**31 - 1])) for _ in range(2))
    depth, colour = draw(st.sampled_from([1, 2, 8, 16, 99])), draw(st.sampled_from([0, 2, 3, 4, 6, 9]))
    data = zlib.compress(b"\0" * draw(st.sampled_from([0, 10, 100000])))

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + crc

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, draw(st.integers(0, 2)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def picture_bytes():
    kept = list(seeds.pictures().values())
    return st.one_of(damaged(kept), damaged(kept, 1), huge_pngs(), st.binary(max_size=200))


@st.composite
def pictures(draw) -> Example:
    name = _named(
        draw(stems), draw(st.sampled_from(["png", "jpg", "webp", "tif", "eps", "gif", "txt", "avif"]))
    )
    content = draw(st.one_of(picture_bytes(), picture_bytes(), st.sampled_from([FOLDER, FIFO, LOOP])))
    size = draw(st.sampled_from([None, None, 1, 32, 224]))
    return Example("picture", "load_picture", {"name": name, "size": size}, {name: content})


@st.composite
def tokens(draw) -> Example:
    ending = draw(st.sampled_from(["safetensors", "safetensors", "pt", "bin", "ckpt", "pth"]))
    name = _named(draw(stems), ending)
    kept = seeds.tokens()
    whole = st.one_of(edited(kept), edited(kept), damaged(kept))
    content = draw(whole if ending == "safetensors" else st.one_of(pickles(_marker()), damaged(kept)))
    return Example("token", "load_token", {"name": name}, {name: content})


@st.composite
def checkpoints(draw) -> Example:
    """CAV-MAE's published files, inverted pictures, and the states of trainings that go on."""
    which = draw(st.integers(0, 3))
    if which == 0:
        name = draw(st.sampled_from(["audio.pth", "audio.pt", "audio.safetensors"]))
        content = draw(st.one_of(damaged(seeds.published()), pickles(_marker())))
        return Example("checkpoint", "load_encoder", {"name": name}, {name: content})
    if which == 1:
        content = draw(st.one_of(edited(seeds.trajectories()), damaged(seeds.trajectories())))
        files = {"way.safetensors": content, "rain.safetensors": seeds.tokens()[0]}
        return Example("checkpoint", "load_trajectory", {"name": "way.safetensors"}, files)
    run = seeds.align_run()
    content = draw(st.one_of(edited([run[seeds.STATE]]), damaged([run[seeds.STATE]])))
    return Example("checkpoint", "command", {"arguments": list(seeds.ALIGN)}, {**run, seeds.STATE: content})


@st.composite
def encoders(draw) -> Example:
    content = draw(st.one_of(edited(seeds.encoders()), edited(seeds.encoders()), damaged(seeds.encoders())))
    name = _named(draw(stems), "safetensors")
    return Example("encoder", "load_encoder", {"name": name}, {name: content})


@st.composite
def adapters(draw) -> Example:
    content = draw(st.one_of(edited(seeds.adapters()), edited(seeds.adapters()), damaged(seeds.adapters())))
    name = _named(draw(stems), "safetensors")
    return Example("adapter", "load_adapter", {"name": name}, {name: content})


@st.composite
def model_folders(draw) -> Example:
    """A model's folder, half downloaded, or with other settings."""
    action = draw(st.sampled_from(["load_clip", "load_clip_text", "load_clap", "load_diffusers"]))
    stable = action == "load_diffusers" or (action == "load_clip_text" and draw(st.booleans()))
    files = dict(seeds.diffusers_folder() if stable else seeds.clip_folder())
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from(sorted(files)))
        how = draw(st.integers(0, 5))
        if how == 0:
            del files[name]
        elif how == 1:
            files[name.replace(".safetensors", ".bin")] = draw(pickles(_marker()))
            files.pop(name)
        elif name.endswith(".json") and how <= 4:
            try:
                files[name] = json.dumps(draw(changed(json.loads(files[name]), 2))).encode()
            except ValueError:
                pass
        elif name.endswith(".safetensors"):
            files[name] = draw(st.one_of(edited([files[name]]), damaged([files[name]], 1)))
        else:
            files[name] = draw(damaged([files[name]], 2))
        if not files:
            break
    return Example(
        "model folder", action, {"folder": "m"}, {f"m/{name}": file for name, file in files.items()}
    )


@st.composite
def indices(draw) -> Example:
    """An index alone, or a folder of pictures with one."""
    content = draw(st.one_of(edited(seeds.indices()), damaged(seeds.indices())))
    if draw(st.booleans()):
        name = "index.safetensors"
        return Example("index", "open_library", {"name": name}, {name: content})
    files = {
        f"{draw(st.sampled_from(['photos', 'photos/summer', 'photos/.x']))}/{draw(stems)}.{ending}": draw(
            st.one_of(picture_bytes(), st.sampled_from([LOOP, FOLDER, FIFO]))
        )
        for ending in draw(st.lists(st.sampled_from(["png", "jpg", "jfif", "gif", "txt"]), max_size=4))
    }
    files = {f"photos/{i}.png": seeds.pictures()["png"] for i in range(draw(st.integers(0, 2)))} | files
    files.setdefault("photos/empty", FOLDER)
    where = draw(st.sampled_from([None, "photos/own.safetensors", "photos"]))
    if where:
        files[where] = content if where != "photos" else FOLDER
    return Example("index", "index_folder", {"folder": "photos", "file": where}, files)


FOLDERS = st.one_of(
    stems, st.sampled_from(["rain", "fire", "train", "test", "fold1", "audio", "train/rain", ".x"])
)


@st.composite
def data_sets(draw) -> Example:
    """Folders of classes, prepared ones, shards, and the published sets' layouts."""
    files: dict[str, bytes | str] = {"data": FOLDER}
    ok = draw(st.integers(0, 3)) > 0
    for folder in draw(st.lists(FOLDERS, max_size=4)):
        for _ in range(draw(st.integers(1, 3))):
            stem = draw(stems)
            sound = (
                seeds.sounds()["wav"] if ok else draw(st.one_of(sound_bytes(), st.sampled_from([FIFO, LOOP])))
            )
            picture = seeds.pictures()["png"] if ok else draw(picture_bytes())
            files[f"data/{folder}/{stem}.{draw(st.sampled_from(['wav', 'flac', 'mp4']))}"] = sound
            files[f"data/{folder}/{stem}.{draw(st.sampled_from(['png', 'jpg']))}"] = picture
    how = draw(st.integers(0, 5))
    if how == 0:
        files["data/clips.jsonl"] = draw(clip_lists())
    elif how == 1:
        files["data/clips-0.tar"] = draw(damaged([seeds.shard()]))
    elif how == 2:
        files["data/meta/esc50.csv"] = draw(csv_files())
    elif how == 3:
        files["data/progress.jsonl"] = draw(clip_lists())
    action = draw(st.sampled_from(["scan_clips", "scan_clips", "read_benchmark", "prepare"]))
    if action == "prepare":
        return Example("data set", action, {"source": "data", "frames": 2, "keep": 1, "size": 16}, files)
    return Example("data set", action, {"folder": "data"}, files)


@st.composite
def clip_lists(draw) -> bytes:
    row = {
        "id": "rain/a",
        "label": "rain",
        "split": "train",
        "sound": "rain/a.wav",
        "pictures": ["rain/a.png"],
    }
    rows = [{**row, "label": label, "id": label} for label in ("rain", "fire")]
    places = ["/dev/zero", "../../kept.txt", "/etc/passwd", ["clips-0.tar", "0.wav", 512, 9**9], "rain"]
    odd = st.one_of(
        changed(row),
        st.fixed_dictionaries({**{k: st.just(v) for k, v in row.items()}, "sound": st.sampled_from(places)}),
    )
    rows += draw(st.lists(odd, max_size=3))
    text = "\n".join(json.dumps(row) for row in rows).encode()
    return draw(damaged([text], 2))


COLUMNS = [
    "id",
    "start",
    "label",
    "split",
    "file_name",
    "fname",
    "filename",
    "slice_file_name",
    "audio",
    "class",
]
COLUMNS += ["category", "fold", "target", "esc10", "youtube_id", "start_seconds", "", "x"]
VALUES = [
    "a",
    "a.wav",
    "rain/a.wav",
    "rain",
    "fire",
    "train",
    "0",
    "5",
    "1.5",
    "nan",
    "1e999",
    "1e306",
    "-3",
    "",
    " ",
    "../a",
]
VALUES += ["Yabc_0_10", "id_5000_15000", '"', '""', "'", "\0", "é", "/dev/zero", "a,b", "x" * 5000]


@st.composite
def csv_files(draw) -> bytes:
    width = draw(st.integers(1, 5))
    heads = st.lists(st.sampled_from(COLUMNS), min_size=width, max_size=width)
    rows = [draw(st.one_of(heads, st.just(["id", "label"])))]
    if draw(st.booleans()):
        rows += [["a.wav", "rain"], ["rain/a.wav", "rain"], ["fire/b.wav", "fire"]]
    cells = st.one_of(st.sampled_from(VALUES), texts)
    rows += draw(st.lists(st.lists(cells, min_size=1, max_size=width + 1), max_size=4))
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    separator = draw(mostly(st.just(","), st.sampled_from([";", "\t"])))
    text = end.join(separator.join(row) for row in rows)
    encodings = st.sampled_from(["utf-16", "latin-1", "utf-8-sig"])
    content = text.encode(draw(mostly(st.just("utf-8"), encodings)), "replace")
    return draw(mostly(st.just(content), damaged([content], 1)))


@st.composite
def csvs(draw) -> Example:
    files = {f"videos/{name}": seeds.sounds()["wav"] for name in ("a.wav", "rain/a.wav", "fire/b.wav")}
    files |= {
        "videos/a.png": seeds.pictures()["png"],
        "videos/fire/b.png": seeds.pictures()["png"],
        "list.csv": draw(csv_files()),
    }
    if draw(st.booleans()):
        files["videos/Yabc_0_10.mp4"] = seeds.video()
    arguments = {"source": "videos", "listed": "list.csv", "frames": 2, "keep": 1, "size": 16}
    if draw(st.integers(0, 3)) == 0:
        files["labels.txt"] = draw(csv_files())
        arguments["labels"] = "labels.txt"
    return Example("csv", "prepare", arguments, files)


@st.composite
def answers(draw) -> Example:
    key, answer = seeds.answers()
    if draw(st.booleans()):
        key = draw(changed(key))
    files = {"key.json": json.dumps(key).encode(), "0.json": json.dumps(draw(changed(answer))).encode()}
    files["1.json"] = draw(damaged([json.dumps(answer).encode()], 1))
    names = draw(st.sampled_from([["0.json"], ["1.json"], ["0.json", "1.json"], ["none.json"]]))
    return Example("answers", "tally", {"answers": names, "key": "key.json"}, files)


@st.composite
def prompts(draw) -> Example:
    files = {"rain.safetensors": seeds.tokens()[0]}
    named = draw(st.sampled_from([[], ["rain.safetensors"], ["rain.safetensors"], ["rain.safetensors"] * 2]))
    given = draw(st.lists(texts, min_size=1, max_size=3))
    if draw(st.booleans()):
        given[1:] = [f"{text} *" for text in given[1:] or [""]]
    return Example("prompt", "lay_out", {"texts": given, "tokens": named}, files)


SETTINGS = {
    "aai.adapt.settings.TrainSettings": (
        "steps rate batch seed scale rho vectors template init timesteps average norm chunk validate patience"
    ),
    "aai.adapt.universal_settings.AdapterSettings": "steps rate batch seed rho vectors template chunk",
    "aai.align.settings.AlignSettings": (
        "steps batch rate weight_decay tau alpha ramp_steps m momentum keep warmup seed accumulate schedule"
    ),
    "aai.data.clip_writer.PrepareSettings": "rate seconds frames keep size sound shard",
    "aai.inject.blend.Blend": "start threshold",
    "aai.inject.loudness.scale_of": "loudness reference",
    "aai.inject.loudness.check_scale": "scale",
}
WORDS = [
    "vocabulary",
    "raw",
    "free",
    "soft",
    "pinned",
    "stratified",
    "audio",
    "none",
    "literal",
    "paper",
    "flac",
]
TEXT_FIELDS = {"scale", "template", "timesteps", "norm", "momentum", "schedule", "sound"}


@st.composite
def settings(draw) -> Example:
    """Numbers of every size for the fields that hold numbers, words for those that hold words."""
    if draw(st.integers(0, 5)) == 0:
        return Example(
            "settings",
            "make_settings",
            {"name": "aai.inject.loudness.read_scales", "values": {"text": draw(texts)}},
        )
    name = draw(st.sampled_from(sorted(SETTINGS)))
    values = {}
    for field in SETTINGS[name].split():
        words = field in TEXT_FIELDS and not name.endswith("check_scale")
        if name.startswith("aai.inject.loudness") or draw(st.integers(0, 2)) == 0:
            values[field] = draw(st.one_of(st.sampled_from(WORDS), texts) if words else numbers)
    return Example("settings", "make_settings", {"name": name, "values": values})


KINDS = {
    "sound": sounds, "picture": pictures, "token": tokens, "checkpoint": checkpoints, "encoder": encoders,
    "adapter": adapters, "model folder": model_folders, "index": indices, "data set": data_sets,
    "csv": csvs, "answers": answers, "prompt": prompts, "settings": settings, "command": commands,
}  # fmt: skip
WEIGHTS = {"sound": 2, "picture": 2, "token": 2, "command": 2, "settings": 0.5, "answers": 0.5}
