"""Facts: answers that hold by SQL and by logic, splits without a common country, SQL that can do no harm.

Run: pytest tests/data/test_data_facts.py
"""

import sqlite3
import time
from collections import Counter

import pytest

from stillroom.data import check, cldr, load, recognise
from stillroom.data.facts import HELD_OUT, database, execute, logic, same_answer, schema, triples
from stillroom.data.facts import questions as asked
from stillroom.data.facts.skeletons import SKELETONS, split_of
from stillroom.data.facts.wordings import LANGUAGES, QUESTIONS, in_sentence, sentence
from stillroom.errors import UserError

SPLITS = ("train", "validation", "test")
HAVE_CLDR = (cldr.FOLDER / "supplemental" / "supplementalData.xml").is_file()
needs_cldr = pytest.mark.skipif(not HAVE_CLDR, reason="Debian package unicode-cldr-core is not installed")


@pytest.fixture(scope="module")
def facts():
    return database()


def ask(sql, facts):
    return execute(sql, facts)


# --- what the CLDR says ---


@needs_cldr
def test_well_known_facts_are_there(facts):
    """Looked up elsewhere: ISO 3166 and 4217, the UN's M49, the European Union's list of members."""
    assert ask("SELECT code FROM countries WHERE name = 'Switzerland'", facts) == [("CHE",)]
    joined = (
        "SELECT m.name FROM country_currencies x JOIN currencies m ON m.id = x.currency "
        "WHERE x.country = '{}' AND x.until IS {}"
    )
    assert ask(joined.format("JP", "NULL"), facts) == [("Japanese Yen",)]
    assert ("German Mark",) in ask(joined.format("DE", "NOT NULL"), facts)
    assert ask("SELECT count(*) FROM country_groups WHERE \"group\" = 'EU'", facts) == [(27,)]
    assert ask("SELECT count(*) FROM country_groups WHERE \"group\" = 'UN'", facts) == [(193,)]
    around = ask("SELECT region FROM country_regions WHERE country = 'PE'", facts)
    assert {row[0] for row in around} == {"005", "019", "001"}
    assert ask("SELECT country FROM cities WHERE name = 'Zurich'", facts) == [("CH",)]
    assert ask("SELECT script FROM languages WHERE id = 'el'", facts) == [("Grek",)]
    official = ask("SELECT language FROM country_languages WHERE country = 'CA' AND status = 'official'", facts)
    assert {row[0] for row in official} == {"en", "fr"}


@needs_cldr
def test_the_file_of_the_database_has_keys_that_hold(facts):
    with sqlite3.connect(f"file:{facts}?mode=ro", uri=True) as connection:
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    assert len(tables) == schema().count("CREATE TABLE") == 11
    assert all(execute(f"SELECT count(*) FROM {table}", facts)[0][0] > 0 for table in tables)


@needs_cldr
def test_names_in_other_languages():
    assert cldr.names("de")["country"]["CH"] == "Schweiz"
    assert cldr.names("fr")["language"]["de"] == "allemand"
    assert cldr.names("en")["country"]["HK"] == "Hong Kong", "the short name"
    assert cldr.names("en")["country"]["GB"] == "United Kingdom", "and not an abbreviation"
    with pytest.raises(UserError, match="no names in the language 'qq'"):
        cldr.names("qq")
    with pytest.raises(UserError, match="named like 'de'"):
        cldr.names("../../etc")


def test_without_the_cldr_the_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(cldr, "FOLDER", tmp_path)
    with pytest.raises(UserError, match="apt install unicode-cldr-core"):
        load("facts")


# --- SQL of others ---


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small ?#.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x INTEGER, y TEXT)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(number, f"name {number}") for number in range(400)])
    connection.close()
    return path


def test_a_select_gives_its_rows(small):
    assert execute("SELECT x, upper(y) FROM t WHERE x < 2 ORDER BY x DESC;", small) == [(1, "NAME 1"), (0, "NAME 0")]
    assert execute("WITH a AS (SELECT max(x) AS m FROM t) SELECT m FROM a", small) == [(399,)]


