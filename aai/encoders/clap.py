"""CLAP (Wu et al., ICASSP 2023) through transformers: a sound and a text tower that share a space.

The folders that LAION publishes are read (`ClapModel`, with or without fusion). CLAP's space is not
that of a picture model's text encoder: `bridged_clap.py` carries it there.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..audio import Sound, windows
from ..errors import InputError, refused
from ..files import Unreadable, is_dir, read_json

LONGEST = 77
"""Tokens of a text; CLAP was trained with no more, and the rest is cut."""
CONFIG = (
    "window_size",
    "num_mel_bins",
    "spec_size",
    "hidden_act",
    "patch_size",
    "patch_stride",
    "num_classes",
    "hidden_size",
    "projection_dim",
    "depths",
    "num_attention_heads",
    "enable_fusion",
    "fusion_type",
    "patch_embed_input_channels",
    "flatten_patch_embeds",
    "patch_embeds_hidden_size",
    "enable_patch_layer_norm",
    "qkv_bias",
    "mlp_ratio",
    "aff_block_r",
    "num_hidden_layers",
    "projection_hidden_act",
    "layer_norm_eps",
)
"""The settings of transformers' ClapAudioConfig that shape the tower."""
EXTRACTOR = (
    "feature_size",
    "sampling_rate",
    "hop_length",
    "max_length_s",
    "fft_window_size",
    "padding_value",
    "frequency_min",
    "frequency_max",
    "top_db",
    "truncation",
    "padding",
)
"""The settings of transformers' ClapFeatureExtractor."""
LICENCE = re.compile(r"^license:\s*(\S+)", re.MULTILINE)


