"""Measures the shipped miniature on people it has never seen, and writes its model card.

    python -m miniature.measure

Guidance weights are chosen on the world's validation identities, from the grid that the curves
show; with those weights every variant is then measured once on test identities. Writes
`miniature/validation.json`, `miniature/README.md` and pictures in `miniature/images`.
Each point is kept in the work folder, so an interrupted measurement continues where it stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

import miniature
from leaderboards.statistics import cluster_means
from media.files import write_atomic
from metrics.copying import copy_paste
from miniature import DEFAULT_VARIANT, checkpoint, load_miniature, variants
from miniature.judges.attributes import MiniatureAttributes, leakage, parse_prompt
from miniature.judges.faces import MiniatureFaces
from miniature.judges.text import MiniatureTextVideo
from miniature.make import EARLIER_TRAININGS
from miniature.world import World, WorldClip
from stdrc import ThreeStreamGuidance
from stdrc.pipeline import STDRCPipeline, hide_loading_bars
from stdrc.variants import read_lora_metadata

HERE = Path(miniature.__file__).parent
TEXT_WEIGHTS = (1.0, 2.0, 3.0)
REFERENCE_WEIGHTS = (0.0, 1.0, 2.0, 4.0, 6.0, 8.0)
#: Guidance without its parallel part: on people of the validation split it keeps more of the person
#: at the same text alignment (`benchmarks/projected_guidance.py`), and so do few steps.
PARALLEL = 0.0
#: Weights of text and reference, steps and `parallel` of the sheet that shows the shortcut.
SHORTCUT = (2.0, 4.0, 6, PARALLEL)
MEASURES = ("identity", "copy_paste", "background", "motion", "text", "faces", "leakage")
#: Of them those that are right or wrong of a video, or nearly so.
SHARES = ("background", "motion", "leakage", "faces")
#: Those that the card compares between variants.
COMPARED = ("normalised_identity", "text", "leakage", "copy_paste")

#: What the ablation asks, as differences between two variants over the same people.
PAIRS = (
    ("overlap-on", "overlap-off"),
    ("tass-on", "tass-off"),
    ("tass-off", "overlap-off"),
    ("tass-on", "overlap-on"),
    ("tass-on", "strata-on"),
    ("tass-on", "spatial-on"),
    ("tass-on", "far-on"),
    ("tass-on-identity", "tass-on"),
)


@dataclass(frozen=True)
class Point:
    """One variant at one pair of weights.

    Args:
        variant: name of a shipped variant.
        split: of the world.
        identities: how many, with one clip each.
        text, reference: guidance weights.
        steps: of the sampler.
        parallel: see `ThreeStreamGuidance`.
    """

    variant: str
    split: str
    identities: int
    text: float
    reference: float
    steps: int
    parallel: float


@lru_cache(maxsize=1)
def clips(split: str, count: int) -> list[WorldClip]:
    """The first `count` people of a split, a clip each."""
    return list(World(split, size=count))


@lru_cache(maxsize=1)
def load_base() -> STDRCPipeline:
    hide_loading_bars()
    pipe = load_miniature(None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@lru_cache(maxsize=1)
def load(variant: str) -> STDRCPipeline:
    """The base with a variant's LoRA in place of the previous one."""
    pipe = load_base()
    pipe.unload_lora_weights()
    pipe.load_lora_weights(str(variants()[variant]))
    return pipe


def generate(point: Point, batch: int = 8) -> np.ndarray:
    """uint8 [identities, T, H, W, 3]; person i's noise has seed i."""
    pipe, truth = load(point.variant), clips(point.split, point.identities)
    videos = []
    for first in range(0, len(truth), batch):
        part = truth[first : first + batch]
        frames = pipe(
            [clip.caption for clip in part],
            reference=[clip.reference for clip in part],
            guidance=ThreeStreamGuidance(
                text=point.text, reference=point.reference, parallel=point.parallel
            ),
            seeds=list(range(first, first + len(part))),
            num_inference_steps=point.steps,
        ).frames
        videos.append((np.asarray(frames).clip(0, 1) * 255).round().astype(np.uint8))
    return np.concatenate(videos)


