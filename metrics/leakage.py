"""How much of the reference image, beyond the identity, is in the video.

How well the reference's own pose, light and background explain the frames: similarity of the
aligned face crops, difference of head pose, and similarity of the background's colours. Where a
true video of the same person exists, `metrics.copying` says more.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from metrics.errors import MetricsError
from metrics.facts import register
from metrics.features.face_backends import FaceBackend, aligners
from metrics.features.models import Picture
from metrics.identity import OURS, FaceMetric, Reference, best_faces
from metrics.metric import Result, Video, remarks

Image = NDArray[np.uint8]


# --- aligned crops -------------------------------------------------------------------------------


@runtime_checkable
class PerceptualDistance(Protocol):
    """A learned distance between pairs of images."""

    name: str
    version: str

    def distance(self, first: Image, second: Image) -> Tensor:
        """Distance ``[B]`` of uint8 RGB ``[B, S, S, 3]`` to uint8 RGB ``[B, S, S, 3]``."""
        ...


def _crops(generated: Image, reference: Image) -> tuple[Image, Image]:
    generated, reference = np.asarray(generated), np.asarray(reference)
    if generated.ndim == 3:
        generated = generated[None]
    if (
        generated.ndim != 4
        or generated.shape[-1] != 3
        or 0 in generated.shape
        or generated.shape[1:] != reference.shape
        or generated.dtype != np.uint8
        or reference.dtype != np.uint8
    ):
        raise MetricsError(
            f"crops must be uint8 [T, S, S, 3] and a reference [S, S, 3] of the same size, not "
            f"{generated.dtype} {generated.shape} and {reference.dtype} {reference.shape}; align "
            "both with one face backend."
        )
    return generated, np.broadcast_to(reference, generated.shape)


def _planes(images: Image) -> Tensor:
    return (
        torch.from_numpy(np.require(images, requirements=["C", "W"])).permute(0, 3, 1, 2).float()
        / 255
    )


def crop_ssim(generated: Image, reference: Image) -> float:
    """Mean SSIM (Wang et al. 2004) of aligned face crops to the reference's, as in torchmetrics.

    Args:
        generated: aligned crops of the frames, uint8 RGB ``[T, S, S, 3]`` or one ``[S, S, 3]``,
            S at least 12.
        reference: the reference's aligned crop, uint8 RGB ``[S, S, 3]``.

    Returns:
        -1 to 1; 1 is a pixel-wise copy.

    Raises:
        MetricsError: other shapes or types.

    Example:
        >>> import numpy as np
        >>> crop = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        >>> round(crop_ssim(crop, crop), 6), round(crop_ssim(255 - crop, crop), 2)
        (1.0, -0.96)
    """
    generated, reference = _crops(generated, reference)
    if min(generated.shape[1:3]) < 12:
        raise MetricsError(
            f"crops of {generated.shape[1]} x {generated.shape[2]} pixels are below SSIM's window "
            "of 11; pass larger ones."
        )
    value = structural_similarity_index_measure(
        _planes(generated), _planes(reference), data_range=1.0
    )
    assert isinstance(value, Tensor)  # return_full_image is off
    return float(value)


def crop_lpips(generated: Image, reference: Image, model: PerceptualDistance) -> float:
    """Mean LPIPS (Zhang et al. 2018, arXiv 1801.03924) of aligned face crops to the reference's.

    Args:
        generated, reference: as in :func:`crop_ssim`.
        model: ``metrics.features.networks.lpips.LPIPS`` with its backbone's weights.

    Returns:
        From 0, a copy, up; rarely above 1.

    Raises:
        MetricsError: other shapes or types.

    Example:
        >>> import numpy as np, torch
        >>> class Pixels:  # stands for a learned distance
        ...     name, version = "pixels", "1"
        ...     def distance(self, first, second):
        ...         gap = np.abs(first.astype(float) - second).mean(axis=(1, 2, 3)) / 255
        ...         return torch.from_numpy(gap)
        >>> crop = np.zeros((16, 16, 3), dtype=np.uint8)
        >>> crop_lpips(crop + 51, crop, Pixels())
        0.2
    """
    generated, reference = _crops(generated, reference)
    return float(model.distance(generated, reference).double().mean())


# --- pose ----------------------------------------------------------------------------------------

# Eyes, nose tip and mouth corners of an average adult face in millimetres: x to the right of the
# image, y down, z away from the camera. Only proportions matter.
_FACE = torch.tensor(
    [
        [-31.5, 0.0, 0.0],
        [31.5, 0.0, 0.0],
        [0.0, 36.0, -32.0],
        [-26.0, 73.0, -8.0],
        [26.0, 73.0, -8.0],
    ],
    dtype=torch.float64,
)


def head_rotation(landmarks: Tensor) -> Tensor:
    """Rotation of the head from five landmarks, by a scaled orthographic fit.

    The affine map from an average face to the landmarks is found by least squares, and the nearest
    rotation to it by its singular values (Tomasi and Kanade 1992). Coarse, a few degrees off for
    a face unlike the average, but the same for two images of one face.

    Args:
        landmarks: ``[..., 5, 2]`` in pixels: eyes, nose, mouth corners, image-left first.

    Returns:
        Rotation matrices ``[..., 3, 3]``, float64; the identity faces the camera.

    Raises:
        MetricsError: another shape, NaN, or landmarks on one line.

    Example:
        >>> import torch
        >>> frontal = torch.tensor([[-63.0, 0.0], [63, 0], [0, 72], [-52, 146], [52, 146]])
        >>> torch.allclose(head_rotation(frontal + 100), torch.eye(3, dtype=torch.float64))
        True
    """
    landmarks = torch.as_tensor(landmarks).detach().to(torch.float64)
    if landmarks.shape[-2:] != (5, 2) or not torch.isfinite(landmarks).all():
        raise MetricsError(
            f"landmarks must be finite [..., 5, 2], not of shape {tuple(landmarks.shape)}; pass "
            "eyes, nose and mouth corners."
        )
    face = _FACE.to(landmarks.device)
    centred = landmarks - landmarks.mean(dim=-2, keepdim=True)
    affine = (torch.linalg.pinv(face - face.mean(dim=0)) @ centred).mT  # [..., 2, 3]
    u, s, vh = torch.linalg.svd(affine, full_matrices=False)
    if (s[..., 1] <= 1e-6 * s[..., 0]).any() or (s[..., 0] == 0).any():
        raise MetricsError("landmarks lie on one line or point; leave that face out.")
    rows = u @ vh  # two orthonormal rows
    third = torch.linalg.cross(rows[..., 0, :], rows[..., 1, :])
    return torch.cat([rows, third.unsqueeze(-2)], dim=-2)


def pose_difference(generated: Tensor, reference: Tensor) -> float:
    """Mean angle between the head's pose in the frames and in the reference.

    Args:
        generated: landmarks of the frames, pixels ``[T, 5, 2]`` or ``[5, 2]``; see
            :func:`head_rotation`. Neither size nor place in the image matters.
        reference: of the reference image, ``[5, 2]``.

    Returns:
        Degrees, 0 (the reference's pose throughout) to 180.

    Raises:
        MetricsError: as :func:`head_rotation`.

    Example:
        >>> import math, torch
        >>> frontal = torch.tensor([[-63.0, 0.0], [63, 0], [0, 72], [-52, 146], [52, 146]])
        >>> c, s = math.cos(math.radians(20)), math.sin(math.radians(20))
        >>> tilted = 2 * frontal @ torch.tensor([[c, s], [-s, c]]) + 7
        >>> round(pose_difference(tilted, frontal), 3)
        20.0
    """
    return float(rotation_angles(head_rotation(generated).mT @ head_rotation(reference)).mean())


def rotation_angles(rotations: Tensor) -> Tensor:
    """Angles of rotation matrices ``[..., 3, 3]`` in degrees, 0 to 180."""
    # |R - I|_F = 2 sqrt(2) sin(angle / 2): exact near 0, where the trace's arccosine is not.
    chord = (rotations - torch.eye(3).to(rotations)).flatten(-2).norm(dim=-1) / 8**0.5
    return torch.rad2deg(2 * torch.asin(chord.clamp(max=1)))


# --- background ----------------------------------------------------------------------------------


def background_mask(
    height: int, width: int, boxes: Tensor | NDArray[np.floating], grow: float = 2.0
) -> NDArray[np.bool_]:
    """Pixels outside the faces' boxes, each grown about its centre to take in hair and neck.

    Args:
        height, width: of the image.
        boxes: ``[n, 4]`` x0 y0 x1 y1 in pixels; none leaves the whole image.
        grow: factor on the box's sides.

    Returns:
        bool ``[H, W]``.

    Example:
        >>> import numpy as np
        >>> background_mask(4, 6, np.array([[2.0, 1.0, 4.0, 3.0]]), grow=1.0).astype(int).tolist()
        [[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 1, 1], [1, 1, 0, 0, 1, 1], [1, 1, 1, 1, 1, 1]]
    """
    mask = np.ones((height, width), dtype=bool)
    for x0, y0, x1, y1 in np.asarray(boxes, dtype=np.float64).reshape(-1, 4):
        half_x, half_y = (x1 - x0) * grow / 2, (y1 - y0) * grow / 2
        left, right = (x0 + x1) / 2 - half_x, (x0 + x1) / 2 + half_x
        top, bottom = (y0 + y1) / 2 - half_y, (y0 + y1) / 2 + half_y
        rows = slice(max(0, round(top)), max(0, round(bottom)))
        mask[rows, max(0, round(left)) : max(0, round(right))] = False
    return mask


def _colours(image: Image, mask: NDArray[np.bool_] | None, name: str) -> NDArray[np.float64]:
    """Joint histogram of 8 levels per colour, [512], summing to 1."""
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
        raise MetricsError(
            f"the {name} must be uint8 [H, W, 3], not {image.dtype} of shape {image.shape}."
        )
    if mask is not None and mask.shape != image.shape[:2]:
        raise MetricsError(
            f"the mask of the {name} has shape {mask.shape} and the image {image.shape[:2]}; make "
            "it for that image."
        )
    pixels = image.reshape(-1, 3) if mask is None else image[mask]
    if not len(pixels):
        raise MetricsError(f"the face fills the whole {name}, which leaves no background.")
    levels = (pixels >> 5).astype(np.int64) @ np.array([64, 8, 1])
    return np.bincount(levels, minlength=512) / len(pixels)


def background_similarity(
    frame: Image,
    reference: Image,
    frame_mask: NDArray[np.bool_] | None = None,
    reference_mask: NDArray[np.bool_] | None = None,
) -> float:
    """Share of the background's colours that the frame has in common with the reference.

    The intersection of joint RGB histograms with 8 levels per colour (Swain and Ballard 1991).

    Args:
        frame: uint8 RGB ``[H, W, 3]``.
        reference: uint8 RGB, of any size.
        frame_mask, reference_mask: bool, True on background; None is the whole image.

    Returns:
        0 (no colour in common) to 1 (the same colours in the same shares).

    Raises:
        MetricsError: other shapes, or no background.

    Example:
        >>> import numpy as np
        >>> reference = np.zeros((4, 4, 3), dtype=np.uint8)
        >>> frame = reference.copy()
        >>> frame[:, 3] = 255
        >>> background_similarity(frame, reference)
        0.75
    """
    a = _colours(frame, frame_mask, "frame")
    b = _colours(reference, reference_mask, "reference")
    return float(np.minimum(a, b).sum())


# --- metrics -------------------------------------------------------------------------------------


class _Leakage(FaceMetric):
    """Base of ``leakage.*``: the reference's face against the face most like it in each frame."""

    def measure(self, video: Video) -> Result:
        reference = self.reference(video)
        places = best_faces(video[self.embeddings], reference.embedding)
        chosen = [(i, k) for i, k in enumerate(places) if k is not None]
        if not chosen:
            return Result(None, {"frames": len(places)}, "no sampled frame has a face")
        value = self.compare(video, video.references[0], reference, chosen)
        detail = {"frames": len(places), "frames_with_face": len(chosen)}
        return Result(value, detail, remarks(reference.remark, self.short(video)))

    @abstractmethod
    def compare(
        self, video: Video, picture: Picture, reference: Reference, chosen: list[tuple[int, int]]
    ) -> float:
        """The value from the frames that have a face: ``(frame, place of the face)`` each."""


_LEAKAGE: dict[str, Any] = {
    "family": "copying",
    "needs": ("reference",),
    "diagnostic": True,
    "backends": aligners,
}


@register(
    "leakage.crop_ssim.{backend}",
    label="SSIM to the reference's crop",
    formula="mean over frames with a face of SSIM(aligned crop, the reference's aligned crop)",
    source="SSIM, Wang et al. 2004",
    quirks="the same person in the same light raises it as copying does",
    range=(-1.0, 1.0),
    higher_is_better=False,
    **_LEAKAGE,
)
class CropSimilarity(_Leakage):
    """Mean :func:`crop_ssim` over videos.

    Args:
        backend: a face backend or its name; None where `update` is given aligned crops.

    Example:
        >>> import numpy as np
        >>> crop = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        >>> metric = CropSimilarity()
        >>> metric.update(crop[None].repeat(3, axis=0), crop)
        >>> round(float(metric.compute()), 6)
        1.0
    """

    kinds: ClassVar[tuple[str, ...]] = ("embeddings", "crops")

    def update(self, frames: Any, reference: Any) -> None:  # type: ignore[override]
        """Add one video: raw frames and an image with a backend, else crops uint8
        ``[T, S, S, 3]`` and the reference's ``[S, S, 3]``."""
        if self.backend is None:
            self.add(self.difference(frames, reference))
        else:
            super().update(frames, reference)

    def difference(self, crops: Image, reference: Image) -> float:
        """The value of aligned crops."""
        return crop_ssim(crops, reference)

    def compare(
        self, video: Video, picture: Picture, reference: Reference, chosen: list[tuple[int, int]]
    ) -> float:
        crops = video[f"crops.{self.backend}"]
        face = picture.feature(f"crops.{self.backend}")[reference.place]
        return self.difference(np.stack([crops[i][k] for i, k in chosen]), face)


@register(
    "leakage.crop_lpips.{backend}",
    label="LPIPS to the reference's crop",
    formula="mean over frames with a face of LPIPS(aligned crop, the reference's aligned crop)",
    source="LPIPS, arXiv 1801.03924",
    range=(0.0, None),
    weights=("lpips.alexnet",),
    **_LEAKAGE,
)
class CropDistance(CropSimilarity):
    """Mean :func:`crop_lpips` over videos.

    Args:
        model: the learned distance; by default LPIPS on AlexNet.
        backend: as in :class:`CropSimilarity`.

    Example:
        >>> import numpy as np, torch
        >>> class Pixels:  # stands for a learned distance
        ...     name, version = "pixels", "1"
        ...     def distance(self, first, second):
        ...         gap = np.abs(first.astype(float) - second).mean(axis=(1, 2, 3)) / 255
        ...         return torch.from_numpy(gap)
        >>> crop = np.zeros((16, 16, 3), dtype=np.uint8)
        >>> metric = CropDistance(Pixels())
        >>> metric.update(crop + 51, crop)
        >>> float(metric.compute())
        0.2
    """

    settings = ("backend", "model_version")

    def __init__(
        self,
        model: PerceptualDistance | None = None,
        backend: str | FaceBackend | None = None,
        **kwargs: Any,
    ) -> None:
        self._model: Any = model or "lpips"
        super().__init__(backend, **kwargs)

    def prepare(self) -> None:
        super().prepare()
        if not isinstance(self._model, str):
            self._model = self.models.add(self._model.name, self._model)
        self.model_version = str(self.model.version)

    @property
    def model(self) -> PerceptualDistance:
        """The learned distance."""
        from metrics.features.networks.lpips import LPIPS

        models = self.models
        return models.own(self._model) or models.shared(
            "lpips", lambda: LPIPS(models.weight("lpips.alexnet"), device=models.device)
        )

    def difference(self, crops: Image, reference: Image) -> float:
        return crop_lpips(crops, reference, self.model)


@register(
    "leakage.pose_difference.{backend}",
    label="Head pose against the reference's, degrees",
    formula="mean over frames with a face of the angle between head rotations",
    source=OURS,
    quirks="poses from five landmarks are coarse; 0 is the reference's pose throughout",
    range=(0.0, 180.0),
    **_LEAKAGE,
)
class PoseDifference(_Leakage):
    """Mean :func:`pose_difference` over videos, in degrees.

    Args:
        backend: a face backend or its name; None where `update` is given landmarks.

    Example:
        >>> import torch
        >>> frontal = torch.tensor([[-63.0, 0.0], [63, 0], [0, 72], [-52, 146], [52, 146]])
        >>> metric = PoseDifference()
        >>> metric.update(3 * frontal[None] + 5, frontal)
        >>> round(float(metric.compute()), 6)
        0.0
    """

    kinds: ClassVar[tuple[str, ...]] = ("embeddings", "faces")

    def update(self, frames: Any, reference: Any) -> None:  # type: ignore[override]
        """Add one video: raw frames and an image with a backend, else landmarks ``[T, 5, 2]`` and
        the reference's ``[5, 2]``."""
        if self.backend is None:
            self.add(pose_difference(frames, reference))
        else:
            super().update(frames, reference)

    def compare(
        self, video: Video, picture: Picture, reference: Reference, chosen: list[tuple[int, int]]
    ) -> float:
        faces = video[f"faces.{self.backend}"]
        face = picture.feature(f"faces.{self.backend}").landmarks[reference.place]
        return pose_difference(torch.stack([faces[i].landmarks[k] for i, k in chosen]), face)


@register(
    "leakage.background.{backend}",
    label="Background colours of the reference",
    formula="mean over frames with a face of the intersection of RGB histograms around faces",
    source="Swain and Ballard 1991",
    quirks="a prompt that asks for the reference's setting raises it",
    higher_is_better=False,
    **_LEAKAGE,
)
class BackgroundSimilarity(_Leakage):
    """Mean :func:`background_similarity` over the frames of a video, then over videos.

    Args:
        backend: a face backend or its name, whose boxes are left out; None where `update` is
            given masks.

    Example:
        >>> import numpy as np
        >>> reference = np.zeros((4, 4, 3), dtype=np.uint8)
        >>> frame = reference.copy()
        >>> frame[:, 3] = 255
        >>> metric = BackgroundSimilarity()
        >>> metric.update([frame, reference], reference)
        >>> float(metric.compute())
        0.875
    """

    kinds: ClassVar[tuple[str, ...]] = ("embeddings", "faces", "pixels")

    def update(  # type: ignore[override]
        self,
        frames: Any,
        reference: Any,
        frame_masks: Any = None,
        reference_mask: NDArray[np.bool_] | None = None,
    ) -> None:
        """Add one video and its reference; without a backend, with masks of the background."""
        if self.backend is not None:
            if frame_masks is not None or reference_mask is not None:
                raise MetricsError("the backend's faces make the masks; leave them out.")
            super().update(frames, reference)
            return
        masks = [None] * len(frames) if frame_masks is None else list(frame_masks)
        if not len(frames) or len(masks) != len(frames):
            raise MetricsError(
                f"there are {len(frames)} frames and {len(masks)} masks; pass one mask per frame."
            )
        self.add(self._mean(frames, masks, reference, reference_mask))

    def compare(
        self, video: Video, picture: Picture, reference: Reference, chosen: list[tuple[int, int]]
    ) -> float:
        name = f"faces.{self.backend}"
        image = picture.pixels
        mask = background_mask(image.shape[0], image.shape[1], picture.feature(name).boxes)
        if not mask.any() or picture.needed_border(name):
            raise MetricsError(f"the face fills {picture.label}; it shows no background.")
        faces, pixels = video[name], video["pixels"]
        around = {
            i: background_mask(pixels[i].shape[0], pixels[i].shape[1], faces[i].boxes)
            for i, _ in chosen
        }
        seen = [i for i, shown in around.items() if shown.any()]
        if not seen:
            raise MetricsError("faces fill the sampled frames; they show no background.")
        return self._mean([pixels[i] for i in seen], [around[i] for i in seen], image, mask)

    @staticmethod
    def _mean(frames: Any, masks: Any, reference: Image, reference_mask: Any) -> float:
        values = [
            background_similarity(frame, reference, mask, reference_mask)
            for frame, mask in zip(frames, masks, strict=True)
        ]
        return float(np.mean(values))
