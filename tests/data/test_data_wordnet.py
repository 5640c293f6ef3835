"""WordNet: read as its own index files and another reader understand it, and no word or meaning where it must not be.

Run: pytest tests/data/test_data_wordnet.py
"""

import gzip
import re
import shutil
from collections import Counter, defaultdict
from itertools import combinations

import pytest

from stillroom.data import check, load, recognise, wordnet
from stillroom.data.wordnet import wndb
from stillroom.data.wordnet.lexicon import Lexicon, plain
from stillroom.errors import UserError

SPLITS = ("train", "validation", "test")
FILES = ("noun.animal", "noun.feeling", "noun.food", "verb.motion", "adj.all")  # a quarter, so that it is quick
needs_wordnet = pytest.mark.skipif(not (wndb.FOLDER / "data.noun").is_file(), reason="needs Debian's wordnet-base")


@pytest.fixture(scope="module")
def lexicon():
    return Lexicon()


@pytest.fixture(scope="module", autouse=True)
def _read_once(request):
    """The files are parsed once for all views with all files."""
    if not (wndb.FOLDER / "data.noun").is_file():
        yield
        return
    whole = request.getfixturevalue("lexicon")
    assert whole.home, "made now, so that all share it"

    def shared(files):
        other = Lexicon.__new__(Lexicon)
        other.__dict__ = {**whole.__dict__, "files": files}
        return other

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wordnet, "Lexicon", shared)
        yield


def rows(view):
    return {split: load("wordnet", view=view, split=split, files=FILES) for split in SPLITS}


def disjoint(parts):
    return not any(first & second for first, second in combinations([set(part) for part in parts], 2))


# --- the reader, on a database of a few lines ---

LICENCE = "  1 This is the licence.  \n"
DATA = {
    "noun": [
        "00001000 03 n 01 thing 0 001 ~ 00002000 n 0000 | whatever there is  ",
        "00002000 05 n 02 dog 0 Canis_familiaris a 003 @ 00001000 n 0000 ~ 00003000 n 0000 + 00001000 v 0201 | a "
        'four-legged friend; often of man; "the dog barked"; "dogs that bark, do not bite" - a proverb  ',
        "00003000 05 n 01 puppy 0 001 @ 00002000 n 0000 | a young dog  ",
        '00004000 10 n 01 strides 0 000 | progress (in the phrase "make strides")  ',
    ],
    "verb": ['00001000 38 v 01 dog 1 001 + 00002000 n 0102 02 + 08 00 + 09 01 | go after, "he dogs my steps"  '],
    "adj": [
        "00001000 00 a 01 tall(a) 0 002 ! 00002000 a 0101 & 00003000 a 0000 | great in height  ",
        "00002000 00 a 01 short 1 001 ! 00001000 a 0101 | little in height  ",
        '00003000 00 s 02 soaring(p) 0 sky-high 2 001 & 00001000 a 0000 | of imposing height; or "as such"  ',
    ],
    "adv": ["00001000 02 r 01 upward 0 000 | to where the sky is  "],
}
INDEX = {
    "noun": [
        *("dog n 1 3 @ ~ + 1 1 00002000", "canis_familiaris n 1 1 @ 1 0 00002000", "puppy n 1 1 @ 1 0 00003000"),
        *("thing n 1 1 ~ 1 0 00001000", "strides n 1 0 1 0 00004000"),
    ],
    "verb": ["dog v 1 1 + 1 0 00001000"],
    "adj": [
        *("tall a 1 2 ! & 1 0 00001000", "short a 1 1 ! 1 0 00002000"),
        *("soaring a 1 1 & 1 0 00003000", "sky-high a 1 1 & 1 0 00003000"),
    ],
    "adv": ["upward r 1 0 1 0 00001000"],
}


@pytest.fixture
def small(tmp_path, monkeypatch):
    for kind, files in (("data", DATA), ("index", INDEX)):
        for name, lines in files.items():
            (tmp_path / f"{kind}.{name}").write_text(LICENCE + "".join(f"{line}\n" for line in lines))
    for name in DATA:
        (tmp_path / f"{name}.exc").write_text("mice mouse\n" if name == "noun" else "ran run\n" * (name == "verb"))
    (tmp_path / "cntlist.rev").write_text("dog%1:05:00:: 1 42\n")
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path))
    return tmp_path


