"""`stdrc generate`: one video of the person in a picture, doing what the prompt says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="What happens in the video.")],
    reference: Annotated[
        list[Path] | None,
        typer.Option("--reference", "-r", help="Picture of the person; repeat for several."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="MP4 to write.")] = Path("out.mp4"),
    checkpoint: Annotated[
        str,
        typer.Option(
            "--checkpoint",
            "-c",
            help="Folder or hub id in diffusers format, or one that a plug-in declares: "
            "'miniature', the one that is shipped, or 'random', its untrained twin.",
        ),
    ] = "miniature",
    lora: Annotated[
        Path | None, typer.Option(help="ST-DRC LoRA to load on top of the checkpoint.")
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option(help="Which of a shipped checkpoint's LoRAs, such as overlap-off."),
    ] = None,
    negative_prompt: Annotated[str, typer.Option(help="What 'no text' means.")] = "",
    placement: Annotated[
        str | None,
        typer.Option(help="tass, overlap, strata, spatial or far; default: as trained."),
    ] = None,
    text: Annotated[float, typer.Option(help="Weight of the text.")] = 3.0,
    ref: Annotated[float, typer.Option(help="Weight of the reference.")] = 1.5,
    order: Annotated[
        str, typer.Option(help="text_first, reference_first or joint.")
    ] = "text_first",
    rescale: Annotated[float, typer.Option(help="Guidance rescaling, 0..1.")] = 0.0,
    parallel: Annotated[
        float,
        typer.Option(help="0..1; below 1, less of the contrast and saturation guidance adds."),
    ] = 1.0,
    height: Annotated[int | None, typer.Option(help="Pixels.")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels.")] = None,
    frames: Annotated[int | None, typer.Option(help="8k+1; 4k+1 for the miniature.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second.")] = None,
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 30,
    seed: Annotated[int, typer.Option(help="Same seed, same video.")] = 0,
    crop_face: Annotated[
        bool, typer.Option("--crop-face", help="Crop the reference around its face (MTCNN).")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cuda, cuda:1, cpu, ...")] = "auto",
    dtype: Annotated[
        str, typer.Option(help="auto (what the weights are saved in), bfloat16, float32, float16.")
    ] = "auto",
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse a prompt that the model can't read whole.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Generate one video.

    \b
    stdrc generate -p "a person waves" -r face.jpg -o wave.mp4 \\
      -c diffusers/LTX-2.3-Diffusers --lora stdrc.safetensors
    """
    # Whatever can be wrong cheaply is found before the model loads.
    from bench.checkpoints import checkpoint_source, remarks, shipped_lora
    from stdrc.errors import STDRCError
    from stdrc.guidance import ThreeStreamGuidance
    from stdrc.images import crop_to_face, open_image
    from stdrc.positions import ReferencePlacement

    guidance = ThreeStreamGuidance(
        text,
        ref,
        order,  # type: ignore[arg-type]  # it says itself which orders there are
        rescale,
        parallel=parallel,
    )
    where = ReferencePlacement.parse(placement) if placement else None
    images = [open_image(path) for path in reference or []]
    if output.suffix.lower() != ".mp4":
        raise STDRCError(f"The output is an MP4; name it {output.with_suffix('.mp4')}.")
    if not output.parent.is_dir():
        raise STDRCError(f"There is no folder {output.parent} to write {output.name} to.")
    if lora is None:
        lora = shipped_lora(checkpoint, variant)
    elif variant is not None:
        raise STDRCError("--lora and --variant both name a LoRA; give one of them.")
    elif not lora.exists():
        raise STDRCError(f"There is no LoRA at {lora}.")
    if crop_face:
        detector = _mtcnn()
        images = [crop_to_face(image, detector) for image in images]
    names = [path.name for path in reference or []]
    for remark in remarks(checkpoint, [prompt, negative_prompt], dict(zip(names, images))):
        typer.echo(f"stdrc: {remark}", err=True)

    import torch

    from media.writing import write_video
    from stdrc.loading import pick_device
    from stdrc.pipeline import STDRCPipeline, hide_loading_bars

    where_to = pick_device(device)
    if dtype not in ("auto", "bfloat16", "float32", "float16"):
        raise STDRCError(f"--dtype is auto, bfloat16, float16 or float32, not {dtype}.")
    hide_loading_bars()
    source = checkpoint_source(checkpoint)
    pipeline = STDRCPipeline.from_pretrained(source, dtype=getattr(torch, dtype, None))
    if lora is not None:
        pipeline.load_lora_weights(str(lora))
    pipeline.to(where_to)
    pipeline.set_progress_bar_config(disable=quiet)
    rate = fps or (pipeline.config.get("default_size") or {}).get("frame_rate", 24.0)
    video = pipeline(
        prompt,
        negative_prompt,
        [images] if images else None,
        placement=where,
        guidance=guidance,
        height=height,
        width=width,
        num_frames=frames,
        frame_rate=rate,
        num_inference_steps=steps,
        seeds=seed,
        strict=strict,
    ).frames[0]
    write_video(output, video, rate)
    if not quiet:
        typer.echo(f"{output}: {len(video)} frames, {video.shape[2]} x {video.shape[1]}")


def _mtcnn():
    from metrics.faces.facenet import FacenetFaces

    backend = FacenetFaces()
    return lambda image: backend.detect(image[None])[0].boxes.numpy()
