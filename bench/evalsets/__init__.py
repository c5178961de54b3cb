"""What is asked of a generator: prompts with reference images, read from the layouts in use.

A kind of evaluation set is a file here, or comes with a plug-in; `EVALSETS` names them.
"""

from __future__ import annotations

from typing import Any

from bench.errors import BenchError, UnknownNameError
from bench.evalsets.base import EvalSetBase
from bench.evalsets.samples import EvalSet, Event, Sample
from media.plugins import declared, load

__all__ = ["EVALSETS", "EvalSet", "EvalSetBase", "Event", "Sample", "evalset", "evalset_models"]

#: The `kind` of an evaluation set -> its settings' class; plug-ins add theirs.
EVALSETS = {
    "photograph": "bench.evalsets.photograph:PhotographSet",
    "ipvg2025": "bench.evalsets.ipvg2025:IPVG2025Set",
    "ipvg2026-facial": "bench.evalsets.ipvg2026_facial:IPVG2026FacialSet",
    "ipvg2026-sequential": "bench.evalsets.ipvg2026_sequential:IPVG2026SequentialSet",
    "consisid": "bench.evalsets.consisid:ConsisIDSet",
    "opens2v": "bench.evalsets.opens2v:OpenS2VSet",
    "csv": "bench.evalsets.table:TableSet",
    "jsonl": "bench.evalsets.table:TableSet",
    "list": "bench.evalsets.table:ListedSet",
    "hub": "bench.evalsets.hub:HubSet",
}


def evalset(kind: str, **fields: Any) -> EvalSetBase:
    """The settings of one kind of evaluation set.

    Raises:
        BenchError: for an unknown kind.
        pydantic.ValidationError: for fields that it does not take.
    """
    known = EVALSETS | declared("EVALSETS")
    if kind not in known:
        raise UnknownNameError.among("There is no evaluation set", kind, known)
    model: EvalSetBase = load(known[kind])(kind=kind, **fields)
    return model


def evalset_models() -> list[type[EvalSetBase]]:
    """The classes of all kinds, ours and plug-ins', each once.

    Raises:
        BenchError: if a plug-in declares a kind of ours.
    """
    added = declared("EVALSETS")
    if twice := sorted(set(added) & set(EVALSETS)):
        raise BenchError(
            f"A plug-in declares the kind of evaluation set {twice[0]!r}, which there is already; "
            "rename it, or uninstall the plug-in."
        )
    return list(dict.fromkeys(load(target) for target in (EVALSETS | added).values()))
