"""The pictures of a clip: in its folder, in a folder for each frame, or by its name."""

from pathlib import Path

from aai.data.clips import scan
from aai.data.listing import find


def pictures_in(source: Path, listed: str) -> list[list[str] | str]:
    (source / "list.csv").write_text(listed, encoding="utf-8")
    return [i.why or [p.relative_to(source).as_posix() for p in i.pictures] for i in find(source)]


def test_pictures_are_those_of_the_sounds_own_folder(tmp_path, lay):
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


def test_pictures_that_may_be_anothers_are_refused_by_their_names(tmp_path, lay):
    source = lay(tmp_path, "wav/x.wav", "a/x.jpg", "b/x.jpg", "s/dog/1.wav", "s/cat/1.wav", "f/1.jpg")
    assert pictures_in(source, "path,label\nwav/x.wav,x\ns/dog/1.wav,dog\ns/cat/1.wav,cat\n") == [
        "several pictures fit it: a/x.jpg, b/x.jpg",
        "several pictures fit it: f/1.jpg",
        "several pictures fit it: f/1.jpg",
    ]


def test_pictures_of_longer_names_are_not_a_shorter_ones(tmp_path, lay):
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


def test_pictures_numbered_like_a_start_are_all_the_clips(tmp_path, lay):
    source = lay(tmp_path, "x.mp4", *(f"x_{i}.jpg" for i in range(4)))
    assert pictures_in(source, "id,start,label\nx,3,a\n") == [[f"x_{i}.jpg" for i in range(4)]]