HARM = [
    *("DROP TABLE t", "DELETE FROM t", "INSERT INTO t VALUES (1, 'a')", "UPDATE t SET x = 1", "VACUUM"),
    *("CREATE TABLE u (x)", "CREATE TEMP TABLE u (x)", "ATTACH 'other.sqlite' AS o", "VACUUM INTO 'copy.sqlite'"),
    *("PRAGMA journal_mode = DELETE", "SELECT * FROM pragma_table_info('t')", "SELECT * FROM sqlite_master", "BEGIN"),
    *(
        "SELECT load_extension('x')",
        "SELECT zeroblob(1000000000)",
        "SELECT randomblob(9)",
        "SELECT group_concat(y) FROM t",
    ),
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
]


@pytest.mark.parametrize("sql", HARM)
def test_nothing_but_reading_is_allowed(sql, small):
    before = small.read_bytes()
    with pytest.raises(UserError, match=r"is refused: .* not allowed"):
        execute(sql, small)
    assert small.read_bytes() == before
    assert [path.name for path in small.parent.iterdir()] == [small.name]


@pytest.mark.parametrize(
    "sql", ["", "SELEC 1", "SELECT nothing FROM t", "SELECT 1; SELECT 2", "SELECT '\0'", "SELECT '\ud800'"]
)
def test_what_is_no_statement_is_said(sql, small):
    with pytest.raises(UserError):
        execute(sql, small)


def test_long_work_and_large_results_end(small, tmp_path):
    started = time.process_time()
    with pytest.raises(UserError, match=r"longer than 0\.2 seconds"):
        execute("SELECT count(*) FROM t AS a, t AS b, t AS c, t AS d", small, seconds=0.2)
    assert time.process_time() - started < 2
    with pytest.raises(UserError, match="more than 5 rows"):
        execute("SELECT x FROM t", small, rows=5)
    assert len(execute("SELECT x FROM t WHERE x < 5", small, rows=5)) == 5
    with pytest.raises(UserError, match="there is no database"):
        execute("SELECT 1", tmp_path / "none.sqlite")


@pytest.mark.parametrize(
    ("first", "second", "plain", "ordered"),
    [
        ([(1, "a"), (2, "b")], [(2, "b"), (1, "a")], True, False),
        ([(1,), (1,), (2,)], [(1,), (2,), (2,)], False, False),
        ([(1,)], [(1.0000000001,)], True, True),
        ([(1e9,)], [(1e9 + 1,)], True, True),
        ([(1,)], [("1",)], False, False),
        ([(None,)], [(None,)], True, True),
        ([(None,)], [(0,)], False, False),
        ([(0.3, "x"), (0.3, "y")], [(0.1 + 0.2, "y"), (0.1 + 0.2, "x")], True, False),
        ([(1, 2)], [(2, 1)], False, False),
        ([], [], True, True),
        ([], [(1,)], False, False),
    ],
)
def test_answers_are_compared_by_what_they_say(first, second, plain, ordered):
    assert same_answer(first, second) is same_answer(second, first) is plain
    assert same_answer(first, second, ordered=True) is ordered


# --- logical forms ---


@needs_cldr
@pytest.mark.parametrize(
    ("form", "kind", "answer"),
    [
        ("(lambda $0 currency (uses country:japan $0))", "set of currency", ["JPY"]),
        ("(count $0 country (member $0 group:european_union))", "number", [27]),
        ("(official country:canada language:german)", "truth", [False]),
        ("(lambda $0 country (and (in $0 region:caribbean) (official $0 language:spanish)))", None, ["CU", "DO", "PR"]),
        ("(exists $0 country (and (member $0 group:eurozone) (not (in $0 region:europe))))", "truth", [True]),
        ("(code country:cote_d_ivoire)", "text", ["CIV"]),
        ("(argmax $0 country (in $0 region:northern_america) (population $0))", "set of country", ["US"]),
    ],
)
def test_forms_are_evaluated(form, kind, answer):
    """Answers from general knowledge: Cyprus alone puts the euro into Asia, and so on."""
    assert kind in (None, logic.type_of(logic.parse(form)))
    assert logic.answer(form) == answer


