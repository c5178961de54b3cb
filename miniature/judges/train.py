"""Trains the judges on the world: ``python -m miniature.judges.train [JUDGE ...]``.

Detector, embedder, video net and text-video net go to ``miniature/judges/weights``; the encoder
of the generator's identity loss, which is none of them, to ``miniature/encoders``. None of
them ever sees a generated video. Everything is seeded; one core needs about half an hour,
after six minutes of rendering.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

import miniature
import miniature.judges
from miniature.identity_encoder import IdentityEncoder
from miniature.judges import familiar, rendered, validate
from miniature.judges.alignment import align_face
from miniature.judges.damage import add_noise, blur, disorder, faceless, wear
from miniature.judges.networks import Detector, Embedder, TextVideoNet, VideoNet, load_weights
from miniature.judges.rendered import Stills, boxed_batch
from miniature.judges.text import tokenize, vocabulary_size
from miniature.words import FIELDS
from miniature.world import World
from miniature.world.attributes import ClipAttributes, write_caption
from miniature.world.identity import BEARDS, GLASSES, HAIR_STYLES, OUTLINES, Identity

JUDGES = ("detector", "embedder", "video", "text", "encoder", "familiar")
METRICS_WEIGHTS = Path(miniature.judges.__file__).parent / "weights"
ENCODER_WEIGHTS = Path(miniature.__file__).parent / "encoders"

_Net = TypeVar("_Net", bound=nn.Module)


# -- the loop --------------------------------------------------------------------------------------
def fit(
    name: str,
    parameters: Iterable[nn.Parameter],
    steps: int,
    learning_rate: float,
    loss_of: Callable[[int], Tensor],
) -> None:
    """AdamW with a short warm-up and a cosine; prints a line every hundred steps.

    Raises:
        RuntimeError: the loss is no longer finite.
    """
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=steps, pct_start=0.1
    )
    begun, recent = time.monotonic(), []
    for step in range(steps):
        loss = loss_of(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 2.0)
        optimizer.step()
        schedule.step()
        recent.append(float(loss.detach()))
        if not np.isfinite(recent[-1]):
            raise RuntimeError(f"{name}: the loss is {recent[-1]} at step {step}.")
        if (step + 1) % 100 == 0 or step + 1 == steps:
            passed = time.monotonic() - begun
            left = passed / (step + 1) * (steps - step - 1)
            mean = sum(recent[-100:]) / len(recent[-100:])
            print(f"{name} {step + 1}/{steps} loss {mean:.4f}, {left:.0f} s left", flush=True)


def save(net: nn.Module, path: Path) -> None:
    """Write the weights as fp16 safetensors (counters stay integers)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in net.state_dict().items()
    }
    save_file(state, path)


