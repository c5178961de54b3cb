"""Face encoders for the identity objectives of training: the suite's own networks, differentiable.

Training takes an encoder as an argument and knows none; the command hands it the one that a
training file names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

NAMES = ("facenet", "curricularface")


def face_encoder(name: str, device: Any = "cpu") -> nn.Module:
    """A frozen network of crops [N, 3, S, S] in -1..1 to embeddings [N, 512].

    Args:
        name: "facenet" (squares around the box, 160 pixels) or "curricularface" (aligned by five
            landmarks, 112 pixels).
        device: where it runs.

    Raises:
        MetricsError: its weights aren't on this machine.
    """
    import torch

    class Encoder(torch.nn.Module):
        def __init__(self, network: nn.Module, size: int, aligned: bool, scale: float) -> None:
            super().__init__()
            self.network, self.crop_size, self.aligned = network, size, aligned
            self.scale = scale

        def forward(self, crops: torch.Tensor) -> torch.Tensor:
            return self.network(crops.float() * self.scale)

    if name == "facenet":
        from metrics.features.face_backends.facenet import FacenetFaces

        # It was trained on (p - 127.5) / 128 of pixels 0..255.
        found = Encoder(FacenetFaces(device).recognition(), 160, False, 127.5 / 128)
    else:
        from metrics.features.face_backends.curricularface import load_ir101
        from metrics.weights import require

        found = Encoder(load_ir101(require("curricularface.ir101"), device), 112, True, 1.0)
    return found.eval().requires_grad_(False)
