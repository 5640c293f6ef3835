"""Emoji: pictures as Pillow draws them, names as CLDR has them, and splits that no family of emoji crosses.

Run: pytest tests/data/test_data_emoji.py
"""

import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont, features

from stillroom.data import check, load, recognise
from stillroom.data.emoji import annotations as emoji_names
from stillroom.data.emoji import base_table as emoji_atlas
from stillroom.data.emoji import captions_of
from stillroom.data.emoji.annotations import Said, labels, languages, names
from stillroom.data.emoji.base_table import DRAWN, atlas, cast, opened
from stillroom.data.emoji.colours import PALETTE, main_colour, painted
from stillroom.data.emoji.families import NEAR, base_of, look_alikes, without_colour
from stillroom.data.emoji.font import FONT, EmojiFont
from stillroom.errors import UserError

pytestmark = pytest.mark.usefixtures("emoji_packages")
SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def table():
    return atlas().remove_columns("png").to_list()


def refusal(**arguments):
    with pytest.raises(UserError) as caught:
        load("emoji", **arguments)
    return str(caught.value)


# --- the font ---


@pytest.mark.skipif(
    not features.check("raqm"), reason="Pillow needs libraqm to draw sequences: apt-get install libfribidi0"
)
@pytest.mark.parametrize("text", ["😀", "🍎", "👩🏽‍🚀", "🇩🇪", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "🏳‍🌈", "3⃣", "👨‍👩‍👧‍👦"])
def test_pictures_are_what_pillow_draws(text):
    font = ImageFont.truetype(FONT, 109, layout_engine=ImageFont.Layout.RAQM)
    drawn = Image.new("RGBA", (136, 128))
    ImageDraw.Draw(drawn).text((0, 0), text, font=font, embedded_color=True, anchor="lt")
    ours = Image.open(io.BytesIO(EmojiFont().png(text))).convert("RGBA")
    first, second = (np.asarray(picture.convert("RGBa"), "float32") for picture in (drawn, ours))
    assert np.abs(first - second).mean() < 1


def test_what_has_no_picture_is_none():
    font = EmojiFont()
    assert [font.png(text) for text in ("A", "", "😀😀", "\u4e00")] == [None] * 4
    assert font.png("👩‍🦄") is None, "a sequence that is no emoji"


def test_missing_packages_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(emoji_atlas, "FONT", tmp_path / "none.ttf")
    assert refusal().endswith("apt-get install fonts-noto-color-emoji")
    with pytest.raises(UserError, match="apt-get install fonts-noto-color-emoji"):
        EmojiFont(tmp_path / "none.ttf")
    monkeypatch.undo()
    monkeypatch.setattr(emoji_atlas, "CLDR", tmp_path)
    assert refusal(view="scenes").endswith("apt-get install unicode-cldr-core")
    monkeypatch.setattr(emoji_names, "CLDR", tmp_path)
    with pytest.raises(UserError, match="apt-get install unicode-cldr-core"):
        languages()


# --- names and groups ---


def test_names_are_cldrs():
    assert names("en")["🍎"] == Said("red apple", ("apple", "fruit", "red"))
    assert names("de")["🍎"].name == "roter Apfel"
    assert names("fr")["🇩🇪"].name == "drapeau\u202f: Allemagne"
    assert names("ja")["🐶"].name == "イヌの顔"
    assert len(languages()) > 100
    assert "root" not in languages()


def test_regions_say_what_differs_and_inherit_the_rest():
    assert names("en_GB")["."].name == "full stop"
    assert names("en")["."].name == "period"
    assert names("en_GB")["🍎"] == names("en")["🍎"]
    assert not set(names("zh_Hant")) - set(names("zh_Hant_HK"))
    with pytest.raises(UserError, match="no names in 'en-GB'; did you mean 'en_GB'"):
        names("en-GB")


def test_groups_are_listed_inherited_or_the_neighbours():
    found = labels({text: base_of(text) for text in ("🍎", "🌵", "👩🏽‍🚀", "🪣", "🫠", "🇩🇪", "🧏🏿‍♂")})
    assert found["🍎"] == ("Food & Drink", "food-fruit")
    assert found["🌵"] == ("Animals & Nature", "plant-other"), "inside the range 🌱-🌵"
    assert found["👩🏽‍🚀"][1] == "person-role", "as the astronaut without a tone"
    assert found["🪣"][1] == "household", "of 2020: after the tooth brush and the broom in the order"
    assert found["🇩🇪"] == ("Flags", "country-flag")
    assert found["🧏🏿‍♂"][1] == "person-gesture"
    assert "🫠" not in found, "newer than the order"


# --- families and splits ---


