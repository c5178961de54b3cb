"""Measures the judges on identities that none of them was trained on, and writes their model card.

``python -m miniature.judges.validate`` renders the "judges_val" split, runs every judge as
a user would, and writes ``miniature/judges/validation.json`` and ``miniature/judges/README.md``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from insightface.data import get_image
from PIL import Image
from scipy.stats import mannwhitneyu
from torch import Tensor
from torchvision.ops import box_iou

import miniature.judges
from metrics.features.face_backends.facenet import FacenetFaces
from metrics.frechet import frechet_distance
from metrics.verification import calibrate
from miniature.identity_encoder import load_identity_encoder
from miniature.judges import rendered
from miniature.judges.attributes import MiniatureAttributes
from miniature.judges.damage import add_noise, blur, faceless, freeze, shuffle, swap
from miniature.judges.faces import MiniatureFaces
from miniature.judges.familiar import LIMIT, Familiar, worn
from miniature.judges.rendered import Stills, boxed_batch
from miniature.judges.text import MiniatureTextVideo
from miniature.judges.video import MiniatureVideo
from miniature.words import FIELDS
from miniature.world import World
from stdrc.images import crop_to_face

HERE = Path(miniature.judges.__file__).parent

# Five strengths of each planted fault, weakest first.
FAULTS: dict[str, tuple[float, ...]] = {
    "blur": (0.5, 0.8, 1.2, 1.8, 2.6),  # sigma, pixels
    "noise": (5, 10, 18, 28, 40),  # sigma, of 255
    "frame shuffling": (0.7, 1.2, 2.0, 3.5, 10.0),  # sigma of each frame's place, frames
    "identity swap": (0.2, 0.4, 0.6, 0.8, 1.0),  # share of clips with another person midway
    "freezing": (1, 2, 4, 6, 8),  # last frames that repeat the one before them
}


# -- identity --------------------------------------------------------------------------------------
def verification(genuine: np.ndarray, impostor: np.ndarray) -> dict[str, float]:
    """ROC AUC and the true accept rate where one impostor in a thousand is accepted."""
    threshold = np.quantile(impostor, 0.999)
    return {
        "roc_auc": float(mannwhitneyu(genuine, impostor).statistic / len(genuine) / len(impostor)),
        "tar_at_far_1e-3": float((genuine > threshold).mean()),
        "mean_same": float(genuine.mean()),
        "mean_stranger": float(impostor.mean()),
        "genuine_pairs": len(genuine),
        "impostor_pairs": len(impostor),
    }


def pairs(embeddings: Tensor, identity: np.ndarray, scene: np.ndarray) -> dict[str, float]:
    """Verification over all pairs of frames from different scenes."""
    cosine = (embeddings @ embeddings.T).numpy()
    upper = np.triu(np.ones(cosine.shape, bool), 1) & (scene[:, None] != scene[None])
    same = identity[:, None] == identity[None]
    return verification(cosine[upper & same], cosine[upper & ~same])


def measure_faces(cache: Path) -> dict[str, Any]:
    """Detector and embedder together, frame by frame, as the metrics use them."""
    data = rendered.stills(cache, "judges_val", 500, 5, 2)
    rng = np.random.default_rng(61)
    backend = MiniatureFaces()
    scenes = rendered.backgrounds(cache, 500, 6)
    empty = faceless(scenes, data.frames, 500, rng)
    frames = np.array(data.frames)
    scene = np.arange(len(frames)) // 2

    def run(frames: np.ndarray) -> tuple[dict[str, Any], dict[str, float]]:
        found = backend.detect(frames)
        seen = [i for i, faces in enumerate(found) if len(faces)]
        boxes = torch.cat([found[i].boxes for i in seen])
        points = torch.cat([found[i].landmarks for i in seen])
        truth = torch.from_numpy(np.array(data.boxes[seen]))
        marks = torch.from_numpy(np.array(data.landmarks[seen]))
        iou = box_iou(boxes, truth).diagonal()
        crops = np.concatenate([backend.align(frames[i], found[i]) for i in seen])
        detection = {
            "faces": len(frames),
            "found": len(seen) / len(frames),
            "mean_iou": float(iou.mean()),
            "iou_above_0.5": float((iou > 0.5).float().mean()),
            "landmark_error_px": float((points - marks).norm(dim=-1).mean()),
        }
        embeddings = backend.embed(crops)
        return detection, pairs(embeddings, np.array(data.identity)[seen], scene[seen])

    detection, identity = run(frames)
    _, blurred = run(blur(frames, 0.8))
    detection["false_alarms_of_500_faceless"] = sum(len(faces) for faces in backend.detect(empty))
    return {
        "version": backend.version,
        "detector": detection,
        "embedder": identity,
        "embedder_blurred_0.8px": blurred,
    }


def write_calibration(cache: Path) -> None:
    """What the embedder's cosines mean, for `identity.miniature.verified` and its kin."""
    data = rendered.stills(cache, "judges_val", 500, 5, 2)
    backend = MiniatureFaces()
    frames = np.array(
        data.frames[::2]
    )  # one frame per scene: a scene's two are hardly two pictures
    found = backend.detect(frames)
    seen = [i for i, faces in enumerate(found) if len(faces)]
    crops = np.concatenate([backend.align(frames[i], found[i])[:1] for i in seen])
    people = [str(person) for person in np.array(data.identity)[::2][seen]]
    calibrate(
        backend.embed(crops),
        people,
        backend=backend.name,
        version=backend.version,
        data="frames of 500 people of the split judges_val, each in five scenes",
    ).write(HERE / "calibration.json")


