"""Parallel texts: catalogues and names read as they are, cleaned for a reason, and no text in two splits.

Run: pytest tests/data/test_data_parallel.py
"""

import struct
from collections import Counter
from itertools import combinations

import pytest

from stillroom.data import check, cldr_names, load, parallel, recognise
from stillroom.data.parallel import gettext_files, key
from stillroom.data.parallel.gettext_files import messages
from stillroom.errors import UserError

SPLITS = ("train", "validation", "test")
needs_cldr = pytest.mark.skipif(not cldr_names.path("de").is_file(), reason="needs Debian's unicode-cldr-core")


def write_catalogue(path, entries, plural="nplurals=2; plural=n != 1;", order="<", charset="UTF-8"):
    r"""A compiled catalogue by the layout of gettext's manual: header, tables of originals and translations, texts.

    ``entries``: English (with a context before \x04, a plural after \0) -> translation (forms divided by \0).
    """
    header = f"Content-Type: text/plain; charset={charset}\nPlural-Forms: {plural}\n"
    pairs = sorted((one.encode(), other.encode(charset)) for one, other in {"": header, **entries}.items())
    count, begin = len(pairs), 28
    place, tables, texts = begin + 16 * count, [], b""
    for side in (0, 1):
        for pair in pairs:
            tables += [len(pair[side]), place + len(texts)]
            texts += pair[side] + b"\0"
    head = struct.pack(f"{order}7I", 0x950412DE, 0, count, begin, begin + 8 * count, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + struct.pack(f"{order}{len(tables)}I", *tables) + texts)
    return path


NAMES = """<ldml><localeDisplayNames>
<languages>{languages}</languages><scripts><script type="Latn">{script}</script></scripts>
<territories>{territories}</territories></localeDisplayNames><numbers><currencies><currency type="EUR">
<displayName>{euro}</displayName><displayName count="one">one {euro}</displayName><symbol>E</symbol>
</currency></currencies></numbers></ldml>"""


def write_names(folder, language, territories, languages="", script="Latin", euro="Euro"):
    def lines(names, tag):
        return "".join(f'<{tag} type="{code}">{name}</{tag}>' for code, name in names.items())

    text = NAMES.format(territories=lines(territories, "territory"), languages=languages, script=script, euro=euro)
    (folder / "main").mkdir(parents=True, exist_ok=True)
    (folder / "main" / f"{language}.xml").write_text(text, encoding="utf-8")


@pytest.fixture
def world(tmp_path, monkeypatch):
    """An own CLDR of three languages, and an own folder of catalogues."""
    monkeypatch.setattr(cldr_names, "FOLDER", tmp_path / "cldr")
    monkeypatch.setattr(gettext_files, "_of_packages", lambda: ())
    monkeypatch.setenv("TEXTDOMAINDIR", str(tmp_path / "locale"))
    write_names(tmp_path / "cldr", "en", {"DE": "Germany", "FR": "France", "GB": "United Kingdom", "AT": "Austria"})
    own = '<language type="de" draft="unconfirmed">Teutsch</language><language type="fr">↑↑↑</language>'
    own += '<language type="en">Englisch</language>'
    write_names(
        tmp_path / "cldr",
        "de",
        {"DE": "Deutschland", "FR": "Frankreich", "GB": "Vereinigtes Königreich", "AT": "Österreich"},
        own,
        "Lateinisch",
    )
    write_names(tmp_path / "cldr", "de_AT", {"AT": "Heimat"}, "", "↑↑↑", "↑↑↑")
    write_names(tmp_path / "cldr", "fr", {"DE": "Allemagne", "FR": "France"}, "", "latin", "euro")
    return tmp_path


def catalogue(world, language, entries, domain="prog", **options):
    return write_catalogue(world / "locale" / language / "LC_MESSAGES" / f"{domain}.mo", entries, **options)


def everything(view="pairs", **options):
    return [row for split in SPLITS for row in load("parallel", view=view, split=split, **options)]


def found(**options):
    return {(row["anchor"], row["positive"]) for row in everything(**options)}


# --- catalogues ---

POLISH = "nplurals=3; plural=n==1 ? 0 : n%10>=2 && n%10<=4 && (n%100<12 || n%100>14) ? 1 : 2;"