@pytest.mark.parametrize(
    ("text", "base"),
    [
        *(
            ("😀", "😀"),
            ("👍🏽", "👍"),
            ("👩🏿‍🚀", "🧑‍🚀"),
            ("🏃‍♀", "🏃"),
            ("👨‍🦰", "🧑"),
            ("👵🏻", "🧓"),
            ("👫", "🧑‍🤝‍🧑"),
        ),
        *(("👩‍❤‍💋‍👨", "💏"), ("👨‍👩‍👧‍👦", "👪"), ("👸🏾", "🫅"), ("🫱🏻‍🫲🏿", "🤝"), ("🐻‍❄", "🐻‍❄"), ("🇩🇪", "🇩🇪")),
    ],
)
def test_variants_have_one_base(text, base):
    assert base_of(text) == base


def test_look_alikes_are_found_by_their_pixels():
    rows = np.random.default_rng(0).uniform(0, 1, (700, 12)).astype("float32")
    rows[600] = rows[3] + 0.05
    rows[5] = rows[4] - 0.5
    slow = []
    for place in range(700):
        distance = np.sqrt(((rows[place] - rows) ** 2).mean(1))
        slow += [(place, int(other)) for other in np.nonzero(distance < NEAR)[0] if other > place]
    assert look_alikes(rows) == slow
    assert (3, 600) in slow


def test_families_hold_what_belongs_together(table):
    family = {row["emoji"]: row["family"] for row in table}
    for together in ("❤💙🖤", "🕐🕧🕖", "📗📘📙", "🍎🍏"):
        assert len({family[text] for text in together}) == 1
    assert family["🇷🇴"] == family["🇹🇩"]
    assert family["👩🏿‍🚀"] == family["👨‍🚀"]
    assert [text for text, first in family.items() if first == family["🇩🇪"]] == ["🇩🇪"]
    assert len(set(family.values())) > 1200, "most emoji stand alone"
    assert max(Counter(family[row["emoji"]] for row in table if not row["variant"]).values()) < 30


def test_nothing_crosses_splits(table):
    assert len({row["id"] for row in table}) == len({row["emoji"] for row in table}) == len(table) > 3000
    for column in ("family", "base"):
        split_of = {}
        for row in table:
            assert split_of.setdefault(row[column], row["split"]) == row["split"]
    parts = {split: {row["name"] for row in table if row["split"] == split} for split in SPLITS}
    plain = {split: {without_colour(name) for name in part} for split, part in parts.items()}
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not parts[one] & parts[other]
        assert not plain[one] & plain[other]


def test_no_picture_looks_like_one_of_another_split():
    """Pixels are compared by other means than those that made the families: means of 8 x 8 squares."""
    single = atlas().select([place for place, variant in enumerate(atlas()["variant"]) if not variant])
    squares = [
        np.asarray(opened(png).convert("RGBa"), "float32").reshape(17, 8, 17, 8, 4).mean((1, 3)) / 255
        for png in single["png"]
    ]
    rows, split = np.stack(squares).reshape(len(single), -1), np.array(single["split"])
    distance = np.sqrt(
        np.maximum(0, (rows**2).mean(1)[:, None] + (rows**2).mean(1) - 2 * rows @ rows.T / rows.shape[1])
    )
    nearest = distance[split[:, None] != split].min()
    assert nearest > 0.8 * NEAR
    np.fill_diagonal(distance, 1)
    assert distance.min() < 0.8 * NEAR, "there are look-alikes, inside a split"


def test_every_group_is_in_every_split(table):
    counts = Counter((row["split"], row["group"]) for row in table if not row["variant"])
    assert {group for _, group in counts} >= {*DRAWN, "Flags", "Symbols"}
    assert min(counts[split, group] for split in SPLITS for group in DRAWN) >= 5
    parts = Counter(row["split"] for row in table if not row["variant"])
    assert 0.6 < parts["train"] / sum(parts.values()) < 0.8


# --- pictures and captions ---


def test_pictures_are_labelled_images(table):
    parts = {split: load("emoji", split=split, variants=False, size=32) for split in SPLITS}
    assert sum(map(len, parts.values())) == sum(not row["variant"] for row in table)
    for split, part in parts.items():
        assert recognise(part.column_names) == "labelled-image"
        assert part.features["label"].names == parts["train"].features["label"].names
        assert {row["id"] for row in table if row["split"] == split} >= set(part["id"])
    row = parts["train"][0]
    check(row, "labelled-image", "emoji row 1", classes=part.features["label"].names)
    assert part.features["label"].names[row["label"]] == row["group"]
    assert row["image"].size == (32, 32)
    assert row["image"].mode == "RGB"
    assert row["image"].getpixel((0, 0)) == (255, 255, 255)


def test_pictures_in_another_language_and_with_other_labels(table):
    part = load("emoji", split="validation", language="de", label="subgroup", variants=False)
    german = {row["emoji"]: row for row in part}
    assert all(row["name"] == names("de")[text].name for text, row in german.items())
    assert set(part.features["label"].names) == {row["subgroup"] for row in table}
    assert all(part.features["label"].names[row["label"]] == row["subgroup"] for row in german.values())


