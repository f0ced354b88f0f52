"""The first noise of a diffusers pipeline."""

import pytest
import torch


@pytest.fixture(scope="session")
def first_noise():
    """first_noise(seed) -> the latents [1, 4, 8, 8] from which a pipeline draws what we draw of a seed."""

    def make(seed: int) -> torch.Tensor:
        # diffusers' scheduler starts at noise * sigma; ComfyUI's KSampler and we at variance 1 + sigma^2.
        sigma = 14.6146
        return (
            torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
            * (1 + sigma**2) ** 0.5
            / sigma
        )

    return make


@pytest.fixture(scope="session")
def make_word_tokenizer(tmp_path_factory):
    """make_word_tokenizer("t5" or "qwen") -> a new tokenizer of the kind, of a few words and all letters."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer, T5TokenizerFast

    def t5() -> T5TokenizerFast:
        letters = ["\u2581", *map(chr, range(33, 127))]
        words = [f"\u2581{w}" for w in "a photo of rain in the city at night and again under fire".split()]
        pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
        pieces += [(w, -2.0) for w in dict.fromkeys(words)] + [(c, -6.0) for c in letters]
        tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        tokenizer.post_processor = processors.TemplateProcessing(
            single="$A </s>", special_tokens=[("</s>", 1)]
        )
        folder = tmp_path_factory.mktemp("t5")
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
        ).save_pretrained(folder)
        return T5TokenizerFast.from_pretrained(str(folder), extra_ids=0)

    def qwen() -> Qwen2Tokenizer:
        letters = sorted(pre_tokenizers.ByteLevel.alphabet())
        vocabulary, merges = {c: i for i, c in enumerate(letters)}, []
        for word in ("\u0120rain", "\u0120photo", "\u0120of", "user", "assistant"):
            for i in range(1, len(word)):
                merges.append((word[:i], word[i]))
                vocabulary.setdefault(word[: i + 1], len(vocabulary))
        for mark in ("<|endoftext|>", "<|im_start|>", "<|im_end|>"):
            vocabulary[mark] = len(vocabulary)
        made = Qwen2Tokenizer(vocab=vocabulary, merges=list(dict.fromkeys(merges)))
        made.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
        # Qwen3's, where the thinking is left to the model.
        made.chat_template = (
            "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
        )
        return made

    return lambda kind: {"t5": t5, "qwen": qwen}[kind]()


@pytest.fixture(scope="session")
def flow_vae():
    """flow_vae() -> an AutoencoderKL of 16 channels at a scale and a shift, two pixels to a latent."""
    from diffusers import AutoencoderKL

    def make():
        torch.manual_seed(1)
        return AutoencoderKL(
            block_out_channels=(32, 32),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=16,
            scaling_factor=0.3611,
            shift_factor=0.1159,
        )

    return make


@pytest.fixture
def make_flux(make_tokenizer, make_word_tokenizer, flow_vae):
    """make_flux(guidance=True) -> a small FluxPipeline; without guidance a small schnell."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    def make(guidance: bool = True, **changes):
        torch.manual_seed(0)
        tokenizer, words = make_tokenizer(), make_word_tokenizer("t5")
        clip = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer), hidden_size=24, intermediate_size=48, num_hidden_layers=2,
                num_attention_heads=4, bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
        )  # fmt: skip
        t5 = T5EncoderModel(
            T5Config(
                vocab_size=len(words), d_model=32, d_ff=48, d_kv=8, num_heads=4, num_layers=2,
                feed_forward_proj="gated-gelu",
            )
        )  # fmt: skip
        settings = dict(
            in_channels=64, num_layers=1, num_single_layers=2, attention_head_dim=24, num_attention_heads=2,
            joint_attention_dim=32, pooled_projection_dim=24, guidance_embeds=guidance,
            axes_dims_rope=(8, 8, 8),
        )  # fmt: skip
        shift = dict(use_dynamic_shifting=True, max_shift=1.15) if guidance else dict(shift=1.0)
        return FluxPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(**shift),
            vae=flow_vae(),
            text_encoder=clip.eval(),
            tokenizer=tokenizer,
            text_encoder_2=t5.eval(),
            tokenizer_2=words,
            transformer=FluxTransformer2DModel(**{**settings, **changes}).eval(),
        )

    return make


@pytest.fixture
def make_z_image(make_word_tokenizer, flow_vae):
    """make_z_image() -> a small ZImagePipeline, of Turbo's schedule."""
    from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
    from transformers import Qwen3Config, Qwen3Model

    def make(shift: float = 3.0):
        torch.manual_seed(0)
        words = make_word_tokenizer("qwen")
        text = Qwen3Model(
            Qwen3Config(
                vocab_size=len(words), hidden_size=32, intermediate_size=48, num_hidden_layers=3,
                num_attention_heads=4, num_key_value_heads=2, head_dim=8,
            )
        )  # fmt: skip
        transformer = ZImageTransformer2DModel(
            dim=96, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=32,
            axes_dims=[16, 16, 16], axes_lens=[64, 32, 32],
        )  # fmt: skip
        return ZImagePipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(shift=shift), vae=flow_vae(), text_encoder=text.eval(),
            tokenizer=words, transformer=transformer.eval(),
        )  # fmt: skip

    return make