@pytest.mark.parametrize("order", ["<", ">"])
def test_messages_contexts_and_plurals(tmp_path, order):
    entries = {
        "Open": "Otwórz",
        "menu\x04Open": "Otwieranie",
        "%d file\0%d files": "%d plik\0%d pliki\0%d plików",
        "list\x04a day\0days": "dzień\0dni\0dni",
        "not translated": "",
    }
    path = write_catalogue(tmp_path / "a.mo", entries, plural=POLISH, order=order)
    assert Counter(messages(path)) == Counter(
        [
            *(("Open", "Otwórz"), ("Open", "Otwieranie"), ("%d file", "%d plik"), ("%d files", "%d pliki")),
            *(("a day", "dzień"), ("days", "dni"), ("not translated", "")),
        ]
    )


def test_other_encodings_are_read_and_damage_is_said(tmp_path):
    path = write_catalogue(tmp_path / "a.mo", {"Open": "Öffnen"}, charset="ISO-8859-1")
    assert list(messages(path)) == [("Open", "Öffnen")]
    whole = path.read_bytes()
    for content in (b"", b"no catalogue", whole[:60], whole.replace(b"ISO-8859-1", b"ISO-9999-9")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.mo can't be read"):
            list(messages(path))


def test_folders_have_gettexts_names_of_languages(world):
    for folder in ("pt", "pt_BR", "zh_CN", "zh_TW", "de"):
        catalogue(world, folder, {"Open": f"in {folder}"})
    folders = {
        name: [item.path.parent.parent.name for item in gettext_files.catalogues(name)] for name in ("pt", "pt_PT")
    }
    assert folders == {"pt": ["pt_BR"], "pt_PT": ["pt"]}
    assert gettext_files.catalogues("zh_Hant")[0].path.parent.parent.name == "zh_TW"
    assert gettext_files.catalogues("xx") == []


def test_a_link_is_the_same_catalogue(world):
    path = catalogue(world, "de", {"Open": "Öffnen"}, "a")
    (path.parent / "b.mo").symlink_to(path)
    assert [item.domain for item in gettext_files.catalogues("de")] == ["a"]


def test_catalogues_of_installed_packages_are_found():
    """Whatever packages are installed: those whose files end so, found by another road."""
    from importlib import metadata

    expected = {
        str(file.locate())
        for item in metadata.distributions()
        if item.name in ("mkdocs", "mkdocs-material", "babel")
        for file in item.files or ()
        if file.suffix == ".mo"
    }
    assert {str(item.path) for item in gettext_files._of_packages()} >= expected


# --- names ---


def test_names_are_plain_and_confirmed_and_a_region_has_its_languages(world):
    german = cldr_names.names("de")
    assert german["territory", "GB"] == "Vereinigtes Königreich"
    assert german["currency", "EUR"] == "Euro"
    assert german["script", "Latn"] == "Lateinisch"
    assert ("language", "de") not in german, "nobody has confirmed it"
    assert ("language", "fr") not in german, "it is the parent's"
    austrian = cldr_names.names("de_AT")
    assert (austrian["territory", "AT"], austrian["territory", "DE"]) == ("Heimat", "Deutschland")
    assert austrian["script", "Latn"] == "Lateinisch"


@needs_cldr
@pytest.mark.parametrize("language", ["de", "ja", "pt_PT", "zh_Hant"])
def test_names_are_those_that_another_library_knows(language):
    """Babel carries the CLDR of another year, in which few names have changed."""
    babel = pytest.importorskip("babel")
    theirs = babel.Locale.parse(language)
    names = cldr_names.names(language)
    for kind, known in (("territory", theirs.territories), ("currency", theirs.currencies)):
        both = [(name, known[code]) for (what, code), name in names.items() if what == kind and code in known]
        assert len(both) > 150
        assert sum(ours == other for ours, other in both) > 0.9 * len(both)


# --- cleaning ---


def test_rows_come_from_both_sources_with_what_is_known_of_them(world):
    catalogue(world, "de", {"Open the file": "Datei öffnen"})
    table = {row["anchor"]: row for row in everything(languages=["de"])}
    assert (
        table["Germany"].items()
        >= {
            **{"positive": "Deutschland", "source_language": "en", "target_language": "de"},
            **{"kind": "territory", "domain": "cldr", "code": "DE"},
        }.items()
    )
    assert table["Open the file"].items() >= {"kind": "message", "domain": "prog", "code": None}.items()
    assert len({row["id"] for row in table.values()}) == len(table)


def test_what_is_no_text_is_left_out_for_a_reason(world):
    entries = {
        "Open": "Öffnen",
        "_Close now": "Jetzt _schließen",
        "Save_as": "Save_as",
        "Quit": "終了(_Q)",
        "_Quit": "終了(_Q)",
        "%s: %d": "%s; %d",
        "{name} <b>": "<b> {name}",
        "Yes": "",
        "Berlin": "Berlin",
        "x" * 301: "y",
        "two  \nlines": "zwei Zeilen",
        "  -a, --all   show all": "  -a, --all   alles zeigen",
        "First.\n\nSecond.": "Erstens.\n\nZweitens.",
        "One sentence.  And another.": "Ein Satz.  Und noch einer.",
        "word": "…!",
    }
    catalogue(world, "de", entries)
    catalogue(world, "de", {"Open": "Öffnen"}, "other")
    catalogue(world, "de", {"Open": "Öffnen"}, "broken").write_bytes(b"nothing")
    pairs = found(languages=["de"])
    report = parallel.report(["de"])
    assert {"Open": "Öffnen", "Close now": "Jetzt schließen", "two lines": "zwei Zeilen"}.items() <= dict(pairs).items()
    assert ("Quit", "終了(_Q)") in pairs, "without a key in English there is none to remove"
    assert ("Quit", "終了") in pairs
    assert dict(pairs)["One sentence. And another."] == "Ein Satz. Und noch einer."
    assert report["dropped"] == {
        **{"no words": 3, "empty": 1, "untranslated": 3, "too long": 1, "set in columns or paragraphs": 2},
        "repeated": 1,
    }
    assert report["unreadable"] == {"de broken": 1}
    assert sum(report["splits"].values()) == report["languages"]["de"] == sum(report["kinds"].values()) == len(pairs)


def test_the_same_name_in_both_languages_is_kept_on_demand(world):
    catalogue(world, "de", {"Berlin": "Berlin", "London": "London"})
    plain, more = found(languages=["de"]), found(languages=["de"], identical=True)
    assert more - plain == {("Berlin", "Berlin"), ("London", "London"), ("Euro", "Euro")}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        *(("Open %s …", "open"), ("%(count)d Files!", "{0:d} files"), ("<b>%1$s</b> is", "Is: 7")),
        *(("Ａ b", "a b"), ("100% of it", "OF IT")),
    ],
)
def test_texts_are_one_whatever_their_dress(first, second):
    assert key(first) == key(second) != ""


