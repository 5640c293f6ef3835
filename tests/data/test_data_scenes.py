"""Scenes and clips of emoji: what is said of them is what the pixels show, and splits share no picture or composition.

Run: pytest tests/data/test_data_scenes.py
"""

import random
import re
import time

import numpy as np
import pytest

from stillroom.data import check, load, recognise
from stillroom.data.emoji import clips, scenes
from stillroom.data.emoji.base_table import Cast, Kind, atlas, cast
from stillroom.data.emoji.colours import PALETTE, main_colour
from stillroom.data.emoji.scene_words import caption, plural, questions, with_article
from stillroom.data.emoji.scenes import Scene, Style, Thing

pytestmark = pytest.mark.usefixtures("emoji_packages")
SPLITS = ("train", "validation", "test")
SIZE = 64


@pytest.fixture(scope="module")
def rows():
    return list(load("emoji", view="scenes", split="train", limit=40))


@pytest.fixture(scope="module")
def few():
    return cast("train", shared=True, only=None, count=8)


def picked(few, *places):
    """A scene of kinds at places (number, x, y, side)."""
    things = tuple(Thing(few.kinds[number], "", x, y, side, 0) for number, x, y, side in places)
    return Scene("blue", things, Style(size=SIZE), 0)


# --- masks, boxes, poses ---


def test_boxes_and_masks_agree_with_each_other(rows):
    for row in rows:
        instances, semantics = np.asarray(row["instances"]), np.asarray(row["semantics"])
        assert instances.shape == semantics.shape == (SIZE, SIZE)
        assert set(np.unique(instances)) == set(range(len(row["boxes"]) + 1))
        for number, ((x0, y0, x1, y1), label) in enumerate(zip(row["boxes"], row["labels"], strict=True), 1):
            mine = instances == number
            assert mine[y0:y1, x0:x1].sum() == mine.sum()
            assert mine[y0, x0:x1].any() and mine[y1 - 1, x0:x1].any(), "the box is tight"
            assert mine[y0:y1, x0].any() and mine[y0:y1, x1 - 1].any()
            assert (semantics[mine] == label + 1).all()
        assert (semantics[instances == 0] == 0).all()


def test_objects_do_not_touch_and_are_not_tiny(rows):
    for row in rows:
        boxes = row["boxes"]
        for place, (x0, y0, x1, y1) in enumerate(boxes):
            assert (x1 - x0) * (y1 - y0) >= 30
            for a0, b0, a1, b1 in boxes[place + 1 :]:
                assert x1 <= a0 or a1 <= x0 or y1 <= b0 or b1 <= y0


def test_columns_of_objects_go_together(rows):
    table = {row["emoji"]: row for row in atlas().remove_columns("png")}
    classes = load("emoji", view="scenes", split="train", limit=40).features["labels"].feature.names
    for row in rows:
        assert (
            len({len(row[name]) for name in ("boxes", "labels", "names", "emoji", "groups", "colours", "poses")}) == 1
        )
        assert 1 <= len(row["boxes"]) <= 4
        assert [table[text]["name"] for text in row["emoji"]] == row["names"]
        assert [table[text]["group"] for text in row["emoji"]] == row["groups"]
        assert [classes[label] for label in row["labels"]] == row["groups"]
    assert {len(row["boxes"]) for row in rows} == {1, 2, 3, 4}


def test_the_background_is_one_colour_and_the_rest_is_not(rows):
    for row in rows[:10]:
        image, instances = np.asarray(row["image"], "float32"), np.asarray(row["instances"])
        shade = np.array(PALETTE[row["background"]]) + (255 - np.array(PALETTE[row["background"]])) // 3
        far = ~_grown(instances > 0, 3)
        assert far.any()
        assert (image[far] == shade).all(-1).mean() > 0.97, "all but a faint shine of pictures that have one"
        assert np.abs(image[instances > 0] - shade).mean() > 10


def _grown(mask, steps):
    for _ in range(steps):
        padded = np.pad(mask, 1)
        mask = padded[1:-1, 1:-1] | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    return mask


