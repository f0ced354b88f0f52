"""A clip as it is made: its sound, and its pictures, reduced and chosen."""

import os

import pytest
import torch
from PIL import Image

from aai import audio
from aai.data import clip_writer
from aai.data.clip_writer import PrepareSettings
from aai.data.clips import scan
from aai.data.frames import video_frames
from aai.data.prepare import prepare
from aai.encoders.clip import fetch_clip
from aai.errors import InputError

RATE = 22050
SHORT = PrepareSettings(seconds=1.0, frames=8, keep=4)


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


def test_clip_keeps_the_frames_nearest_to_the_label(videos, small_clip, tmp_path, greys):
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


def test_sounds_with_frames_beside_them(tmp_path, greys):
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


def test_frames_are_chosen_anew_for_another_label(videos, small_clip, tmp_path, tree):
    source = tmp_path / "source"
    source.mkdir()
    os.link(videos / "b.mp4", source / "b.mp4")
    settings = PrepareSettings(seconds=1.0, frames=8, keep=3, clip=str(small_clip))
    for label in ("rain", "a dog in the city at night"):
        (source / "list.csv").write_text(f"b,1,{label},train\n", encoding="utf-8")
        prepare(source, tmp_path / "set", settings)
    prepare(source, tmp_path / "fresh", settings)
    assert tree(tmp_path / "set") == tree(tmp_path / "fresh")


def test_a_pipe_among_pictures_costs_its_clip_alone(tmp_path, lay_real):
    source = lay_real(tmp_path / "source", {"a": 500, "b": 600})
    (source / "a.jpg").unlink()
    os.mkfifo(source / "a.jpg")
    (source / "list.csv").write_text("id,label\na,low\nb,high\n", encoding="utf-8")
    made = prepare(source, tmp_path / "set", SHORT)
    assert made.labels == {"high": 1} and "a.jpg' is no file" in made.bad[0][2]


def test_a_recording_of_floats_keeps_how_loud_it_is(tmp_path, make_tone):
    tone = make_tone(-6, 1.0, 16000, channels=1, hertz=440)
    for label, gain in (("near", 8.0), ("far", 0.1)):
        (tmp_path / "source" / label).mkdir(parents=True)
        audio.save(audio.Sound(tone.waveform * gain, 16000), tmp_path / "source" / label / "1.wav")
        Image.new("RGB", (32, 32), "grey").save(tmp_path / "source" / label / "1.jpg")
    prepare(tmp_path / "source", tmp_path / "set", SHORT)
    far, near = scan(tmp_path / "set")
    assert (far.sound.name, near.sound.name) == ("sound.flac", "sound.wav")
    louder = audio.loudness(near.load_sound()) - audio.loudness(far.load_sound())
    assert louder == pytest.approx(38.06, abs=0.1)


def test_a_clip_that_is_too_long_says_what_to_do(tmp_path, monkeypatch, lay_real):
    folder = lay_real(tmp_path, {"cat/001": 500, "dog/001": 1500})
    clip = scan(folder)[0]
    monkeypatch.setattr(audio, "MOST_SAMPLES", 10)
    with pytest.raises(InputError, match="001.wav' is too long for a clip: cut it"):
        clip.load_sound()
