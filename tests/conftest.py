"""Stable Diffusion at a size that trains in seconds: diffusers' and transformers' own classes, random
weights."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

# Before torch: of two processes with two threads each on two cores, each takes several times as long.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest  # noqa: E402
import torch  # noqa: E402

from aai.demo.comfy_server import find_comfy  # noqa: E402

WORDS = "a photo of rain in the city under fire at night sound dog and"
TESTS = Path(__file__).parent
TIERS = {
    "check": ("comfy", "browser", "training", "slow", "fuzz", "all"),
    "test": ("all",),
    "all": (),
}
"""The tiers of `make check`, `make test` and `make test-all`: the marks of what each leaves out."""
TRAINING = (
    *("adapt/test_train.py", "adapt/test_trainer.py", "adapt/test_universal.py", "align/test_train.py"),
    *(
        "align/test_pipeline.py",
        "test_distributed.py",
        "align/test_bridge.py",
        "bench",
        "cli",
        "demo/test_run.py",
    ),
    *("soundworld/build", "soundworld/evaluate", "study", "test_bench.py"),
)
"""Files and folders of tests that train, or run a command that does."""
SAMPLERS = ("euler", "euler_ancestral", "heun", "dpmpp_2m_sde", "ddim", "lcm", "uni_pc")
"""The samplers of `make test`: one of each kind, and `make test-all` takes every one that ComfyUI has."""
FAMILIES = ("Z-Image", "Qwen-Image", "Flux.1", "Wan 2.x", "Lumina2")
"""The families of `make test`, one of each kind of text encoder and attention; `make test-all` takes all that
ComfyUI can build at a tiny size."""
LONG = (
    *("demo/test_run.py", "browser/test_templates.py", "fuzz/test_fuzz.py", "nodes/test_families.py"),
    *("nodes/test_saved_workflows.py", "browser/test_look.py", "nodes/test_server.py"),
)
"""Files of tests that take minutes, the longest first: no process is to begin one when the others end."""
BROWSER = ("test_look.py", "test_templates.py")
"""The browser tests of `make test`; the older renderers are for `make test-all`."""

SHA = "0" * 40
"""The only commit of the repositories of `hub`."""
SCHEDULER = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)


def pytest_addoption(parser):
    parser.addoption(
        "--write",
        action="store_true",
        help="write tests/nodes/names.json and locales/en from the nodes",
    )
    parser.addoption(
        "--tier", choices=TIERS, default="all", help="which tests: as make check, test, test-all"
    )


def pytest_collection_modifyitems(config, items):
    """Marks tests by their folder and by what they need, leaves out what the tier does, and puts LONG files
    first."""
    places = {TESTS / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path, len(places)))
    for item in items:
        for mark in _marks(item):
            item.add_marker(mark)
    absent = set(TIERS[config.getoption("--tier")])
    left_out = [item for item in items if absent & {mark.name for mark in item.iter_markers()}]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def _marks(item) -> set[str]:
    path, marks = item.path.relative_to(TESTS).as_posix(), set()
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    if "comfy_path" in item.fixturenames:
        marks.add("comfy")
    if path.startswith("fuzz/"):
        marks.add("fuzz")
    if any(path == place or path.startswith(f"{place}/") for place in TRAINING):
        marks.add("training")
    if path.startswith("browser/"):
        marks.add("browser")
        if item.path.name not in BROWSER:
            marks.add("all")
    if path.startswith("nodes/"):
        if item.originalname == "test_every_sampler_draws_the_source_as_alone":
            marks |= {"all"} if parameters["sampler"] not in SAMPLERS else set()
        if parameters.get("family") == "SD20":
            marks.add("all")
        if parameters.get("tiny", FAMILIES[0]) not in FAMILIES:
            marks.add("all")
    return marks


def pytest_configure():
    """What the tests start warns as they do, and ends where a module of `aai` or `bench` opens text without
    naming its encoding: PYTHONWARNINGS takes whole names of modules only."""
    if sys.flags.warn_default_encoding:
        root = Path(__file__).parents[1]
        names = {
            ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
            for folder in ("aai", "bench")
            for path in (root / folder).rglob("*.py")
        }
        os.environ["PYTHONWARNDEFAULTENCODING"] = "1"
        os.environ["PYTHONWARNINGS"] = ",".join(f"error::EncodingWarning:{name}" for name in sorted(names))


def _write_tokenizer(folder) -> None:
    """vocab.json and merges.txt of a CLIP byte-pair tokenizer that knows each of WORDS as one piece."""
    letters = [chr(c) for c in range(33, 127)]
    vocabulary = [*letters, *(c + "</w>" for c in letters)]
    merges = []
    for word in WORDS.split():
        left, *rest = [*word[:-1], word[-1] + "</w>"]
        for right in rest:
            if f"{left} {right}" not in merges:
                merges.append(f"{left} {right}")
                vocabulary.append(left + right)
            left += right
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(
        json.dumps({piece: i for i, piece in enumerate(dict.fromkeys(vocabulary))}), encoding="utf-8"
    )
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")


@pytest.fixture(scope="session")
def comfy_path() -> Path:
    path = find_comfy()
    if path is None:
        pytest.skip("no ComfyUI: COMFYUI_PATH is not set and ~/comfy/ComfyUI does not exist")
    if importlib.util.find_spec("comfyui_frontend_package") is None:
        pytest.skip(f"ComfyUI's requirements are not installed: pip install -r {path / 'requirements.txt'}")
    return path


@pytest.fixture(scope="session")
def make_tokenizer(tmp_path_factory):
    """make_tokenizer() -> a new CLIPTokenizer."""
    from transformers import CLIPTokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    _write_tokenizer(folder)
    kept = dict(model_max_length=77, pad_token="<|endoftext|>")
    return lambda **settings: CLIPTokenizer.from_pretrained(str(folder), **{**kept, **settings})


@pytest.fixture(scope="session")
def make_parts(make_tokenizer):
    """make_parts(seed=0, prediction_type="epsilon") -> unet, text_encoder, tokenizer, vae, scheduler_config.

    Pictures of 16 x 16 pixels, latents of 4 x 8 x 8, words of width 32.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    def make(seed: int = 0, prediction_type: str = "epsilon") -> SimpleNamespace:
        torch.manual_seed(seed)
        tokenizer = make_tokenizer()
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
        )
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(32, 64),
            layers_per_block=1,
            cross_attention_dim=32,
            attention_head_dim=4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        )
        vae = AutoencoderKL(
            block_out_channels=(32, 32),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
        )
        return SimpleNamespace(
            unet=unet,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            vae=vae,
            scheduler_config={**SCHEDULER, "prediction_type": prediction_type},
        )

    return make


