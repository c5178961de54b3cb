"""Small checkpoints in LTX-2.3's structure, from diffusers' and transformers' own classes.

Every switch that separates LTX-2.3 from LTX-2.0 is on (gated attention, cross-attention modulation,
per-modality projections, split rotary embedding); only the widths, the depth and the compression
differ. The weights are random: what the trained miniature starts from, and what the tests run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    FlowMatchEulerDiscreteScheduler,
    LTX2VideoTransformer3DModel,
)
from diffusers.pipelines.ltx2 import LTX2TextConnectors
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, PreTrainedTokenizerFast

from stdrc.pipeline import STDRCPipeline

# Enough that a random-weight checkpoint tells prompts apart without the world's vocabulary.
PLAIN_WORDS = (  # noqa: SIM905
    "a an the person man woman face walks runs turns looks smiles waves talks reads moves left "
    "right up down towards away slowly quickly in front of on at by with to and red green blue "
    "yellow white black grey brown room street garden beach office wall window night day light "
    "camera"
).split()


@dataclass(frozen=True)
class MiniatureConfig:
    """Sizes of a miniature; the defaults are the shipped one's.

    Args:
        heads, head_dim, layers: of the transformer; its width is heads * head_dim.
        latent_channels: of the video autoencoder.
        vae_channels, decoder_channels: of the autoencoder's two stages.
        text_width, text_layers: of the Gemma-3 text encoder.
        text_tokens: longest prompt in tokens, and the number of the connectors' registers.
    """

    heads: int = 4
    head_dim: int = 32
    layers: int = 4
    latent_channels: int = 48
    vae_channels: tuple[int, int] = (384, 192)
    decoder_channels: tuple[int, int] = (128, 128)
    text_width: int = 64
    text_layers: int = 2
    text_tokens: int = 32

    @property
    def width(self) -> int:
        return self.heads * self.head_dim


def build_transformer(config: MiniatureConfig) -> LTX2VideoTransformer3DModel:
    """The denoiser: LTX-2.3's switches, 8x8 pixels and 4 frames per latent."""
    audio_heads, audio_head_dim = 2, 8
    return LTX2VideoTransformer3DModel(
        in_channels=config.latent_channels,
        out_channels=config.latent_channels,
        num_attention_heads=config.heads,
        attention_head_dim=config.head_dim,
        cross_attention_dim=config.width,
        vae_scale_factors=(4, 8, 8),
        # Coordinates are fractions of these: LTX-2.3's own ratio of a clip to the maximum, small
        # enough that one latent row or frame is a visible angle.
        pos_embed_max_pos=4,
        base_height=256,
        base_width=256,
        rope_theta=50.0,  # 64 pixels hold 8 rows: a period shorter than one of them tells nothing
        gated_attn=True,
        cross_attn_mod=True,
        audio_in_channels=8,
        audio_out_channels=8,
        audio_num_attention_heads=audio_heads,
        audio_attention_head_dim=audio_head_dim,
        audio_cross_attention_dim=audio_heads * audio_head_dim,
        audio_pos_embed_max_pos=4,
        audio_gated_attn=True,
        audio_cross_attn_mod=True,
        num_layers=config.layers,
        caption_channels=config.text_width,
        rope_double_precision=False,
        rope_type="split",
        use_prompt_embeddings=False,
        perturbed_attn=True,
    )


def deepen(
    transformer: LTX2VideoTransformer3DModel, order: Sequence[int | None], seed: int = 0
) -> LTX2VideoTransformer3DModel:
    """The same function in more blocks: new ones add nothing until they are trained.

    Args:
        transformer: trained.
        order: a block's number for each block of the result, or None for a new one. The old blocks
            keep their order.

    Raises:
        ValueError: `order` leaves out an old block or turns two around.
    """
    if [i for i in order if i is not None] != list(range(len(transformer.transformer_blocks))):
        raise ValueError(f"order {list(order)} must hold every old block once, from 0 up.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        deeper = LTX2VideoTransformer3DModel.from_config(
            dict(transformer.config, num_layers=len(order))
        )
    old, state = transformer.state_dict(), deeper.state_dict()
    for name in state:
        blocks, _, rest = name.partition("transformer_blocks.")
        if not rest or blocks:
            state[name] = old[name]
            continue
        number, _, rest = rest.partition(".")
        source = order[int(number)]
        if source is not None:
            state[name] = old[f"transformer_blocks.{source}.{rest}"]
        elif "to_out." in rest or ".net.2." in f".{rest}":
            state[name] = torch.zeros_like(state[name])  # what a branch adds to the stream
    deeper.load_state_dict(state)
    return deeper.to(transformer.dtype)


def build_connectors(config: MiniatureConfig) -> LTX2TextConnectors:
    """The text connectors: one transformer block, a register for each of `text_tokens` places."""
    return LTX2TextConnectors(
        caption_channels=config.text_width,
        text_proj_in_factor=config.text_layers + 1,
        video_connector_num_attention_heads=config.heads,
        video_connector_attention_head_dim=config.head_dim,
        video_connector_num_layers=1,
        video_connector_num_learnable_registers=config.text_tokens,
        video_gated_attn=True,
        audio_connector_num_attention_heads=2,
        audio_connector_attention_head_dim=8,
        audio_connector_num_layers=1,
        audio_connector_num_learnable_registers=config.text_tokens,
        audio_gated_attn=True,
        connector_rope_base_seq_len=config.text_tokens,
        rope_double_precision=False,
        rope_type="split",
        per_modality_projections=True,
        video_hidden_dim=config.width,
        audio_hidden_dim=16,
        proj_bias=True,
    )


