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
from aai.align import making
from aai.align.clips import UNFINISHED, scan
from aai.align.frames import Ranker, best, evenly, video_frames
from aai.align.making import PrepareSettings
from aai.align.prepare import prepare
from aai.align.sources import read_list
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
    reduced = making._reduce(picture, 224)
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
    (folder / "vggsound.csv").write_text(LIST)
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
    with pytest.raises(InputError, match="“valid”: choose one of test, train"):
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
    assert Ranker(str(small_clip)).scores(frames, "rain") == pytest.approx(cosines.tolist(), abs=1e-5)
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
    listed.write_text("label,split,video_id\nrain,train,one.wav\ndog,test,two\nrain,,three\nhail,,one\n")
    labels = tmp_path / "labels.csv"
    labels.write_text("rain,1050\ndog,3\n")
    made = prepare(source, tmp_path / "set", listed=listed, labels=labels)
    assert [(id, reason) for id, _, reason in made.bad] == [
        ("three", "it has no pictures"),
        ("one#2", "its id stands in the list before"),
    ]
    one, two = scan(tmp_path / "set")
    assert greys(one) == pytest.approx([0, 180, 200], abs=2)
    assert one.load_picture(0).shape == (3, 256, 384) and two.load_picture(0).shape == (3, 30, 20)
    assert one.load_sound().waveform.shape == (1, 16000)
    listed.write_text("id,label\none,hail\ntwo,dog\n")
    made = prepare(source, tmp_path / "set2", listed=listed, labels=labels)
    assert made.bad == [("one", "hail", "its label is not in “labels.csv”")]


def test_a_start_that_is_no_number_is_none(tmp_path):
    (tmp_path / "list.csv").write_text("id,start,label\na,nan,rain\nb,inf,rain\nc,soon,rain\nd,2.5,rain\n")
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
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, **options,
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
    with journal.open("a") as file:
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
    (source / "list.csv").write_text(LIST)
    out = tmp_path / "set"
    assert prepare(source, out, SHORT).clips == 2
    os.link(videos / "b.mp4", source / "away.mp4")
    (source / "list.csv").write_text(LIST + "b,0,hail,test\n")
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
        listed.write_text(content)
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
    (tmp_path / "labels.csv").write_text("wolf\nrain\n")
    assert follows(changed, tmp_path / "labels.csv") == renamed[:2]
    (source / "a_000012.mp4").unlink()
    assert prepare(source, out, settings, labels=tmp_path / "labels.csv").clips == 2


def test_frames_are_chosen_anew_for_another_label(videos, small_clip, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    os.link(videos / "b.mp4", source / "b.mp4")
    settings = PrepareSettings(seconds=1.0, frames=8, keep=3, clip=str(small_clip))
    for label in ("rain", "a dog in the city at night"):
        (source / "list.csv").write_text(f"b,1,{label},train\n")
        prepare(source, tmp_path / "set", settings)
    prepare(source, tmp_path / "fresh", settings)
    assert tree(tmp_path / "set") == tree(tmp_path / "fresh")


def test_what_cannot_be_prepared_is_refused(videos, classes, tmp_path):
    prepare(classes, tmp_path / "set", PrepareSettings(keep=2))
    with pytest.raises(InputError, match="begun with keep 2, not 3"):
        prepare(classes, tmp_path / "set", PrepareSettings(keep=3))
    (tmp_path / "set" / "clips.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match="cannot be read"):
        prepare(classes, tmp_path / "set", PrepareSettings(keep=2))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
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
