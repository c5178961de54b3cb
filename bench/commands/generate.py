"""`stdrc generate`: one video of the person in a picture, doing what the prompt says.

The options of the method are the axes of a sweep, with their ranges and descriptions.
"""

from __future__ import annotations

import inspect
import types
import typing
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from bench.axes import AXIS_NAMES, FILE_AXES, GUIDANCE, Settings
from bench.commands.options import Device, Quiet

#: Axes that a command line spells otherwise; `--reference` is the picture.
_FLAGS = {
    "reference": ("--ref",),
    "num_frames": ("--frames", "--num-frames"),
    "frame_rate": ("--fps", "--frame-rate"),
}
#: Here their options are others, or, of a timeline, nothing says what happens when.
_OWN = ("checkpoint", "augmentation", "timeline", *FILE_AXES)

Prompt = Annotated[str, typer.Option("--prompt", "-p", help="What happens in the video.")]
References = Annotated[
    list[Path] | None,
    typer.Option("--reference", "-r", help="Picture of the person; repeat for several."),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="MP4 to write.")]
Checkpoint = Annotated[
    str,
    typer.Option(
        "--checkpoint",
        "-c",
        help="Folder or hub id in diffusers format, or one that a plug-in declares: 'miniature', "
        "the one that is shipped, or 'random', its untrained twin.",
    ),
]
Loras = Annotated[
    list[str] | None,
    typer.Option(
        help="LoRA to load on the checkpoint, a file or hub id, with =STRENGTH behind it where "
        "that isn't 1; repeat for several."
    ),
]
Variant = Annotated[
    str | None, typer.Option(help="Which of a shipped checkpoint's LoRAs, such as overlap-off.")
]
Preset = Annotated[
    str | None,
    typer.Option(help="ltx23: Lightricks' guidance and negative prompt, in place of yours."),
]
Seed = Annotated[int, typer.Option(help="Same seed, same video.")]
Dtype = Annotated[
    str, typer.Option(help="auto (what the weights are saved in), bfloat16, float32, float16.")
]
LowMemory = Annotated[
    bool,
    typer.Option(
        "--low-memory", help="For a card of 24 GB: blocks come to it in turn; the same video."
    ),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse what the model can't read or was not taught.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace the output if it is there.")]
Upscale = Annotated[
    str | None,
    typer.Option(
        help="Folder or hub id of a spatial latent upsampler: --height and --width are made by a "
        "second stage from half of them."
    ),
]
UpscaleReference = Annotated[
    str, typer.Option(help="keep or leave: whether the second stage is shown the picture.")
]
Audio = Annotated[
    bool, typer.Option("--audio", help="Also generate sound, and write it into the MP4.")
]


def _options() -> list[inspect.Parameter]:
    """An option for each axis."""
    options = []
    for name in AXIS_NAMES:
        if name in _OWN:
            continue
        flags = _FLAGS.get(name, (f"--{name.replace('_', '-')}",))
        about = Settings.model_fields[name].description or ""
        if name in GUIDANCE:
            default = GUIDANCE[name].default
            told = " ".join(map(str, default)) if isinstance(default, tuple) else default
            about += f" [default: {told}]"
        kind = _typed(Settings.model_fields[name].annotation)
        about = about[:1].upper() + about[1:] if about[1:2].isalpha() else about
        option = typer.Option(*flags, help=f"{about}.")
        options.append(
            inspect.Parameter(
                f"axis_{name}",
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[kind | None, option],
            )
        )
    return options


def _typed(annotation: Any) -> Any:
    """What the command line reads for an axis: a number, two, a list of them, or a word."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _typed(inner[0])
    if origin in (typing.Union, types.UnionType):
        return _typed(inner[0])
    if origin is tuple:
        kinds = [_typed(kind) for kind in inner if kind is not ...]
        several: Any = list if ... in inner else tuple
        return several[kinds[0] if several is list else tuple(kinds)]
    return annotation if annotation in (int, float) else str


def command(
    prompt: Prompt,
    reference: References = None,
    output: Output = Path("out.mp4"),
    checkpoint: Checkpoint = "miniature",
    lora: Loras = None,
    variant: Variant = None,
    preset: Preset = None,
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    low_memory: LowMemory = False,
    strict: Strict = False,
    force: Force = False,
    upscale: Upscale = None,
    upscale_reference: UpscaleReference = "keep",
    audio: Audio = False,
    quiet: Quiet = False,
    **axes: Any,
) -> None:
    """Generate one video.

    \b
    stdrc generate -p "a person waves" -r face.jpg -o wave.mp4 \\
      -c diffusers/LTX-2.3-Diffusers --lora stdrc.safetensors
    """
    # Whatever can be wrong cheaply is found before the model loads.
    from bench.checkpoints import remarks
    from stdrc.errors import STDRCError
    from stdrc.images import open_image

    settings = _settings(axes, preset)
    images = [open_image(path) for path in reference or []]
    if output.suffix.lower() != ".mp4":
        raise STDRCError(f"The output is an MP4; name it {output.with_suffix('.mp4')}.")
    if output.exists() and not force:
        raise STDRCError(f"{output} already exists; choose another name, or add --force.")
    if not output.parent.is_dir():
        raise STDRCError(f"There is no folder {output.parent} to write {output.name} to.")
    loras = _loras(checkpoint, lora or [], variant)
    texts = [prompt, settings.negative_prompt or ""]
    untaught = remarks(checkpoint, texts, reference or [], settings.crop)
    if strict and untaught:
        raise STDRCError(" ".join(untaught))
    for remark in untaught:
        typer.echo(f"stdrc: {remark}", err=True)
    if dtype not in ("auto", "bfloat16", "float32", "float16"):
        raise STDRCError(f"--dtype is auto, bfloat16, float16 or float32, not {dtype}.")
    pipeline = _pipeline(checkpoint, loras, device, dtype, low_memory, quiet)
    from media.writing import write_video
    from stdrc.defaults import FRAME_RATE

    size = pipeline.config.get("default_size") or {}
    rate = settings.frame_rate or size.get("frame_rate", FRAME_RATE)
    crop = settings.crop or pipeline.trained_crop or "none"
    made = pipeline(
        prompt,
        reference=[images] if images else None,
        seeds=seed,
        strict=strict,
        preset=preset,
        audio=audio,
        upscale=_upscale(upscale, upscale_reference),
        face_detector=_boxes(crop) if images and crop != "none" else None,
        **{**settings.arguments(), "frame_rate": rate},
    )
    video, sound = made.frames[0], {}
    if audio:
        sample_rate = pipeline.vocoder.config.output_sampling_rate
        sound = {"audio": made.audio[0].float().cpu().numpy(), "sample_rate": sample_rate}
    write_video(output, video, rate, **sound)
    if not quiet:
        typer.echo(f"{output}: {len(video)} frames, {video.shape[2]} x {video.shape[1]}")


def _pipeline(
    checkpoint: str,
    loras: list[dict[str, Any]],
    device: str,
    dtype: str,
    low_memory: bool,
    quiet: bool,
) -> Any:
    """The pipeline with its LoRAs, where it will run."""
    import torch

    from bench.checkpoints import checkpoint_source
    from stdrc.loading import pick_device
    from stdrc.pipeline import STDRCPipeline, hide_loading_bars

    pick_device(device)  # says so first if there is none
    hide_loading_bars()
    source = checkpoint_source(checkpoint)
    pipeline = STDRCPipeline.from_pretrained(
        source, dtype=getattr(torch, dtype, None), memory="low" if low_memory else None
    )
    pipeline.load_loras(loras)
    pipeline.place(device)
    pipeline.set_progress_bar_config(disable=quiet)
    return pipeline


def _upscale(path: str | None, reference: str) -> Any:
    if path is None:
        return None
    from stdrc.stages import Upscale

    return Upscale.load(path, reference=reference)


def _with_options(function: Any) -> None:
    """Give a function the axes' options in the place of its `**axes`."""
    signature = inspect.signature(function, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    parameters = [*own, *_options()]
    function.__signature__ = signature.replace(parameters=parameters)
    function.__annotations__ = {p.name: p.annotation for p in parameters}


_with_options(command)


def _settings(axes: dict[str, Any], preset: str | None) -> Settings:
    """The axes that were given, checked, also against a preset.

    Raises:
        BenchError: naming the axis and what it takes.
        STDRCError: for a preset beside what it would set.
    """
    from bench.errors import BenchError
    from media.settings import sentences
    from stdrc.positions import ReferencePlacement
    from stdrc.presets import resolve_guidance

    given = {
        name.removeprefix("axis_"): value for name, value in axes.items() if value not in (None, [])
    }
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise BenchError(sentences(error, Settings, "stdrc generate")) from None
    if settings.placement:
        ReferencePlacement.parse(settings.placement)
    guidance, schedule = settings.guidance() or None, settings.schedule or "dev"
    resolve_guidance(guidance, settings.negative_prompt, preset, schedule)
    return settings


def _loras(checkpoint: str, given: list[str], variant: str | None) -> list[dict[str, Any]]:
    """The LoRAs that were named, or the checkpoint's own, as `load_loras` takes them."""
    from bench.checkpoints import shipped_lora
    from stdrc.errors import STDRCError

    if not given:
        shipped = shipped_lora(checkpoint, variant)
        return [] if shipped is None else [{"path": shipped}]
    if variant is not None:
        raise STDRCError("--lora and --variant both name a LoRA; give one of them.")
    loras = [_strength(each) for each in given]
    for each in loras:
        if "/" not in each["path"] and not Path(each["path"]).exists():
            raise STDRCError(f"There is no LoRA at {each['path']}.")
    return loras


def _strength(given: str) -> dict[str, Any]:
    """ "PATH" or "PATH=STRENGTH" as `STDRCPipeline.load_loras` takes it."""
    path, _, strength = given.rpartition("=")
    try:
        return {"path": path, "strength": float(strength)} if path else {"path": given}
    except ValueError:
        return {"path": given}  # the sign is part of a file's name


def _boxes(crop: str) -> Any:
    """What finds the part of a picture that a reference is cut to."""
    from bench.crops import detector

    return detector(crop).boxes
