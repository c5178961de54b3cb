import math

import pytest
import torch
from diffusers.models.transformers.transformer_ltx2 import LTX2AudioVideoRotaryPosEmbed
from hypothesis import given
from hypothesis import strategies as st

from stdrc.errors import STDRCError
from stdrc.positions import (
    NAMED_PLACEMENTS,
    PLACEMENTS,
    ReferencePlacement,
    rotate_by_phase,
    source_phases,
)

sizes = st.integers(1, 6)
fps = st.floats(1, 60)


def make_rope(rope_type="split", patch_size=1):
    return LTX2AudioVideoRotaryPosEmbed(
        dim=64, num_attention_heads=4, rope_type=rope_type, patch_size=patch_size
    )


def test_grid_is_the_papers_figure():
    # Figure 2b: h = 3, w = 4; the reference occupies (t, 3..5, 4..7).
    t = 5
    grid = ReferencePlacement.tass().grid(t, 3, 4)
    assert grid.dtype == torch.long
    assert grid.tolist() == [[t, r, c] for r in (3, 4, 5) for c in (4, 5, 6, 7)]


@given(t=sizes, h=sizes, w=sizes)
def test_tass_shares_no_row_and_no_column_with_the_video(t, h, w):
    grid = ReferencePlacement.tass().grid(t, h, w)
    assert (grid[:, 0] == t).all()
    assert grid[:, 1].min() >= h
    assert grid[:, 2].min() >= w


@given(t=sizes, h=sizes, w=sizes, k=st.integers(0, 3))
def test_named_placements_are_the_table(t, h, w, k):
    frame = {
        "tass": t + k,
        "overlap": 0,
        "strata": t + k,
        "spatial": 0,
        "far": t + 4 + k,
    }
    moved = {"tass": 1, "overlap": 0, "strata": 0, "spatial": 1, "far": 1}
    for name, placement in NAMED_PLACEMENTS.items():
        grid = placement.grid(t, h, w, index=k)
        assert grid[0].tolist() == [frame[name], moved[name] * h, moved[name] * w]


@given(t=sizes, h=sizes, w=sizes, fps=fps)
def test_unshifted_coords_are_the_ropes_own(t, h, w, fps):
    rope = make_rope()
    longer = rope.prepare_video_coords(1, t + 1, h, w, torch.device("cpu"), fps=fps)
    size = {"frames": t, "height": h, "width": w, "fps": fps}
    torch.testing.assert_close(
        ReferencePlacement.strata().coords(rope, **size), longer[:, :, t * h * w :]
    )
    torch.testing.assert_close(
        ReferencePlacement.overlap().coords(rope, **size), longer[:, :, : h * w]
    )


@given(t=sizes, h=sizes, w=sizes, fps=fps, name=st.sampled_from(sorted(NAMED_PLACEMENTS)))
def test_coords_are_the_grid_in_pixels_and_seconds(t, h, w, fps, name):
    placement = NAMED_PLACEMENTS[name]
    grid = placement.grid(t, h, w).double()
    coords = placement.coords(make_rope(), frames=t, height=h, width=w, fps=fps)
    assert coords.shape == (1, 3, h * w, 2)
    # One latent row is 32 pixels; latent frame k spans pixel frames max(0, 8k-7) .. 8k+1.
    torch.testing.assert_close(coords[0, 1:, :, 0].double(), 32 * grid[:, 1:].T)
    torch.testing.assert_close(coords[0, 1:, :, 1].double(), 32 * grid[:, 1:].T + 32)
    start = (8 * grid[:, 0] - 7).clamp(min=0) / fps
    torch.testing.assert_close(coords[0, 0, :, 0].double(), start, atol=1e-4, rtol=1e-5)
    end = (8 * grid[:, 0] + 1) / fps
    torch.testing.assert_close(coords[0, 0, :, 1].double(), end, atol=1e-4, rtol=1e-5)


def test_before_ends_where_the_video_begins():
    placement = ReferencePlacement(when="before", shift=(0, 0))
    coords = placement.coords(make_rope(), frames=3, height=2, width=2, fps=8.0)
    assert coords[0, 0].unique().tolist() == [-1.0, 0.0]
    assert placement.grid(3, 2, 2, index=1)[0].tolist() == [-2, 0, 0]


def test_fractional_and_negative_shifts():
    placement = ReferencePlacement(shift=(-0.5, 0.25))
    coords = placement.coords(make_rope(), frames=1, height=2, width=4, fps=24.0)
    assert coords[0, 1, 0].tolist() == [-32.0, 0.0]
    assert coords[0, 2, 0].tolist() == [32.0, 64.0]
    assert placement.grid(1, 3, 4).is_floating_point()
    assert placement.grid(1, 2, 4).dtype == torch.long


