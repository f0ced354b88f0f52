"""Videos, and sounds with frames, become a dataset; killed and full disks included."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image

from aai import audio, cli
from aai.data.clip_writer import PrepareSettings
from aai.data.clips import UNFINISHED, scan
from aai.data.prepare import prepare
from aai.errors import InputError

SHORT = PrepareSettings(seconds=1.0, frames=8, keep=4)


def test_videos_become_clips_and_the_bad_ones_are_listed(videos, tmp_path, greys):
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
    with pytest.raises(InputError, match="'val': choose one of test, train"):
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


def test_a_whole_videos_part_ends_where_the_list_says(tmp_path, write_video, greys):
    (tmp_path / "source").mkdir()
    write_video(tmp_path / "source" / "a.mp4", 3.0)
    rows = "a,1,1.5,rain\na,2,2.4,fire\na,0,9,wind\na,2.5,2.5,sea\n"
    (tmp_path / "source" / "list.csv").write_text(f"id,start,end,label\n{rows}", encoding="utf-8")
    made = prepare(tmp_path / "source", tmp_path / "set", SHORT)
    assert [reason for _, _, reason in made.bad] == ["it ends at 2.5 s, where it has not begun"]
    clips = {clip.label: clip for clip in scan(tmp_path / "set")}
    lengths = {label: clip.load_sound().seconds for label, clip in clips.items()}
    assert lengths == pytest.approx({"rain": 0.5, "fire": 0.4, "wind": 1.0}, abs=0.01)
    # Greys are 200 t / 3.
    assert 200 / 3 - 5 < min(greys(clips["rain"])) and max(greys(clips["rain"])) < 100 + 5


def test_a_set_of_nothing_usable_is_refused_and_goes_on_when_mended(tmp_path, capsys, lay, lay_real):
    source = lay(tmp_path / "source", "a.wav")
    (source / "list.csv").write_text("id,label\na,dog\nb,cat\n", encoding="utf-8")
    arguments = ["data", "prepare", str(source), "-o", str(tmp_path / "set"), "--workers", "1"]
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and "None of the 2 clips" in said[0] and "bad.csv" in said[0]
    assert (tmp_path / "set" / "bad.csv").read_text(encoding="utf-8").count("\n") == 3
    lay_real(source, {"a": 500, "b": 600})
    assert cli.main([*arguments, "--retry"]) == 0


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
def classes(tmp_path_factory, write_video):
    """Two classes of twelve videos."""
    folder = tmp_path_factory.mktemp("classes")
    for name in ("dog", "heavy_rain"):
        (folder / name).mkdir()
        for i in range(12):
            write_video(folder / name / f"{i}.mp4", 0.8, 300 + 100 * i)
    return folder


@pytest.mark.parametrize("options", [["--workers", "1"], ["--workers", "2", "--shards", "2"]], ids=" ".join)
def test_killed_twice_it_ends_with_the_same_files(classes, tmp_path, options, tree):
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
    (source / "list.csv").write_text((videos / "vggsound.csv").read_text(encoding="utf-8"), encoding="utf-8")
    out = tmp_path / "set"
    assert prepare(source, out, SHORT).clips == 2
    os.link(videos / "b.mp4", source / "away.mp4")
    (source / "list.csv").write_text(
        (videos / "vggsound.csv").read_text(encoding="utf-8") + "b,0,hail,test\n", encoding="utf-8"
    )
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


def test_another_source_is_refused_and_a_moved_one_can_be_named(tmp_path, capsys, lay_real, pitch):
    source = lay_real(tmp_path / "source", {"dog/1": 500, "cat/1": 600})
    other = lay_real(tmp_path / "other", {"dog/1": 1500, "rain/1": 1600})
    out = tmp_path / "set"
    prepare(source, out, SHORT)
    with pytest.raises(
        InputError, match="begun with the source '../source', seen from there, not '../other'"
    ):
        prepare(other, out, SHORT)
    assert {clip.id: pitch(clip) for clip in scan(out)} == {"cat_1": 600, "dog_1": 500}
    source = source.rename(tmp_path / "moved")
    settings = (out / "dataset.json").read_text(encoding="utf-8")
    # Windows Notepad's mark.
    (out / "dataset.json").write_text(settings.replace("../source", "../moved"), encoding="utf-8-sig")
    made = []
    prepare(source, out, SHORT, callback=lambda *figures: made.append(figures))
    assert not made and len(scan(out)) == 2


@pytest.mark.parametrize("shard", [0, 2])
def test_files_that_have_changed_are_followed_and_clips_of_gone_ones_stay(
    tmp_path, shard, lay_real, pitch, greys
):
    names = {"cat/1": 500, "cat/2": 600, "dog/1": 700, "dog/2": 800, "rain/1": 900}
    source, out = lay_real(tmp_path / "source", names), tmp_path / "set"
    settings = PrepareSettings(**{**vars(SHORT), "shard": shard})
    made = []

    def clips():
        made.clear()
        prepared = prepare(source, out, settings, callback=lambda done, total, bad: made.append(done))
        found = scan(out)
        assert prepared.clips == len(found)
        return {clip.id: (pitch(clip), round(greys(clip)[0], -1)) for clip in found}

    clips()
    lay_real(source, {"dog/1": 1500})
    wanted = {name.replace("/", "_"): (hertz, hertz // 10) for name, hertz in names.items()}
    wanted["dog_1"] = (1500, 150)
    assert clips() == wanted and len(made) == 1
    Image.new("RGB", (32, 24), (200,) * 3).save(source / "rain" / "1.jpg")
    wanted["rain_1"] = (900, 200)
    assert clips() == wanted and len(made) == 1
    for gone in ("cat/1.wav", "dog/2.wav", "dog/2.jpg", "cat/2.jpg", "cat/1.jpg"):
        (source / gone).unlink()
    shutil.rmtree(source / "rain")
    assert clips() == wanted and list(clips()) == list(wanted) and not made
    # What comes back is what it was, or is new.
    lay_real(source, {"rain/1": 1000})
    wanted["rain_1"] = (1000, 100)
    assert clips() == wanted and len(made) == 1


def test_a_gone_clip_leaves_with_its_shard(tmp_path, lay_real, pitch):
    source = lay_real(tmp_path / "source", {"cat/1": 500, "cat/2": 600, "dog/1": 700, "dog/2": 800})
    settings = PrepareSettings(**{**vars(SHORT), "shard": 2})
    prepare(source, tmp_path / "set", settings)
    (source / "cat" / "2.wav").unlink()
    lay_real(source, {"cat/1": 1500})
    made = prepare(source, tmp_path / "set", settings)
    assert made.bad == [("cat_2", "cat", "there is no sound or video of this id")]
    found = {clip.id: pitch(clip) for clip in scan(tmp_path / "set")}
    assert found == {"cat_1": 1500, "dog_1": 700, "dog_2": 800}


def test_a_folder_of_another_name_does_not_leave_its_clips_twice(tmp_path, lay_real):
    source, out = lay_real(tmp_path / "source", {"cat/1": 500, "dgo/1": 700, "dgo/2": 800}), tmp_path / "set"
    prepare(source, out, SHORT)
    (source / "dgo").rename(source / "dog")

    def stop(done, total, bad):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(source, out, SHORT, callback=stop)
    assert prepare(source, out, SHORT).labels == {"cat": 1, "dog": 2}
    assert [clip.id for clip in scan(out)] == ["cat_1", "dog_1", "dog_2"]
    lay_real(source, {"cat/1": 900})
    (source / "cat" / "1.mp3").write_bytes((source / "cat" / "1.wav").read_bytes())
    # Now each is called by its ending too.
    assert prepare(source, out, SHORT).labels == {"cat": 2, "dog": 2}
    (tmp_path / "labels.txt").write_text("cat\n", encoding="utf-8")
    shutil.rmtree(source / "dog")
    (source / "cat" / "1.mp3").unlink()
    assert set(prepare(source, out, SHORT, labels=tmp_path / "labels.txt").labels) == {"cat"}


@pytest.mark.parametrize("shard", [0, 2])
def test_what_an_earlier_version_prepared_is_taken_as_it_is(tmp_path, shard, lay_real, pitch, tree):
    names = {"cat/1": 500, "cat/2": 600, "dog/1": 700}
    source, out = lay_real(tmp_path / "source", names), tmp_path / "set"
    settings = PrepareSettings(**{**vars(SHORT), "shard": shard})
    prepare(source, out, settings)
    whole = tree(out)

    def without_source(path, lines):
        rows = [{key: value for key, value in row.items() if key != "source"} for row in lines]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    rows = [json.loads(line) for line in (out / "clips.jsonl").read_text(encoding="utf-8").splitlines()]
    without_source(out / "clips.jsonl", rows)
    without_source(out / "dataset.json", [json.loads((out / "dataset.json").read_text(encoding="utf-8"))])
    assert len(scan(out)) == 3
    made = []
    prepare(source, out, settings, callback=lambda *figures: made.append(figures))
    assert not made and tree(out) == whole
    # From then on it is as any other.
    lay_real(source, {"dog/1": 1500})
    prepare(source, out, settings)
    assert {clip.id: pitch(clip) for clip in scan(out)} == {"cat_1": 500, "cat_2": 600, "dog_1": 1500}


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
def test_settings_of_other_shapes_are_refused(tmp_path, content, lay_real):
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
def test_journals_of_other_shapes_are_refused(tmp_path, name, content, lay_real):
    source = lay_real(tmp_path / "source", {"a/1": 500, "b/1": 600})
    prepare(source, tmp_path / "set", SHORT)
    (tmp_path / "set" / name).write_text(content + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=f"{name}' cannot be read"):
        prepare(source, tmp_path / "set", SHORT)


def test_a_journals_unreadable_lines_are_made_again(tmp_path, tree, lay_real):
    source = lay_real(tmp_path / "source", {"a/1": 500, "b/1": 600})
    prepare(source, tmp_path / "whole", SHORT)
    prepare(source, tmp_path / "set", SHORT)
    (tmp_path / "set" / "clips.jsonl").unlink()
    (tmp_path / "set" / "progress.jsonl").write_bytes(b'[[{"id": "caf\xc3')
    prepare(source, tmp_path / "set", SHORT)
    assert tree(tmp_path / "set") == tree(tmp_path / "whole")


@pytest.mark.parametrize("name", ["dataset.json", "clips.jsonl", "bad.csv", "progress.jsonl", "list.csv"])
def test_pipes_in_the_place_of_files_are_refused(tmp_path, name, lay_real):
    source = lay_real(tmp_path / "source", {"a/1": 500, "b/1": 600})
    if name == "list.csv":
        os.mkfifo(source / name)
    else:
        prepare(source, tmp_path / "set", SHORT)
        (tmp_path / "set" / name).unlink(missing_ok=True)
        os.mkfifo(tmp_path / "set" / name)
    with pytest.raises(InputError, match=f"{name}' is no file"):
        prepare(source, tmp_path / "set", SHORT)


def test_names_that_are_no_utf8_are_prepared(tmp_path, lay_real):
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