def build_vae(config: MiniatureConfig) -> AutoencoderKLLTX2Video:
    """The video autoencoder: 8x8 in space (patches of 4, then 2x), 4x in time."""
    stages = len(config.vae_channels)
    vae = AutoencoderKLLTX2Video(
        latent_channels=config.latent_channels,
        block_out_channels=config.vae_channels,
        down_block_types=("LTX2VideoDownBlock3D",) * stages,
        decoder_block_out_channels=config.decoder_channels,
        layers_per_block=(0, 0, 0),
        decoder_layers_per_block=(1, 1, 2),
        spatio_temporal_scaling=(True,) * stages,
        decoder_spatio_temporal_scaling=(True,) * stages,
        decoder_inject_noise=(False,) * (stages + 1),
        downsample_type=("spatiotemporal", "temporal"),
        upsample_type=("temporal", "spatiotemporal"),
        upsample_residual=(False,) * stages,
        # 128 channels are kept over the doubling in time and halved over that in space: 64 for the
        # 48 numbers of each 4x4 patch, where fewer blur.
        upsample_factor=(2, 1),
        patch_size=4,
        spatial_compression_ratio=8,
        temporal_compression_ratio=4,
    )
    # The last channel is the posterior's log-variance, shared by all. It starts at a standard
    # deviation of 0.1: at the usual 1.0 the noise drowns what the mean has yet to learn.
    last = vae.encoder.conv_out.conv
    torch.nn.init.zeros_(last.weight.data[-1:])
    torch.nn.init.constant_(last.bias.data[-1:], 2 * math.log(0.1))
    return vae


def build_text_encoder(config: MiniatureConfig, vocabulary: int) -> Gemma3ForConditionalGeneration:
    """Gemma 3 with `text_layers` layers; its vision tower is as small as the class allows."""
    gemma = Gemma3Config(
        text_config={
            "vocab_size": vocabulary,
            "hidden_size": config.text_width,
            "intermediate_size": 2 * config.text_width,
            "num_hidden_layers": config.text_layers,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": config.text_width // 2,
            "max_position_embeddings": 4 * config.text_tokens,
            "sliding_window": config.text_tokens,
            "pad_token_id": 0,
            "eos_token_id": 1,
            "bos_token_id": 2,
        },
        vision_config={
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "image_size": 16,
            "patch_size": 8,
        },
        mm_tokens_per_image=4,
        image_token_index=3,
        boi_token_index=3,
        eoi_token_index=3,
    )
    return Gemma3ForConditionalGeneration(gemma)


def build_tokenizer(words: list[str], text_tokens: int) -> PreTrainedTokenizerFast:
    """One token per word, punctuation apart, case folded; what is not in `words` becomes <unk>."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    vocabulary = {w: i for i, w in enumerate(dict.fromkeys([*special, ",", ".", *words]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(r"[^\w'-]"), behavior="isolated"),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", vocabulary["<bos>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        model_max_length=text_tokens,
        padding_side="left",
    )


def build_components(
    config: MiniatureConfig | None = None, words: list[str] | None = None, seed: int = 0
) -> dict[str, Any]:
    """Every component of a random-weight miniature, by the name the pipeline gives it."""
    config = config or MiniatureConfig()
    tokenizer = build_tokenizer(words or PLAIN_WORDS, config.text_tokens)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        audio_vae = AutoencoderKLLTX2Audio(
            base_channels=8,  # latent channels x latent mel bins: it sizes the latent statistics
            output_channels=2,
            ch_mult=(1,),
            num_res_blocks=1,
            attn_resolutions=None,
            in_channels=2,
            resolution=32,
            latent_channels=2,
            norm_type="pixel",
            causality_axis="height",
            dropout=0.0,
            mid_block_add_attention=False,
            sample_rate=16000,
            mel_hop_length=160,
            is_causal=True,
            mel_bins=16,
        )
        vocoder = LTX2Vocoder(
            in_channels=audio_vae.config.output_channels * audio_vae.config.mel_bins,
            hidden_channels=8,
            out_channels=2,
            upsample_kernel_sizes=[4, 4],
            upsample_factors=[2, 2],
            resnet_kernel_sizes=[3],
            resnet_dilations=[[1, 3, 5]],
            leaky_relu_negative_slope=0.1,
            output_sampling_rate=16000,
        )
        return {
            "scheduler": FlowMatchEulerDiscreteScheduler(
                use_dynamic_shifting=True,
                base_image_seq_len=1024,
                max_image_seq_len=4096,
                base_shift=0.95,
                max_shift=2.05,
                shift_terminal=0.1,
            ),
            "vae": build_vae(config).eval(),
            "audio_vae": audio_vae.eval(),
            "text_encoder": build_text_encoder(config, len(tokenizer)).eval(),
            "tokenizer": tokenizer,
            "connectors": build_connectors(config).eval(),
            "transformer": build_transformer(config).eval(),
            "vocoder": vocoder.eval(),
        }


def build_random(
    folder: str | Path,
    config: MiniatureConfig | None = None,
    *,
    words: list[str] | None = None,
    seed: int = 0,
) -> Path:
    """Write a random-weight miniature to `folder` in diffusers' format; returns the folder."""
    pipeline = STDRCPipeline(**build_components(config, words, seed))
    pipeline.save_pretrained(folder)
    return Path(folder)