def test_a_pose_tells_where_each_point_of_the_picture_is(few):
    """Every pixel near the thing is looked up in the picture by the formula's inverse, written out here."""
    kind = few.kinds[0]
    picture = np.asarray(kind.picture())[..., 3] > 127
    for angle in (0, 40, -75):
        thing = Thing(kind, "", 30, 36, 34, angle)
        mask = Scene("red", (thing,), Style(size=SIZE), 0).instances == 1
        y, x = np.mgrid[:SIZE, :SIZE] + 0.5
        a = np.radians(angle)
        u = (np.cos(a) * (x - 30) + np.sin(a) * (y - 36)) / 34
        v = (-np.sin(a) * (x - 30) + np.cos(a) * (y - 36)) / 34
        inside = (abs(u) < 0.5) & (abs(v) < 0.5)
        places = [((part[inside] + 0.5) * 136).astype(int) for part in (v, u)]
        expected = np.zeros((SIZE, SIZE), bool)
        expected[inside] = picture[places[0], places[1]]
        assert (mask & expected).sum() / (mask | expected).sum() > 0.88


# --- words ---

CLEAR, LARGER = 0.15, 1.5


def facts(row):
    """What is true of a scene, by the boxes and masks alone: names -> (middle x, middle y, pixels), if once there."""
    instances = np.asarray(row["instances"])
    return {
        name: ((x0 + x1) / 2, (y0 + y1) / 2, (instances == number).sum())
        for number, (name, (x0, y0, x1, y1)) in enumerate(zip(row["names"], row["boxes"], strict=True), 1)
        if row["names"].count(name) == 1
    }


def answered(row, question, known):
    """The answer by other means: None where the question must not have been asked."""
    bare = re.sub(r"\b(a|an) (?=\w)", "", question)
    if found := re.fullmatch(r"(?:Is|Are) the (.+) (to the left of|to the right of|above|below) the (.+)\?", question):
        (x, y, _), (a, b, _) = known[found[1]], known[found[3]]
        apart = {"to the left of": a - x, "to the right of": x - a, "above": b - y, "below": y - b}[found[2]]
        return None if abs(apart) < CLEAR * SIZE else "yes" if apart > 0 else "no"
    if found := re.fullmatch(r"What is (to the left of|to the right of|above|below) the (.+)\?", question):
        (other,) = (name for name in known if name != found[2])
        return other if answered(row, f"Is the {other} {found[1]} the {found[2]}?", known) == "yes" else None
    if found := re.fullmatch(r"Which is larger, the (.+) or the (.+)\?", question):
        first, second = known[found[1]][2], known[found[2]][2]
        return found[1] if first >= LARGER * second else found[2] if second >= LARGER * first else None
    if question == "How many objects are there?":
        return str(len(row["boxes"]))
    if found := re.fullmatch(r"How many times does the picture show (.+)\?", bare):
        return str(sum(re.sub(r"\b(a|an) (?=\w)", "", name) == found[1] for name in row["names"]))
    if found := re.fullmatch(r"Does the picture show (.+)\?", bare):
        return "yes" if found[1] in [re.sub(r"\b(a|an) (?=\w)", "", name) for name in row["names"]] else "no"
    if question == "What colour is the background?":
        return row["background"]
    if found := re.fullmatch(r"What colour (?:is|are) the (.+)\?", question):
        return row["colours"][row["names"].index(found[1])]
    assert question == "What is in the picture?" and len(row["names"]) == 1
    return row["names"][0]


def test_every_answer_is_what_the_masks_show(rows):
    about = set()
    for row in rows:
        known = facts(row)
        assert {item["answer"] for item in row["questions"] if item["about"] == "presence"} == {"yes", "no"}
        for item in row["questions"]:
            about.add(item["about"])
            assert item["answer"] == answered(row, item["question"], known), item
    assert about == {"number", "kind", "presence", "left", "right", "above", "below", "colour", "size"}


def test_yes_is_as_frequent_as_no():
    items = [item for row in load("emoji", view="scenes", limit=100)["questions"] for item in row]
    sides = [item["answer"] for item in items if item["about"] in ("left", "right", "above", "below")]
    assert 0.35 < sides.count("yes") / len(sides) < 0.65