def test_lines_are_read_as_the_format_says(small):
    found = {synset.id: synset for synset in wndb.synsets()}
    assert len(found) == 9
    dog = found["n00002000"]
    assert (dog.words, dog.lex_ids) == (("dog", "Canis familiaris"), (0, 10))
    assert dog.pointers[2] == wndb.Pointer("+", "v00001000", 2, 1)
    assert dog.definition == "a four-legged friend; often of man"
    assert dog.examples == ("the dog barked", "dogs that bark, do not bite")
    assert (dog.lexicographer_file, dog.part_of_speech) == ("noun.animal", "noun")
    assert found["n00004000"].definition == 'progress (in the phrase "make strides")'
    assert found["v00001000"].pointers == (wndb.Pointer("+", "n00002000", 1, 2),)
    assert (found["v00001000"].definition, found["v00001000"].examples) == ("go after", ("he dogs my steps",))
    assert found["a00001000"].words == ("tall",)
    assert found["a00003000"].part_of_speech == "adjective"
    assert next(wndb.index()) == ("dog", "n", ["n00002000"])
    assert wndb.tag_counts() == {"dog%1:05:00::": 42}


def test_sense_keys_name_the_head_of_a_satellite(small):
    whole = Lexicon()
    assert whole.sense("canis familiaris", whole.synsets["n00002000"]) == "canis_familiaris%1:05:10::"
    assert whole.sense("sky-high", whole.synsets["a00003000"]) == "sky-high%5:00:02:tall:00"
    assert whole.count("dog%1:05:00::") == 42


def test_opposites_are_in_one_split_and_a_word_in_that_of_its_most_frequent_meaning(small):
    whole = Lexicon()
    assert whole.split["a00001000"] == whole.split["a00002000"]
    assert whole.home["dog"] == whole.split["n00002000"]


@pytest.mark.parametrize(
    ("word", "letter", "base"),
    [
        *(("mice", "n", "mouse"), ("boxes", "n", "box"), ("women", "n", "woman"), ("flies", "v", "fly")),
        *(("ran", "v", "run"), ("baking", "v", "bake"), ("nicest", "a", "nice"), ("ponies", "n", "pony")),
    ],
)
def test_inflected_words_are_known_by_their_base(small, word, letter, base):
    assert base in wndb.base_forms(word, letter, wndb.exceptions())
    assert wndb.base_forms("upward", "r", wndb.exceptions()) == {"upward"}


def test_a_broken_line_and_a_missing_file_are_named(small):
    (small / "data.adv").write_text(LICENCE + "00001000 02 r zz upward 0 000 | nowhere\n")
    with pytest.raises(UserError, match=r"data\.adv line 2 is not a line of this file of WordNet 3"):
        list(wndb.synsets())
    (small / "verb.exc").unlink()
    with pytest.raises(UserError, match=r"WordNet's file verb\.exc is missing in .*apt install wordnet-base"):
        wndb.state()


def test_without_wordnet_the_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path))
    with pytest.raises(UserError, match=r"this needs WordNet, which is not in .*apt install wordnet-base"):
        load("wordnet")


# --- the reader, on all of WordNet ---


@needs_wordnet
def test_there_is_as_much_as_published(lexicon):
    """The numbers of wnstats(7WN) for WordNet 3.0."""
    assert Counter(synset.part_of_speech for synset in lexicon.synsets.values()) == {
        **{"noun": 82_115, "verb": 13_767, "adjective": 18_156, "adverb": 3_621}
    }
    assert len(lexicon.senses) == 155_287
    assert sum(map(len, lexicon.senses.values())) == 206_941
    assert all(synset.definition for synset in lexicon.synsets.values())


@needs_wordnet
def test_senses_have_the_keys_and_ranks_that_wordnet_lists(lexicon):
    """cntlist.rev names tagged senses by key and rank among its word's; one in fourteen is an older edition's."""
    found = {}
    for (word, _), ids in lexicon.senses.items():
        found.update({lexicon.sense(word, lexicon.synsets[one]): number for number, one in enumerate(ids, 1)})
    lines = (wndb.FOLDER / "cntlist.rev").read_text().splitlines()
    listed = [re.sub(r"\((a|p|ip)\)", "", line).split() for line in lines]
    assert len(listed) > 37_000
    assert sum(found.get(key) == int(number) for key, number, _ in listed) > 0.92 * len(listed)


@needs_wordnet
def test_synsets_lie_at_their_offsets_and_pointers_end_somewhere(lexicon):
    for letter, name in wndb.FILES.items():
        content = (wndb.FOLDER / f"data.{name}").read_bytes()
        for one in [one for one in lexicon.synsets if one[0] == letter][::50]:
            assert content[int(one[1:]) :].startswith(one[1:].encode())
    assert all(pointer.target in lexicon.synsets for synset in lexicon.synsets.values() for pointer in synset.pointers)