def test_patches_larger_than_one_latent():
    coords = ReferencePlacement.tass().coords(
        make_rope(patch_size=2), frames=2, height=4, width=4, fps=24.0
    )
    assert coords.shape == (1, 3, 4, 2)
    assert coords[0, 1, 0].tolist() == [128.0, 192.0]


@pytest.mark.parametrize("name", sorted(PLACEMENTS))
def test_parse_round_trips(name):
    placement = ReferencePlacement.parse(name)
    assert ReferencePlacement.parse(placement.to_dict()) == placement
    assert placement.name == str(placement) == name


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("tas", "Did you mean 'tass'"),
        ({"where": "after"}, "Unknown key 'where'"),
        ({"when": "later"}, "'after', 'start' or 'before'"),
        ({"gap": "1"}, "'gap' is a number"),
        ({"phase": None}, "'phase' is a number"),
        ({"source_id": True}, "'source_id' is a number"),
        ({"slot": "0"}, "'slot' is a number"),
        ({"downscale": "2"}, "'downscale' is a number"),
        ({"anchor": "middle"}, "'extent' or 'corner', not 'middle'"),
        ({"slot": -1}, "0 or more seconds"),
        ({"slot": math.inf}, "finite"),
        ({"downscale": 0}, "1, 2, 3"),
        ({"downscale": 1.5}, "1, 2, 3"),
        ({"source_id": math.nan}, "finite"),
        ({"gap": math.nan}, "finite"),
        ({"shift": [1, math.inf]}, "finite"),
        ({"shift": 1}, "two numbers"),
        ({"when": "start", "gap": 1}, "no gap"),
        (7, "name or a mapping"),
    ],
)
def test_bad_placements_say_what_is_wrong(value, words):
    with pytest.raises(STDRCError, match=words):
        ReferencePlacement.parse(value)


def at_real_size(placement, index=0):
    """Where the first reference token starts (s, row, column) at 512 x 768 x 121 and 24 fps."""
    size = {"frames": 16, "height": 16, "width": 24, "fps": 24.0}
    return placement.coords(make_rope(), **size, index=index)[0, :, 0, 0].tolist()


@pytest.mark.parametrize(
    ("name", "index", "corner"),
    [
        ("tass", 0, [5.042, 512, 768]), ("strata", 0, [5.042, 0, 0]), ("strata", 1, [5.375, 0, 0]),
        ("bfs_st_drc", 0, [4.708, 480, 736]), ("bfs_st_drc", 1, [4.708, 480, 736]),
        ("bfs_strata", 0, [6.208, 0, 0]), ("bfs_strata", 1, [7.708, 0, 0]),
    ],
)  # fmt: skip
def test_community_geometry_at_its_real_size(name, index, corner):
    found = at_real_size(ReferencePlacement.parse(name), index)
    assert found == pytest.approx(corner, abs=5e-4)


@given(t=st.integers(2, 6), h=st.integers(2, 6), w=st.integers(2, 6))
def test_the_corners_reference_is_one_cell_nearer_than_tass(t, h, w):
    tass = ReferencePlacement.tass().grid(t, h, w)
    corner = ReferencePlacement.bfs_st_drc().grid(t, h, w)
    assert (tass - corner == 1).all()
    size = {"frames": t, "height": h, "width": w, "fps": 24.0}
    moved = ReferencePlacement.tass().coords(make_rope(), **size) - ReferencePlacement(
        anchor="corner"
    ).coords(make_rope(), **size)
    assert moved[0, 1:].unique().tolist() == [32.0]


@given(t=sizes, gap=st.integers(0, 6))
def test_a_negative_gap_goes_down_to_the_first_frame(t, gap):
    placement = ReferencePlacement("after", -gap, (1.0, 1.0))
    size = {"frames": t, "height": 2, "width": 2, "fps": 8.0}
    if gap > t:
        with pytest.raises(STDRCError, match=f"gap of -{gap} is further than the video's {t} "):
            placement.grid(t, 2, 2)
        with pytest.raises(STDRCError, match=f"use -{t} or more"):
            placement.coords(make_rope(), **size)
        return
    assert placement.grid(t, 2, 2)[0].tolist() == [t - gap, 2, 2]
    if gap == t:
        spatial = ReferencePlacement.spatial()
        assert torch.equal(
            placement.coords(make_rope(), **size), spatial.coords(make_rope(), **size)
        )