def test_captions_say_what_is_there(few):
    name = [kind.name for kind in few.kinds]
    one, other = with_article(name[0]), with_article(name[1])
    assert caption(picked(few, (0, 32, 32, 40))) == f"{one} on a blue background"
    aside = caption(picked(few, (0, 14, 30, 20), (1, 48, 32, 20)))
    assert aside == f"{one} to the left of {other} on a blue background"
    aside = caption(picked(few, (0, 48, 30, 20), (1, 14, 32, 20)))
    assert aside == f"{one} to the right of {other} on a blue background"
    assert caption(picked(few, (0, 32, 50, 20), (1, 33, 14, 20))) == f"{one} below {other} on a blue background"
    assert caption(picked(few, (0, 14, 30, 20), (0, 48, 32, 20))) == f"two {plural(name[0])} on a blue background"
    three = caption(picked(few, (0, 14, 14, 20), (1, 48, 14, 20), (0, 30, 48, 20)))
    assert three == f"two {plural(name[0])} and {other} on a blue background"


def test_a_painted_thing_is_called_by_its_paint(few):
    kind = Kind("x", "x", "red apple", "Food & Drink", "red", 0, few.kinds[0].png)
    found = Scene("blue", (Thing(kind, "green", 32, 32, 40, 0),), Style(size=SIZE, tint=True), 0)
    assert caption(found) == "a green apple on a blue background"
    asked = questions(found, Cast((kind,), ("red apple",)), random.Random(0))
    assert {"about": "kind", "question": "What is in the picture?", "answer": "green apple"} in asked


@pytest.mark.parametrize(
    ("name", "one", "many"),
    [
        *(("dog", "a dog", "dogs"), ("apple", "an apple", "apples"), ("glasses", "glasses", "glasses")),
        *(("fox", "a fox", "foxes"), ("cherry", "a cherry", "cherries"), ("key", "a key", "keys")),
        ("face with crossed-out eyes", "a face with crossed-out eyes", "faces with crossed-out eyes"),
        ("person playing handball", "a person playing handball", "persons playing handball"),
        *(("dress", "a dress", "dresses"), ("bus", "a bus", "buses"), ("peach", "a peach", "peaches")),
    ],
)
def test_articles_and_plurals(name, one, many):
    assert with_article(name) == one
    assert plural(name) == many


# --- style, splits, seeds ---


def test_tint_and_clutter_change_what_is_seen(few):
    found = list(scenes.scenes(few, Style(tint=True, objects=(1, 1)), "train", 30, 0))
    named = 0
    for one in found:
        thing = one.things[0]
        layer = thing.layer(SIZE)
        assert thing.paint != one.background
        named += main_colour(layer) == thing.paint
    assert named > 15, "most are of that colour; very dark and light pictures are not; by chance it would be 4"
    shades = {}
    for background in ("flat", "clutter"):
        one = next(scenes.scenes(few, Style(background=background), "train", 1, 0))
        shades[background] = len(np.unique(np.asarray(one.image)[one.instances == 0], axis=0))
    assert shades["clutter"] > 5 * shades["flat"]


def test_splits_show_pictures_of_their_own():
    split_of = {row["emoji"]: row["split"] for row in atlas().remove_columns("png")}
    for view, column in (("scenes", "emoji"), ("clips", "emoji"), ("clouds", "emoji")):
        for split in SPLITS:
            found = load("emoji", view=view, split=split, limit=8)[column]
            shown = {text for value in found for text in ([value] if isinstance(value, str) else value)}
            assert {split_of[text] for text in shown} == {split}


def test_shared_scenes_share_pictures_but_no_combination():
    split_of = {row["emoji"]: row["split"] for row in atlas().remove_columns("png")}
    shown, combined = {}, {}
    for split in SPLITS:
        found = load("emoji", view="scenes", split=split, shared=True, kinds=4, objects=[1, 2], limit=120)
        found = found.select_columns(["emoji", "background", "labels"])
        shown[split] = {text for row in found for text in row["emoji"]}
        combined[split] = {(row["background"], *sorted(row["emoji"])) for row in found}
        assert len(found.features["labels"].feature.names) == 4
    assert shown["train"] == shown["validation"] == shown["test"]
    assert {split_of[text] for text in shown["train"]} == {"train"}
    assert not combined["train"] & combined["test"]
    assert not combined["train"] & combined["validation"]
    assert not combined["validation"] & combined["test"]