@needs_wordnet
def test_class_names_are_those_of_the_manual():
    page = wndb.FOLDER.parent / "man" / "man5" / "lexnames.5WN.gz"
    if not page.is_file():
        pytest.skip("the manual pages are not installed")
    text = gzip.decompress(page.read_bytes()).decode("latin-1")
    assert tuple(name for _, name in sorted(re.findall(r"^(\d\d)\t(\S+)", text, re.MULTILINE))) == (
        wndb.LEXICOGRAPHER_FILES
    )


@needs_wordnet
@pytest.mark.filterwarnings("ignore:The multilingual functions")
def test_another_reader_understands_the_same(lexicon, tmp_path, monkeypatch):
    reader = pytest.importorskip("nltk.corpus.reader.wordnet")

    class Reader(reader.WordNetCorpusReader):
        """NLTK's, without its tables of other versions of WordNet, which would have to be downloaded."""

        def map_wn(self, version="wordnet"):
            return None

    monkeypatch.setattr("nltk.data.path", [str(tmp_path)])
    for path in wndb.FOLDER.iterdir():
        shutil.copy(path, tmp_path)
    kinds = {"noun": 1, "verb": 2, "adj": 3, "adv": 4}
    names = [(place, name, kinds[name.partition(".")[0]]) for place, name in enumerate(wndb.LEXICOGRAPHER_FILES)]
    (tmp_path / "lexnames").write_text("".join(f"{place:02d}\t{name}\t{kind}\n" for place, name, kind in names))
    theirs = Reader(str(tmp_path), None)
    glosses = 0
    for one in list(lexicon.synsets)[::397]:
        ours, other = lexicon.synsets[one], theirs.synset_from_pos_and_offset(one[0], int(one[1:]))
        assert list(ours.words) == [name.replace("_", " ") for name in other.lemma_names()]
        assert ours.lexicographer_file == other.lexname()
        above = {f"{synset.pos()}{synset.offset():08d}" for synset in other.hypernyms()}
        assert {synset.id for synset in lexicon.above(ours)} == above
        keys = [lexicon.sense_key(ours, place) for place in range(len(ours.words))]
        assert keys == [lemma.key() for lemma in other.lemmas()]
        glosses += (ours.definition, list(ours.examples)) == (" ".join(other.definition().split()), other.examples())
    assert glosses > 0.97 * len(list(lexicon.synsets)[::397]), "they cut quotations out of definitions, we do not"


# --- what does not leak ---


@needs_wordnet
def test_no_definition_or_example_crosses(lexicon):
    parts = [[one for one in lexicon.synsets.values() if lexicon.split[one.id] == split] for split in SPLITS]
    assert disjoint([plain(synset.definition) for synset in part] for part in parts)
    assert disjoint([plain(text) for synset in part for text in synset.examples] for part in parts)
    assert 0.78 < len(parts[0]) / len(lexicon.synsets) < 0.82
    assert all(len(part) > 11_000 for part in parts)


@needs_wordnet
def test_opposites_do_not_cross(lexicon):
    for synset in lexicon.synsets.values():
        for pointer in synset.pointers:
            assert pointer.symbol != "!" or lexicon.split[pointer.target] == lexicon.split[synset.id]


@needs_wordnet
@pytest.mark.parametrize(
    "view", ["definitions", "glosses", "synsets", "examples", "triples", "pairs", "completion", "senses"]
)
def test_every_view_divides_meanings_alike(view, lexicon):
    for split, table in rows(view).items():
        ids = table["synset"] if "synset" in table.column_names else table["id"]
        assert {lexicon.split[one.partition("-")[0]] for one in ids} == {split}
        assert len(set(table["id"])) == len(table)


@needs_wordnet
@pytest.mark.parametrize(("view", "columns"), [("pairs", ["anchor"]), ("relations", ["first", "second"])])
def test_no_word_crosses(view, columns):
    tables = rows(view)
    words = [{word.lower() for name in columns for word in table[name][:]} for table in tables.values()]
    assert disjoint(words)
    assert all(len(part) > 500 for part in words)


@needs_wordnet
def test_no_word_of_a_sense_or_completion_crosses():
    assert disjoint(table["lemma"] for table in rows("senses").values())
    prompts = (table["prompt"] for table in rows("completion").values())
    assert disjoint([prompt.rpartition(" (")[0].lower() for prompt in part] for part in prompts)