@needs_cldr
@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("(population country:peru", "parentheses"),
        ("(population country:peru) 1", "one expression"),
        ("(population country:prussia)", "there is no country 'prussia'"),
        ("(populaton country:peru)", "did you mean 'population'"),
        ("(population region:africa)", "'population' takes country; found region"),
        ("(lambda $0 country (population $0))", "'lambda' takes truth; found number"),
        ("(lambda $0 planet (= $0 $0))", "names one of the types"),
        ("(uses country:peru $1)", "neither a bound variable"),
        ("country:peru", "only names a country"),
        ("(and (member country:peru group:united_nations))", "two or more"),
        ("(" * 30 + ")" * 30, "deep"),
        (
            "(count $0 language (not (exists $1 language (exists $2 language (not (= $2 $2))))))",
            "too many steps",
        ),
    ],
)
def test_wrong_forms_are_refused(form, message):
    with pytest.raises(UserError, match=message):
        logic.answer(form)


# --- questions ---


@pytest.fixture(scope="module")
def rows():
    return {split: load("facts", view="questions", split=split).to_list() for split in SPLITS}


@needs_cldr
def test_every_skeleton_has_questions_in_every_split(rows):
    assert len(SKELETONS) >= 8
    for split in SPLITS:
        counts = Counter(row["skeleton"] for row in rows[split])
        assert set(counts) == set(SKELETONS)
        assert all(count % 4 == 0 for count in counts.values()), "each in four wordings"


@needs_cldr
def test_gold_sql_gives_the_answers(rows, facts):
    """The answers' column was made from ids in the CLDR; here the SQL is run again, and words are compared."""
    for row in (row for split in SPLITS for row in rows[split] if row["wording"] == 0):
        found = [value for (value,) in execute(row["sql"], facts)]
        assert found
        if row["answer_type"] == "truth":
            assert row["answers"] == [{1: "yes", 0: "no"}[found[0]]]
        else:
            said = [f"{value:g}" if isinstance(value, float) else str(value) for value in found]
            assert sorted(row["answers"]) == sorted(said)


@needs_cldr
def test_logic_and_sql_agree_on_a_sample(rows, facts):
    """Two ways that share nothing but the CLDR; the build has checked them all."""
    names = cldr.world().names
    for row in rows["test"][::40]:
        said = logic.answer(row["form"])
        named = [(names[row["answer_type"]][key],) if row["answer_type"] in names else (key,) for key in said]
        assert same_answer(named, execute(row["sql"], facts)), row["form"]


@needs_cldr
def test_no_country_crosses(rows):
    passages = {split: load("facts", view="passages", split=split) for split in SPLITS}
    facts = {split: load("facts", view="triples", split=split) for split in SPLITS}
    pairs = {split: load("facts", view="pairs", split=split) for split in SPLITS}
    found = {}
    for split in SPLITS:
        named = {entity.partition(":")[2] for row in rows[split] for entity in row["entities"] if "country:" in entity}
        cities = {entity.partition(":")[2] for row in rows[split] for entity in row["entities"] if "city:" in entity}
        around = {triple.subject for triple in triples() if triple.relation == "has_city" and triple.object in cities}
        ids = {name: key for key, name in cldr.world().names["country"].items()}
        answered = {ids[name] for row in rows[split] if row["answer_type"] == "country" for name in row["answers"]}
        subjects = {row["subject"] for row in facts[split] if row["subject_type"] == "country"}
        found[split] = (
            named | around | answered | subjects | set(passages[split]["country"]) | set(pairs[split]["country"])
        )
        assert not any(row["object_type"] == "country" for row in facts[split])
    assert not (found["train"] & found["validation"] or found["train"] & found["test"])
    assert not found["validation"] & found["test"]
    assert sum(map(len, found.values())) == len(cldr.world().tables["countries"])
    assert all(split_of(key) == split for split in SPLITS for key in found[split])
    assert sum(map(len, facts.values())) == len(triples()) == len({triple.id for triple in triples()})


@needs_cldr
def test_questions_are_unambiguous(rows):
    texts = Counter(row["question"] for split in SPLITS for row in rows[split])
    assert max(texts.values()) == 1
    assert not any("{" in text for text in texts)
    assert not ({row["question"] for row in rows["train"]} & {row["question"] for row in rows["test"]})