def test_letters_with_marks_stay_apart():
    assert key("कि") != key("की")
    assert key("e\u0301") == key("É")


# --- what does not leak ---


def crossing(parts):
    return [first & second for first, second in combinations(map(set, parts), 2) if first & second]


def texts_of(split, **options):
    rows = load("parallel", view="pairs", split=split, **options)
    return [key(row[side]) for row in rows for side in ("anchor", "positive")]


def test_no_text_crosses_even_where_two_phrases_are_called_the_same(world):
    """Two hundred phrases, of which many share a translation, and some translations are English phrases too."""
    letters = "abcdefghijklmnopqrst"
    phrases = [f"phrase {one}{other}" for one in letters for other in letters[:10]]
    catalogue(world, "de", {phrase: f"Wort {phrase[-1]}" for phrase in phrases})
    catalogue(world, "fr", {phrase: phrases[number - 1] for number, phrase in enumerate(phrases)})
    options = {"languages": ["de", "fr"]}
    parts = [texts_of(split, **options) for split in SPLITS]
    assert all(parts)
    assert not crossing(parts)
    dropped = parallel.report(**options)["dropped"]["a text of another split"]
    assert dropped > 20
    kept = sum(len(part) for part in parts) // 2
    assert kept + dropped == 400 + 8, "five territories, two scripts and the French euro"


def test_a_phrase_is_in_one_split_whatever_else_is_read(world):
    catalogue(world, "de", {f"text {letter}": f"Text {letter}{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"})
    catalogue(world, "fr", {f"text {letter}": f"texte {letter}{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"})
    for split in SPLITS:
        alone = set(load("parallel", view="pairs", split=split, languages=["fr"])["anchor"])
        both = load("parallel", view="pairs", split=split, languages=["fr", "de"]).to_list()
        assert alone == {row["anchor"] for row in both if row["target_language"] == "fr"}