@needs_wordnet
def test_no_pair_of_a_constraint_crosses_or_says_two_things():
    parts = [table.to_list() for table in rows("constraints").values()]
    pairs = [[frozenset((row["first"], row["second"])) for row in part] for part in parts]
    assert disjoint(pairs)
    assert all(len(set(part)) == len(part) for part in pairs)
    assert all({row["relation"] for row in part} == {"synonym", "antonym", "hypernym"} for part in parts)


@needs_wordnet
def test_an_edge_is_there_once_and_where_its_source_is(lexicon):
    parts = rows("edges")
    seen = Counter()
    for split, table in parts.items():
        assert {lexicon.split[source] for source in table["source"]} == {split}
        for row in table:
            ends = [frozenset((row[f"source{what}"], row[f"target{what}"])) for what in ("", "_word")]
            seen[*ends, row["relation"]] += 1
    assert max(seen.values()) == 1
    # every hypernym of the files is there
    known = [one for one in lexicon.synsets.values() if one.lexicographer_file in FILES]
    above = sum(parent.lexicographer_file in FILES for synset in known for parent in lexicon.above(synset))
    assert sum(relation == "hypernym" for _, _, relation in seen) == above > 10_000


# --- what the rows say ---


def parents(lexicon, ids):
    return {above.id for one in ids for above in lexicon.above(lexicon.synsets[one])}


@needs_wordnet
def test_related_words_are_what_the_graph_says(lexicon):
    """The relation is looked up again by another road: all meanings of both words, and the symbols between them."""
    of_word = defaultdict(set)
    for synset in lexicon.synsets.values():
        for word in synset.words:
            of_word[word.lower()].add(synset.id)
    names = ("hypernym", "synonym", "antonym", "meronym", "cohyponym", "random")
    for split in SPLITS:
        table = load("wordnet", view="relations", split=split, limit=2_000, files=FILES)
        assert table.features["label"].names == list(names)
        found = Counter(table["label"])
        assert set(found) == set(range(6)), split
        for row in table:
            mine, others = of_word[row["first"]], of_word[row["second"]]
            pointers = [pointer for one in mine for pointer in lexicon.synsets[one].pointers]
            symbols = {pointer.symbol[0] for pointer in pointers if pointer.target in others}
            facts = {
                "hypernym": "@" in symbols,
                "synonym": bool(mine & others),
                "antonym": "!" in symbols,
                "meronym": "%" in symbols,
                "cohyponym": bool(parents(lexicon, mine) & parents(lexicon, others)),
            }
            name = names[row["label"]]
            assert facts[name] if name != "random" else not (facts["synonym"] or facts["antonym"]), row
            assert row["first"] != row["second"]


@needs_wordnet
def test_two_words_have_one_relation():
    for table in rows("relations").values():
        pairs = Counter(map(frozenset, zip(table["first"][:], table["second"][:], strict=True)))
        assert max(pairs.values()) == 1


@needs_wordnet
def test_known_relations_are_found():
    known = {}
    for table in rows("constraints").values():
        for first, second, relation in zip(*(table[name][:] for name in ("first", "second", "relation")), strict=True):
            known[first, second] = relation
            if relation != "hypernym":
                known[second, first] = relation
    assert known["hot", "cold"] == known["short", "tall"] == "antonym"
    assert known["dog", "domestic dog"] == "synonym"
    assert known["dog", "canine"] == "hypernym"
    assert ("canine", "dog") not in known


@needs_wordnet
def test_words_stand_where_they_are_said_to_stand(lexicon):
    irregular = wndb.exceptions()
    for split in SPLITS:
        table = load("wordnet", view="senses", split=split, files=FILES)
        assert len(table) > 300
        for row in table.select(range(0, len(table), 5)):
            word = row["text"][row["start"] : row["end"]]
            assert word == row["word"]
            letter = row["synset"][0]
            for part, base in zip(word.lower().split(), row["lemma"].split(), strict=True):
                assert base in wndb.base_forms(part, letter, irregular), row
            right = row["candidates"][row["answer"]]
            assert right["synset"] == row["synset"]
            assert [one["synset"] for one in row["candidates"]] == lexicon.senses[row["lemma"], letter]
            assert right["definition"] == lexicon.synsets[row["synset"]].definition, "without its examples"
            assert row["text"] in lexicon.synsets[row["synset"]].examples
            assert all(one["key"].startswith(row["lemma"].replace(" ", "_") + "%") for one in row["candidates"])


