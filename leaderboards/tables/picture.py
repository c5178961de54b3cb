"""A LaTeX document as a PDF, and the PDF's first page as a picture, by the programs installed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image, ImageChops

from leaderboards.errors import LeaderboardError
from media.files import write_atomic

#: LaTeX to PDF; the first that is installed. tectonic fetches packages itself.
COMPILERS = {
    "pdflatex": ("-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape"),
    "tectonic": (),
}


def write_picture(document: str, path: Path, dpi: int = 200) -> list[Path]:
    """Write a document as `path` with the endings .tex, .pdf and .png, cropped; the paths.

    Raises LeaderboardError where no LaTeX or no pdftoppm is installed, or LaTeX refuses.
    """
    program = next((name for name in COMPILERS if shutil.which(name)), None)
    if program is None or not shutil.which("pdftoppm"):
        lacking = "LaTeX (pdflatex or tectonic)" if program is None else "pdftoppm"
        raise LeaderboardError(
            f"a PDF with its picture needs {lacking}, which is not installed: install it (on Debian"
            " texlive-latex-recommended and poppler-utils), or compile the .tex file elsewhere."
        )
    paths = [path.with_suffix(ending) for ending in (".tex", ".pdf", ".png")]
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "table.tex"
        source.write_text(document, encoding="utf-8")
        _run([program, *COMPILERS[program], source.name], scratch)
        _run(["pdftoppm", "-r", str(dpi), "-png", "-singlefile", "table.pdf", "page"], scratch)
        with Image.open(source.with_name("page.png")) as page:
            grey = page.convert("L")
        ink = ImageChops.invert(grey).getbbox() or (0, 0, *grey.size)
        edge = dpi // 10
        box = (ink[0] - edge, ink[1] - edge, ink[2] + edge, ink[3] + edge)
        ImageChops.invert(ImageChops.invert(grey).crop(box)).quantize(16).save(
            source.with_name("cropped.png"), optimize=True
        )
        for target, name in zip(paths, ("table.tex", "table.pdf", "cropped.png")):
            write_atomic(target, source.with_name(name).read_bytes())
    return paths


def _run(command: list[str], folder: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=120, check=False)
    if done.returncode:
        told = [
            line for line in done.stdout.decode(errors="replace").splitlines() if line[:1] == "!"
        ]
        raise LeaderboardError(
            f"{command[0]} refused the table ({told[0][2:] if told else 'no reason given'}): "
            "write it without --pdf and compile it by hand to see why."
        )
