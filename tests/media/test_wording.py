from media.wording import did_you_mean, duration


def test_the_nearest_name():
    assert did_you_mean("temporal.fliker", ["temporal.flicker", "text.clip"]) == (
        " Did you mean 'temporal.flicker'?"
    )
    assert did_you_mean("zzz", ["temporal.flicker"]) == ""


def test_durations() -> None:
    assert [duration(s) for s in (5.9, 65, 3725)] == ["0:05", "1:05", "1:02:05"]
