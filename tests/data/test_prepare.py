"""Videos, and sounds with frames, become a dataset; killed and full disks included."""

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from aai import audio, cli
from aai.data import clip_writer
from aai.data.clip_writer import PrepareSettings
from aai.data.clips import UNFINISHED, scan
from aai.data.csv_list import read_list
from aai.data.frames import best, evenly, video_frames
from aai.data.listing import find
from aai.data.prepare import prepare
from aai.encoders.clip import fetch_clip
from aai.errors import InputError

RATE, FPS = 22050, 10
SHORT = PrepareSettings(seconds=1.0, frames=8, keep=4)
LIST = """a,12,"dog, barking",train
b,1,rain,test
mute,0,rain,train
torn,0,rain,train
away,3,rain,train
a,12,rain,train
blind,0,rain,train
"""


@pytest.mark.parametrize(
    "size, made",
    [((854, 480), (398, 224)), ((480, 854), (224, 398)), ((300, 300), (224, 224)), ((224, 900),) * 2],
)
def test_frames_are_reduced_as_by_torchvision(size, made):
    """The longer side is cut off, not rounded: 398.5 pixels are 398."""
    transforms = pytest.importorskip("torchvision.transforms")
    picture = Image.effect_noise(size, 50).convert("RGB")
    reduced = clip_writer._reduce(picture, 224)
    assert reduced.size == made
    theirs = transforms.Resize(224, transforms.InterpolationMode.BICUBIC)(picture)
    assert reduced.tobytes() == theirs.tobytes()


def write_video(path, seconds=1.2, pitch=440.0, sound=True, pictures=True, size=(64, 48)):
    """A video whose frame at t seconds is grey of 200 t / seconds, and whose sound is a tone."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=FPS) if pictures else None
        voice = container.add_stream("mp2", rate=RATE, layout="mono") if sound else None
        if video:
            video.width, video.height, video.pix_fmt = *size, "yuv420p"
            for i in range(round(seconds * FPS)):
                grey = np.full((size[1], size[0], 3), round(200 * i / (seconds * FPS)), np.uint8)
                container.mux(video.encode(av.VideoFrame.from_ndarray(grey)))
            container.mux(video.encode(None))
        if voice:
            time = np.arange(round(seconds * RATE)) / RATE
            noise = 0.02 * np.random.default_rng(0).standard_normal(len(time))
            wave = ((0.4 * np.sin(2 * math.pi * pitch * time) + noise) * 32767).astype(np.int16)
            for start in range(0, len(wave), 1152):
                frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1152], "s16", "mono")
                frame.sample_rate, frame.pts = RATE, start
                container.mux(voice.encode(frame))
            container.mux(voice.encode(None))


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """VGGSound's way: cut clips, a whole video, one without sound, one torn, one without pictures."""
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "a_000012.mp4", 1.2)
    write_video(folder / "b.mp4", 3.0, pitch=900)
    write_video(folder / "mute_000000.mp4", sound=False)
    (folder / "torn_000000.mp4").write_bytes((folder / "b.mp4").read_bytes()[:200])
    (folder / "deeper").mkdir()
    write_video(folder / "deeper" / "blind_0.mkv", pictures=False)
    (folder / "vggsound.csv").write_text(LIST, encoding="utf-8")
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def greys(clip) -> list[int]:
    return [round(float(clip.load_picture(i).mean() * 255)) for i in range(len(clip.pictures))]


def test_videos_become_clips_and_the_bad_ones_are_listed(videos, tmp_path):
    seen = []
    made = prepare(videos, tmp_path / "set", SHORT, callback=lambda *figures: seen.append(figures))
    assert made.clips == 2 and made.labels == {"dog, barking": 1, "rain": 1}
    assert seen[-1] == (7, 7, 5)
    reasons = {id: reason for id, _, reason in made.bad}
    assert list(reasons) == ["mute_000000", "torn_000000", "away_000003", "a_000012#2", "blind_000000"]
    for id, words in (
        ("mute_000000", "no sound track"),
        ("torn_000000", "cannot be read as sound"),
        ("away_000003", "no sound or video"),
        ("a_000012#2", "before"),
        ("blind_000000", "has no pictures"),
    ):
        assert words in reasons[id]
    a, b = scan(tmp_path / "set")
    assert (a.id, a.label, a.split) == ("a_000012", "dog, barking", "train")
    assert (b.id, b.label, b.split) == ("b_000001", "rain", "test")
    with pytest.raises(InputError, match="1 classes"):
        scan(tmp_path / "set", "test")
    with pytest.raises(InputError, match="'valid': choose one of test, train"):
        scan(tmp_path / "set", "valid")
    sound = a.load_sound()
    assert sound.rate == 16000 and sound.waveform.shape == (1, 16000)
    wanted = audio.load(videos / "a_000012.mp4", 0, 1.0).resample(16000).waveform
    assert (sound.waveform - wanted).abs().max() < 2 / 32768
    # The whole video is cut at second 1: its greys run from 200 / 3 to 400 / 3.
    assert greys(a) == sorted(greys(a)) and abs(greys(a)[0] - 200 * 0.1 / 1.2) < 5
    assert 200 / 3 - 5 < greys(b)[0] < greys(b)[-1] < 400 / 3 + 5
    pitch = torch.fft.rfft(b.load_sound().waveform[0]).abs().argmax()
    assert pitch == 900
    assert a.load_picture(0).shape == (3, 48, 64)


