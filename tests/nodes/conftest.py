"""A ComfyUI in this process for the node tests, with files of its own; where there is none, a skip."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

ROOT = Path(__file__).parents[2]
PACK = "aai_pack"
STEPS, SEED = 4, 7
"""Of every sampling that `sampled` makes."""


@pytest.fixture(scope="session")
def comfy(comfy_path, tmp_path_factory) -> Path:
    """ComfyUI's modules, importable, with a base directory of this run's; returns that directory."""
    base = tmp_path_factory.mktemp("comfy")
    # First on the path: our own folder nodes/ would shadow ComfyUI's nodes.py.
    sys.path.insert(0, str(comfy_path))
    from comfy.cli_args import args

    args.cpu = not torch.cuda.is_available()
    args.base_directory = str(base)
    # With tests/ as its root, pytest has imported this folder's tests as parts of a package of that name.
    sys.modules.pop("nodes", None)
    import folder_paths

    import nodes

    assert Path(nodes.__file__).parent == comfy_path
    for kind in ("input", "output", "models/embeddings", "models/audio_encoders"):
        (base / kind).mkdir(parents=True, exist_ok=True)
    assert Path(folder_paths.get_input_directory()) == base / "input"
    return base


@pytest.fixture(scope="session")
def pack(comfy):
    """The pack, loaded as ComfyUI does it: `nodes` {node id: class}, `part("nodes.adapt")` a module."""
    begin = time.perf_counter()
    spec = importlib.util.spec_from_file_location(PACK, ROOT / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACK] = module
    spec.loader.exec_module(module)

    async def nodes():
        return await (await module.comfy_entrypoint()).get_node_list()

    found = {node.GET_SCHEMA().node_id: node for node in asyncio.run(nodes())}
    seconds = time.perf_counter() - begin
    return SimpleNamespace(
        module=module,
        nodes=found,
        seconds=seconds,
        part=lambda name: importlib.import_module(f"{PACK}.{name}"),
    )


@pytest.fixture(scope="session")
def run(pack):
    """run("AAI_EncodeSound", audio=...) -> the node's outputs, in inference mode as in the executor; of a
    list of one, the one."""

    def call(node_id: str, **inputs) -> tuple:
        node = pack.nodes[node_id]
        with torch.inference_mode():
            output = node.PREPARE_CLASS_CLONE(None).EXECUTE_NORMALIZED(**inputs)
        lists = [slot.is_output_list for slot in node.GET_SCHEMA().outputs or []]
        return tuple(
            value[0] if is_list and len(value) == 1 else value for value, is_list in zip(output.args, lists)
        )

    return call


@pytest.fixture(scope="session")
def small(pack, tmp_path_factory):
    """SoundWorld's architectures with random weights, the same in diffusers and in ComfyUI."""
    from diffusers import UNet2DConditionModel

    models, text = pack.part("aai.soundworld.models"), pack.part("aai.soundworld.text")
    build_tokenizer = pack.part("aai.soundworld.build.text").build_tokenizer
    soundworld = pack.part("nodes.comfy.soundworld")
    folder = tmp_path_factory.mktemp("tokenizer")
    build_tokenizer(folder)
    torch.manual_seed(0)
    tokenizer = text.load_tokenizer(folder)
    unet = UNet2DConditionModel(**models.UNET_CONFIG).eval().requires_grad_(False)
    tower = text.build_text_tower(tokenizer).eval().requires_grad_(False)
    autoencoder = models.PatchAutoencoder().eval().requires_grad_(False)
    embeddings = pack.part("nodes.folders").folder_paths.get_folder_paths("embeddings")
    # As a loader node would: inside inference mode, so that the weights are inference tensors.
    with torch.inference_mode():
        model = soundworld.build_model(unet.state_dict())
        clip = soundworld.build_clip(tower.state_dict(), folder, embeddings)
        vae = soundworld.build_vae(autoencoder)
    return SimpleNamespace(
        unet=unet, tower=tower, tokenizer=tokenizer, autoencoder=autoencoder, model=model, clip=clip, vae=vae
    )


@pytest.fixture(scope="session")
def ear(pack):
    """A small sound encoder of width 192 with random weights."""
    cavmae, encoder = pack.part("aai.encoders.cavmae"), pack.part("aai.encoders.cavmae_encoder")
    torch.manual_seed(0)
    config = cavmae.CAVMAEConfig(
        dim=192, depth_a=1, depth_v=1, heads=4, frames=512, image_size=128, seconds=5.0
    )
    labels = ["rain", "thunder", "fire", "a dog", "a clock", "wind"]
    model = cavmae.CAVMAE(config).eval().requires_grad_(False)
    return encoder.CAVMAEEncoder(model, labels, torch.randn(len(labels), 192), name="small")