class Judges:
    """The frozen judges, and what they make of the truth."""

    def __init__(self, split: str, count: int) -> None:
        self.faces, self.attributes = MiniatureFaces(), MiniatureAttributes()
        self.text = MiniatureTextVideo()
        self.truth = clips(split, count)
        found = [self.embed(clip.reference[None]) for clip in self.truth]
        self.references = torch.stack([f[0] for f in found])
        targets = [self.embed(clip.frames) for clip in self.truth]
        self.targets = [t[t.norm(dim=1) > 0].mean(0) for t in targets]
        seen = self.attributes.predict(np.stack([clip.reference[None] for clip in self.truth]))
        self.shown = [{name: labels[i] for name, labels in seen.items()} for i in range(count)]
        own = torch.stack([(t @ r).mean() for t, r in zip(targets, self.references)])
        other = self.references.roll(1, 0)
        strange = torch.stack([(t @ r).mean() for t, r in zip(targets, other)])
        self.own, self.stranger = float(own.mean()), float(strange.mean())

    def embed(self, frames: np.ndarray) -> torch.Tensor:
        """[T, D] unit embeddings, zero where no face is found."""
        out = torch.zeros(len(frames), 128)
        for i, (frame, faces) in enumerate(zip(frames, self.faces.detect(frames))):
            crops = self.faces.align(frame, faces)
            if len(crops):
                out[i] = torch.nn.functional.normalize(self.faces.embed(crops)[0], dim=0)
        return out

    def score(self, videos: np.ndarray) -> dict[str, list[float]]:
        """One value per person for each of `MEASURES`.

        "identity" is the cosine to the reference over all frames, 0 for a frame without a face;
        "leakage" the metric `leakage.attributes.any`, NaN where the prompt asks for nothing that
        the reference lacks.
        """
        rows: dict[str, list[float]] = {name: [] for name in MEASURES}
        seen = self.attributes.predict(videos)
        said = [clip.caption for clip in self.truth]
        rows["text"] = [a.video for a in self.text.align(videos, said)]
        for i, (video, clip) in enumerate(zip(videos, self.truth)):
            embeddings = self.embed(video)
            there = embeddings.norm(dim=1) > 0
            rows["identity"].append(float((embeddings @ self.references[i]).mean()))
            rows["faces"].append(float(there.float().mean()))
            rows["copy_paste"].append(
                copy_paste(embeddings[there], self.targets[i], self.references[i])
                if bool(there.any())
                else float("nan")
            )
            right = {
                name: seen[name][i] == getattr(clip.attributes, name)
                for name in ("color", "pattern", "motion")
            }
            labels = {name: found[i] for name, found in seen.items()}
            leaked = leakage(parse_prompt(clip.caption), labels, self.shown[i])
            rows["leakage"].append(leaked["any"])
            rows["background"].append(float(right["color"] and right["pattern"]))
            rows["motion"].append(float(right["motion"]))
        return rows


@lru_cache(maxsize=1)
def judges(split: str, count: int) -> Judges:
    return Judges(split, count)


def measure(point: Point, folder: Path, threads: int) -> dict[str, Any]:
    """Generate and score a point, or read what was found before."""
    torch.set_num_threads(threads)
    files = [variants()[point.variant], *sorted(checkpoint().rglob("*.safetensors"))]
    stamp = hashlib.sha256(json.dumps(asdict(point)).encode())
    for file in files:
        stamp.update(file.read_bytes())
    kept = folder / f"{stamp.hexdigest()[:20]}.json"
    if not kept.is_file():
        judge = judges(point.split, point.identities)
        rows = judge.score(generate(point))
        result = {
            "point": asdict(point), "rows": rows, "own": judge.own, "stranger": judge.stranger,
        }  # fmt: skip
        write_atomic(kept, json.dumps(result))
    return json.loads(kept.read_text())