def test_shards_hold_what_folders_hold(videos, tmp_path):
    prepare(videos, tmp_path / "folders", SHORT)
    sharded = PrepareSettings(**{**vars(SHORT), "shard": 2})
    prepare(videos, tmp_path / "shards", sharded)
    assert [p.name for p in sorted((tmp_path / "shards").glob("*.tar"))] == ["shard-000000.tar"]
    plain = scan(tmp_path / "folders")
    (tmp_path / "bare").mkdir()
    os.link(tmp_path / "shards" / "shard-000000.tar", tmp_path / "bare" / "shard-000000.tar")
    bare = tmp_path / "bare"
    for packed in (scan(tmp_path / "shards"), scan(bare), scan(bare / "shard-000000.tar")):
        assert [(c.id, c.label, c.split) for c in packed] == [(c.id, c.label, c.split) for c in plain]
        for one, other in zip(packed, plain):
            assert torch.equal(one.load_sound().waveform, other.load_sound().waveform)
            assert len(one.pictures) == len(other.pictures) == 4
            assert torch.equal(one.load_picture(2), other.load_picture(2))


def test_frames_are_those_on_screen_in_the_middle_of_each_part(videos):
    """Frame i of b.mp4 stands from i / 10 s on: of 1 s in 5 parts from second 1, frames 11, 13, ... 19."""
    greys = [Image.Image.getpixel(frame, (5, 5))[0] for frame in video_frames(videos / "b.mp4", 5, 1.0, 1.0)]
    assert greys == pytest.approx([200 * i / 30 for i in (11, 13, 15, 17, 19)], abs=4)
    assert len(video_frames(videos / "b.mp4", 20, 2.5, 10.0)) == 5
    assert evenly(20, 10) == list(range(1, 20, 2)) and evenly(3, 10) == [0, 1, 2]
    assert best([0.1, 0.5, 0.2, 0.5], 2) == [1, 3] and best([0.5, 0.5, 0.5], 2) == [0, 1]


@pytest.fixture(scope="module")
def small_clip(tmp_path_factory, make_tokenizer):
    """A random CLIP of 32-pixel pictures as transformers keeps it."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    torch.manual_seed(0)
    tower = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    tokenizer = make_tokenizer()
    text = dict(
        tower, vocab_size=len(tokenizer), max_position_embeddings=77, eos_token_id=tokenizer.eos_token_id
    )
    config = CLIPConfig(
        text_config=text, vision_config=dict(tower, image_size=32, patch_size=8), projection_dim=8
    )
    folder = tmp_path_factory.mktemp("clip")
    CLIPModel(config).save_pretrained(folder)
    picture = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(picture, tokenizer).save_pretrained(folder)
    return folder


def test_clip_keeps_the_frames_nearest_to_the_label(videos, small_clip, tmp_path):
    from transformers import CLIPModel, CLIPProcessor

    settings = PrepareSettings(seconds=1.0, frames=8, keep=3, clip=str(small_clip))
    prepare(videos, tmp_path / "set", settings)
    clip = scan(tmp_path / "set")[1]
    frames = video_frames(videos / "b.mp4", 8, 1.0, 1.0)
    model, processor = CLIPModel.from_pretrained(small_clip).eval(), CLIPProcessor.from_pretrained(small_clip)
    with torch.no_grad():
        inputs = processor(text=["rain"], images=frames, return_tensors="pt")
        cosines = torch.cosine_similarity(
            model(**inputs).image_embeds, model(**inputs).text_embeds.expand(len(frames), -1)
        )
    wanted = sorted(cosines.topk(3).indices.tolist())
    assert greys(clip) == pytest.approx([frames[i].getpixel((5, 5))[0] for i in wanted], abs=2)
    assert fetch_clip(str(small_clip)).scores(frames, "rain") == pytest.approx(cosines.tolist(), abs=1e-5)
    with pytest.raises(InputError, match="nowhere.*no CLIP"):
        prepare(videos, tmp_path / "other", PrepareSettings(clip=str(tmp_path / "nowhere")))


def test_sounds_with_frames_beside_them(tmp_path):
    """CAV-MAE's layout (frame_0/ID.jpg), a folder of frames for each id, and a first line of names."""
    source = tmp_path / "source"
    for folder in ("wav", "frame_0", "frame_9", "frame_10", "frames/two"):
        (source / folder).mkdir(parents=True)
    tone = torch.sin(torch.arange(RATE) * 0.2)[None].expand(2, -1) / 2
    for name in ("one", "two", "three"):
        audio.save(audio.Sound(tone, RATE), source / "wav" / f"{name}.wav")
    for grey, folder in ((10, "frame_10"), (0, "frame_0"), (9, "frame_9")):
        Image.new("RGB", (600, 400), (grey * 20,) * 3).save(source / folder / "one.jpg")
    Image.new("RGB", (20, 30), "red").save(source / "frames" / "two" / "anything.png")
    listed = tmp_path / "list.csv"
    listed.write_text(
        "label,split,video_id\nrain,train,one.wav\ndog,test,two\nrain,,three\nhail,,one\n", encoding="utf-8"
    )
    labels = tmp_path / "labels.csv"
    labels.write_text("rain,1050\ndog,3\n", encoding="utf-8")
    made = prepare(source, tmp_path / "set", listed=listed, labels=labels)
    assert [(id, reason) for id, _, reason in made.bad] == [
        ("three", "it has no pictures"),
        ("one#2", "its id stands in the list before"),
    ]
    one, two = scan(tmp_path / "set")
    assert greys(one) == pytest.approx([0, 180, 200], abs=2)
    assert one.load_picture(0).shape == (3, 256, 384) and two.load_picture(0).shape == (3, 30, 20)
    assert one.load_sound().waveform.shape == (1, 16000)
    listed.write_text("id,label\none,hail\ntwo,dog\n", encoding="utf-8")
    made = prepare(source, tmp_path / "set2", listed=listed, labels=labels)
    assert made.bad == [("one", "hail", "its label is not in 'labels.csv'")]


