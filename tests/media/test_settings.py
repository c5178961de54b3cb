"""Settings from YAML and --set."""

import pytest

from media.errors import UserError
from media.settings import apply_override


def test_a_dotted_key_below_a_plain_value_is_refused():
    raw = {"augmentation": "off", "ema": None}
    apply_override(raw, "ema.decay=0.9", UserError)
    assert raw["ema"] == {"decay": 0.9}
    with pytest.raises(UserError, match=r"'augmentation' is 'off' in the file and has no keys"):
        apply_override(raw, "augmentation.colour=false", UserError)
    assert raw["augmentation"] == "off"