@needs_wordnet
def test_negatives_are_other_meanings_with_the_same_hypernym(lexicon):
    by_definition = defaultdict(set)
    for synset in lexicon.synsets.values():
        by_definition[synset.definition].add(synset.id)
    table = load("wordnet", view="triples", split="validation", files=FILES)
    assert len(table) > 20
    for row in table:
        mine = parents(lexicon, [row["id"].partition("-")[0]])
        assert 1 <= len(row["negative"]) <= 5
        for text in row["negative"]:
            assert text != row["positive"]
            assert {lexicon.split[one] for one in by_definition[text]} == {"validation"}
            assert mine & parents(lexicon, by_definition[text])


@needs_wordnet
@pytest.mark.parametrize(("view", "format"), [item for item in wordnet.VIEWS.items() if item[1]])
def test_views_are_rows_of_their_format(view, format):
    table = load("wordnet", view=view, split="test", limit=300, files=FILES)
    assert recognise(table.column_names) == format
    for row in table:
        check(row, format, row["id"])


@needs_wordnet
def test_views_tell_the_same_of_the_dog():
    dog = "n02084071"
    found = {}
    for view in ("definitions", "glosses", "synsets"):
        found[view] = next(row for table in rows(view).values() for row in table if row["id"] == dog)
    definition = found["synsets"]["definition"]
    assert definition.startswith("a member of the genus Canis")
    assert found["synsets"]["words"] == ["dog", "domestic dog", "Canis familiaris"]
    assert found["synsets"]["hypernyms"] == ["n02083346", "n01317541"]
    assert found["synsets"]["sense_keys"][0] == "dog%1:05:00::"
    assert found["synsets"]["counts"][0] == 42
    assert found["definitions"]["text"] == definition
    assert found["glosses"]["text"] == f'{definition}; "the dog barked all night"'


@needs_wordnet
def test_classes_are_the_files_that_are_asked_for(lexicon):
    files = ["noun.food", "noun.animal"]
    whole, table = load("wordnet", split="test"), load("wordnet", split="test", files=files)
    assert whole.features["label"].names == list(wndb.LEXICOGRAPHER_FILES)
    assert table.features["label"].names == files
    for row in table:
        assert lexicon.synsets[row["id"]].lexicographer_file == files[row["label"]]
    wanted = [row["id"] for row in whole if whole.features["label"].names[row["label"]] in files]
    assert table["id"][:] == wanted, "a row stays in its split"
    edges = load("wordnet", view="edges", split="test", files=files)
    ends = {*edges["source"], *edges["target"]}
    assert {lexicon.synsets[one].lexicographer_file for one in ends} == set(files)
    for names, message in ((["noun.foot"], "no lexicographer file 'noun.foot'; did you mean"), ([], "an empty list")):
        with pytest.raises(UserError, match=message):
            load("wordnet", files=names)


@needs_wordnet
def test_words_are_searched_by_their_definitions(lexicon):
    task = wordnet.retrieval("validation", count=300, seed=3)
    assert len(set(map(str.lower, task.documents))) == len(set(task.queries)) == len(task.relevance) == 300
    places = {word.lower(): place for place, word in enumerate(task.documents)}
    for place, (query, right, identity) in enumerate(zip(task.queries, task.relevance, task.ids, strict=True)):
        synset = lexicon.synsets[identity.partition("-")[0]]
        assert query == synset.definition and lexicon.split[synset.id] == "validation" and place in right
        at_home = [word.lower() for word in lexicon.words_at_home(synset)]
        assert right == {places[word]: 1 for word in at_home if word in places}
    assert any(len(right) > 1 for right in wordnet.retrieval("train", count=4000).relevance)
    assert wordnet.retrieval("validation", count=300, seed=3) == task
    with pytest.raises(UserError, match=r"wordnet has \d+ words to search in its test split"):
        wordnet.retrieval("test", count=10**6)


@needs_wordnet
def test_limits_are_drawn_by_seed_and_the_report_counts_all(lexicon):
    options = {"view": "pairs", "files": FILES, "limit": 20}
    first, again, other = (load("wordnet", **options, seed=seed)["id"][:] for seed in (0, 0, 1))
    assert first == again != other
    assert len(set(first)) == 20
    report = wordnet.report("pairs", FILES)
    assert report["splits"] == {split: len(table) for split, table in rows("pairs").items()}
    words = sum(len(one.words) for one in lexicon.synsets.values() if one.lexicographer_file in FILES)
    assert sum(report["splits"].values()) + sum(report["dropped"].values()) == words


@needs_wordnet
def test_a_second_build_gives_the_same_rows(tmp_path, monkeypatch):
    options = {"view": "triples", "split": "test", "files": FILES}
    before = load("wordnet", **options).to_list()
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path))
    assert load("wordnet", **options).to_list() == before
