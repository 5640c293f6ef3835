"""Clouds: bodies have the shape of their pictures, and cameras see what a slow rendering sees.

Run: pytest tests/data/test_data_clouds.py
"""

import numpy as np
import pytest

from stillroom.data import load
from stillroom.data.emoji.base_table import cast
from stillroom.data.emoji.clouds import FLOOR, MARGIN, Plan, body, clouds, project, visible

pytestmark = pytest.mark.usefixtures("emoji_packages")


@pytest.fixture(scope="module")
def few():
    return cast("train", shared=True, only=None, count=8)


@pytest.fixture(scope="module")
def rows():
    return list(load("emoji", view="clouds", split="test", limit=6))


def alpha_of(kind):
    return np.asarray(kind.picture())[..., 3] > 127


def test_rows_hold_points_and_what_cameras_see(rows):
    for row in rows:
        points, colours = np.array(row["points"]), np.array(row["colours"], "uint8")
        assert points.shape == colours.shape == (1024, 3)
        length = np.sqrt((points**2).sum(1))
        assert length.max() == pytest.approx(1, abs=1e-5)
        assert set(row["parts"]) == {1 + row["label"]}, "a lone body has no floor"
        assert row["labels"] == [row["label"]]
        assert len(row["views"]) == len(row["visible"]) == len(row["cameras"]) == 4
        for view, shown in zip(row["views"], row["visible"], strict=True):
            shown, view = np.asarray(shown).astype(int), np.asarray(view)
            assert shown.shape == (32, 32)
            assert (view[shown == 0] == 255).all()
            assert (view[shown > 0] == colours[shown[shown > 0] - 1]).all()
            assert (shown > 0).mean() > 0.02
    assert {form for row in rows for form in row["forms"]} == {"relief", "solid"}


def test_cameras_stand_around(rows):
    for row in rows:
        azimuths = sorted(camera["azimuth"] for camera in row["cameras"])
        assert np.diff(azimuths) == pytest.approx([90, 90, 90], abs=0.1)
        assert all(10 <= camera["elevation"] <= 35 for camera in row["cameras"])


def test_projections_by_hand():
    axes = np.eye(3)
    half, step = 20, 20 / MARGIN
    front = project(axes, 0, 0, 40)
    assert front == pytest.approx(np.array([[half + step, half, 0], [half, half - step, 0], [half, half, 1]]))
    side = project(axes, 90, 0, 40)
    assert side == pytest.approx(np.array([[half, half, 1], [half, half - step, 0], [half - step, half, 0]]))
    above = project(axes, 0, 90, 40)
    assert above == pytest.approx(np.array([[half + step, half, 0], [half, half, 1], [half, half + step, 0]]))


def test_projections_keep_lengths_and_hands():
    points = np.random.default_rng(0).normal(size=(20, 3))
    for azimuth, elevation in ((30, 20), (200, 35)):
        seen = (project(points, azimuth, elevation, 2) - [1, 1, 0]) * [MARGIN, -MARGIN, 1]
        assert np.sqrt((seen**2).sum(1)) == pytest.approx(np.sqrt((points**2).sum(1)))
        turn = np.linalg.lstsq(points, seen, rcond=None)[0]
        assert np.linalg.det(turn) == pytest.approx(1)


def test_the_nearest_point_is_seen():
    """Against a loop over pixels and points: of those whose disc covers a pixel, the nearest."""
    points = np.random.default_rng(1).uniform(-0.5, 0.5, (60, 3))
    shown = visible(points, 40, 20, 40)
    seen = project(points, 40, 20, 40)
    for row in range(40):
        for column in range(40):
            near = [
                (point[2], place)
                for place, point in enumerate(seen)
                if (int(point[1]) - row) ** 2 + (int(point[0]) - column) ** 2 <= 1
            ]
            assert shown[row, column] == (1 + max(near)[1] if near else 0)


def test_a_relief_is_its_picture_cut_out(few):
    for kind in few.kinds[:4]:
        points, colours = body(kind, "relief", 4000, np.random.default_rng(0))
        alpha = alpha_of(kind)
        top = alpha.any(1).nonzero()[0].max() + 1
        column = ((points[:, 0] + 0.5) * 136).astype(int).clip(0, 135)
        row = (top - points[:, 1] * 136).astype(int).clip(0, 135)
        grown = np.pad(alpha, 3)
        grown = np.any([grown[a : a + 136, b : b + 136] for a in range(7) for b in range(7)], axis=0)
        assert grown[row, column].mean() > 0.99
        assert points[:, 1].min() == pytest.approx(0, abs=0.05)
        assert points[:, 2].min() >= -0.0751
        assert points[:, 2].max() <= 0.1751
        covered = np.zeros((17, 17), bool)
        covered[row // 8, column // 8] = True
        full = alpha.reshape(17, 8, 17, 8).all((1, 3))
        assert covered[full].mean() > 0.9
        picture = np.asarray(kind.picture(), "float32")
        inside = alpha[row, column]
        assert np.abs(picture[row, column, :3] - colours)[inside].mean() < 25


def test_a_solid_is_the_same_from_all_sides(few):
    for kind in few.kinds[:4]:
        points, _ = body(kind, "solid", 6000, np.random.default_rng(0))
        alpha = alpha_of(kind)
        axis = (alpha * np.arange(136)).sum() / alpha.sum() + 0.5
        half = np.array([max((abs(row.nonzero()[0] + 0.5 - axis)), default=0) for row in alpha]) / 136
        top = alpha.any(1).nonzero()[0].max() + 1
        place = (top - points[:, 1] * 136).astype(int).clip(0, 135)
        radius = np.hypot(points[:, 0], points[:, 2])
        assert np.median(np.abs(radius - half[place])) < 0.02
        angle = np.arctan2(points[:, 2], points[:, 0])
        counts = np.histogram(angle, 8, (-np.pi, np.pi))[0]
        assert counts.min() > 0.85 * 6000 / 8


def test_several_bodies_stand_on_a_floor(few):
    plan = Plan(points=900, objects=(2, 3), shared=True)
    for found in clouds(few, plan, "train", 6, 0):
        assert found.points.shape == (900, 3)
        floor = found.points[found.parts == FLOOR]
        assert len(floor) == 225
        assert np.ptp(floor[:, 1]) < 1e-5
        assert found.points[:, 1].min() == pytest.approx(floor[0, 1], abs=0.05)
        assert set(found.parts) == {FLOOR, *(1 + kind.label for kind in found.kinds)}


def test_shared_clouds_of_several_bodies_share_no_combination(few):
    plan = Plan(points=64, views=1, objects=(2, 2), shared=True)
    found = {
        split: {
            tuple(sorted(zip((kind.id for kind in one.kinds), one.forms, strict=True)))
            for one in clouds(few, plan, split, 60, 0)
        }
        for split in ("train", "validation", "test")
    }
    assert not found["train"] & found["test"]
    assert not found["train"] & found["validation"]
    assert not found["validation"] & found["test"]


def test_a_longer_draw_begins_with_the_shorter(rows):
    again = load("emoji", view="clouds", split="test", limit=2)
    assert again["points"][:] == [row["points"] for row in rows[:2]]
    assert load("emoji", view="clouds", split="test", limit=2, seed=1)["points"][:] != again["points"][:]