@needs_cldr
def test_skeletons_can_be_held_out():
    kinds = {split: set(load("facts", view="completion", split=split, by="skeleton")["skeleton"]) for split in SPLITS}
    assert kinds["test"] == set(HELD_OUT["test"])
    assert kinds["validation"] == set(HELD_OUT["validation"])
    assert kinds["train"] == set(SKELETONS) - kinds["test"] - kinds["validation"]
    with pytest.raises(UserError, match="'passages' is split by country, not by 'skeleton'"):
        load("facts", view="passages", by="skeleton")


@needs_cldr
@pytest.mark.parametrize(
    ("view", "format"),
    [
        ("completion", "completion"),
        ("logical", "completion"),
        ("answers", "completion"),
        ("pairs", "pair"),
        ("passages", "text"),
    ],
)
def test_views_are_rows_of_their_format(view, format):
    table = load("facts", view=view, split="test", limit=20)
    assert recognise(table.column_names) == format
    for row in table:
        check(row, format, "facts")


@needs_cldr
def test_other_languages_ask_the_same(rows):
    german = load("facts", view="questions", split="test", language="de").to_list()
    assert len(german) == len(rows["test"]) // 2, "two wordings for four"
    english = {row["id"].rsplit("-", 2)[0]: row for row in rows["test"]}
    for row in german:
        assert row["sql"] == english[row["id"].rsplit("-", 2)[0]]["sql"]
    with pytest.raises(UserError, match="told in en, de, fr, es, not in 'dee'; did you mean 'de'"):
        load("facts", language="dee")


def test_wordings_have_the_slots_of_their_skeleton():
    for name, languages in QUESTIONS.items():
        assert set(languages) == set(LANGUAGES)
        slots = {slot for slot in SLOTS if "{" + slot + "}" in SKELETONS[name].form}
        for language, wordings in languages.items():
            assert len(set(wordings)) == len(wordings) == (4 if language == "en" else 2)
            assert all({slot for slot in SLOTS if "{" + slot + "}" in text} == slots for text in wordings), name


SLOTS = ("country", "other", "region", "group", "language", "currency", "city", "number")


def test_sentences_begin_with_a_capital_letter():
    assert sentence("¿{a} tiene {b}?", {"a": "el Perú", "b": "x"}) == "¿El Perú tiene x?"
    assert sentence("{b} people live there.", {"b": "98.6"}) == "98.6 people live there."


def test_articles():
    assert in_sentence("Netherlands", "en") == "the Netherlands"
    assert in_sentence("Peru", "en") == "Peru"
    assert in_sentence("Schweiz", "de", "CH") == "die Schweiz"


# --- triples and passages ---


@needs_cldr
def test_triples_have_labels_in_languages_that_are_asked_for():
    table = load("facts", view="triples", split=split_of("CH"), labels=("de", "ja"))
    row = next(row for row in table if row["id"] == "CH|uses_currency|CHF")
    assert row["subject_label"] == "Switzerland"
    assert (row["subject_de"], row["object_de"]) == ("Schweiz", "Schweizer Franken")
    assert row["subject_ja"] == "スイス"
    shared = next(row for row in table if row["id"] == "CH|official_language|it")
    assert 0 < shared["share"] < 10
    with pytest.raises(UserError, match="only the view 'triples' has labels"):
        load("facts", labels=("de",))


@needs_cldr
@pytest.mark.parametrize("language", LANGUAGES)
def test_passages_state_their_triples(language):
    known = {triple.id: triple for triple in triples()}
    names = cldr.names(language)
    for row in load("facts", view="passages", split="test", language=language):
        assert row["text"] == " ".join(row["sentences"])
        assert "{" not in row["text"]
        assert len(row["sentences"]) == len(row["triples"]) >= 6
        for said, ids in zip(row["sentences"], row["triples"], strict=True):
            for found in (known[key] for key in ids):
                assert found.subject == row["country"]
                label = names[found.object_type].get(found.object, "") if found.object_type in names else found.object
                assert label.lower() in said.lower()


@needs_cldr
def test_a_pairs_passage_holds_the_answer():
    answers = {row["id"]: row["answers"] for row in load("facts", view="questions", split="test")}
    for row in load("facts", view="pairs", split="test"):
        assert all(answer.lower() in row["positive"].lower() for answer in answers[row["id"]]), row


@needs_cldr
def test_ids_are_unique():
    assert len({row["id"] for row in asked()}) == len(asked())