def summary(result: dict[str, Any], shares: Sequence[str] = SHARES) -> dict[str, list[float]]:
    """Mean, low and high of a 95 % interval over identities, for each measure.

    Clopper-Pearson's for `shares`, which have few values in 0..1, the bootstrap-t otherwise.
    """
    rows = {name: np.asarray(values, float) for name, values in result["rows"].items()}
    span = result["own"] - result["stranger"]
    rows["normalised_identity"] = (rows["identity"] - result["stranger"]) / span
    names = list(rows)
    values = np.stack([rows[name] for name in names], axis=1)
    ends = np.array([(0.0, 1.0) if name in shares else (np.nan, np.nan) for name in names])
    means = cluster_means(values, np.arange(len(values)), ends=ends, draws=2000)
    return {
        name: [round(float(v[i]), 4) for v in (means.mean, means.low, means.high)]
        for i, name in enumerate(names)
    }


def paired(a: dict[str, Any], b: dict[str, Any]) -> dict[str, list[float]]:
    """`summary` of a's values minus b's, person by person."""
    rows = {name: np.subtract(a["rows"][name], b["rows"][name]).tolist() for name in MEASURES}
    # The stranger's part falls out of a difference.
    return summary({"rows": rows, "own": a["own"] - a["stranger"], "stranger": 0.0}, shares=())


def verdict(report: dict[str, Any]) -> str:
    """What augmentation and placement change, as the paired intervals have it."""

    def told(pair: str) -> str:
        found = report["differences"][pair]
        apart = [
            f"{name.replace('_', ' ')} {found[name][0]:+.{digits}f} "
            f"[{found[name][1]:+.{digits}f}, {found[name][2]:+.{digits}f}]"
            for name, digits in zip(COMPARED, (3, 1, 3, 3))
            if found[name][1] > 0 or found[name][2] < 0
        ]
        return ", ".join(apart) or "nothing that the intervals tell"

    return (
        f"Augmentation changes at overlap: {told('overlap-on - overlap-off')}; at tass: "
        f"{told('tass-on - tass-off')}. Tass instead of overlap changes without augmentation: "
        f"{told('tass-off - overlap-off')}; with it: {told('tass-on - overlap-on')}."
    )


def describe_base() -> dict[str, Any]:
    """Size and training of the shipped base."""
    names = (*EARLIER_TRAININGS, "stdrc.json")
    trainings = [json.loads((checkpoint() / name).read_text()) for name in names]
    weights = load_base().transformer.parameters()
    lora = read_lora_metadata(variants()[DEFAULT_VARIANT])
    return {
        "parameters": sum(p.numel() for p in weights),
        "blocks": len(load_base().transformer.transformer_blocks),
        "steps": [t["steps"] for t in trainings],
        "batch_sizes": [t["batch_size"] * t["accumulation"] * t["processes"] for t in trainings],
        "rank": lora["lora"]["rank"],
    }


def merit(found: dict[str, list[float]]) -> float:
    """What the weights are chosen by: normalised identity, and the share of attributes shown."""
    named = (found["background"][0] + found["motion"][0]) / 2
    return found["normalised_identity"][0] + named