@pytest.fixture
def make_sdxl_parts(make_parts, make_tokenizer):
    """make_sdxl_parts() -> the parts of a small SDXL: two text encoders, pooled and size conditioning."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    def make() -> SimpleNamespace:
        parts = make_parts()
        tokenizer = make_tokenizer(pad_token="!")
        parts.tokenizer_2 = tokenizer
        parts.text_encoder_2 = CLIPTextModelWithProjection(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=64,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                projection_dim=24,
                hidden_act="gelu",
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
        )
        parts.unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(32, 64),
            layers_per_block=1,
            cross_attention_dim=96,
            attention_head_dim=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 24,
        )
        return parts

    return make


@pytest.fixture
def make_token():
    """make_token(name, rows) -> a SoundToken of width 32, from a random sound and adapter."""
    from aai.token import SoundToken, word_vectors

    def make(
        name: str = "rain", rows: int = 1, width: int = 32, encoder: str = "clip_l", seed: int = 0
    ) -> SoundToken:
        generator = torch.Generator().manual_seed(seed)
        f_a = torch.randn(width, generator=generator) * 3
        f_adapter = torch.randn(rows, width, generator=generator) * 0.02
        vectors = {encoder: word_vectors(f_a, 0.11, f_adapter)}
        return SoundToken(name, vectors, f_a, {encoder: f_adapter}, {encoder: 0.11}, -23.0, {"sound": "abc"})

    return make


@pytest.fixture(scope="session")
def make_clap_folder(tmp_path_factory):
    """make_clap_folder(fused=False, seed=0) -> the folder of a CLAP, as save_pretrained writes it.

    16 mel bins, windows of one second at 48 kHz, a space of 24 dimensions.
    """
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, RobertaTokenizer

    def make(fused: bool = False, seed: int = 0):
        folder = tmp_path_factory.mktemp("clap")
        pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(ByteLevel.alphabet())]
        (folder / "vocab.json").write_text(
            json.dumps({piece: i for i, piece in enumerate(pieces)}), encoding="utf-8"
        )
        (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
        vocabulary = str(folder / "vocab.json"), str(folder / "merges.txt")
        RobertaTokenizer(*vocabulary).save_pretrained(folder)
        text = dict(
            vocab_size=len(pieces),
            hidden_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=90,
        )
        audio = dict(
            num_mel_bins=16,
            spec_size=64,
            window_size=4,
            patch_embeds_hidden_size=16,
            hidden_size=32,
            depths=[1, 1],
            num_attention_heads=[2, 4],
            num_hidden_layers=2,
            enable_fusion=fused,
        )
        torch.manual_seed(seed)
        model = ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=24)).eval()
        with torch.no_grad():
            # Of the size that training gives: at the initial one, all texts are nearly one.
            for name, parameter in model.named_parameters():
                if parameter.ndim > 1 and "position" not in name:
                    parameter.mul_(8)
        model.save_pretrained(folder)
        extractor = ClapFeatureExtractor(
            feature_size=16, max_length_s=1, truncation="fusion" if fused else "rand_trunc"
        )
        extractor.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def clap_folder(make_clap_folder):
    return make_clap_folder()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A server that answers as Hugging Face's hub does, for the model folders in tmp_path/hub, called
    nobody/FOLDER, and a run(code) that gives what a Python program prints that asks it."""

    class Answers(SimpleHTTPRequestHandler):
        def do_GET(self):
            kind, *rest = self.path.split("?")[0].strip("/").split("/")
            if kind == "api":
                folder = tmp_path / "hub" / rest[2]
                paths = sorted(path for path in folder.rglob("*") if path.is_file())
                names = [path.relative_to(folder).as_posix() for path in paths]
                found = [
                    {"type": "file", "path": name, "rfilename": name, "size": path.stat().st_size, "oid": "0"}
                    for name, path in zip(names, paths)
                ]
                info = {"id": f"nobody/{rest[2]}", "sha": SHA, "siblings": found}
                content = json.dumps(found if "tree" in rest else info).encode()
            else:
                content = (tmp_path / "hub" / rest[0] / "/".join(rest[3:])).read_bytes()
            self.send_response(200)
            for name, value in {"ETag": f'"{len(content)}"', "X-Repo-Commit": SHA}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONPATH": str(TESTS.parent),
    }

    def run(code: str, offline: bool = False) -> str:
        command = [sys.executable, "-c", code]
        chosen = {**environment, "HF_HUB_OFFLINE": str(int(offline))}
        done = subprocess.run(command, env=chosen, capture_output=True, encoding="utf-8", timeout=900)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.strip()

    yield run
    server.shutdown()


@pytest.fixture(scope="session")
def make_noise():
    """make_noise(seconds=1.0, rate=16000, channels=1, seed=0) -> a Sound of noise."""
    from aai.audio import Sound

    def make(seconds=1.0, rate=16000, channels=1, seed=0):
        generator = torch.Generator().manual_seed(seed)
        return Sound(0.1 * torch.randn(channels, int(seconds * rate), generator=generator), rate)

    return make


@pytest.fixture(scope="session")
def make_tone():
    """make_tone(decibels, ...) -> a Sound of a sine whose peak has so many decibels of full scale."""
    from aai.audio import Sound

    def make(decibels, seconds=5.0, rate=48000, channels=2, hertz=1000):
        t = torch.arange(int(seconds * rate)) / rate
        wave = 10 ** (decibels / 20) * torch.sin(2 * math.pi * hertz * t)
        return Sound(wave.repeat(channels, 1), rate)

    return make
