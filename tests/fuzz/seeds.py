"""Small files that are whole, for the generators to damage: made once, by the product and its libraries."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tarfile
import tempfile
from functools import cache
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

from aai.encoders import loaders
from aai.encoders.cavmae import CAVMAE, CAVMAEConfig
from aai.encoders.cavmae_encoder import CAVMAEEncoder
from aai.inject.invert import Trajectory
from aai.soundworld.loaders import WEIGHTS, load_picture_model, load_sound_encoder
from aai.soundworld.text import load_tokenizer
from aai.study.user_study import KEY
from aai.token import SoundToken, Translation

from .example import Example

SOUNDS = {
    **{"wav": "pcm_s16le", "flac": "flac", "mp3": "mp3", "ogg": "vorbis", "m4a": "aac", "aiff": "pcm_s16be"},
    **{"mka": "flac", "w64": "pcm_f32le", "au": "pcm_mulaw", "opus": "libopus", "wv": "wavpack"},
}
ALIGN = (
    *("align", "train", "data", "--encoder", "encoder.safetensors", "-o", "out.safetensors", "--force"),
    *("--steps", "2", "--batch", "2", "--save-every", "1", "--warmup", "1", "--ramp-steps", "1"),
)
"""A training that takes a second."""
STATE = "out.training/state.safetensors"
PICTURES = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "EPS", "ICO", "TGA", "PCX", "SGI")


@cache
def encoder() -> CAVMAEEncoder:
    return load_sound_encoder()


@cache
def model():
    return load_picture_model()


@cache
def tokenizer():
    return load_tokenizer(WEIGHTS / "tokenizer")


@cache
def sounds() -> dict[str, bytes]:
    """{ending: a third of a second}, of the kinds that this PyAV can write."""
    samples = (np.sin(np.arange(5333) / 7) * 9000).astype(np.int16)[None]
    made = {}
    for ending, codec in SOUNDS.items():
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"sound.{ending}"
                rate = 48000 if ending == "opus" else 16000
                with av.open(str(path), "w") as container:
                    stream = container.add_stream(codec, rate=rate, layout="mono")
                    frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
                    frame.sample_rate = rate
                    for part in (frame, None):
                        container.mux(stream.encode(part))
                made[ending] = path.read_bytes()
        except (av.FFmpegError, ValueError):
            continue
    made["mp4"] = video()
    return made


@cache
def video() -> bytes:
    """Half a second of moving picture and sound."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        with av.open(str(path), "w") as container:
            moving = container.add_stream("mpeg4", rate=8)
            moving.width, moving.height, moving.pix_fmt = 32, 24, "yuv420p"
            sound = container.add_stream("aac", rate=16000, layout="mono")
            for i in range(4):
                picture = av.VideoFrame.from_ndarray(np.full((24, 32, 3), 60 * i, np.uint8), format="rgb24")
                container.mux(moving.encode(picture))
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
            frame.sample_rate = 16000
            container.mux(sound.encode(frame))
            for stream in (moving, sound):
                container.mux(stream.encode(None))
        return path.read_bytes()


@cache
def pictures() -> dict[str, bytes]:
    """{ending: a small picture}."""
    made = {}
    ramp = Image.fromarray(np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3))
    for kind in PICTURES:
        content = io.BytesIO()
        try:
            ramp.save(content, kind)
        except (OSError, KeyError):
            continue
        made[kind.lower()] = content.getvalue()
    for mode in ("1", "L", "LA", "P", "RGBA", "I;16", "CMYK"):
        content = io.BytesIO()
        picture = Image.new(mode, (9, 7))
        picture.save(content, "TIFF" if mode == "CMYK" else "PNG")
        made[f"{mode}.png"] = content.getvalue()
    exif = Image.Exif()
    exif[0x0112] = 6
    content = io.BytesIO()
    ramp.save(content, "JPEG", exif=exif)
    made["turned.jpg"] = content.getvalue()
    return made


@cache
def adapters() -> list[bytes]:
    """With a training's state, and of two text encoders with a translation."""
    from aai.adapt import universal_file
    from aai.adapt.universal import Adapter, SoundAdapter

    def made(widths: dict[str, int], **more) -> SoundAdapter:
        g = Adapter(6, widths, dict.fromkeys(widths, 0.4), 1.0, 1)
        g.begin(torch.randn(4, 6, generator=torch.Generator().manual_seed(0)), 0)
        names = ("cafe", "SoundWorld", "beef", "SoundWorld's U-Net that reads clip_l of 192", "sounds")
        return SoundAdapter(g.requires_grad_(False), *names, 2, losses=[0.5, 0.4], **more)

    translation = Translation(*(torch.ones(shape).half() for shape in ((6,), (8,), (2, 6), (8, 2))))
    alone = made({"clip_l": 6}, training={"0.step": torch.ones(())}, settings={"seed": 0})
    both = made(
        {"clip_l": 6, "clip_g": 8}, translation={"clip_g": translation}, provenance={"licence": "CC0"}
    )
    return [_saved(lambda path, a=a: universal_file.save(a, path, training=True)) for a in (alone, both)]


