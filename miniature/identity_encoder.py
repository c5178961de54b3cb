"""The frozen face encoder of the miniature's identity loss.

It is trained on identities of the procedural world that no judge sees, with another architecture,
another crop and another seed than the embedder that scores videos, so that a generator trained
against it isn't trained against its judge. `miniature.judges.train` makes its weights.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from miniature.errors import MiniatureError

_WEIGHTS = Path(__file__).parent / "encoders" / "identity.safetensors"


class IdentityEncoder(nn.Module):
    """Unit embeddings of square face crops, differentiable in the pixels.

    Crops are centred on the face box, unaligned, with a margin of about a quarter of the box on
    each side; the encoder saw margins of 0.1 to 0.45 in training.
    """

    crop_size = 40

    def __init__(self, width: int = 32, size: int = 128) -> None:
        super().__init__()

        def stage(i: int, o: int, stride: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.GroupNorm(8, o), nn.GELU()
            )

        self.body = nn.Sequential(
            stage(3, width, 2),  # 20 x 20
            stage(width, 2 * width, 2),  # 10 x 10
            stage(2 * width, 2 * width, 1),
            stage(2 * width, 4 * width, 2),  # 5 x 5
            stage(4 * width, 4 * width, 1),
        )
        self.head = nn.Sequential(
            nn.Conv2d(4 * width, width, 1),
            nn.Flatten(),
            nn.LayerNorm(25 * width),
            nn.Linear(25 * width, size),
        )

    def forward(self, crops: Tensor) -> Tensor:
        """Embed faces.

        Args:
            crops: [N, 3, H, W], RGB in -1..1, any size; resized to 40 x 40.

        Returns:
            float [N, 128], unit length.
        """
        if crops.shape[-2:] != (self.crop_size, self.crop_size):
            crops = F.interpolate(
                crops,
                size=(self.crop_size, self.crop_size),
                mode="bilinear",
                align_corners=False,
                antialias=True,
            )
        return F.normalize(self.head(self.body(crops)), dim=1)


def load_identity_encoder(device: torch.device | str = "cpu") -> IdentityEncoder:
    """The trained encoder, frozen and in eval mode.

    Raises:
        MiniatureError: its weights are missing or are of another network.
    """
    if not _WEIGHTS.is_file():
        raise MiniatureError(
            f"The miniature identity encoder has no weights at {_WEIGHTS}; install the package "
            "with its data files, or run `python -m miniature.judges.train encoder`."
        )
    encoder = IdentityEncoder()
    state = {name: value.float() for name, value in load_file(_WEIGHTS).items()}
    try:
        encoder.load_state_dict(state)
    except RuntimeError as error:
        raise MiniatureError(
            f"{_WEIGHTS.name} doesn't fit IdentityEncoder; run "
            "`python -m miniature.judges.train encoder` to make it again."
        ) from error
    return encoder.to(device).eval().requires_grad_(False)