def lay(folder: Path, *paths: str) -> Path:
    """Empty files, which are only to be found."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return folder


def lay_real(folder: Path, pitches: dict[str, int]) -> Path:
    """Tones of a second, each with a picture of its own name whose grey is a tenth of its pitch in Hz."""
    for name, pitch in pitches.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        wave = 0.4 * torch.sin(2 * math.pi * pitch * torch.arange(16000) / 16000)[None]
        audio.save(audio.Sound(wave, 16000), folder / f"{name}.wav")
        Image.new("RGB", (32, 24), (pitch // 10,) * 3).save(folder / f"{name}.jpg")
    return folder


def pitch(clip) -> int:
    return int(torch.fft.rfft(clip.load_sound().waveform[0]).abs().argmax())


def found_in(source: Path, listed: str, name: str = "list.csv") -> dict[str, str]:
    """What each line of a list is made of: a path from the source, or why it is not."""
    (source / name).write_text(listed, encoding="utf-8")
    return {
        item.id: item.why or item.media.relative_to(source).as_posix()
        for item in find(source, source / name)
    }  # fmt: skip


@pytest.mark.parametrize(
    "names",
    ["dog/001.wav cat/001.wav", "dog\\001.wav cat\\001.wav", "dog/001 cat/001", "./dog/001 ./cat/001.WAV",
     "old/place/dog/001.flac old/place/cat/001.wav", "C:\\set\\dog\\001.wav C:\\set\\cat\\001.wav"],
)  # fmt: skip
def test_a_label_gets_the_sound_and_the_picture_of_its_own_folder(tmp_path, names):
    source = lay_real(tmp_path / "source", {"cat/001": 500, "dog/001": 1500})
    dog, cat = names.split()
    (source / "list.csv").write_text(f"path,label\n{dog},dog\n{cat},cat\n", encoding="utf-8")
    made = prepare(source, tmp_path / "set", SHORT)
    assert made.labels == {"cat": 1, "dog": 1} and not made.bad
    clips = scan(tmp_path / "set")
    assert [(clip.label, pitch(clip), *greys(clip)) for clip in clips] == [
        ("dog", 1500, pytest.approx(150, abs=2)),
        ("cat", 500, pytest.approx(50, abs=2)),
    ]
    assert len({clip.id for clip in clips}) == 2


def test_a_list_is_read_from_its_own_folder_too(tmp_path):
    source = lay(tmp_path, "a/wavs/1.wav", "b/wavs/1.wav", "b/wavs/2.wav", "a/2.wav", "a/3.wav", "b/3.mp3")
    assert found_in(source, "path,label\nwavs/1.wav,x\n2.wav,y\n3.wav,z\n", "b/list.csv") == {
        "wavs_1": "b/wavs/1.wav",
        "2": "several files fit it: a/2.wav, b/wavs/2.wav",
        "3": "a/3.wav",
    }
    assert found_in(source, "path,label\n../a/wavs/1.wav,x\n", "b/list.csv") == {"a_wavs_1": "a/wavs/1.wav"}


def test_what_several_files_fit_is_refused_by_their_names(tmp_path):
    source = lay(tmp_path, "dog/001.wav", "cat/001.wav", "train/x/7.wav", "test/x/7.wav", "8.wav", "8.mp3")
    assert found_in(source, "id,label\n001,dog\nx/7,b\n8,c\ntrain/x/7.ogg,e\n") == {
        "001": "several files fit it: cat/001.wav, dog/001.wav",
        "x_7": "several files fit it: test/x/7.wav, train/x/7.wav",
        "8": "several files fit it: 8.mp3, 8.wav",
        "train_x_7": "train/x/7.wav",
    }
    assert found_in(source, "id,label\n8.mp3,c\n") == {"8": "8.mp3"}


def test_a_file_in_another_folder_is_not_the_clips(tmp_path):
    source = lay(tmp_path, "cat/001.wav", "002.wav", "003.wav")
    listed = "path,label\ndog/001.wav,dog\ndog/002.wav,dog\ncat/002.wav,cat\ndog/003.wav,dog\n"
    found = found_in(source, listed)
    assert "no sound or video" in found["dog_001"]
    assert found["dog_002"] == found["cat_002"] == "other paths of the list fit its file too: 002.wav"
    assert found["dog_003"] == "003.wav"


def test_parts_of_videos_are_told_by_their_folders(tmp_path):
    source = lay(tmp_path, "dog/a_000012.mp4", "cat/a.mp4", "cat/b_7.mp4", "b.mp4")
    listed = "video,start,label\ndog/a,12,x\ncat/a.mp4,12,y\ncat/b,7,z\nb.mp4,7,z\na_000012.mp4,12,w\n"
    (source / "list.csv").write_text(listed, encoding="utf-8")
    items = find(source)
    assert [(item.media.relative_to(source).as_posix(), item.start) for item in items] == [
        ("dog/a_000012.mp4", 0),
        ("cat/a.mp4", 12),
        ("cat/b_7.mp4", 0),
        ("b.mp4", 7),
        ("dog/a_000012.mp4", 0),
    ]


def pictures_in(source: Path, listed: str) -> list[list[str] | str]:
    (source / "list.csv").write_text(listed, encoding="utf-8")
    return [i.why or [p.relative_to(source).as_posix() for p in i.pictures] for i in find(source)]


def test_pictures_are_those_of_the_sounds_own_folder(tmp_path):
    one = lay(
        tmp_path / "one", "s/dog/1.wav", "s/cat/1.wav", "f/dog/1/0.jpg", "f/cat/1/0.jpg", "f/cat/1/1.jpg"
    )
    listed = "path,label\ns/dog/1.wav,dog\ns/cat/1.wav,cat\n"
    assert pictures_in(one, listed) == [["f/dog/1/0.jpg"], ["f/cat/1/0.jpg", "f/cat/1/1.jpg"]]
    two = lay(tmp_path / "two", *(f"s/{c}/1.wav" for c in ("dog", "cat")))
    lay(two, *(f"frame_{i}/{c}/1.jpg" for i in (0, 1) for c in ("dog", "cat")))
    assert pictures_in(two, listed)[1] == ["frame_0/cat/1.jpg", "frame_1/cat/1.jpg"]
    three = lay(tmp_path / "three", "dog/1.wav", "cat/1.wav", "cat/1.jpg", "cat/2.wav", "dog/2.jpg")
    # A picture that another class's sound has, or that lies among another's sounds, is not taken.
    assert pictures_in(three, "path,label\ndog/1.wav,dog\ncat/1.wav,cat\ncat/2.wav,cat\n") == [
        [], ["cat/1.jpg"], [],
    ]  # fmt: skip


def test_pictures_that_may_be_anothers_are_refused_by_their_names(tmp_path):
    source = lay(tmp_path, "wav/x.wav", "a/x.jpg", "b/x.jpg", "s/dog/1.wav", "s/cat/1.wav", "f/1.jpg")
    assert pictures_in(source, "path,label\nwav/x.wav,x\ns/dog/1.wav,dog\ns/cat/1.wav,cat\n") == [
        "several pictures fit it: a/x.jpg, b/x.jpg",
        "several pictures fit it: f/1.jpg",
        "several pictures fit it: f/1.jpg",
    ]


def test_pictures_of_longer_names_are_not_a_shorter_ones(tmp_path):
    """`1_2.jpg` is the picture of 1_2, not the second of 1; frames/1/2.jpg is one of 1, not of 2."""
    source = lay(tmp_path / "list", "1.wav", "1_2.wav", "2.wav", "1_2.jpg", "1_3.jpg", "frames/2/1.jpg")
    assert pictures_in(source, "id,label\n1,a\n1_2,b\n2,c\n") == [
        ["1_3.jpg"],
        ["1_2.jpg"],
        ["frames/2/1.jpg"],
    ]
    classes = lay(tmp_path / "classes", "a/1.wav", "a/1_2.wav", "a/1_2.jpg", "a/1_2_0.jpg", "a/1.jpg")
    lay(classes, "b/1.wav", "b/1.jpg")
    wanted = [["1.jpg"], ["1_2.jpg", "1_2_0.jpg"], ["1.jpg"]]
    assert [[p.name for p in item.pictures] for item in find(classes)] == wanted
    assert [[p.name for p in clip.pictures] for clip in scan(classes)] == wanted


def test_pictures_numbered_like_a_start_are_all_the_clips(tmp_path):
    source = lay(tmp_path, "x.mp4", *(f"x_{i}.jpg" for i in range(4)))
    assert pictures_in(source, "id,start,label\nx,3,a\n") == [[f"x_{i}.jpg" for i in range(4)]]


def test_every_clip_keeps_a_folder_of_its_own(tmp_path):
    """Names that are one after cleaning, after cutting, or on a disk that is blind to case."""
    long = "x" * 160
    names = ["dog/001", "dog_001", "abc", "ABC", f"{long}1", f"{long}2", "con", "plain"]
    source = lay(tmp_path / "list", *(f"{name}.wav" for name in names))
    (source / "list.csv").write_text(
        "path,label\n" + "".join(f"{name}.wav,{name}\n" for name in names), encoding="utf-8"
    )
    items = find(source)
    assert [item.why for item in items] == [""] * len(names)
    ids = [item.id for item in items]
    assert len({id.casefold() for id in ids}) == len(names) and max(map(len, ids)) <= 150
    assert ids[-1] == "plain" and not {"con", "dog_001", "abc", "ABC"} & set(ids)
    # The names do not hang on the order.
    lines = (source / "list.csv").read_text(encoding="utf-8").splitlines()
    (source / "list.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]), encoding="utf-8")
    assert [item.id for item in find(source)] == ids[::-1]
    classes = lay(tmp_path / "classes", "a_b/c.wav", "a/b_c.wav", "e/f.wav", "e/f.mp3", f"e/{long}1.wav")
    lay(classes, f"e/{long}2.wav", "e/ü" + "語" * 60 + ".wav")
    items = find(classes)
    assert len({item.id for item in items}) == 7 and not any(item.why for item in items)
    assert max(len(item.id.encode()) for item in items) <= 210
    assert len({clip.id for clip in scan(lay(classes, "a/p.jpg", "a_b/p.jpg", "e/p.jpg"))}) == 7


def test_clips_of_one_cleaned_name_are_made_each_of_its_own_sound(tmp_path):
    source = lay_real(tmp_path / "source", {"dog/001": 500, "dog_001": 1500})
    (source / "list.csv").write_text("path,label\ndog/001.wav,low\ndog_001.wav,high\n", encoding="utf-8")
    prepare(source, tmp_path / "set", SHORT)
    assert [(clip.label, pitch(clip)) for clip in scan(tmp_path / "set")] == [("low", 500), ("high", 1500)]


def test_folders_of_splits_are_splits(tmp_path):
    pitches = {"train/low/1": 500, "train/high/1": 1500, "test/low/1": 600, "test/high/1": 1600}
    prepare(lay_real(tmp_path / "source", pitches), tmp_path / "set", SHORT)
    clips = scan(tmp_path / "set")
    assert {(clip.split, clip.label): pitch(clip) for clip in clips} == {
        ("train", "low"): 500, ("train", "high"): 1500, ("test", "low"): 600, ("test", "high"): 1600,
    }  # fmt: skip
    for kind, names in (("split", ("train", "test")), ("fold", ("fold1", "fold2"))):
        source = lay(tmp_path / kind, *(f"{name}/1.wav" for name in names))
        with pytest.raises(InputError, match=f"is a {kind} and no class"):
            find(source)


@pytest.mark.parametrize(
    "heads",
    ["file_name,class", "fname,label", "slice_file_name,class", "filename,category", "audio,label",
     "fname,class_name", "audio_path,labels", "FileName,ClassName", "file-name,class-label", "ytid,labels",
     "File,Class Name"],
)  # fmt: skip
def test_heads_of_lists_as_sets_have_them(tmp_path, heads):
    (tmp_path / "list.csv").write_text(f"fold,{heads}\n1,a.wav,dog\n", encoding="utf-8")
    assert read_list(tmp_path / "list.csv") == [("a.wav", None, "dog", "")]


def test_a_path_goes_before_an_id_and_a_name_before_a_number(tmp_path):
    (tmp_path / "list.csv").write_text(
        "id,label,class_name,path\n1,0,dog,dog/1.wav\n1,1,cat,cat/1.wav\n2,1,,\n", encoding="utf-8"
    )
    read = read_list(tmp_path / "list.csv")
    assert read == [("dog/1.wav", None, "dog", ""), ("cat/1.wav", None, "cat", ""), ("2", None, "1", "")]


def test_urbansounds_files_are_cut_already(tmp_path):
    source = lay(tmp_path, "fold1/100032-3-0-0.wav", "fold2/100263-2-0-117.wav")
    listed = "slice_file_name,fsID,start,end,salience,fold,classID,class\n"
    listed += (
        "100032-3-0-0.wav,100032,0.0,0.3,1,1,3,dog_bark\n100263-2-0-117.wav,100263,58.5,62.5,1,2,2,siren\n"
    )
    (source / "UrbanSound8K.csv").write_text(listed, encoding="utf-8")
    assert [(item.media.parent.name, item.start, item.label, item.why) for item in find(source)] == [
        ("fold1", 0, "dog_bark", ""),
        ("fold2", 0, "siren", ""),
    ]


def test_audiosets_and_vggsounds_names_are_found(tmp_path):
    """Ids begin with - and hold _; a Y stands before them, and milliseconds behind."""
    names = {
        "-0049e-H5Uk": "Y-0049e-H5Uk.wav",
        "_a_b_c_d_e_": "Y_a_b_c_d_e__30000_40000.wav",
        "-1_2_3-4_5-": "-1_2_3-4_5-_30000_40000.wav",
        "Yabcdefghij": "Yabcdefghij.wav",
        "YabcdefghiY": "YYabcdefghiY_000030.mp4",
        "zzzzzzzzzzz": "",
    }
    source = lay(tmp_path, *filter(None, names.values()))
    listed = "# Segments csv created Sun Mar  5\n# YTID, start_seconds, end_seconds, label\n"
    listed += "".join(f"{name}, 30.000, 40.000, dog\n" for name in names)
    (source / "list.csv").write_text(listed, encoding="utf-8")
    items = find(source)
    assert [item.media.name if item.media else "" for item in items] == list(names.values())
    assert [item.start for item in items[:5]] == [30, 0, 0, 30, 0]
    assert [item.id for item in items] == [f"{name}_000030" for name in names]


def test_names_with_milliseconds_are_parts(tmp_path):
    ids = ["-a_b_5000_15000", "b_5000_15000", "c_d_0_10000", "Y-0049e-H5Uk", "take_1_2", "x_1000_900000"]
    files = ["-a_b_5000_15000.wav", "b.mp4", "c_d_000000.mp4", "-0049e-H5Uk.flac", "take.wav", "x.wav"]
    source = lay(tmp_path, *files, "frames/b/0.jpg")
    (source / "list.csv").write_text("id,label\n" + "".join(f"{id},dog\n" for id in ids), encoding="utf-8")
    items = find(source)
    assert [item.media and item.media.name for item in items] == [*files[:4], None, None]
    assert [item.start for item in items[:4]] == [0, 5, 0, 0]
    assert [path.name for path in items[1].pictures] == ["0.jpg"]


def test_a_set_of_nothing_usable_is_refused_and_goes_on_when_mended(tmp_path, capsys):
    source = lay(tmp_path / "source", "a.wav")
    (source / "list.csv").write_text("id,label\na,dog\nb,cat\n", encoding="utf-8")
    arguments = ["data", "prepare", str(source), "-o", str(tmp_path / "set"), "--workers", "1"]
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and "None of the 2 clips" in said[0] and "bad.csv" in said[0]
    assert (tmp_path / "set" / "bad.csv").read_text(encoding="utf-8").count("\n") == 3
    lay_real(source, {"a": 500, "b": 600})
    assert cli.main([*arguments, "--retry"]) == 0


def test_a_start_that_is_no_number_is_none(tmp_path):
    (tmp_path / "list.csv").write_text(
        "id,start,label\na,nan,rain\nb,inf,rain\nc,soon,rain\nd,2.5,rain\n", encoding="utf-8"
    )
    assert [start for _, start, *_ in read_list(tmp_path / "list.csv")] == [None, None, None, 2.5]


RUN = """
import sys
from aai.cli import main
sys.exit(main(sys.argv[1:]))
"""


def start(*arguments, before="", **options) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", before + RUN, "data", "prepare", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", env=environment, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """Two classes of twelve videos."""
    folder = tmp_path_factory.mktemp("classes")
    for name in ("dog", "heavy_rain"):
        (folder / name).mkdir()
        for i in range(12):
            write_video(folder / name / f"{i}.mp4", 0.8, 300 + 100 * i)
    return folder


@pytest.mark.parametrize("options", [["--workers", "1"], ["--workers", "2", "--shards", "2"]], ids=" ".join)
def test_killed_twice_it_ends_with_the_same_files(classes, tmp_path, options):
    settings = PrepareSettings(shard=2 if "--shards" in options else 0)
    wanted = prepare(classes, tmp_path / "whole", settings)
    assert wanted.clips == 24 and set(wanted.labels) == {"dog", "heavy rain"}
    out = tmp_path / "killed"
    journal = out / UNFINISHED
    for _ in range(2):
        run = start(classes, "-o", out, *options)
        # The first line of a journal is what earlier runs did: this one has made two clips or shards.
        wait_for(lambda: journal.is_file() and journal.read_bytes().count(b"\n") >= 3, run)
        run.kill()
        run.wait()
        assert journal.is_file(), "it was done before it could be killed"
        with pytest.raises(InputError, match="not finished"):
            scan(out)
    # As if the second kill had torn a line.
    with journal.open("a", encoding="utf-8") as file:
        file.write('[[{"id": "dog_')
    made = prepare(classes, out, settings)
    assert (made.clips, made.labels, made.bad) == (wanted.clips, wanted.labels, wanted.bad)
    assert tree(out) == tree(tmp_path / "whole")


def wait_for(condition, run: subprocess.Popen, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert run.poll() is None, run.stdout.read()
        assert time.monotonic() < end, "it does not get on"
        time.sleep(0.002)


def test_a_full_disk_is_one_sentence_and_the_next_run_goes_on(classes, tmp_path):
    """No file may grow past 12 kB: the sounds do not fit."""
    full = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (12000, 12000))\n"
    run = start(classes, "-o", tmp_path / "set", "--workers", "1", before=full)
    said, _ = run.communicate(timeout=120)
    assert run.returncode == 2
    assert "does not take more" in said and "run the same again" in said and "Traceback" not in said
    assert not list((tmp_path / "set").rglob("*.flac"))
    assert prepare(classes, tmp_path / "set").clips == 24


def test_an_interrupt_stops_it_and_it_goes_on(classes, tmp_path):
    def stop(done, total, bad):
        if done == 5:
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        prepare(classes, tmp_path / "set", callback=stop)
    made = []
    prepare(classes, tmp_path / "set", callback=lambda done, *_: made.append(done))
    assert made[0] == 6 and made[-1] == 24
    assert signal.getsignal(signal.SIGINT) is before


def test_a_finished_set_grows_and_bad_clips_are_tried_again_when_asked(videos, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for path in videos.glob("[ab]*.mp4"):
        os.link(path, source / path.name)
    (source / "list.csv").write_text(LIST, encoding="utf-8")
    out = tmp_path / "set"
    assert prepare(source, out, SHORT).clips == 2
    os.link(videos / "b.mp4", source / "away.mp4")
    (source / "list.csv").write_text(LIST + "b,0,hail,test\n", encoding="utf-8")
    assert prepare(source, out, SHORT).clips == 3
    assert prepare(source, out, SHORT, retry=True).clips == 3
    os.rename(source / "away.mp4", source / "away_000003.mp4")
    assert prepare(source, out, SHORT).clips == 3
    made = prepare(source, out, SHORT, retry=True)
    assert made.clips == 4 and made.labels["hail"] == 1
    assert len(scan(out)) == 4


@pytest.mark.parametrize("shard", [0, 2])
def test_a_list_that_has_changed_is_followed(videos, tmp_path, shard):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("a_000012.mp4", "b.mp4", "mute_000000.mp4"):
        os.link(videos / name, source / name)
    settings = PrepareSettings(**{**vars(SHORT), "shard": shard})
    out, listed = tmp_path / "set", source / "list.csv"

    def follows(content, labels=None):
        """The set after a run with this list; it is what a run from scratch makes."""
        listed.write_text(content, encoding="utf-8")
        prepare(source, out, settings, labels=labels)
        fresh = tmp_path / f"fresh {len(list(tmp_path.iterdir()))}"
        prepare(source, fresh, settings, labels=labels)
        for path in fresh.rglob("*"):
            assert path.is_dir() or (out / path.relative_to(fresh)).read_bytes() == path.read_bytes()
        return [(clip.id, clip.label, clip.split) for clip in scan(out)]

    first = follows("a,12,dog,train\nb,1,rain,train\nb,2,hail,train\nmute,0,rain,train\n")
    assert first == [
        ("a_000012", "dog", "train"),
        ("b_000001", "rain", "train"),
        ("b_000002", "hail", "train"),
    ]
    sounds = {p: p.stat().st_mtime_ns for p in out.rglob("*.flac")}
    changed = "a,12,wolf,train\nb,1,rain,test\nb,2,hail,train\nmute,0,hail,train\n"
    renamed = [("a_000012", "wolf", "train"), ("b_000001", "rain", "test"), ("b_000002", "hail", "train")]
    assert follows(changed) == renamed
    # Nothing of a folder's clip but its row tells its label.
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in sounds.items())
    (tmp_path / "labels.csv").write_text("wolf\nrain\n", encoding="utf-8")
    assert follows(changed, tmp_path / "labels.csv") == renamed[:2]
    (source / "a_000012.mp4").unlink()
    assert prepare(source, out, settings, labels=tmp_path / "labels.csv").clips == 2


def test_frames_are_chosen_anew_for_another_label(videos, small_clip, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    os.link(videos / "b.mp4", source / "b.mp4")
    settings = PrepareSettings(seconds=1.0, frames=8, keep=3, clip=str(small_clip))
    for label in ("rain", "a dog in the city at night"):
        (source / "list.csv").write_text(f"b,1,{label},train\n", encoding="utf-8")
        prepare(source, tmp_path / "set", settings)
    prepare(source, tmp_path / "fresh", settings)
    assert tree(tmp_path / "set") == tree(tmp_path / "fresh")


def test_what_cannot_be_prepared_is_refused(videos, classes, tmp_path):
    prepare(classes, tmp_path / "set", PrepareSettings(keep=2))
    with pytest.raises(InputError, match="begun with keep 2, not 3"):
        prepare(classes, tmp_path / "set", PrepareSettings(keep=3))
    (tmp_path / "set" / "clips.jsonl").write_text("{}\n", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be read"):
        prepare(classes, tmp_path / "set", PrepareSettings(keep=2))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="thesis.txt"):
        prepare(classes, tmp_path / "full")
    with pytest.raises(InputError, match="within its own source"):
        prepare(classes, classes / "set")
    with pytest.raises(InputError, match="no folder"):
        prepare(tmp_path / "nowhere", tmp_path / "other")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="names no clips"):
        prepare(tmp_path / "empty", tmp_path / "other")
    for content, words in (
        ("name,loudness\nx,3\n", "columns name, loudness"),
        ("", "is empty"),
        (b"\xff\xfe\x00x,y", "no csv"),
    ):
        listed = tmp_path / "bad.csv"
        listed.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(InputError, match=words):
            prepare(videos, tmp_path / "other", listed=listed)
    with pytest.raises(InputError, match="flac or wav"):
        PrepareSettings(sound="mp3")


@pytest.mark.parametrize("content", [b"[1]", b"null", b"\xff\xfe", b"[" * 100_000, b""], ids=repr)
def test_settings_of_other_shapes_are_refused(tmp_path, content):
    source = lay_real(tmp_path / "source", {"a/1": 500, "b/1": 600})
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "dataset.json").write_bytes(content)
    with pytest.raises(InputError, match="was begun with"):
        prepare(source, tmp_path / "set", SHORT)


@pytest.mark.parametrize(
    "name, content",
    [
        *(
            ("progress.jsonl", line)
            for line in ("7", "[1]", "[[1], []]", "[[], [[1, 2, 3]]]", '[[{"id": "a"}], []]')
        ),
        ("progress.jsonl", '[[{"id": "a_1", "label": "a", "sound": "/dev/zero", "pictures": ["x"]}], []]'),
        ("progress.jsonl", '[[], [["a_1", "a"]]]'),
        *(("clips.jsonl", line) for line in ("7", "[]", '{"id": "a_1"}')),
        *(("bad.csv", line) for line in ("id,label,reason\na\n", "id,label,reason\na,b,c,d\n")),
    ],
)
def test_journals_of_other_shapes_are_refused(tmp_path, name, content):
    source = lay_real(tmp_path / "source", {"a/1": 500, "b/1": 600})
    prepare(source, tmp_path / "set", SHORT)
    (tmp_path / "set" / name).write_text(content + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=f"{name}' cannot be read"):
        prepare(source, tmp_path / "set", SHORT)


def test_a_journals_unreadable_lines_are_made_again(tmp_path):
    source = lay_real(tmp_path / "source", {"a/1": 500, "b/1": 600})
    prepare(source, tmp_path / "whole", SHORT)
    prepare(source, tmp_path / "set", SHORT)
    (tmp_path / "set" / "clips.jsonl").unlink()
    (tmp_path / "set" / "progress.jsonl").write_bytes(b'[[{"id": "caf\xc3')
    prepare(source, tmp_path / "set", SHORT)
    assert tree(tmp_path / "set") == tree(tmp_path / "whole")


@pytest.mark.parametrize("name", ["dataset.json", "clips.jsonl", "bad.csv", "progress.jsonl", "list.csv"])
def test_pipes_in_the_place_of_files_are_refused(tmp_path, name):
    source = lay_real(tmp_path / "source", {"a/1": 500, "b/1": 600})
    if name == "list.csv":
        os.mkfifo(source / name)
    else:
        prepare(source, tmp_path / "set", SHORT)
        (tmp_path / "set" / name).unlink(missing_ok=True)
        os.mkfifo(tmp_path / "set" / name)
    with pytest.raises(InputError, match=f"{name}' is no file"):
        prepare(source, tmp_path / "set", SHORT)


def test_a_pipe_among_pictures_costs_its_clip_alone(tmp_path):
    source = lay_real(tmp_path / "source", {"a": 500, "b": 600})
    (source / "a.jpg").unlink()
    os.mkfifo(source / "a.jpg")
    (source / "list.csv").write_text("id,label\na,low\nb,high\n", encoding="utf-8")
    made = prepare(source, tmp_path / "set", SHORT)
    assert made.labels == {"high": 1} and "a.jpg' is no file" in made.bad[0][2]


def test_names_that_are_no_utf8_are_prepared(tmp_path):
    source = lay_real(tmp_path / "source", {"a/1": 500, "b/1": 600})
    os.rename(source / "a", os.fsencode(source) + b"/caf\xe9")
    os.mkfifo(os.fsencode(source) + b"/b/x\xe9.wav")
    made = prepare(source, tmp_path / "set", SHORT)
    assert made.labels == {"b": 1, "caf\ufffd": 1}
    assert prepare(source, tmp_path / "set", SHORT).clips == 2
    assert len(scan(tmp_path / "set")) == 2


def test_the_command_reports(videos, tmp_path, capsys):
    arguments = [
        "data",
        "prepare",
        str(videos),
        "-o",
        str(tmp_path / "set"),
        "--workers",
        "1",
        "--seconds",
        "1",
    ]
    assert cli.main(arguments) == 0
    said = capsys.readouterr().out
    assert "evenly spaced" in said and "2 clips of 2 labels" in said and "5 bad" in said
    assert "2 labels have a single clip" in said
    assert cli.main([*arguments, "--keep", "3"]) == 2
    assert "begun with keep" in capsys.readouterr().err
    assert cli.main([*arguments, "--device", "cuda:63"]) == 2
    assert "no device 'cuda:63'" in capsys.readouterr().err
