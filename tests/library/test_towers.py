from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from aai.encoders.cavmae import CAVMAE, CAVMAEConfig
from aai.encoders.cavmae_encoder import CAVMAEEncoder
from aai.encoders.clip import CLIP, load_clip
from aai.encoders.fingerprint import fingerprint
from aai.errors import InputError
from aai.library.towers import OwnTower, tower_of


@pytest.fixture(scope="module")
def clip():
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    text = dict(hidden_size=24, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                vocab_size=99)  # fmt: skip
    vision = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                  image_size=32, patch_size=8)  # fmt: skip
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).eval()


@pytest.fixture(scope="module")
def clip_folder(clip, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    clip.save_pretrained(folder)
    return folder


def ear(seed=0) -> CAVMAEEncoder:
    torch.manual_seed(seed)
    model = CAVMAE(CAVMAEConfig(dim=24, depth_a=1, depth_v=1, heads=2, image_size=32))
    return CAVMAEEncoder(model.requires_grad_(False), ["rain"], torch.randn(1, 24))


def test_the_encoders_own_tower_sees(clip_folder):
    encoder = ear()
    tower = tower_of(encoder)
    images = torch.rand(3, 3, 32, 32)
    assert tower.image_size == 32
    assert_close(tower.embed_images(images), encoder.embed_images(images))
    assert_close(tower.query(torch.tensor([3.0, 4.0])), torch.tensor([0.6, 0.8]))
    assert isinstance(tower_of(encoder, clip_folder), CLIP)


def test_keys_tell_weights_apart():
    encoder = ear()
    key = OwnTower(encoder).key
    assert OwnTower(ear()).key == key != OwnTower(ear(1)).key
    with torch.no_grad():
        for weight in encoder.model.audio_parameters():
            weight.add_(0.1)
    assert OwnTower(encoder).key == key
    with torch.no_grad():
        encoder.model.blocks_v[0].mlp.fc1.weight.mul_(1.001)
    assert OwnTower(encoder).key != key
    assert fingerprint([torch.zeros(6)], "a") != fingerprint([torch.zeros(2, 3)], "a")


def test_clip_sees_and_hears_as_transformers_does(clip, clip_folder):
    tower = load_clip(clip_folder)
    images = torch.rand(2, 3, 32, 32)
    ids = torch.tensor([[1, 5, 7, 98]])
    output = clip(
        input_ids=ids,
        pixel_values=(images - torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1))
        / torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1),
    )
    assert_close(tower.embed_images(images), output.image_embeds, atol=1e-5, rtol=0)
    # f_a lies where the text tower's end states do: their projection is CLIP's text embedding.
    end_state = clip.text_model(input_ids=ids).pooler_output[0]
    assert_close(tower.query(end_state), output.text_embeds[0], atol=1e-5, rtol=0)
    assert_close(tower.query(7 * end_state), tower.query(end_state), atol=1e-5, rtol=0)
    assert tower.embed_images(torch.rand(1, 3, 50, 50)).shape == (1, 12)
    with pytest.raises(InputError, match="30 numbers.*24"):
        tower.query(torch.ones(30))


def test_clip_sees_the_middle_square_as_its_own_processor_does(clip, clip_folder):
    from PIL import Image
    from transformers import CLIPImageProcessor

    tower = load_clip(clip_folder)
    pixels = torch.zeros(64, 128, 3, dtype=torch.uint8)
    pixels[:, 32:96, 0], pixels[:32, 40:60, 1], pixels[:, :20, 2] = 255, 200, 255
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)
    for turned in (pixels, pixels.transpose(0, 1).contiguous()):
        given = processor(images=Image.fromarray(turned.numpy()), return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            seen = F.normalize(clip.visual_projection(clip.vision_model(given).pooler_output), dim=-1)
        ours = tower.embed_images(turned.permute(2, 0, 1)[None].float() / 255)
        assert_close(ours, seen, atol=5e-3, rtol=0)
    # What is cut off to the left and right is not seen.
    picture = torch.rand(1, 3, 32, 32)
    assert_close(tower.embed_images(F.pad(picture, (30, 30))), tower.embed_images(picture))


def test_a_deaf_tower_and_wrong_folders_get_a_sentence(tmp_path, clip, clip_folder):
    blind = SimpleNamespace(name="CLAP", sees=False)
    with pytest.raises(InputError, match="CLAP cannot see pictures"):
        tower_of(blind)
    assert_close(tower_of(blind, clip_folder).query(torch.ones(24)).norm(), torch.tensor(1.0))
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match="holds no CLIP model"):
            tower_of(blind, folder)
    (tmp_path / "config.json").write_bytes((clip_folder / "config.json").read_bytes())
    torch.save(clip.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_clip(tmp_path)


@pytest.mark.parametrize(
    ("part", "key"), [("text_config", "eos_token_id"), ("vision_config", "num_channels")]
)
def test_a_clips_settings_of_a_wrong_kind_are_told_when_they_are_read(tmp_path, clip_folder, part, key):
    config = json.loads((clip_folder / "config.json").read_text(encoding="utf-8"))
    config[part][key] = ["of", "another", "kind"]
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "model.safetensors").write_bytes((clip_folder / "model.safetensors").read_bytes())
    with pytest.raises(InputError, match="cannot be loaded"):
        load_clip(tmp_path)


def test_a_sound_finds_pictures_through_clip(tmp_path, clip_folder):
    from PIL import Image

    from aai.library.index import index
    from aai.library.retrieval import references

    for i in range(5):
        Image.effect_noise((40, 40), 20 + 20 * i).convert("RGB").save(tmp_path / f"{i}.png")
    tower = load_clip(clip_folder)
    library = index(tmp_path, tower)
    f_a = torch.randn(24, generator=torch.Generator().manual_seed(1))
    found = references(f_a, library, 3)
    cosine = library.features @ F.normalize(tower.model.text_projection(f_a), dim=-1)
    assert [r.path.name for r in found] == [library.names[i] for i in cosine.argsort(descending=True)[:3]]