def draw_curves(grid: dict[tuple[float, float], dict[str, list[float]]], path: Path) -> None:
    """Identity over the reference's weight and text alignment over the text's, with intervals."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9.2, 3.5), layout="constrained")
    colors = plt.get_cmap("viridis")(np.linspace(0.1, 0.85, 6))
    panels = (
        ("normalised_identity", "normalised identity", "$w_{ref}$", "$w_{text}$", 1),
        ("text", "text alignment (100 cos)", "$w_{text}$", "$w_{ref}$", 0),
    )
    for axis, (name, label, along, across, moving) in zip(axes, panels):
        lines = sorted({weights[1 - moving] for weights in grid})
        for color, fixed in zip(colors, lines):
            points = sorted(w for w in grid if w[1 - moving] == fixed)
            x = [w[moving] for w in points]
            mean, low, high = np.array([grid[w][name] for w in points]).T
            axis.plot(x, mean, "o-", color=color, ms=4, label=f"{across} = {fixed:g}")
            axis.fill_between(x, low, high, color=color, alpha=0.12, lw=0)
        axis.set_xlabel(along)
        axis.set_ylabel(label)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_sheet(
    columns: dict[str, tuple[np.ndarray, Sequence[int]]], captions: Sequence[str], path: Path,
    zoom: int = 2,
) -> None:  # fmt: skip
    """Videos side by side, a row each, captioned.

    Args:
        columns: title to videos uint8 [N, T, H, W, 3] and the frames to show of them.
        captions: N, one below each row.
    """
    gap, head, foot = 8, 18, 16
    tile = next(iter(columns.values()))[0].shape[2] * zoom
    shown = sum(len(frames) for _, frames in columns.values())
    width = tile * shown + gap * (len(columns) - 1)
    sheet = Image.new("RGB", (width, head + len(captions) * (tile + foot)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    x = 0
    for title, (videos, frames) in columns.items():
        draw.text((x + 2, 2), title, "black", font)
        for frame in frames:
            for row, video in enumerate(videos):
                image = Image.fromarray(video[frame])
                image = image.resize((tile, tile), Image.Resampling.BICUBIC)
                sheet.paste(image, (x, head + row * (tile + foot)))
            x += tile
        x += gap
    for row, caption in enumerate(captions):
        draw.text((2, head + row * (tile + foot) + tile), caption, "#444", font)
    sheet.quantize(224).save(path, optimize=True)


def draw_samples(point: Point, path: Path, people: int = 6) -> None:
    """Reference, generated frames and true frames of the first people."""
    truth, videos = clips(point.split, point.identities)[:people], generate(point)[:people]
    shown = range(0, 9, 2)
    columns = {
        "reference": (np.stack([clip.reference[None] for clip in truth]), [0]),
        "generated": (videos, shown),
        "truth (another scene's portrait is all that the model saw)": (
            np.stack([clip.frames for clip in truth]), shown,
        ),
    }  # fmt: skip
    draw_sheet(columns, [clip.caption for clip in truth], path)


def draw_shortcut(path: Path, people: int = 5, identities: int = 64) -> None:
    """What each trained model makes of prompts that ask for what the reference lacks.

    The first people of the test split whose prompts ask for a hat; no reference wears one. At the
    stronger weights of the quick sweep.
    """
    truth = clips("test", identities)
    rows = [i for i, clip in enumerate(truth) if "hat" in parse_prompt(clip.caption)][:people]
    columns: dict[str, tuple[np.ndarray, Sequence[int]]] = {
        "reference": (np.stack([truth[i].reference[None] for i in rows]), [0])
    }
    for variant, title in (
        ("overlap-off", "overlap, without augmentation"),
        ("tass-on", "tass, with augmentation"),
    ):
        videos = generate(Point(variant, "test", max(rows) + 1, *SHORTCUT))
        columns[title] = (videos[rows], (1, 4, 7))
    columns["truth"] = (np.stack([truth[i].frames for i in rows]), (1, 4, 7))
    draw_sheet(columns, [truth[i].caption for i in rows], path)


def interval(found: list[float], digits: int = 2) -> str:
    mean, low, high = found
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/measure_miniature"))
    parser.add_argument("--identities", type=int, default=64, help="test identities; default 64")
    parser.add_argument("--grid-identities", type=int, default=32, help="for the curves; 32")
    parser.add_argument("--steps", type=int, default=6, help="of the sampler; default 6")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    names = sorted(variants())
    pool = ProcessPoolExecutor(given.processes, mp_context=multiprocessing.get_context("spawn"))
    threads = max(1, (os.cpu_count() or 1) // given.processes)

    def run(points: list[Point]) -> list[dict[str, Any]]:
        waiting = [pool.submit(measure, point, given.work, threads) for point in points]
        results = []
        for number, (point, future) in enumerate(zip(points, waiting), 1):
            results.append(future.result())
            found = summary(results[-1])
            print(
                f"{number}/{len(points)}  {point.variant}  text {point.text:g}  reference "
                f"{point.reference:g}  identity {found['normalised_identity'][0]:.3f}  "
                f"text {found['text'][0]:.3f}",
                flush=True,
            )
        return results

    best_variant = DEFAULT_VARIANT
    grid_points = [
        Point(best_variant, "val", given.grid_identities, text, reference, given.steps, PARALLEL)
        for text in TEXT_WEIGHTS
        for reference in REFERENCE_WEIGHTS
    ]
    grid = {
        (point.text, point.reference): summary(result)
        for point, result in zip(grid_points, run(grid_points))
    }
    text, reference = max(grid, key=lambda weights: merit(grid[weights]))
    points = [
        Point(n, "test", given.identities, text, reference, given.steps, PARALLEL) for n in names
    ]
    results = run(points)
    pool.shutdown()
    report: dict[str, Any] = {
        "identities": given.identities,
        "grid_identities": given.grid_identities,
        "steps": given.steps,
        "parallel": PARALLEL,
        "text": text,
        "reference": reference,
        "own": round(results[0]["own"], 4),
        "stranger": round(results[0]["stranger"], 4),
        "variants": {name: summary(result) for name, result in zip(names, results)},
        "differences": {
            f"{a} - {b}": paired(*(results[names.index(name)] for name in (a, b))) for a, b in PAIRS
        },
        "grid": [
            {**found, "text_alignment": found["text"], "text": t, "reference": r}
            for (t, r), found in grid.items()
        ],
        "base": describe_base(),
        "trained": {name: trained(name) for name in names},
        "autoencoder": json.loads((checkpoint() / "autoencoder.json").read_text()),
    }
    report["verdict"] = verdict(report)
    (HERE / "validation.json").write_text(json.dumps(report, indent=2) + "\n")
    draw_curves(grid, HERE / "images" / "curves.png")
    shown = next(p for p in points if p.variant == best_variant)
    draw_samples(shown, HERE / "images" / "samples.png")
    draw_shortcut(HERE / "images" / "shortcut.png")
    (HERE / "README.md").write_text(card(report))
    print(f"wrote {HERE / 'README.md'}")


def trained(name: str) -> dict[str, Any]:
    """Steps and batch of a variant's training, from its own metadata."""
    about = read_lora_metadata(variants()[name])
    return {key: about[key] for key in ("steps", "batch_size", "face_weight")}


