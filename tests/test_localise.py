"""Boxes against maps: hand-worked cases, a slow textbook version, and baselines that come out as they must."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pati.data.preprocess import Preprocess
from pati.errors import PatiError
from pati.explain import localise
from pati.models import Options, models

BOX = torch.tensor([[1.0, 0.5, 3.0, 2.0]])  # of a 4×4 map: left, top, right, bottom


def test_inside_counts_parts_of_pixels() -> None:
    expected = torch.tensor([[0, 0.5, 0.5, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(localise.inside(BOX, 4, 4)[0], expected)
    beyond = localise.inside(torch.tensor([[-5.0, -5, 2, 9]]), 4, 4)[0]
    assert beyond.sum() == 8


def test_measures_by_hand() -> None:
    one = torch.zeros(1, 4, 4)
    one[0, 1, 1], one[0, 0, 2], one[0, 3, 3] = 4.0, 2.0, 1.0
    assert localise.pointing(one, BOX).item() == 1
    assert localise.energy(one, BOX).item() == pytest.approx((4 + 0.5 * 2) / 7)
    assert localise.area(one, BOX).item() == pytest.approx(3 / 16)
    # Marked: the pixels of at least 2. In the box: 1 and a half; of the box 3 in all.
    assert localise.overlap(one, BOX).item() == pytest.approx(1.5 / (2 + 3 - 1.5))
    assert localise.pointing(one.flip(1), BOX).item() == 0


def test_even_and_empty_maps_say_no_more_than_the_area() -> None:
    for even in (torch.zeros(1, 4, 4), torch.ones(1, 4, 4)):
        assert localise.energy(even, BOX).item() == pytest.approx(3 / 16)
    # Middles of pixels inside: the row between 1 and 2 only, as 0.5 is the edge.
    assert localise.pointing(torch.ones(1, 4, 4), BOX).item() == pytest.approx(2 / 16)
    assert localise.overlap(torch.zeros(1, 4, 4), BOX).item() == 0
    assert localise.overlap(torch.ones(1, 4, 4), BOX).item() == pytest.approx(3 / 16)


@given(st.integers(0, 10_000))
def test_equal_to_a_fine_grid(seed: int) -> None:
    """Every pixel cut into 10×10: sums over the small ones whose middle lies in the box."""
    generator = np.random.default_rng(seed)
    maps = torch.from_numpy(generator.random((1, 3, 5)))
    left, right = sorted(generator.choice(51, 2, replace=False) / 10)
    top, bottom = sorted(generator.choice(31, 2, replace=False) / 10)
    box = torch.tensor([[left, top, right, bottom]])
    fine = np.kron(maps[0].numpy(), np.full((10, 10), 0.01))
    y, x = ((np.arange(size) + 0.5) / 10 for size in fine.shape)
    mask = ((y > top) & (y < bottom))[:, None] & ((x > left) & (x < right))[None]
    assert localise.energy(maps, box).item() == pytest.approx(fine[mask].sum() / fine.sum(), abs=1e-6)
    assert localise.area(maps, box).item() == pytest.approx(mask.mean(), abs=1e-6)
    marked = np.kron((maps[0] >= 0.5 * maps.max()).numpy(), np.ones((10, 10))).astype(bool)
    assert localise.overlap(maps, box).item() == pytest.approx((marked & mask).sum() / (marked | mask).sum(), abs=1e-6)


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("shape", [(60, 100), (100, 60), (80, 80)])
def test_boxes_follow_the_photo_into_the_square(resize: str, shape: tuple[int, int]) -> None:
    """A white rectangle on black lies, after fitting, where its box does."""
    height, width = shape
    photo = np.zeros((height, width, 3), np.uint8)
    box = (30.0, 25.0, 50.0, 55.0)
    photo[25:55, 30:50] = 255
    preprocess = Preprocess(size=48, resize=resize)
    white = torch.from_numpy(preprocess.fit(photo)[:, :, 0].copy()).double() / 255
    if resize == "pad":
        white = torch.where(white == 128 / 255, 0, white)
    placed = torch.tensor([preprocess.place(width, height, box)])
    assert localise.energy(white[None], placed).item() > 0.9
    assert white.sum().item() == pytest.approx(localise.inside(placed, 48, 48).sum().item(), rel=0.08)


def test_all_methods_and_baselines_are_compared() -> None:
    net = models["pati"](2, Options(size=32, width=0.5)).eval()
    images = torch.randn(12, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[8.0, 8, 24, 24]]).expand(12, 4)
    classes = torch.zeros(12, dtype=torch.int64)

    def knows(net: object, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        return localise.inside(boxes, 32, 32).float()

    found = localise.localised(net, {"knows": knows}, images, classes, boxes)
    assert set(found) == {"knows", *localise.BASELINES}
    rows = localise.compared(found)
    for measure in localise.MEASURES:
        assert rows["knows"][measure]["mean"] == pytest.approx(1)
        assert rows["knows"][measure]["against"]["random"]["interval"][0] > 0
        assert "against" not in rows["random"][measure]
        assert rows["even"][measure]["mean"] == pytest.approx(0.25)
    # All of twelve is not for certain all.
    assert rows["knows"]["pointing"]["interval"][0] == pytest.approx(12 / (12 + 1.959964**2))
    # Noise holds as much of its energy in the box as the box has area.
    assert rows["random"]["energy"]["mean"] == pytest.approx(0.25, abs=0.05)


def test_the_peak_of_coarse_noise_is_in_the_box_as_often_as_the_box_has_area() -> None:
    """Not less often where the box lies clear of the border: enlarged, a peak there would be spread along the edge."""
    net = models["pati"](2, Options(size=32, width=0.25)).eval()
    images = torch.randn(400, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[8.0, 8, 24, 24]]).expand(400, 4)
    classes = torch.zeros(400, dtype=torch.int64)

    def coarse(net: object, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        return torch.ones(len(images), 4, 4)

    found = localise.localised(net, {"coarse": coarse}, images, classes, boxes)
    with pytest.raises(PatiError, match="'even' is reserved for a baseline map"):
        localise.localised(net, {"even": coarse}, images, classes, boxes)
    assert found["random"]["pointing"].mean().item() == pytest.approx(0.25, abs=0.06)