def test_limits_are_drawn_by_seed():
    whole = load("emoji", split="test", variants=False, size=32)
    few = load("emoji", split="test", variants=False, size=32, limit=10)
    assert len(few) == 10
    assert few["id"][:] == load("emoji", split="test", variants=False, size=32, limit=10)["id"][:]
    assert few["id"][:] != load("emoji", split="test", variants=False, size=32, limit=10, seed=1)["id"][:]
    assert set(few["id"]) <= set(whole["id"])


def test_captions_are_the_name_and_the_name_with_keywords():
    said = Said("red apple", ("apple", "fruit", "red", "red apple"))
    texts = captions_of(said, 10)
    assert texts[:2] == ["red apple", "red apple: apple, fruit, red"]
    assert sorted(texts[2:]) == ["red apple: apple, fruit", "red apple: apple, red", "red apple: fruit, red"]
    assert captions_of(said, 3) == texts[:3]
    assert captions_of(Said("coin", ()), 5) == ["coin"]
    rows = load("emoji", view="captions", split="test", language="fr", variants=False, size=32)
    counts = Counter(rows["picture"])
    assert set(counts) == set(load("emoji", split="test", language="fr", variants=False, size=32)["id"])
    assert max(counts.values()) == 3
    assert {row["text"] for row in rows if row["id"].endswith("-0")} <= {said.name for said in names("fr").values()}


# --- what may be drawn ---


def test_kinds_are_spread_and_nested():
    few, more = (cast("train", shared=True, only=None, count=count) for count in (10, 30))
    assert more.kinds[:10] == few.kinds
    assert few.classes == tuple(kind.name for kind in few.kinds)
    assert [kind.label for kind in few.kinds] == list(range(10))
    assert len({row["subgroup"] for row in atlas() if row["emoji"] in {kind.emoji for kind in few.kinds}}) == 10
    assert cast("test", shared=True, only=None, count=10) == few, "shared"
    own = cast("test", shared=False, only=None, count=10)
    assert not {kind.id for kind in own.kinds} & {kind.id for kind in few.kinds}
    assert {own.classes[kind.label] == kind.group for kind in own.kinds} == {True}


def test_only_takes_groups_subgroups_and_names():
    fruit = cast("train", shared=True, only=["food-fruit", "dog face"], count=None)
    assert {kind.group for kind in fruit.kinds} <= {"Food & Drink", "Animals & Nature"}
    assert len(fruit.kinds) > 8
    assert not any(
        kind.group in ("Flags", "Symbols") for kind in cast("train", shared=False, only=None, count=None).kinds
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"view": "captions", "shared": True},
            "the view 'captions' of emoji has no option 'shared' (it has language, ",
        ),
        ({"size": 5}, "'size' must be a whole number from 16 to 256; it is 5"),
        ({"language": "zh_Hand"}, "emoji have no names in 'zh_Hand'; did you mean 'zh_Hant'"),
        ({"label": "groups"}, "'label' must be group or subgroup; it is 'groups'; did you mean 'group'?"),
        ({"view": "scenes", "objects": [3, 1]}, "'objects' must be from 1 to 10, the smaller number first"),
        ({"view": "scenes", "objects": "three"}, "'objects' must be a number, or the fewest and the most"),
        (
            {"view": "scenes", "only": ["food-fruits"]},
            "no emoji, group or subgroup of emoji is called 'food-fruits'; did",
        ),
        ({"view": "scenes", "only": "food-fruit", "kinds": 99}, "train has "),
        ({"view": "scenes", "shared": True}, "are too many classes; name fewer than 255 with 'kinds'"),
        (
            {"view": "scenes", "background": "flats"},
            "'background' must be flat or clutter; it is 'flats'; did you mean 'flat'?",
        ),
    ],
)
def test_wrong_options_are_refused(arguments, message):
    assert message in refusal(**arguments)


# --- colours ---


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        *(((220, 20, 20), "red"), ((250, 140, 0), "orange"), ((250, 230, 20), "yellow"), ((20, 160, 40), "green")),
        *(((30, 60, 220), "blue"), ((130, 40, 180), "purple"), ((250, 170, 190), "pink"), ((120, 70, 30), "brown")),
        *(((0, 0, 0), "black"), ((250, 250, 250), "white"), ((130, 130, 130), "grey")),
    ],
)
def test_colours_have_their_names(rgb, name):
    assert main_colour(Image.new("RGBA", (4, 4), (*rgb, 255))) == name


def test_a_colour_must_be_clear():
    half = Image.new("RGBA", (4, 4), (220, 20, 20, 255))
    half.paste((30, 60, 220, 255), (0, 0, 4, 2))
    assert main_colour(half) == ""
    assert main_colour(Image.new("RGBA", (4, 4))) == ""


@pytest.mark.parametrize("name", PALETTE)
def test_painted_pictures_have_the_paints_colour(name):
    grey = Image.new("RGBA", (4, 4), (140, 140, 140, 255))
    assert main_colour(painted(grey, PALETTE[name])) == name
    assert painted(Image.new("RGBA", (4, 4)), PALETTE[name]).getpixel((0, 0))[3] == 0
