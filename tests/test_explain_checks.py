"""Checks of explanations, on nets whose reasons are known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import lil_array
from scipy.sparse.linalg import spsolve
from scipy.stats import spearmanr
from torch import nn

from pati import models
from pati.errors import PatiError
from pati.explain import checks
from pati.explain.cams import explainers
from tests.support.photos import draw


class Corner(nn.Module):
    """Logits `(N, 2)`: the second one is large where the upper left quarter is bright."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        side = images.shape[2] // 2
        bright = 4 * images[:, :, :side, :side].mean((1, 2, 3))
        return torch.stack([torch.zeros_like(bright), bright], 1)


CORNER = models.Net(nn.Sequential(nn.Identity()), Corner(), minimum_size=1)
SECOND = torch.tensor([1, 1])


def bright(count: int = 2) -> torch.Tensor:
    """Photos whose upper left quarter alone is bright."""
    images = -1 + 0.1 * torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    images[:, :, :8, :8] += 2
    return images


def pointing(row: int, column: int) -> torch.Tensor:
    """Maps of a quarter of the photo."""
    maps = torch.zeros(2, 2, 2)
    maps[:, row, column] = 1
    return maps


@pytest.mark.parametrize(("measure", "sign"), [(checks.insertion, 1), (checks.deletion, -1), (checks.road, 1)])
def test_the_map_of_the_true_reason_wins(measure: object, sign: int) -> None:
    true, false = (sign * measure(CORNER, pointing(*at), bright(), SECOND) for at in ((0, 0), (1, 1)))  # type: ignore[operator]
    assert (true > false + 0.01).all()