@given(t=sizes, h=sizes, w=sizes, d=st.integers(1, 3), shift=st.sampled_from([0.0, 1.0]))
def test_a_smaller_reference_is_spread_over_the_same_extent(t, h, w, d, shift):
    placement = ReferencePlacement("after", 0, (shift, shift), downscale=d)
    rope = make_rope()
    size = {"frames": t, "height": h * d, "width": w * d, "fps": 24.0}
    coords = placement.coords(rope, **size)
    whole = ReferencePlacement("after", 0, (shift, shift)).coords(rope, **size)
    assert coords.shape == (1, 3, h * w, 2)
    for axis in range(3):
        assert coords[0, axis].min() == whole[0, axis].min()
        assert coords[0, axis].max() == whole[0, axis].max()
    # IC-LoRA: the small reference's own coordinates times the factor (at the start, unshifted).
    own = rope.prepare_video_coords(1, 1, h, w, torch.device("cpu"), fps=24.0)
    unshifted = ReferencePlacement("start", 0, (0, 0), downscale=d).coords(rope, **size)
    assert torch.equal(unshifted[:, 1:], own[:, 1:] * d)
    assert placement.grid(t, h * d, w * d).shape == (h * w, 3)


def test_a_downscale_that_does_not_divide_is_refused():
    with pytest.raises(STDRCError, match="latents that 2 divides, not 3 x 4"):
        ReferencePlacement(downscale=2).coords(make_rope(), frames=1, height=3, width=4, fps=24.0)


def test_what_is_default_is_not_written_down():
    assert set(ReferencePlacement.far().to_dict()) == {"when", "gap", "shift", "phase"}
    plain = {"when": "after", "gap": 0, "shift": [1.0, 1.0], "phase": 0}
    assert ReferencePlacement().to_dict() == plain
    placement = ReferencePlacement(phase=1.0, source_id=2, downscale=2)
    assert placement.to_dict()["source_id"] == 2
    assert ReferencePlacement.parse(placement.to_dict()) == placement
    assert str(placement) == "after, gap 0, shift (1, 1), phase 1, source_id 2, downscale 2"
    assert "anchor corner" in str(ReferencePlacement(anchor="corner"))


@pytest.mark.parametrize("rope_type", ["split", "interleaved"])
def test_source_phase_adds_to_the_angle_of_its_tokens(rope_type):
    rope = make_rope(rope_type)
    coords = rope.prepare_video_coords(1, 1, 2, 2, torch.device("cpu"))
    cos, sin = rope(coords)
    phase = torch.tensor([0.0, 0.0, 0.5, 1.0], dtype=torch.float64)
    with source_phases(rope, phase):
        moved_cos, moved_sin = rope(coords)
    again_cos, _ = rope(coords)
    assert torch.equal(cos, again_cos), "the hook must go with its block"
    # cos(new - old) is the cosine of the added angle: phase * theta^(-d/L) within each head.
    added = moved_cos * cos + moved_sin * sin
    if rope_type == "split":  # [B, H, N, L] -> [N, H, L]
        added = added[0].transpose(0, 1)
        half = added.shape[-1]
    else:  # [B, N, H * 2L], each angle twice
        added = added[0].unflatten(-1, (4, -1))[..., ::2]
        half = added.shape[-1]
    falloff = rope.theta ** (-torch.arange(half, dtype=torch.float64) / half)
    expected = (phase[:, None] * falloff).cos()[:, None].expand(-1, 4, -1)
    torch.testing.assert_close(added.double(), expected, atol=1e-5, rtol=0)
    unmoved = rotate_by_phase(cos, sin, torch.zeros(4), heads=4, theta=rope.theta)
    torch.testing.assert_close(unmoved[0], cos)


@pytest.mark.parametrize("rope_type", ["split", "interleaved"])
def test_everything_is_made_where_the_tokens_are(rope_type):
    """On a device of its own (meta) a tensor that was made elsewhere would not add up."""
    rope, size = make_rope(rope_type), {"frames": 2, "height": 4, "width": 4, "fps": 24.0}
    coords = ReferencePlacement(downscale=2).coords(rope, **size, device="meta")
    assert coords.device.type == "meta"
    cos, sin = (tensor.to("meta") for tensor in rope(torch.zeros(coords.shape)))
    phase = torch.ones(coords.shape[2], device="meta")
    for turned in rotate_by_phase(cos, sin, phase, heads=4, theta=rope.theta):
        assert turned.device.type == "meta"
        assert turned.shape == cos.shape