def difference(report: dict[str, Any], pair: str, name: str) -> str:
    """Paired difference over the same people; bold where the interval excludes 0."""
    mean, low, high = report["differences"][pair][name]
    digits = 1 if name == "text" else 3
    told = f"{mean:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
    return f"**{told}**" if low > 0 or high < 0 else told


def card(report: dict[str, Any]) -> str:
    """The model card, from the measurements alone; `card.md` has its words."""
    best = report["variants"][DEFAULT_VARIANT]
    psnr, base = report["autoencoder"], report["base"]
    rows = "\n".join(
        f"| {name} | {interval(v['normalised_identity'])} | {interval(v['text'])} | "
        f"{interval(v['leakage'])} | {interval(v['copy_paste'])} | {interval(v['background'])} | "
        f"{interval(v['motion'])} |"
        for name, v in report["variants"].items()
    )
    pairs = "\n".join(
        f"| {pair} | " + " | ".join(difference(report, pair, name) for name in COMPARED) + " |"
        for pair in report["differences"]
    )
    grid = "\n".join(
        f"| {g['text']:g} | {g['reference']:g} | {interval(g['normalised_identity'])} | "
        f"{interval(g['text_alignment'])} | {g['background'][0]:.2f} | {g['motion'][0]:.2f} |"
        for g in report["grid"]
    )
    aims = "\n".join(
        f"| {label} | {value:.3f} | {aim:.2f} | {'reached' if value >= aim else 'missed'} |"
        for label, value, aim in (
            ("normalised identity", best["normalised_identity"][0], 0.75),
            ("background named correctly", best["background"][0], 0.9),
            ("motion named correctly", best["motion"][0], 0.9),
        )
    )
    trainings = report["trained"].values()
    return (
        (HERE / "card.md")
        .read_text()
        .format(
            report=report,
            variant=DEFAULT_VARIANT,
            base=base,
            psnr=psnr,
            millions=base["parameters"] / 1e6,
            steps=", ".join(sorted({str(v["steps"]) for v in trainings})),
            batch=", ".join(sorted({str(v["batch_size"]) for v in trainings})),
            faces_found=100 * best["faces"][0],
            aims=aims,
            rows=rows,
            pairs=pairs,
            grid=grid,
        )
    )


if __name__ == "__main__":
    main()