def measure_encoder(cache: Path) -> dict[str, Any]:
    """The generator's identity encoder on square crops around the true boxes."""
    data: Stills = rendered.stills(cache, "judges_val", 500, 5, 2)
    encoder = load_identity_encoder()
    rng = np.random.default_rng(62)
    rows = np.arange(len(data.frames))
    with torch.inference_mode():
        embeddings = torch.cat(
            [encoder(boxed_batch(data, part, rng, 40)) for part in np.array_split(rows, 40)]
        )
    return pairs(embeddings, np.array(data.identity), rows // 2)


# -- text and attributes ---------------------------------------------------------------------------
def distinct_groups(labels: np.ndarray, size: int = 32) -> list[list[int]]:
    """Groups of `size` clips in which no two show the same scene."""
    groups: list[list[int]] = []
    open_group: dict[tuple[int, ...], int] = {}
    for i, label in enumerate(map(tuple, labels.tolist())):
        if label in open_group:
            continue
        open_group[label] = i
        if len(open_group) == size:
            groups.append(list(open_group.values()))
            open_group = {}
    return groups


def measure_text(cache: Path) -> dict[str, Any]:
    """Retrieval of one clip of 32 by its caption, and of one caption of 32 by its clip."""
    data = rendered.clips(cache, "judges_val", 1024, 3)
    judge = MiniatureTextVideo()
    video = judge.encode_video(np.array(data.frames))
    text = judge.encode_text(data.captions)
    groups = distinct_groups(data.labels)
    to_video, to_text = [], []
    for group in groups:
        cosine = text[group] @ video[group].T
        own = torch.arange(len(group))
        to_video.append((cosine.argmax(1) == own).float().mean())
        to_text.append((cosine.argmax(0) == own).float().mean())
    own_cosine = (text * video).sum(1)
    return {
        "version": judge.version,
        "groups_of_32": len(groups),
        "text_to_video": float(torch.stack(to_video).mean()),
        "video_to_text": float(torch.stack(to_text).mean()),
        "mean_cosine_own": float(own_cosine.mean()),
        "mean_cosine_other": float((text @ video.roll(1, 0).T).diagonal().mean()),
    }


def measure_attributes(cache: Path) -> dict[str, Any]:
    """Share of clips whose attribute is named correctly."""
    data = rendered.clips(cache, "judges_val", 1024, 3)
    judge = MiniatureAttributes()
    seen = judge.predict(np.array(data.frames))
    right = {
        name: np.array([options.index(label) for label in seen[name]]) == data.labels[:, k]
        for k, (name, options) in enumerate(FIELDS.items())
    }
    accuracy = {name: float(hits.mean()) for name, hits in right.items()}
    accuracy["background"] = float((right["color"] & right["pattern"]).mean())
    return {"version": judge.version, "clips": len(data.frames), "accuracy": accuracy}


# -- planted faults --------------------------------------------------------------------------------
def measure_faults(cache: Path) -> dict[str, Any]:
    """Frechet distance of faulty clips to other, intact ones, over five strengths of each fault."""
    judge = MiniatureVideo()
    truth = judge.encode(np.array(rendered.clips(cache, "judges_val", 1024, 3).frames[:512]))
    clips, others = np.array(rendered.swapped_clips(cache, "judges_val", 512, 7, 2000))

    def distance(faulty: np.ndarray) -> float:
        return float(frechet_distance(truth, judge.encode(faulty)))

    plant: dict[str, Callable[[float], np.ndarray]] = {
        "blur": lambda level: blur(clips, level),
        "noise": lambda level: add_noise(clips, level, np.random.default_rng(63)),
        "frame shuffling": lambda level: shuffle(clips, level, np.random.default_rng(64)),
        "identity swap": lambda level: swap(clips, others, level),
        "freezing": lambda level: freeze(clips, int(level)),
    }
    intact = distance(clips)
    curves = {
        name: [intact, *(distance(plant[name](level)) for level in levels)]
        for name, levels in FAULTS.items()
    }
    return {
        "version": judge.version,
        "clips": len(clips),
        "curves": curves,
        "monotone": {name: bool((np.diff(curve) > 0).all()) for name, curve in curves.items()},
    }


# -- pictures of another world ---------------------------------------------------------------------
def measure_familiar() -> dict[str, Any]:
    """Which degraded portraits, and faces of insightface's photograph, pass for drawn ones."""
    rng = np.random.default_rng(72)
    judge = Familiar()
    drawn = World(split="judges_val", size=2000, seed=72)
    portraits = [worn(Image.fromarray(clip.reference), rng) for clip in drawn]
    pixels = get_image("t1", to_rgb=True)
    photograph = Image.fromarray(pixels)
    boxes = FacenetFaces().detect(pixels[None])[0].boxes.numpy()
    crops = [photograph] + [
        crop_to_face(photograph, partial(_only, box), margin=margin)
        for box in boxes
        for margin in (0.0, 0.3, 0.6)
    ]
    near, far = judge.distance(portraits), judge.distance(crops)
    return {
        "portraits": len(near),
        "portraits_refused": int((near > LIMIT).sum()),
        "photographs": len(far),
        "photographs_refused": int((far > LIMIT).sum()),
        "median_distance_drawn": float(near.median()),
        "median_distance_photograph": float(far.median()),
    }


def _only(box: np.ndarray, _: np.ndarray) -> np.ndarray:
    return box[None]


# -- the card --------------------------------------------------------------------------------------
def card(report: dict[str, Any]) -> str:
    """The model card, from the numbers of `measure`; `card.md` has its words."""
    faces, attributes, faults = report["faces"], report["attributes"], report["faults"]

    def row(name: str, numbers: dict[str, float]) -> str:
        return (
            f"| {name} | {numbers['roc_auc']:.4f} | {numbers['tar_at_far_1e-3']:.3f} | "
            f"{numbers['mean_same']:.3f} | {numbers['mean_stranger']:.3f} |"
        )

    accuracy = "\n".join(
        f"| {name} | {value:.3f} |" for name, value in attributes["accuracy"].items()
    )
    curves = "\n".join(
        f"| {name} | "
        + " | ".join(f"{value:.1f}" for value in curve)
        + f" | {'yes' if faults['monotone'][name] else 'no'} |"
        for name, curve in faults["curves"].items()
    )
    levels = "\n".join(f"- {name}: {', '.join(map(str, v))}" for name, v in FAULTS.items())
    return (
        (HERE / "card.md")
        .read_text()
        .format(
            report=report,
            detector=faces["detector"],
            familiar=report["familiar"],
            text=report["text"],
            attributes=attributes,
            faults=faults,
            limit=LIMIT,
            sharp=row("embedder, detected and aligned", faces["embedder"]),
            blurred=row("embedder, frames blurred by 0.8 px", faces["embedder_blurred_0.8px"]),
            encoder=row("the generator's identity encoder", report["encoder"]),
            accuracy=accuracy,
            curves=curves,
            levels=levels,
        )
    )


def main(cache: Path) -> dict[str, Any]:
    """Measure everything, write the record and the card, and return the record."""
    report: dict[str, Any] = {"identities": 1024 + 1024}
    for name, measure in (
        ("faces", measure_faces),
        ("encoder", measure_encoder),
        ("text", measure_text),
        ("attributes", measure_attributes),
        ("faults", measure_faults),
        ("familiar", lambda _: measure_familiar()),
    ):
        report[name] = measure(cache)
        print(name, json.dumps(report[name]), flush=True)
    (HERE / "validation.json").write_text(json.dumps(report, indent=2) + "\n")
    (HERE / "README.md").write_text(card(report))
    write_calibration(cache)
    return report


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path("runs/judges"), help="rendered data")
    parser.add_argument("--calibration", action="store_true", help="write calibration.json alone")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    options.cache.mkdir(parents=True, exist_ok=True)
    (write_calibration if options.calibration else main)(options.cache)