def test_a_longer_draw_begins_with_the_shorter(rows):
    again = list(load("emoji", view="scenes", split="train", limit=5))
    assert [row["image"].tobytes() for row in again] == [row["image"].tobytes() for row in rows[:5]]
    assert [row["questions"] for row in again] == [row["questions"] for row in rows[:5]]
    other = load("emoji", view="scenes", split="train", limit=5, seed=1)
    assert other["caption"][:] != [row["caption"] for row in again]


def test_two_thousand_scenes_take_less_than_half_a_minute():
    shown, style = cast("train", shared=False, only=None, count=None), Style()
    began = time.process_time()
    assert sum(1 for _ in scenes.rows(shown, style, "train", 100, 7)) == 100
    assert (time.process_time() - began) * 20 < 30


# --- single objects ---


def test_objects_are_labelled_images_of_the_same_classes_everywhere():
    parts = [load("emoji", view="objects", split=split, kinds=5, limit=40) for split in SPLITS]
    images = [{row["image"].tobytes() for row in part} for part in parts]
    assert not images[0] & images[1] | images[0] & images[2] | images[1] & images[2]
    for part in parts:
        assert recognise(part.column_names) == "labelled-image"
        assert part.features["label"].names == parts[0].features["label"].names
        assert set(part["label"]) == set(range(5))
    for row in parts[0]:
        check(row, "labelled-image", "emoji", classes=parts[0].features["label"].names)
        assert parts[0].features["label"].names[row["label"]] == row["name"]
        assert np.argwhere(np.asarray(row["mask"]) == 1).min(0).tolist() == [row["box"][1], row["box"][0]]


# --- clips ---


@pytest.mark.parametrize("motion", clips.MOTIONS)
def test_boxes_move_as_the_label_says(few, motion):
    found = [one for one in clips.clips(few, Style(size=48), 6, "train", 60, 0) if one.motion == motion][:5]
    assert found
    for one in found:
        boxes = np.array([frame.boxes[0] for frame in one.frames], "float32")
        assert len(boxes) == 6
        x, y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
        area = np.array([frame.areas[0] for frame in one.frames], "float32")
        moves = {"left": -np.diff(x), "right": np.diff(x), "up": -np.diff(y), "down": np.diff(y)}
        if motion in moves:
            assert (moves[motion] >= 0).all() and moves[motion].sum() >= 0.3 * 48
            assert np.ptp(y if motion in ("left", "right") else x) <= 2
        else:
            assert max(np.ptp(x), np.ptp(y)) <= 0.15 * 48
        if motion in ("grow", "shrink"):
            assert (np.diff(area) * (1 if motion == "grow" else -1) > 0).all()
        else:
            assert area.max() / area.min() < 1.6
        angles = np.diff([frame.things[0].angle for frame in one.frames])
        assert (angles > 10).all() if motion == "rotate" else (angles == 0).all()


def test_clips_stay_in_the_picture_and_keep_their_background(few):
    for one in clips.clips(few, Style(size=32, background="clutter"), 4, "train", 30, 1):
        thing_sides = [(frame.things[0].x, frame.things[0].y, frame.things[0].reach) for frame in one.frames]
        assert all(min(x, y) - reach > -0.01 and max(x, y) + reach < 32.01 for x, y, reach in thing_sides)
        free = np.all([frame.instances == 0 for frame in one.frames], axis=0)
        free = ~_grown(~free, 2)
        images = [np.asarray(frame.image)[free] for frame in one.frames]
        assert all((image == images[0]).all(-1).mean() > 0.97 for image in images)


def test_rows_of_clips():
    part = load("emoji", view="clips", split="test", limit=6, frames=5, size=24, shared=True, kinds=3)
    assert len(part) == 6
    for row in part:
        assert [frame.size for frame in row["frames"]] == [(24, 24)] * 5
        assert len(row["boxes"]) == 5
        assert part.features["object"].names[row["object"]] == row["name"]
        motion = part.features["label"].names[row["label"]]
        assert row["caption"].startswith(f"the {row['name']} {clips.SAID[motion]} on a")
        assert row["caption"].endswith(f"{row['background']} background")
    shown = cast("train", shared=True, only=None, count=2)
    found = {
        split: {one.combination for one in clips.clips(shown, Style(shared=True), 2, split, 80, 0)} for split in SPLITS
    }
    assert not found["train"] & found["test"]
    assert not found["train"] & found["validation"]
