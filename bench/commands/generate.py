"""`stdrc generate`: one video of the person in a picture, doing what the prompt says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
        list[str] | None,
        typer.Option(
            help="LoRA to load on the checkpoint, a file or hub id, with =STRENGTH behind it where "
            "that isn't 1; repeat for several."
        ),
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option(help="Which of a shipped checkpoint's LoRAs, such as overlap-off."),
    ] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What 'no text' means.")] = None,
    placement: Annotated[
        str | None,
        typer.Option(help="tass, overlap, strata, spatial, far, ...; default: as trained."),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="ltx23: Lightricks' guidance and negative prompt, in place of yours."),
    ] = None,
    text: Annotated[float | None, typer.Option(help="Weight of the text; 3.")] = None,
    ref: Annotated[float | None, typer.Option(help="Weight of the reference; 1.5.")] = None,
    order: Annotated[
        str | None, typer.Option(help="text_first (default), reference_first or joint.")
    ] = None,
    rescale: Annotated[float | None, typer.Option(help="Guidance rescaling, 0..1.")] = None,
    parallel: Annotated[
        float | None,
        typer.Option(help="0..1; below 1, less of the contrast and saturation guidance adds."),
    ] = None,
    stg: Annotated[
        float | None, typer.Option(help="Weight of spatio-temporal skip guidance; 0.")
    ] = None,
    stg_block: Annotated[
        list[int] | None, typer.Option(help="A block that it perturbs; repeat for several.")
    ] = None,
    schedule: Annotated[
        str, typer.Option(help="dev, or distilled for the distilled model or LoRA.")
    ] = "dev",
    height: Annotated[int | None, typer.Option(help="Pixels.")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels.")] = None,
    frames: Annotated[int | None, typer.Option(help="8k+1; 4k+1 for the miniature.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second.")] = None,
    steps: Annotated[
        int | None, typer.Option(help="Denoising steps; 30, or the distilled schedule's 8.")
    ] = None,
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
    audio: Annotated[
        bool, typer.Option("--audio", help="Also generate sound, and write it into the MP4.")
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
    from stdrc.presets import resolve_guidance

    weights = {
        "text": text, "reference": ref, "order": order, "rescale": rescale, "parallel": parallel,
        "stg": stg, "stg_blocks": stg_block or None,
    }  # fmt: skip
    given = {name: value for name, value in weights.items() if value is not None}
    guidance = ThreeStreamGuidance.parse(given) if given else None
    resolve_guidance(guidance, negative_prompt, preset, schedule)  # says what doesn't go together
    where = ReferencePlacement.parse(placement) if placement else None
    images = [open_image(path) for path in reference or []]
    if output.suffix.lower() != ".mp4":
        raise STDRCError(f"The output is an MP4; name it {output.with_suffix('.mp4')}.")
    if not output.parent.is_dir():
        raise STDRCError(f"There is no folder {output.parent} to write {output.name} to.")
    loras = [_strength(each) for each in lora or []]
    if not loras:
        shipped = shipped_lora(checkpoint, variant)
        loras = [] if shipped is None else [{"path": shipped}]
    elif variant is not None:
        raise STDRCError("--lora and --variant both name a LoRA; give one of them.")
    for each in loras:
        if "/" not in str(each["path"]) and not Path(each["path"]).exists():
            raise STDRCError(f"There is no LoRA at {each['path']}.")
    shown = images
    if crop_face:
        detector = _mtcnn()
        shown = [crop_to_face(image, detector) for image in images]
    names = [path.name for path in reference or []]
    for remark in remarks(checkpoint, [prompt, negative_prompt or ""], dict(zip(names, shown))):
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
    pipeline.load_loras(loras)
    pipeline.to(where_to)
    pipeline.set_progress_bar_config(disable=quiet)
    rate = fps or (pipeline.config.get("default_size") or {}).get("frame_rate", 24.0)
    cut = crop_face or (pipeline.trained_crop == "face" and bool(images))
    made = pipeline(
        prompt,
        negative_prompt,
        [images] if images else None,
        placement=where,
        crop="face" if crop_face else None,
        face_detector=_mtcnn() if cut else None,
        guidance=guidance,
        preset=preset,
        height=height,
        width=width,
        num_frames=frames,
        frame_rate=rate,
        schedule=schedule,
        num_inference_steps=steps,
        seeds=seed,
        audio=audio,
        strict=strict,
    )
    video, sound = made.frames[0], {}
    if audio:
        sample_rate = pipeline.vocoder.config.output_sampling_rate
        sound = {"audio": made.audio[0].float().cpu().numpy(), "sample_rate": sample_rate}
    write_video(output, video, rate, **sound)
    if not quiet:
        typer.echo(f"{output}: {len(video)} frames, {video.shape[2]} x {video.shape[1]}")


def _strength(given: str) -> dict[str, Any]:
    """ "PATH" or "PATH=STRENGTH" as `STDRCPipeline.load_loras` takes it."""
    path, _, strength = given.rpartition("=")
    try:
        return {"path": path, "strength": float(strength)} if path else {"path": given}
    except ValueError:
        return {"path": given}  # the sign is part of a file's name


def _mtcnn():
    from metrics.faces.facenet import FacenetFaces

    backend = FacenetFaces()
    return lambda image: backend.detect(image[None])[0].boxes.numpy()