@pytest.fixture
def embedding(pack):
    """A sound as the small encoder may hear it."""
    f_a = torch.randn(192, generator=torch.Generator().manual_seed(7))
    return pack.part("aai.encoders.base").SoundEmbedding(f_a, -21.5, "c0ffee", "small")


@pytest.fixture
def embeddings_folder(comfy):
    return comfy / "models" / "embeddings"


@pytest.fixture(scope="session")
def reference_images():
    return torch.rand(3, 64, 64, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def trained(pack, small, embedding, reference_images):
    """trained(**changes) -> all that the node gives: its outputs and what it tells the front end."""

    def call(**changes):
        settings = dict(
            name="rain", steps=4, rate=0.01, batch=2, seed=5, scale="vocabulary", rho=1.0, vectors=1,
            template="a photo of *", size=64,
        )  # fmt: skip
        inputs = dict(
            model=small.model, clip=small.clip, vae=small.vae, embedding=embedding, images=reference_images
        )
        node = pack.nodes["AAI_TrainSoundToken"].PREPARE_CLASS_CLONE(None)
        with torch.inference_mode():
            return node.EXECUTE_NORMALIZED(**{**inputs, **settings, **changes})

    return call


@pytest.fixture
def train(trained):
    return lambda **changes: trained(**changes).args


@pytest.fixture(scope="session")
def clap(comfy, clap_folder):
    """A CLAP's folder in models/audio_encoders."""
    shutil.copytree(clap_folder, comfy / "models" / "audio_encoders" / "laion" / "tiny-clap")
    return "laion/tiny-clap"


@pytest.fixture(scope="session")
def release(tmp_path_factory) -> Path:
    """The zip that the registry would hold: every file of the repository but those of .comfyignore."""

    def listed(*options: str) -> set[str]:
        command = ["git", "ls-files", "--cached", "--others", "-z", *options]
        output = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, encoding="utf-8").stdout
        return {name for name in output.split("\0") if name}

    if not (ROOT / ".git").exists():
        pytest.skip("no git repository: what a release holds is not known")
    path = tmp_path_factory.mktemp("release") / "node.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name in sorted(listed("--exclude-standard") - listed("--ignored", "--exclude-from=.comfyignore")):
            file.write(ROOT / name, name)
    return path


@pytest.fixture(scope="session")
def core(comfy):
    return importlib.import_module("nodes")


@pytest.fixture(scope="session")
def rain(pack):
    generator = torch.Generator().manual_seed(0)
    vectors = {"clip_l": torch.randn(1, 192, generator=generator) * 0.05}
    return pack.part("aai.token").SoundToken("rain", vectors)


@pytest.fixture(scope="session")
def encoded(core, small):
    def encode(text):
        with torch.inference_mode():
            return core.CLIPTextEncode().encode(small.clip, text)[0]

    return encode


@pytest.fixture(scope="session")
def sampled(core, small, encoded):
    """sampled(model, positive, latent) -> the latents of core's KSampler."""

    def sample(model, positive, latent, sampler="euler", cfg=4.0, scheduler="normal", denoise=1.0):
        with torch.inference_mode():
            (made,) = core.common_ksampler(
                model, SEED, STEPS, cfg, sampler, scheduler, positive, encoded("night"), latent, denoise
            )
        return made["samples"]

    return sample


@pytest.fixture(scope="session")
def edit(run, small, rain):
    """edit(**inputs) -> MODEL, CONDITIONING, LATENT of the node."""

    def make(**inputs):
        given = dict(
            model=small.model,
            clip=small.clip,
            token=rain,
            latent={"samples": torch.zeros(1, 32, 8, 8)},
            source_prompt="a city",
            edited_prompt="a city under *",
            scale="1",
            windows="as set below",
            cross_end=0.8,
            self_end=0.5,
            self_downscale=1,
            silence="full",
        )
        return run("AAI_PromptToPromptEdit", **{**given, **inputs})

    return make


@pytest.fixture(scope="session")
def empty():
    """empty(count) -> a LATENT of so many empty latents."""
    return lambda count=1: {"samples": torch.zeros(count, 32, 8, 8)}


@pytest.fixture(scope="session")
def pictures(small):
    """pictures(latents) -> what they decode to."""

    def decode(latents):
        with torch.inference_mode():
            return small.vae.decode(latents)

    return decode


@pytest.fixture(scope="session")
def assert_same(pictures):
    """assert_same(found, expected): latents whose pictures are at most 2/255 apart in every pixel."""

    def check(found, expected):
        assert (pictures(found) - pictures(expected)).abs().max() <= 2 / 255

    return check
