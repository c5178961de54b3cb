"""The report of a preparation as one page: what was kept, what was left out and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

SHOWN = 120  # pictures, and clips that were left out


def page(
    report: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]
) -> str:
    """HTML with the counts, the references by identity, and the first clips left out."""
    pictures = "".join(
        f'<figure><img loading="lazy" src="{escape(row["references"][0])}" alt="">'
        f"<figcaption>{escape(str(row['identity']))}</figcaption></figure>"
        for row in sorted(rows, key=lambda row: str(row["identity"]))[:SHOWN]
    )
    left = "".join(
        f"<tr><td>{escape(Path(each['source']).name)}</td><td>{escape(each['reason'])}</td></tr>"
        for each in [e for e in found if e["reason"]][:SHOWN]
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Prepared clips</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto }}
table {{ border-collapse: collapse }} td, th {{ text-align: left; padding: .15rem 1rem .15rem 0 }}
figure {{ display: inline-block; margin: .3rem; width: 7rem }}
img {{ width: 7rem; height: 7rem; object-fit: cover; border-radius: .3rem }}
figcaption {{ font-size: .75rem; overflow: hidden; text-overflow: ellipsis }}
</style></head><body>
<h1>{report["kept"]} of {report["clips"]} clips kept</h1>
<p>{report["identities"]} identities; {report["cross_clip"]} clips share theirs with another clip,
which lends them its reference. Faces by {escape(report["faces"])}.</p>
<h2>Left out</h2>{_counts(report["left_out"])}
<h2>Shapes</h2>{_counts(report["buckets"])}
<h2>References</h2>{pictures}
<h2>Clips left out</h2><table>{left}</table>
</body></html>
"""


def _counts(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    cells = "".join(f"<tr><td>{escape(name)}</td><td>{n}</td></tr>" for name, n in ordered)
    return f"<table>{cells}</table>" if cells else "<p>none</p>"