class CLAPEncoder:
    """CLAP's sound tower as a SoundEncoder in CLAP's own space, so it knows no words of a text encoder.

    A sound is mixed to mono, resampled to 48 kHz and cut into windows of 10 seconds as for CAV-MAE; its
    embedding is the mean over its windows, of length one. CLAP takes a random part of a long sound (or, with
    fusion, three and a summary) instead: here a sound always has the same embedding, so a window is never
    "longer" and the fusion's second branch is unused. A short window is repeated until it is full, then
    padded, as CLAP was trained.

    Its level is not normalised: CLAP's filter bank is in dB, so a gain is a constant added to every band of
    every frame, and CLAP's batch norm, whose statistics are fixed, lets it through to the embedding.
    """

    family = "clap"
    sees = False
    presence = None

    def __init__(self, model: nn.Module, extractor, name: str = "CLAP", notes: dict[str, str] | None = None):
        self.model, self.extractor, self.name = model.eval().requires_grad_(False), extractor, name
        self.notes = dict(notes or {})
        self.rate, self.seconds = int(extractor.sampling_rate), float(extractor.max_length_s)
        self.dim = model.config.projection_dim
        self.labels, self.label_vectors = [], torch.zeros(0, self.dim)
        self.tau, self.space, self.known = 0.05, "clap", None

    @torch.no_grad()
    def embed(self, sounds: Iterable[Sound], *, own_length: bool = False) -> Tensor:
        """Sounds of any rate, channel count and length to [B, dim] of length one, the only one they have
        here."""
        embeddings = [[self._embed_window(w) for w in windows(s, self.rate, self.seconds)] for s in sounds]
        if not embeddings:
            return torch.zeros(0, self.dim)
        return F.normalize(torch.stack([torch.cat(parts).mean(0) for parts in embeddings]), dim=-1)

    def to(self, device: torch.device | str) -> CLAPEncoder:
        self.model.to(device)
        return self

    def state(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """What restores the sound tower without its folder: weights, and "config" and "extractor" as JSON."""
        # Whole numbers are no weights: transformers makes them from the settings, each version its own.
        weights = {k: v for k, v in self.model.state_dict().items() if v.is_floating_point()}
        config = {key: getattr(self.model.config, key) for key in CONFIG}
        extractor = {key: getattr(self.extractor, key) for key in EXTRACTOR}
        return weights, {"config": json.dumps(config), "extractor": json.dumps(extractor)}

    @classmethod
    def restore(cls, weights: dict[str, Tensor], settings: Mapping[str, str], file: str) -> CLAPEncoder:
        """An encoder from its `state`.

        Raises InputError where weights are missing, unknown or of another size; KeyError, TypeError or
        ValueError for bad settings.
        """
        library = _transformers()
        config = library.ClapAudioConfig(**json.loads(settings["config"]))
        # Before a model of impossible sizes takes the memory.
        widest = max((max(value.shape, default=1) for value in weights.values()), default=1)
        if sum(config.depths) > len(weights) or max(config.hidden_size, config.projection_dim) > widest:
            raise ValueError("its sizes are those of a larger model than its weights")
        model = library.ClapAudioModelWithProjection(config)
        own = {k: v for k, v in model.state_dict().items() if v.is_floating_point()}
        wrong = sorted(own.keys() ^ weights.keys()) or sorted(
            k for k in own if own[k].shape != weights[k].shape
        )
        if wrong:
            raise InputError(
                f"'{file}' does not hold CLAP's sound tower as its settings say ({wrong[0]}, ...): save or "
                "download it again."
            )
        model.load_state_dict(weights, strict=False)
        return cls(model, library.ClapFeatureExtractor(**json.loads(settings["extractor"])))

    def _embed_window(self, waveform: Tensor) -> Tensor:
        """One window [up to rate * seconds] to [1, dim] of length one."""
        mel = self.extractor([waveform.numpy()], sampling_rate=self.rate, return_tensors="pt")
        where = next(self.model.parameters())
        features = mel["input_features"].to(where.device, where.dtype)
        longer = torch.zeros(1, 1, dtype=torch.bool, device=where.device)
        out = self.model(input_features=features, is_longer=longer)
        return F.normalize(out.audio_embeds.float().cpu(), dim=-1)


class CLAPText:
    """CLAP's text tower as a TextTower of CLAP's own space: projected, of length one."""

    name = "clap"

    def __init__(self, model: nn.Module, tokenizer):
        self.model, self.tokenizer = model.eval().requires_grad_(False), tokenizer
        self.dim = model.config.projection_dim

    @torch.no_grad()
    def embed(self, texts: list[str]) -> Tensor:
        """B texts to [B, dim]."""
        parts = [torch.zeros(0, self.dim)]
        # Texts of like length together: a batch costs what its longest does.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for begin in range(0, len(order), 64):
            batch = [texts[i] for i in order[begin : begin + 64]]
            ids = self.tokenizer(
                batch, padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
            ).to(self.model.device)
            out = self.model(input_ids=ids["input_ids"], attention_mask=ids["attention_mask"])
            parts.append(F.normalize(out.text_embeds.float().cpu(), dim=-1))
        return torch.cat(parts)[torch.tensor(order, dtype=torch.long).argsort()]


# Also for callers in inference mode: the weights are ordinary tensors.
@torch.inference_mode(False)
def load_folder(folder: str | os.PathLike) -> tuple[CLAPEncoder, CLAPText]:
    """Both towers of a CLAP folder as transformers keeps it: config.json, preprocessor_config.json, the
    tokenizer's files, and the weights as safetensors (or as a .bin of plain tensors).

    Raises InputError for a folder that is missing, of another model, not whole, or lacks weights.
    """
    folder = Path(folder)
    kind, library = clap_config(folder), _transformers()
    bars = library.utils.logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        with refused(
            lambda reason: (
                f"The CLAP in '{folder}' cannot be read ({reason}): download the whole folder again."
            )
        ):
            return _read_folder(folder, kind.get("_name_or_path") or folder.name)
    finally:
        if shown:
            bars.enable_progress_bar()


def _read_folder(folder: Path, source: str) -> tuple[CLAPEncoder, CLAPText]:
    library = _transformers()
    extractor = library.ClapFeatureExtractor.from_pretrained(str(folder), local_files_only=True)
    tokenizer = library.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    model, report = library.ClapModel.from_pretrained(
        str(folder), local_files_only=True, weights_only=True, output_loading_info=True
    )
    missing = sorted(key for key in report["missing_keys"] if "position_ids" not in key)
    if missing or report["mismatched_keys"]:
        named = missing[0] if missing else str(sorted(report["mismatched_keys"])[0])
        raise InputError(
            f"The CLAP in '{folder}' lacks weights ({named}, ...): download the whole folder again."
        )
    model = model.float()
    audio = library.ClapAudioModelWithProjection(model.config.audio_config)
    audio.audio_model, audio.audio_projection = model.audio_model, model.audio_projection
    text = library.ClapTextModelWithProjection(model.config.text_config)
    text.text_model, text.text_projection = model.text_model, model.text_projection
    notes = {"source": source, "licence": _licence(folder)}
    encoder = CLAPEncoder(audio, extractor, folder.resolve().name, notes)
    words = CLAPText(text, tokenizer)
    # Settings of a wrong kind are loaded, and fail at the first sound or word.
    encoder.embed([Sound(torch.zeros(1, encoder.rate // 10), encoder.rate)])
    words.embed(["a"])
    return encoder, words


def clap_config(folder: Path) -> dict:
    """A CLAP folder's config.json. Raises InputError where the folder is none."""
    hint = (
        "give the folder of a CLAP as transformers keeps it, such as huggingface.co/laion/clap-htsat-unfused "
        "downloaded whole."
    )
    if not is_dir(folder):
        raise InputError(f"There is no CLAP folder '{folder}': {hint}")
    try:
        config = read_json(folder / "config.json")
    except Unreadable as error:
        raise InputError(f"'{folder}' has no config.json that can be read: {hint}") from error
    if not isinstance(config, dict) or config.get("model_type") != "clap":
        kind = config.get("model_type") if isinstance(config, dict) else None
        raise InputError(f"'{folder}' holds another model ({kind}): {hint}")
    return config


def is_clap_folder(folder: Path) -> bool:
    try:
        return bool(clap_config(folder))
    except InputError:
        return False


def _transformers():
    try:
        import transformers

        # transformers imports a model where it is first named, and that is what may fail.
        _ = transformers.ClapModel, transformers.ClapFeatureExtractor, transformers.AutoTokenizer
    except (ImportError, OSError, RuntimeError) as error:
        raise InputError(
            f"CLAP needs transformers, which does not start here ({error}): `pip install transformers`; "
            "where torchaudio or torchvision is to blame, take it out, nothing here needs it."
        ) from error
    return transformers


def _licence(folder: Path) -> str:
    """The licence in the header of the model card."""
    try:
        stated = LICENCE.search((folder / "README.md").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        stated = None
    return stated[1] if stated else "not stated in the folder; LAION publishes its CLAPs as apache-2.0"