# -- detector --------------------------------------------------------------------------------------
def moved(
    frame: np.ndarray, box: np.ndarray, points: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shift, zoom and mirror a frame together with its box and landmarks."""
    zoom = float(np.exp(rng.uniform(-0.45, 0.2)))
    center = (box[:2] + box[2:]) / 2
    # The whole box stays inside: a cut-off face has no true box.
    half = np.minimum((box[2:] - box[:2]) / 2 * zoom + 1, 31)
    target = rng.uniform(half, 64 - half)
    if rng.random() < 0.5:
        target = np.clip((center - 32) * zoom + 32, half, 64 - half)
    matrix = np.array(
        [[zoom, 0, target[0] - zoom * center[0]], [0, zoom, target[1] - zoom * center[1]]]
    )
    border = cv2.BORDER_REPLICATE if rng.random() < 0.5 else cv2.BORDER_CONSTANT
    grey = (int(rng.integers(60, 190)),) * 3
    frame = cv2.warpAffine(frame, matrix, (64, 64), borderMode=border, borderValue=grey)
    box = np.concatenate([box[:2] * zoom + matrix[:, 2], box[2:] * zoom + matrix[:, 2]])
    points = points * zoom + matrix[:, 2]
    if rng.random() < 0.5:
        frame = np.ascontiguousarray(frame[:, ::-1])
        box = np.array([64 - box[2], box[1], 64 - box[0], box[3]])
        points = (points * [-1, 1] + [64, 0])[[1, 0, 2, 4, 3]]
    return frame, box, points


def train_detector(cache: Path, steps: int = 900, faces: int = 64, empty: int = 24) -> Detector:
    """Landmarks and boxes by a smooth L1 loss in pixels, presence by cross-entropy."""
    torch.manual_seed(11)
    data = rendered.stills(cache, "judges", 5000, 6, 0)
    scenes = rendered.backgrounds(cache, 3000, 0)
    net = Detector().train()

    def loss_of(step: int) -> Tensor:
        rng = np.random.default_rng([12, step])
        rows = rng.integers(0, len(data.frames), faces)
        batch = [
            moved(data.frames[r], data.boxes[r], data.landmarks[r], rng) for r in rows.tolist()
        ]
        frames = np.stack([wear(frame, rng) for frame, _, _ in batch])
        nobody = faceless(scenes, data.frames, empty, rng)
        nobody = np.stack([wear(frame, rng) for frame in nobody])
        boxes = torch.tensor(np.stack([b for _, b, _ in batch]), dtype=torch.float32)
        points = torch.tensor(np.stack([p for _, _, p in batch]), dtype=torch.float32)
        found, marks, logits = net(torch.from_numpy(np.concatenate([frames, nobody])))
        present = torch.cat([torch.ones(faces), torch.zeros(empty)])
        place = F.smooth_l1_loss(marks[:faces], points) + F.smooth_l1_loss(found[:faces], boxes)
        return place + F.binary_cross_entropy_with_logits(logits, present)

    fit("detector", net.parameters(), steps, 4e-3, loss_of)
    return net.eval()


# -- identity --------------------------------------------------------------------------------------
def traits(people: tuple[Identity, ...]) -> tuple[Tensor, Tensor]:
    """What is drawn: classes int64 [P, 5], and measures [P, 24] of zero mean and unit variance."""
    classes = [
        [
            HAIR_STYLES.index(p.hair_style),
            tuple(OUTLINES).index(p.outline),
            BEARDS.index(p.beard),
            GLASSES.index(p.glasses),
            int(p.freckles),
        ]
        for p in people
    ]
    measures = [
        [
            *p.skin, *p.hair_color, *p.eye_color, *p.lip_color,
            p.half_width, p.half_height, p.eye_spacing, p.eye_width, p.eye_height, p.eye_tilt,
            p.brow_thickness, p.brow_lift, p.brow_tilt, p.nose_width, p.mouth_width, p.blush,
        ]
        for p in people
    ]  # fmt: skip
    table = torch.tensor(measures, dtype=torch.float32)
    return torch.tensor(classes), (table - table.mean(0)) / table.std(0)


class ArcFace(nn.Module):
    """Additive angular margin over identities (Deng et al., 2019), with help from known traits.

    The trait heads shorten training: the world knows each face's hair, skin and measures, so the
    embedding is asked for them as well. Both are discarded afterwards.
    """

    def __init__(self, people: tuple[Identity, ...], size: int = 128, scale: float = 24.0) -> None:
        super().__init__()
        self.centers = nn.Parameter(F.normalize(torch.randn(len(people), size)))
        self.scale = scale
        self.classes, self.measures = traits(people)
        widths = (len(HAIR_STYLES), len(OUTLINES), len(BEARDS), len(GLASSES), 2)
        self.heads = nn.ModuleList(nn.Linear(size, w) for w in widths)
        self.ruler = nn.Linear(size, self.measures.shape[1])

    def forward(self, embedding: Tensor, identity: Tensor, margin: float) -> Tensor:
        cosine = embedding @ F.normalize(self.centers).T  # [N, P]
        own = cosine.gather(1, identity[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)
        pushed = torch.cos(torch.acos(own) + margin)
        # Past pi - margin the cosine would rise again; go on linearly there, as ArcFace does.
        pushed = torch.where(own > -np.cos(margin), pushed, own - margin * np.sin(margin))
        logits = cosine.scatter(1, identity[:, None], pushed)
        loss = F.cross_entropy(self.scale * logits, identity)
        spread = embedding * embedding.shape[1] ** 0.5
        for head, target in zip(self.heads, self.classes[identity].T):
            loss = loss + 0.3 * F.cross_entropy(head(spread), target)
        return loss + 0.5 * F.mse_loss(self.ruler(spread), self.measures[identity])


def aligned_batch(data: Stills, rows: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Crops as the detector would give them, about half a pixel off: uint8 [N, 48, 48, 3]."""
    crops = []
    for r in rows.tolist():
        points = data.landmarks[r] + rng.normal(0, 0.35, (5, 2)) + rng.normal(0, 0.35, 2)
        frame = np.asarray(data.frames[r])
        crops.append(wear(align_face(frame, points), rng))
    return torch.from_numpy(np.stack(crops))


def _train_identity(
    name: str,
    network: type[_Net],
    data: Stills,
    crops: Callable[[_Net, np.ndarray, np.random.Generator], Tensor],
    *,
    seed: int,
    lr: float,
    steps: int,
    batch: int,
) -> _Net:
    """ArcFace on crops of stills; its margin grows over the first half."""
    torch.manual_seed(seed)
    net = network().train()
    arcface = ArcFace(data.people)
    identity = torch.from_numpy(np.array(data.identity)).long()
    order = np.random.default_rng(seed + 1)

    def loss_of(step: int) -> Tensor:
        rng = np.random.default_rng([seed + 2, step])
        rows = order.integers(0, len(identity), batch)
        embedding = net(crops(net, rows, rng))
        return arcface(embedding, identity[rows], 0.35 * min(1.0, step / (0.5 * steps)))

    fit(name, [*net.parameters(), *arcface.parameters()], steps, lr, loss_of)
    return net.eval()


def train_embedder(cache: Path, steps: int = 1400, batch: int = 128) -> Embedder:
    """The judges' embedder: aligned crops of the "judges" split."""
    data = rendered.stills(cache, "judges", 5000, 6, 0)
    return _train_identity(
        "embedder", Embedder, data, lambda net, rows, rng: aligned_batch(data, rows, rng),
        seed=21, lr=4e-3, steps=steps, batch=batch,
    )  # fmt: skip


def train_encoder(cache: Path, steps: int = 2400, batch: int = 128) -> IdentityEncoder:
    """The generator's identity encoder: other people, other crops, another net, another seed."""
    data = rendered.stills(cache, "encoder", 4000, 6, 4)
    return _train_identity(
        "encoder", IdentityEncoder, data,
        lambda net, rows, rng: boxed_batch(data, rows, rng, net.crop_size),
        seed=31, lr=3e-3, steps=steps, batch=batch,
    )  # fmt: skip


# -- video -----------------------------------------------------------------------------------------
_MIRROR = {"left": "right", "right": "left"}
_REVERSE = {**_MIRROR, "up": "down", "down": "up", "towards": "away", "away": "towards"}


def _relabel(labels: np.ndarray, table: dict[str, str]) -> np.ndarray:
    motions = FIELDS["motion"]
    column = list(FIELDS).index("motion")
    labels = labels.copy()
    name = motions[labels[column]]
    labels[column] = motions.index(table.get(name, name))
    return labels


def varied(
    clip: np.ndarray, labels: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Mirror a clip and run it backwards at random; its motion's label follows."""
    if rng.random() < 0.5:
        clip, labels = clip[:, :, ::-1], _relabel(labels, _MIRROR)
    if rng.random() < 0.5:
        clip, labels = clip[::-1], _relabel(labels, _REVERSE)
    return clip, labels


def train_video(cache: Path, steps: int = 1800, batch: int = 32) -> VideoNet:
    """Attributes by cross-entropy; strengths of planted damage by a squared error."""
    torch.manual_seed(41)
    data = rendered.clips(cache, "judges", 9000, 1)
    first, second = rendered.swapped_clips(cache, "judges", 700, 5, 20_000)
    net = VideoNet().train()
    motion, still = list(FIELDS).index("motion"), FIELDS["motion"].index("still")
    pairs = batch // 6

    def loss_of(step: int) -> Tensor:
        rng = np.random.default_rng([43, step])
        frames, labels = [], []
        damage = np.zeros((batch, 5), np.float32)
        for i in range(batch):
            if i < pairs:  # the same scene with two people in it, to be cut together
                r = int(rng.integers(len(first)))
                clip, other = np.array(first[r]), second[r]
                if rng.random() < 0.75:
                    cut = int(rng.integers(1, 9))
                    clip[cut:] = other[cut:]
                    damage[i, 4] = min(cut, 9 - cut) / 4
                label = np.full(len(FIELDS), -1)
            else:
                r = int(rng.integers(len(data.frames)))
                clip, label = varied(data.frames[r], data.labels[r], rng)
                fault = rng.random()
                if fault < 0.35 and label[motion] != still:
                    if fault < 0.2:
                        order = disorder(9, float(np.exp(rng.uniform(-1, 2.5))), rng)
                        damage[i, 2] = np.abs(order - np.arange(9)).mean() / 3
                    else:
                        held = int(rng.integers(1, 9))
                        order = np.minimum(np.arange(9), 8 - held)
                        damage[i, 3] = held / 8
                    clip = clip[order]
                    # What moves out of order has no motion that a caption could name.
                    label = np.where(np.arange(len(label)) == motion, -1, label)
            wear_of = rng.random()
            if wear_of < 0.25:
                damage[i, 0] = rng.uniform(0.1, 1)
                clip = blur(np.ascontiguousarray(clip), 2.5 * damage[i, 0])
            elif wear_of < 0.5:
                damage[i, 1] = rng.uniform(0.05, 1)
                clip = add_noise(clip, 40 * damage[i, 1], rng)
            frames.append(clip)
            labels.append(label)
        out = net(torch.from_numpy(np.stack(frames)))
        target = torch.from_numpy(np.stack(labels))
        loss = 2 * F.mse_loss(out["damage"], torch.from_numpy(damage))
        for k, name in enumerate(FIELDS):
            loss = loss + F.cross_entropy(out[name], target[:, k], ignore_index=-1)
        return loss

    fit("video", net.parameters(), steps, 2e-3, loss_of)
    return net.eval()


def train_text(cache: Path, steps: int = 1000, batch: int = 128, passes: int = 2) -> TextVideoNet:
    """Contrast between captions, worded anew each time, and clips (Radford et al., 2021).

    The trunk is the video net's, which `train_video` has made, and stays as it is: each clip goes
    through it a few times, varied, and the heads over it and the text side learn from what it saw.
    """
    torch.manual_seed(51)
    data = rendered.clips(cache, "judges", 9000, 1)
    net = TextVideoNet(vocabulary_size())
    net.trunk.load_state_dict(load_weights(VideoNet(), "video").trunk.state_dict())
    net.trunk.requires_grad_(False).eval()
    seen, labels = [], []
    rng = np.random.default_rng(52)
    for k in range(passes):
        for rows in np.array_split(np.arange(len(data.frames)), len(data.frames) // 36):
            both = [varied(data.frames[r], data.labels[r], rng) for r in rows.tolist()]
            clips = np.stack([wear(np.ascontiguousarray(clip), rng) for clip, _ in both])
            with torch.inference_mode():
                seen.append(net.trunk(torch.from_numpy(clips)))
            labels += [label for _, label in both]
        print(f"text: looked at every clip, {k + 1} of {passes} times", flush=True)
    hidden, table = torch.cat(seen).clone(), np.stack(labels)

    def loss_of(step: int) -> Tensor:
        rng = np.random.default_rng([53, step])
        rows = rng.choice(len(table), batch, replace=False)
        captions = []
        for label in table[rows].tolist():
            scene = {name: FIELDS[name][k] for name, k in zip(FIELDS, label)}
            captions.append(write_caption(ClipAttributes(**scene), rng))
        video = F.normalize(net.video(hidden[rows]), dim=1)
        tokens = tokenize(captions)
        text = net.encode_text(tokens[:, : int((tokens > 0).sum(1).max())])
        logits = net.log_scale.exp().clamp(max=60) * video @ text.T
        # Two clips of the same scene are each other's match, not a negative.
        same = (table[rows][:, None] == table[rows][None]).all(2)
        target = torch.from_numpy(same).float()
        target = target / target.sum(1, keepdim=True)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2

    learned = [p for p in net.parameters() if p.requires_grad]
    fit("text", learned, steps, 2e-3, loss_of)
    return net.eval()


TRAINERS: dict[str, Callable[..., nn.Module]] = {
    "detector": train_detector, "embedder": train_embedder, "video": train_video,
    "text": train_text,
}  # fmt: skip


def fit_familiar(count: int = 4000) -> dict[str, Tensor]:
    """What the detector sees in portraits and frames of the world, degraded as files may be."""
    rng = np.random.default_rng(71)
    drawn = World(split="judges", size=count, seed=71)
    pictures = [p for clip in drawn for p in (clip.reference, clip.frames[rng.integers(9)])]
    worn = [familiar.worn(Image.fromarray(picture), rng) for picture in pictures]
    return familiar.fit(familiar.features(load_weights(Detector(), "detector"), worn))


def main() -> None:
    """Train the named judges, or all of them in an order that works, then measure them."""
    parser = argparse.ArgumentParser(description=re.sub(r"\s+", " ", str(__doc__)))
    parser.add_argument("judges", nargs="*", choices=[*JUDGES, []], help="default: all")
    parser.add_argument("--cache", type=Path, default=Path("runs/judges"), help="rendered data")
    parser.add_argument("--no-validate", action="store_true", help="don't measure afterwards")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    options.cache.mkdir(parents=True, exist_ok=True)
    for name in options.judges or JUDGES:
        if name == "familiar":
            save_file(fit_familiar(), METRICS_WEIGHTS / "familiar.safetensors")
        elif name == "encoder":
            save(train_encoder(options.cache), ENCODER_WEIGHTS / "identity.safetensors")
        else:
            save(TRAINERS[name](options.cache), METRICS_WEIGHTS / f"{name}.safetensors")
    if not options.no_validate:
        validate.main(options.cache)


if __name__ == "__main__":
    main()