@cache
def tokens() -> list[bytes]:
    """Ours with and without a translation, and a foreign embedding."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    plain = SoundToken(
        "rain", {"clip_l": random(1, 192)}, random(192), {"clip_l": random(1, 192)}, {"clip_l": 0.4}, -20.0,
        {"sound": "rain.wav", "steps": "3"}, measured={"best": 0.5, "step": 2.0, "waited": 0.0},
    )  # fmt: skip
    translation = Translation(random(6).half(), random(8).half(), random(2, 6).half(), random(8, 2).half())
    wide = SoundToken(
        "two", {"clip_l": random(2, 6), "clip_g": random(2, 8)}, random(6),
        {"clip_l": random(2, 6), "clip_g": random(2, 8)}, {"clip_l": 0.4, "clip_g": None},
        translation={"clip_g": translation}, momentum={"clip_l.last": random(2, 6)},
    )  # fmt: skip
    made = [_saved(token.save) for token in (plain, wide)]
    from safetensors.torch import save

    return [
        *made,
        save({"emb_params": random(2, 768)}),
        save({"clip_l": random(1, 4), "clip_g": random(1, 5)}),
    ]


@cache
def trajectories() -> list[bytes]:
    way = Trajectory(torch.tensor([2.0, 1.0, 0.0]), torch.randn(3, 4, 2, 2), torch.randn(2, 3, 5), "", 5.0)
    return [_saved(lambda path: way.save(path, "a city"))]


@cache
def small_encoder() -> CAVMAEEncoder:
    config = CAVMAEConfig(
        dim=16, depth_a=1, depth_v=1, heads=2, mel_bins=32, frames=64, image_size=32, seconds=0.64
    )
    labels = ["rain", "fire"]
    return CAVMAEEncoder(CAVMAE(config).requires_grad_(False), labels, torch.randn(2, 16), name="small")


@cache
def encoders() -> list[bytes]:
    return [_saved(lambda path: loaders.save(small_encoder(), path, made_by="fuzz"))]


@cache
def published() -> list[bytes]:
    """CAV-MAE's own layout, at a small size."""
    from bench.cavmae_decoder import towers_file

    content = io.BytesIO()
    torch.save(towers_file(small_encoder().model), content)
    return [content.getvalue()]


@cache
def align_run() -> dict[str, bytes]:
    """Data, an encoder, and the state of a training of two steps with them, for the same command to resume:
    `ALIGN`'s files."""
    from aai.cli import main

    files = {f"data/{label}/{label}{i}.wav": sounds()["wav"] for label in ("rain", "fire") for i in range(2)}
    files |= {
        f"data/{label}/{label}{i}.png": pictures()["png"] for label in ("rain", "fire") for i in range(2)
    }
    files["encoder.safetensors"] = encoders()[0]
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        os.chdir(folder)
        try:
            Example("", "", files=files).write(Path())
            if main(list(ALIGN)):
                raise RuntimeError("the seed's training has failed")
            return {**files, STATE: Path(STATE).read_bytes()}
        finally:
            os.chdir(before)


@cache
def indices() -> list[bytes]:
    """The index of a folder of three pictures, as SoundWorld sees them."""
    from aai.library.index import index
    from aai.library.towers import tower_of

    with tempfile.TemporaryDirectory() as folder:
        for i, content in enumerate(list(pictures().values())[:3]):
            (Path(folder) / f"{i}.png").write_bytes(content)
        file = Path(folder) / "index.safetensors"
        index(folder, tower_of(encoder()), file)
        return [file.read_bytes()]


@cache
def shard() -> bytes:
    """A WebDataset tar of two clips."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for i, label in enumerate(("rain", "fire")):
            parts = {
                "wav": sounds()["wav"],
                "png": pictures()["png"],
                "json": json.dumps({"label": label, "split": "train"}).encode(),
            }
            for ending, part in parts.items():
                info = tarfile.TarInfo(f"{i}.{ending}")
                info.size = len(part)
                tar.addfile(info, io.BytesIO(part))
    return content.getvalue()


@cache
def clip_folder() -> dict[str, bytes]:
    """A CLIP of two layers, as save_pretrained writes it."""
    from transformers import CLIPConfig, CLIPModel

    sizes = dict(hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    text = {**sizes, **_ids(), "max_position_embeddings": 77}
    vision = {**sizes, "image_size": 16, "patch_size": 8}
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12))
    with tempfile.TemporaryDirectory() as folder:
        clip.save_pretrained(folder)
        tokenizer().save_pretrained(folder)
        return _contents(Path(folder))


@cache
def diffusers_folder() -> dict[str, bytes]:
    """A Stable Diffusion of one layer, as diffusers keeps it."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    sizes = dict(hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    parts = dict(
        vae=AutoencoderKL(block_out_channels=(32,), latent_channels=4),
        text_encoder=CLIPTextModel(CLIPTextConfig(**_ids(), **sizes)),
        tokenizer=tokenizer(),
        unet=UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(32,),
            layers_per_block=1,
            cross_attention_dim=32,
            attention_head_dim=4,
            down_block_types=("CrossAttnDownBlock2D",),
            up_block_types=("CrossAttnUpBlock2D",),
        ),
        scheduler=DDIMScheduler(),
    )
    pipeline = StableDiffusionPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    with tempfile.TemporaryDirectory() as folder:
        pipeline.save_pretrained(folder)
        return _contents(Path(folder))


@cache
def answers() -> tuple[dict, dict]:
    """A rating page's key and one person's answers."""
    codes = {"a1": {"condition": "ours"}, "b2": {"condition": "none"}}
    key = {"format": KEY, "study": "s", "conditions": ["ours", "none"], "codes": codes}
    given = {"q0": {"naturalness": {"a1": 4, "b2": 2}, "preferred": "a1"}}
    answer = {"format": "aai-people-1", "study": "s", "respondent": "r", "answers": given}
    return key, answer


def _ids() -> dict[str, int]:
    pieces = tokenizer()
    return dict(vocab_size=len(pieces), bos_token_id=pieces.bos_token_id, eos_token_id=pieces.eos_token_id)


def _saved(save) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.safetensors"
        save(path)
        return path.read_bytes()


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