@needs_cldr
def test_no_text_of_the_real_ones_crosses():
    options = {"languages": ["nl", "th"]}
    tables = {split: load("parallel", view="pairs", split=split, **options) for split in SPLITS}
    assert not crossing(texts_of(split, **options) for split in SPLITS)
    assert not crossing(
        [(row["kind"], row["code"]) for row in table if row["code"] is not None] for table in tables.values()
    )
    report = parallel.report(**options)
    assert report["splits"] == {split: len(table) for split, table in tables.items()}
    assert all(count > 900 for count in report["languages"].values())
    assert 0.7 < report["splits"]["train"] / sum(report["splits"].values()) < 0.9
    known = {(row["anchor"], row["target_language"]): row["positive"] for table in tables.values() for row in table}
    assert known["Germany", "nl"] == "Duitsland"
    assert known["Germany", "th"] == "เยอรมนี"
    ids = [one for table in tables.values() for one in table["id"]]
    assert len(set(ids)) == len(ids)


# --- views ---


def test_translations_go_either_way(world):
    there = next(row for row in everything("translation", languages=["de"]) if row["code"] == "GB")
    assert (there["prompt"], there["completion"]) == ("en > de: United Kingdom\n", "Vereinigtes Königreich")
    back = next(row for row in everything("translation", languages=["de"], into_english=True) if row["code"] == "GB")
    assert (back["prompt"], back["completion"]) == ("de > en: Vereinigtes Königreich\n", "United Kingdom")
    assert (back["source"], back["source_language"], back["target_language"]) == ("Vereinigtes Königreich", "de", "en")
    pair = next(row for row in everything("pairs", languages=["de"], into_english=True) if row["code"] == "GB")
    assert (pair["anchor"], pair["positive"]) == ("Vereinigtes Königreich", "United Kingdom")
    assert (pair["source_language"], pair["target_language"]) == ("de", "en")


def test_each_text_is_once_in_its_language(world):
    texts = Counter((row["language"], row["text"]) for row in everything("monolingual", languages=["de", "fr"]))
    assert max(texts.values()) == 1
    assert texts["en", "Germany"] == texts["fr", "Allemagne"] == texts["de", "Deutschland"] == 1
    assert ("fr", "France") not in texts, "it is called the same in English"


@pytest.mark.parametrize("into_english", [False, True])
def test_tuples_hold_what_is_known_of_a_phrase(world, into_english):
    catalogue(world, "de", {"Open": "Öffnen", "menu\x04Open": "Geöffnet"})
    rows = everything("tuples", languages=["fr", "de"], into_english=into_english)
    found = {row["texts"][0]["text"]: {one["language"]: one["text"] for one in row["texts"]} for row in rows}
    assert found["Germany"] == {"en": "Germany", "de": "Deutschland", "fr": "Allemagne"}
    assert found["Austria"] == {"en": "Austria", "de": "Österreich"}
    assert found["Open"]["de"] in ("Öffnen", "Geöffnet")
    assert len(rows) == len(found)
    assert all(row["texts"][0]["language"] == "en" for row in rows)


@pytest.mark.parametrize(("view", "format"), [item for item in parallel.VIEWS.items() if item[1]])
def test_views_are_rows_of_their_format(view, format, world):
    catalogue(world, "de", {f"text {letter}": f"Text {letter}{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"})
    rows = everything(view, languages=["de"])
    assert len(rows) >= 26
    for row in rows:
        assert recognise(row) == format
        check(row, format, row["id"])


def test_limits_are_drawn_by_seed(world):
    catalogue(world, "de", {f"text {a}{b}": f"Text {b}{a}{b}" for a in "abcdefghij" for b in "abcdefghij"})
    first, again, other = (load("parallel", languages=["de"], limit=9, seed=seed)["id"][:] for seed in (0, 0, 1))
    assert first == again != other
    assert len(set(first)) == 9


def test_wrong_languages_are_refused(world):
    def refusal(languages):
        with pytest.raises(UserError) as caught:
            load("parallel", languages=languages)
        return str(caught.value)

    assert refusal(["dee"]) == "there is nothing in the language 'dee'; did you mean 'de'?"
    assert refusal(["en"]).startswith("English is one side of every pair")
    assert refusal("de") == refusal([]) == "'languages' is a list of at least one language, for instance ['de', 'fr']"


def test_without_any_source_the_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(cldr_names, "FOLDER", tmp_path)
    monkeypatch.setattr(gettext_files, "_of_packages", lambda: ())
    monkeypatch.setenv("TEXTDOMAINDIR", str(tmp_path))
    with pytest.raises(UserError, match="apt install unicode-cldr-core"):
        load("parallel")


def test_a_changed_catalogue_is_read_again(world):
    catalogue(world, "de", {"Open": "Öffnen"})
    assert ("Open", "Öffnen") in found(languages=["de"])
    catalogue(world, "de", {"Open": "Aufmachen"})
    assert ("Open", "Aufmachen") in found(languages=["de"])
