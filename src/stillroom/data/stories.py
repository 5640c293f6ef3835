"""The pieces that `arithmetic` composes word problems of: what there is at first, what happens to it, what is asked.

A world is a kind of amount: things that are counted, money, something measured. Each has beginnings, events and
questions that go together in any order, so that a few dozen sentences give some hundred thousand templates.

In the sentences ``{a}`` and ``{b}`` are a beginning's numbers and ``{n}`` an event's; ``{who}`` is a name, ``{she}``,
``{her}`` (whose) and ``{him}`` (whom) its pronouns, ``{other}`` another name; the rest are the world's own words.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Beginning:
    """Sentences that give the first amount: ``a operation b``, or ``a`` alone where ``operation`` is empty."""

    name: str
    operation: str
    text: str
    reason: str


@dataclass(frozen=True)
class Event:
    """A sentence after which the amount is ``amount operation n``, and how a solution says it."""

    name: str
    operation: str
    text: str
    reason: str


@dataclass(frozen=True)
class World:
    """What goes together. ``words``: sets of the words that the sentences leave open."""

    name: str
    words: tuple[dict[str, str], ...]
    beginnings: tuple[Beginning, ...]
    events: tuple[Event, ...]
    questions: tuple[str, ...]


WOMEN = (
    "Ada", "Aiko", "Amina", "Clara", "Dora", "Elif", "Fatou", "Greta", "Hana", "Ines", "Ioana", "Jana", "Leila", "Lin",
    "Maria", "Nadia", "Nora", "Olga", "Priya", "Rosa", "Sofia", "Tara", "Wanda", "Yara", "Zoe",
)  # fmt: skip
MEN = (
    "Ali", "Anton", "Bela", "Boris", "Carlos", "Dario", "Emil", "Felix", "Gabriel", "Hugo", "Ivan", "Jamal", "Kenji",
    "Lars", "Mateo", "Milan", "Noah", "Omar", "Pavel", "Ravi", "Samuel", "Tomas", "Umar", "Viktor", "Yusuf",
)  # fmt: skip

_THINGS = (
    "apples", "beads", "books", "buttons", "cards", "chairs", "coins", "eggs", "feathers", "flowers", "keys", "lamps",
    "marbles", "notebooks", "oranges", "pears", "pencils", "photos", "plates", "puzzles", "ribbons", "seeds", "shells",
    "spoons", "stamps", "stickers", "stones", "tickets", "tomatoes", "toy cars",
)  # fmt: skip

THINGS = World(
    name="things",
    words=tuple({"item": item} for item in _THINGS),
    beginnings=(
        Beginning("has", "", "{who} has {a} {item}.", ""),
        Beginning("collected", "", "Over the years {who} collected {a} {item}.", ""),
        Beginning("two days", "+", "{who} found {a} {item} on Monday and {b} on Tuesday.", "both days together"),
        Beginning("two colours", "+", "{who} owns {a} red {item} and {b} blue {item}.", "both colours together"),
        Beginning("more than", "+", "{other} has {a} {item}, and {who} has {b} more.", "{b} more than {other}"),
        Beginning("fewer than", "-", "{other} has {a} {item}, and {who} has {b} fewer.", "{b} fewer than {other}"),
        Beginning("had", "-", "{who} had {a} {item} but lost {b} of them.", "what was not lost"),
        Beginning("boxes", "*", "{who} buys {a} boxes with {b} {item} in each.", "{a} boxes of {b}"),
        Beginning("rows", "*", "{who} lays out {item} in {a} rows of {b}.", "{a} rows of {b}"),
        Beginning("times", "*", "{other} has {a} {item}, and {who} {b} times as many.", "{b} times as many as {other}"),
        Beginning("shared", "/", "{b} people, {who} among them, share {a} {item} equally.", "an equal share"),
        Beginning("packs", "/", "{a} {item} are packed into {b} equal packs, and {who} takes one pack.", "one pack"),
    ),
    events=(
        Event("finds", "+", "Then {she} finds {n} more.", "{n} found"),
        Event("buys", "+", "{who} buys another {n}.", "{n} bought"),
        Event("is given", "+", "A neighbour gives {who} {n} more.", "{n} from the neighbour"),
        Event("wins", "+", "At a fair {she} wins {n}.", "{n} won"),
        Event("gives away", "-", "{who} gives {n} of them away.", "{n} given away"),
        Event("loses", "-", "On the way home {she} loses {n}.", "{n} lost"),
        Event("sells", "-", "{who} sells {n} at the market.", "{n} sold"),
        Event("break", "-", "Then {n} of them break.", "{n} broken"),
        Event("grows", "*", "A year later {she} has {n} times as many.", "{n} times as many"),
        Event("swaps", "*", "{who} swaps each of them for {n} smaller ones.", "{n} for each"),
        Event("bags", "/", "{who} puts them into {n} equal bags and keeps only one bag.", "one of {n} bags"),
        Event("heaps", "/", "Of {n} equal heaps of them {she} gives away all but one.", "one of {n} heaps"),
    ),
    questions=(
        "How many {item} does {who} have now?",
        "How many {item} are {who}'s in the end?",
        "What is the number of {item} that {who} has?",
    ),
)  # fmt: skip

MONEY = World(
    name="money",
    words=tuple({"unit": unit} for unit in ("euros", "dollars", "pounds", "crowns", "pesos", "rupees", "francs")),
    beginnings=(
        Beginning("purse", "", "{who} has {a} {unit} in {her} purse.", ""),
        Beginning("account", "", "There are {a} {unit} in {who}'s account.", ""),
        Beginning("two jobs", "+", "{who} earns {a} {unit} in one job and {b} in another.", "both jobs together"),
        Beginning("savings", "+", "{who} saved {a} {unit} in May and {b} {unit} in June.", "both months together"),
        Beginning("paid", "-", "{who} had {a} {unit} and paid {b} {unit} for a shirt.", "what the shirt left"),
        Beginning("hours", "*", "{who} works {a} hours for {b} {unit} an hour.", "{a} hours at {b} {unit}"),
        Beginning("sold", "*", "{who} sells {a} cakes at {b} {unit} each.", "{a} cakes at {b} {unit}"),
        Beginning("bill", "/", "{b} friends, {who} among them, win {a} {unit} and share equally.", "an equal share"),
    ),
    events=(
        Event("earns", "+", "Then {she} earns {n} {unit}.", "{n} earned"),
        Event("gift", "+", "For {her} birthday {she} gets {n} {unit}.", "{n} as a gift"),
        Event("refund", "+", "A shop pays back {n} {unit}.", "{n} paid back"),
        Event("spends", "-", "{who} spends {n} {unit} on food.", "{n} spent on food"),
        Event("fare", "-", "A train ticket costs {him} {n} {unit}.", "{n} for the ticket"),
        Event("fee", "-", "The bank takes a fee of {n} {unit}.", "{n} for the bank"),
        Event("invests", "*", "{who} invests it all, and it becomes {n} times as much.", "{n} times as much"),
        Event("doubles", "*", "A lucky bet turns it into {n} times the sum.", "{n} times the sum"),
        Event("divides", "/", "{who} puts it into {n} equal envelopes and keeps one.", "one of {n} envelopes"),
        Event("heirs", "/", "Of {n} equal parts of it {she} gives away all but one.", "one of {n} parts"),
    ),
    questions=(
        "How many {unit} does {who} have now?",
        "What sum in {unit} does {who} have in the end?",
        "How much money has {who}, in {unit}?",
    ),
)  # fmt: skip

MEASURE = World(
    name="measure",
    words=(
        {"unit": "litres", "item": "water", "place": "tank"},
        {"unit": "litres", "item": "oil", "place": "barrel"},
        {"unit": "kilograms", "item": "flour", "place": "store"},
        {"unit": "kilograms", "item": "sand", "place": "yard"},
        {"unit": "tonnes", "item": "coal", "place": "cellar"},
        {"unit": "metres", "item": "rope", "place": "ship"},
        {"unit": "metres", "item": "cloth", "place": "shop"},
    ),
    beginnings=(
        Beginning("holds", "", "The {place} holds {a} {unit} of {item}.", ""),
        Beginning("delivered", "", "In the morning {a} {unit} of {item} come to an empty {place}.", ""),
        Beginning("two loads", "+", "The {place} gets {a} {unit} of {item} and then {b} {unit}.", "both together"),
        Beginning("used", "-", "Of {a} {unit} of {item} in the {place}, {b} {unit} were used.", "what was not used"),
        Beginning("daily", "*", "On each of {b} days {a} {unit} of {item} come to the {place}.", "{b} days of {a}"),
        Beginning("carts", "*", "{a} carts bring {b} {unit} of {item} each to the {place}.", "{a} carts of {b} {unit}"),
        Beginning("portion", "/", "Of {b} equal parts of {a} {unit} of {item} the {place} gets one.", "one part"),
    ),
    events=(
        Event("arrive", "+", "Another {n} {unit} arrive.", "{n} arrived"),
        Event("add", "+", "{who} adds {n} {unit}.", "{n} added"),
        Event("return", "+", "{n} {unit} are brought back.", "{n} brought back"),
        Event("taken", "-", "{who} takes {n} {unit} away.", "{n} taken away"),
        Event("spoil", "-", "{n} {unit} are spoilt and thrown out.", "{n} thrown out"),
        Event("sold", "-", "{n} {unit} are sold.", "{n} sold"),
        Event("multiply", "*", "By the autumn there is {n} times as much.", "{n} times as much"),
        Event("order", "*", "A large order makes it {n} times what it was.", "{n} times what it was"),
        Event("parts", "/", "It is divided into {n} equal parts, and all but one are taken away.", "one of {n} parts"),
        Event("remains", "/", "After a while only one part in {n} remains.", "one part in {n}"),
    ),
    questions=(
        "How many {unit} of {item} are in the {place} now?",
        "What amount of {item} does the {place} hold in the end, in {unit}?",
        "How many {unit} of {item} does the {place} have?",
    ),
)  # fmt: skip

WORLDS = (THINGS, MONEY, MEASURE)
