"""The published LTX-2.x as configs: what their networks look like, without a download.

Where a value is not here it is diffusers' or transformers' default.
"""

from __future__ import annotations

from typing import Any

#: Component -> (class, config), of a checkpoint.
Configs = dict[str, tuple[str, dict[str, Any]]]

#: The transformer of LTX-2.3, where it differs from diffusers' defaults.
LTX23_TRANSFORMER: dict[str, Any] = {
    "num_attention_heads": 32,
    "attention_head_dim": 128,
    "num_layers": 48,
    "gated_attn": True,
    "cross_attn_mod": True,
    "audio_gated_attn": True,
    "audio_cross_attn_mod": True,
    "perturbed_attn": True,
    "use_prompt_embeddings": False,
    "rope_type": "split",
}
_CONNECTORS = {
    "caption_channels": 3840,
    "text_proj_in_factor": 49,
    "video_connector_num_attention_heads": 32,
    "video_connector_attention_head_dim": 128,
    "video_connector_num_layers": 8,
    "video_connector_num_learnable_registers": 128,
    "video_gated_attn": True,
    "audio_connector_num_attention_heads": 32,
    "audio_connector_attention_head_dim": 64,
    "audio_connector_num_layers": 8,
    "audio_connector_num_learnable_registers": 128,
    "audio_gated_attn": True,
    "connector_rope_base_seq_len": 4096,
    "rope_double_precision": True,
    "rope_type": "split",
    "per_modality_projections": True,
    "video_hidden_dim": 4096,
    "audio_hidden_dim": 2048,
    "proj_bias": True,
}
_VAE = {
    "latent_channels": 128,
    "block_out_channels": (256, 512, 1024, 1024),
    "down_block_types": ("LTX2VideoDownBlock3D",) * 4,
    "decoder_block_out_channels": (256, 512, 512, 1024),
    "layers_per_block": (4, 6, 4, 2, 2),
    "decoder_layers_per_block": (4, 6, 4, 2, 2),
    "decoder_spatio_temporal_scaling": (True,) * 4,
    "decoder_inject_noise": (False,) * 5,
    "upsample_type": ("spatiotemporal", "spatiotemporal", "temporal", "spatial"),
    "upsample_residual": (False,) * 4,
    "upsample_factor": (2, 2, 1, 2),
    "decoder_causal": False,
    "decoder_spatial_padding_mode": "zeros",
    "spatial_compression_ratio": 32,
    "temporal_compression_ratio": 8,
}
_VOCODER = {
    "in_channels": 128,
    "hidden_channels": 1536,
    "out_channels": 2,
    "upsample_kernel_sizes": [11, 4, 4, 4, 4, 4],
    "upsample_factors": [5, 2, 2, 2, 2, 2],
    "act_fn": "snakebeta",
    "antialias": True,
    "final_act_fn": None,
    "final_bias": False,
    "output_sampling_rate": 48000,
}
_GEMMA3_12B = {
    "text_config": {
        "hidden_size": 3840,
        "intermediate_size": 15360,
        "num_hidden_layers": 48,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 256,
        "vocab_size": 262208,
    },
    "vision_config": {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 896,
        "patch_size": 14,
    },
}
LTX23: Configs = {
    "transformer": ("LTX2VideoTransformer3DModel", LTX23_TRANSFORMER),
    "text_encoder": ("Gemma3ForConditionalGeneration", _GEMMA3_12B),
    "connectors": ("LTX2TextConnectors", _CONNECTORS),
    "vae": ("AutoencoderKLLTX2Video", _VAE),
    "audio_vae": ("AutoencoderKLLTX2Audio", {}),
    "vocoder": ("LTX2VocoderWithBWE", _VOCODER),
}
#: LTX-2.5 is LTX-2.3 with a video feed-forward without bias and an embedding of keyframes; its text
#: encoder, a Gemma 4, is read from the checkpoint.
LTX25_TRANSFORMER = {**LTX23_TRANSFORMER, "ff_bias": False, "use_keyframes_abs_pos_embedding": True}
#: Names that stand for a checkpoint's configs.
PUBLISHED: dict[str, Configs] = {"ltx-2.3": LTX23}
