"""A CLAP at a tiny size: transformers' own classes and files, random weights."""

from __future__ import annotations

import json

import pytest
import torch


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