def test_deletion_equals_counting_by_hand() -> None:
    # A pixel a step: the logit is the sum of those left, 4 · 0.25 each.
    head = nn.Sequential(nn.Flatten(), nn.Linear(12, 2, bias=False))
    with torch.no_grad():
        head[1].weight.copy_(torch.cat([torch.zeros(1, 12), torch.full((1, 12), 1 / 3)]))
    net = models.Net(nn.Sequential(nn.Identity()), head, minimum_size=1)
    images, classes = torch.ones(1, 3, 2, 2), torch.tensor([1])
    maps = torch.tensor([[[4.0, 3.0], [2.0, 1.0]]])
    found = checks.perturbation_curve(net, maps, images, classes, checks.removed, (0.25, 0.5, 0.75, 1.0))
    torch.testing.assert_close(found, torch.tensor([[3.0, 2.0, 1.0, 0.0]]).double().sigmoid())


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_likeness_equals_scipy(seed: int, levels: int) -> None:
    generator = np.random.default_rng(seed)
    one, two = generator.integers(0, levels + 1, (2, 3, 4, 5)).astype(np.float32)
    for mine, first, second in zip(checks.similarity(torch.tensor(one), torch.tensor(two)), one, two, strict=True):
        even = (np.ptp(first) == 0) + (np.ptp(second) == 0)
        expected = math.nan if even else spearmanr(first.ravel(), second.ravel()).statistic
        assert mine.item() == pytest.approx(expected, abs=1e-12, nan_ok=True)


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.1, 0.95))
def test_imputation_equals_a_sparse_solver(seed: int, share: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(2, 3, 13, 11, generator=generator)
    chosen = torch.rand(2, 13, 11, generator=generator) < share
    chosen[:, 4, 3] = False  # one to go by
    found = checks._smooth(images.double(), chosen, closeness=1e-12).numpy()
    for photo, missing, mine in zip(images.double().numpy(), chosen.numpy(), found, strict=True):
        places = {tuple(at): number for number, at in enumerate(np.argwhere(missing).tolist())}
        system, sides = lil_array((len(places), len(places))), np.zeros((len(places), 3))
        for (y, x), number in places.items():
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    near, weight = (y + dy, x + dx), 2.0 if dy == 0 or dx == 0 else 1.0
                    if (dy, dx) == (0, 0) or not (0 <= near[0] < 13 and 0 <= near[1] < 11):
                        continue
                    system[number, number] += weight
                    if near in places:
                        system[number, places[near]] -= weight
                    else:
                        sides[number] += weight * photo[:, near[0], near[1]]
        expected = photo.copy()
        if places:
            rows, columns = zip(*places, strict=True)
            expected[:, rows, columns] = spsolve(system.tocsr(), sides).reshape(len(places), 3).T
        np.testing.assert_allclose(np.where(missing, mine, photo), expected, atol=1e-3)


def test_first_pixels_are_as_many_as_asked_and_the_highest() -> None:
    maps = torch.arange(20.0).reshape(1, 4, 5)
    some, none = checks.first_pixels(maps, (0.25, 0.0))
    assert some.flatten().nonzero().flatten().tolist() == [15, 16, 17, 18, 19]
    assert not none.any()
    (even,) = checks.first_pixels(torch.zeros(1, 4, 5), [0.5])
    assert even.sum() == 10
    assert not even.flatten()[:10].all()  # not one end of the photo first


@pytest.fixture(scope="module")
def trained() -> tuple[models.Net, torch.Tensor, torch.Tensor]:
    """A small net that tells drawn circles from squares, and photos of both."""
    pictures = [np.asarray(draw(kind, seed, 32)) for seed in range(48) for kind in ("circle", "square")]
    images = torch.tensor(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    classes = torch.tensor([0, 1]).repeat(48)
    torch.manual_seed(0)
    net = models.build("pati", 2, models.Options(width=0.5, size=32), seed=0)
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(net(images), classes).backward()
        optimizer.step()
    net.eval()
    assert (net(images).argmax(1) == classes).float().mean() > 0.9
    return net, images[:24], classes[:24]


@pytest.mark.slow
def test_an_edge_detector_passed_off_as_a_map_is_found_out(
    trained: tuple[models.Net, torch.Tensor, torch.Tensor],
) -> None:
    net, images, classes = trained
    maps = checks.edges(net, images, classes)
    forgotten = checks.parameter_randomisation(net, checks.edges, maps, images, classes)
    assert all((some > 0.999).all() for some in forgotten.values())


def test_grad_cam_forgets_with_the_net(trained: tuple[models.Net, torch.Tensor, torch.Tensor]) -> None:
    net, images, classes = trained
    before = [tensor.clone() for tensor in net.state_dict().values()]
    explain = explainers["grad-cam"]
    forgotten = checks.parameter_randomisation(net, explain, explain(net, images, classes), images, classes)
    assert {what: some.shape for what, some in forgotten.items()} == dict.fromkeys(("head", "all"), (24, checks.DRAWS))
    assert forgotten["all"].nanmean() < 0.4
    draws = forgotten["all"].nanmean(0)
    draws = draws[~draws.isnan()]
    assert draws.max() - draws.min() > 0.01  # the nets are drawn anew
    assert all(torch.equal(one, two) for one, two in zip(before, net.state_dict().values(), strict=True))


@pytest.mark.slow
def test_all_checks_of_a_good_map_a_bad_one_and_a_cheat(
    trained: tuple[models.Net, torch.Tensor, torch.Tensor],
) -> None:
    bright_ones, second = bright(16), torch.ones(16, dtype=torch.int64)

    def pointed(row: int, column: int) -> checks.Explainer:
        return lambda net, images, classes: pointing(row, column)[:1].expand(len(images), -1, -1)

    def checked(net: models.Net, explain: checks.Explainer, *photos: torch.Tensor) -> dict[str, Any]:
        return checks.summary(checks.values(net, explain, *photos))

    right, wrong = (checked(CORNER, pointed(*at), bright_ones, second) for at in ((0, 0), (1, 1)))
    assert set(right["beyond_centre"]["better"]) >= {"deletion", "road"}
    assert set(wrong["beyond_centre"]["worse"]) >= {"deletion", "road"}
    for name, baseline in (("insertion", "random"), ("deletion", "centre"), ("road", "centre")):
        assert right["measures"][name]["against"][baseline]["better"] is True
        assert wrong["measures"][name]["against"][baseline]["better"] is False
        for found in (right, wrong):
            measure = found["measures"][name]
            gain = measure["method"]["mean"] - measure["edges"]["mean"]
            gain = gain if measure["high_is_good"] else -gain
            assert measure["against"]["edges"]["mean"] == pytest.approx(gain)
    cheat, fair = (checked(trained[0], how, *trained[1:]) for how in (checks.edges, explainers["grad-cam"]))
    assert cheat["depends"] is False
    assert fair["depends"] is True
    assert fair["photos"] == 24
    assert fair["even"] < 12
    assert fair["forgotten"]["all"]["draws"] > 1
    low, high = fair["steadiness"]["interval"]
    assert low < fair["steadiness"]["mean"] < high
    itself = cheat["measures"]["road"]["against"]["edges"]
    assert (itself["mean"], itself["better"]) == (0, None)
    assert itself["interval"][0] == -itself["interval"][1] < 0  # other photos might differ


@pytest.mark.slow
def test_empty_maps_are_no_change(trained: tuple[models.Net, torch.Tensor, torch.Tensor]) -> None:
    net, images, classes = trained
    pixels = images.shape[2:]

    def only_once_learnt(asked: models.Net, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """A pattern of no meaning, and nothing where the net has forgotten."""
        pattern = torch.arange(64.0).reshape(1, 8, 8).expand(len(images), 8, 8)
        return pattern if asked is net else torch.zeros_like(pattern)

    found = checks.summary(checks.values(net, only_once_learnt, images, classes))
    assert found["forgotten"]["all"] == {"mean": None, "interval": [None, None], "photos": 0, "draws": 0}
    assert found["depends"] is None
    assert found["even"] == 0
    even = checks.summary(checks.values(net, lambda _, images, __: torch.zeros(len(images), *pixels), images, classes))
    assert even["depends"] is False
    assert even["even"] == len(images)


def test_a_method_of_chance_with_some_empty_maps_is_not_called_alike() -> None:
    generator = torch.Generator().manual_seed(0)

    def chance() -> torch.Tensor:
        maps = torch.rand(100, 4, 4, generator=generator)
        return maps * (torch.rand(100, 1, 1, generator=generator) < 0.4)

    found = checks.mean_similarity(torch.stack([checks.similarity(chance(), chance()) for _ in range(10)], 1))
    assert abs(found["mean"]) < 0.1
    assert checks.depends(found) is True


def test_a_net_whose_values_overflow_tells_nothing(trained: tuple[models.Net, torch.Tensor, torch.Tensor]) -> None:
    net, images, classes = trained

    def maps(asked: models.Net, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        if asked is not net:
            raise PatiError("the maps are not finite")
        return images.abs().mean(1)

    found = checks.parameter_randomisation(net, maps, maps(net, images, classes), images, classes)
    assert all(some.isnan().all() for some in found.values())


def test_a_likeness_counts_photos_that_have_one() -> None:
    found = torch.rand(12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found[2] = math.nan
    found[3, 1] = math.nan
    mean_similarity = checks.mean_similarity(found)
    assert (mean_similarity["photos"], mean_similarity["draws"]) == (11, 3)
    assert mean_similarity["mean"] == pytest.approx(np.nanmean(found.numpy()))
    assert mean_similarity["interval"][0] < mean_similarity["mean"] < mean_similarity["interval"][1]
    assert checks.mean_similarity(found[:8])["mean"] is None
    found[:, 1:] = math.nan
    lonely = checks.mean_similarity(found)
    assert (lonely["draws"], lonely["interval"]) == (1, [None, None])  # one net of several tells of no other
    assert checks.depends(lonely) is None
    assert checks.mean_similarity(found[:, :1])["interval"][0] is not None
    ends = ([0.1, 0.4], [0.4, 0.6], [0.5, 0.9], [None, None])
    assert [checks.depends({"interval": pair}) for pair in ends] == [True, None, False, None]


def test_noise_is_as_fine_as_the_maps_and_the_same_for_the_same_photo() -> None:
    images, classes = torch.randn(3, 3, 16, 16), torch.zeros(3, dtype=torch.int64)
    made = checks.baselines(torch.zeros(3, 5, 7))
    assert set(made) == set(checks.BASELINES)
    maps = made["random"](CORNER, images, classes)
    assert maps.shape == (3, 5, 7)
    assert torch.equal(made["random"](CORNER, images[1:2], classes[1:2])[0], maps[1])
    assert not torch.equal(maps[0], maps[1])


def test_shuffling_goes_as_deep_as_asked(trained: tuple[models.Net, torch.Tensor, torch.Tensor]) -> None:
    net = trained[0]
    for depth in (0, 1, len(net.stages)):
        made = checks.shuffled(net, depth)
        same = [
            all(torch.equal(one, two) for one, two in zip(a.parameters(), b.parameters(), strict=True))
            for a, b in zip(net.stages, made.stages, strict=True)
        ]
        assert same == [True] * (len(net.stages) - depth) + [False] * depth
        weights = [part.state_dict().values() for part in (net.head, made.head)]
        for one, two in zip(*weights, strict=True):
            assert torch.equal(one.flatten().sort().values, two.flatten().sort().values)
        assert not torch.equal(net.head[-1].weight, made.head[-1].weight)


def test_a_map_that_moves_with_the_photo_is_steady() -> None:
    images = torch.randn(3, 3, 50, 50, generator=torch.Generator().manual_seed(0)).cumsum(2).cumsum(3)
    classes = torch.zeros(3, dtype=torch.int64)
    assert (checks.shift_stability(CORNER, checks.edges, images, classes) > 0.9).all()
    assert (checks.shift_stability(CORNER, checks.noise(50, 50), images, classes).abs() < 0.2).all()
