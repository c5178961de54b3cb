"""What the miniature does not know of a request: words and pictures that it was not taught."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from PIL import Image

from miniature.words import vocabulary


def remarks(texts: Sequence[str], pictures: Mapping[str, Image.Image]) -> list[str]:
    """A sentence about the words, and one about the pictures, that the miniature was not taught.

    Args:
        texts: prompt and negative prompt.
        pictures: RGB references by the name that the user knows them by.
    """
    found = []
    known = set(vocabulary())
    words = dict.fromkeys(word for text in texts for word in re.findall(r"\w+", text.lower()))
    if unknown := [word for word in words if word not in known]:
        found.append(
            f"The miniature was not taught {_listed(unknown)} and reads nothing in "
            f"{'that word' if len(unknown) == 1 else 'those words'}; it knows {len(known)} words, "
            "of which 'a person moves left, smiling, in front of a red brick wall' is an example."
        )
    if pictures:
        from miniature.judges.familiar import Familiar

        judge = Familiar()
        if strange := [name for name, picture in pictures.items() if not judge.knows(picture)]:
            found.append(
                f"{_listed(strange)} {'does' if len(strange) == 1 else 'do'} not look like a "
                "portrait of the drawn world, and the miniature knows no other: its video will not "
                "show that person; for photographs name a checkpoint of LTX-2.3."
            )
    return found


def _listed(names: Sequence[str]) -> str:
    quoted = [repr(name) for name in names]
    return " and ".join(filter(None, [", ".join(quoted[:-1]), quoted[-1]]))
