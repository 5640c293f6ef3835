"""One text for each country, written from its facts, sentence by sentence, in several wordings and languages.

A sentence knows the triples that it states, so that a text has gold facts, gold sentences for a question, and a
gold order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from stillroom.data.facts.wordings import in_sentence, sentence
from stillroom.data.facts.world import Triple, triples
from stillroom.data.tables import share

Label = Callable[[str, str], str]
"""Type and id -> name in a language."""


@dataclass(frozen=True)
class Sentence:
    """What is said, and the ids of the triples that say it."""

    text: str
    triples: tuple[str, ...]


_AND = {"en": " and ", "de": " und ", "fr": " et ", "es": " y "}

# Relation -> language -> wordings. {a} is the country, {it} how it is called again, {b} the object or a list of them.
SENTENCES: dict[str, dict[str, tuple[str, ...]]] = {
    "in_region": {
        "en": (
            "{a} is a country in {b}.",
            "{a} lies in {b}.",
            "In {b} there is a country called {name}, abbreviated {code}.",
        ),
        "de": ("{a} gehört zur Region {b}.", "In der Region {b} gibt es ein Land mit dem Namen {name}."),
        "fr": ("Pays de la région « {b} » : {a}.", "{a} se trouve dans la région « {b} »."),
        "es": ("{a} está en la región {b}.", "En la región {b} hay un país llamado {name}."),
    },
    "has_population": {
        "en": ("Its population is {b}.", "About {b} people live there.", "It has {b} inhabitants."),
        "de": ("Dort leben {b} Menschen.", "Das Land hat {b} Einwohner."),
        "fr": ("Ce pays compte {b} habitants.", "{b} personnes y vivent."),
        "es": ("Tiene {b} habitantes.", "Allí viven {b} personas."),
    },
    "official_language": {
        "en": (
            "Official there: {b}.",
            "People deal with its government in {b}.",
            "What is official in this country is {b}.",
        ),
        "de": ("Amtlich ist dort: {b}.", "Mit den Behörden spricht man {b}."),
        "fr": ("Langue officielle du pays : {b}.", "Y est officiel : {b}."),
        "es": ("Es oficial allí: {b}.", "Con el gobierno se habla {b}."),
    },
    "regional_language": {
        "en": ("In parts of the country, {b} is official too.", "Official in some of its regions: {b}."),
        "de": ("In Teilen des Landes ist auch {b} amtlich.",),
        "fr": ("Dans une partie du pays est aussi officiel : {b}.",),
        "es": ("En partes del país también es oficial {b}.",),
    },
    "main_language": {
        "en": ("{b} is spoken by {share} percent of the people.", "Of every hundred people, {share} speak {b}."),
        "de": ("{share} Prozent der Menschen sprechen {b}.",),
        "fr": ("Langue parlée par {share} pour cent des gens : {b}.",),
        "es": ("El {share} por ciento de la gente habla {b}.",),
    },
    "uses_currency": {
        "en": ("People pay with the {b}.", "The currency is the {b}.", "Its money is the {b}."),
        "de": ("Die Währung ist: {b}.", "Man bezahlt mit der Währung {b}."),
        "fr": ("La monnaie est : {b}.", "On y paie avec la monnaie suivante : {b}."),
        "es": ("La moneda es: {b}.", "Se paga con la moneda {b}."),
    },
    "used_currency": {
        "en": ("In the past, the {b} was used.", "Money of earlier times: {b}."),
        "de": ("Früher galt: {b}.",),
        "fr": ("Autrefois, on utilisait : {b}.",),
        "es": ("Antes se usaba: {b}.",),
    },
    "has_literacy": {
        "en": ("{b} percent of its people can read and write.", "The literacy rate is {b} percent."),
        "de": ("{b} Prozent der Menschen können lesen und schreiben.",),
        "fr": ("{b} pour cent des gens savent lire et écrire.",),
        "es": ("El {b} por ciento de la gente sabe leer y escribir.",),
    },
    "has_gdp": {
        "en": ("Its gross domestic product is {b} dollars a year.", "The economy makes {b} dollars a year."),
        "de": ("Das Bruttoinlandsprodukt beträgt {b} Dollar im Jahr.",),
        "fr": ("Le produit intérieur brut est de {b} dollars par an.",),
        "es": ("El producto interior bruto es de {b} dólares al año.",),
    },
    "has_city": {
        "en": ("Places there: {b}.", "On its map one finds {b}."),
        "de": ("Orte in diesem Land: {b}.",),
        "fr": ("On y trouve : {b}.",),
        "es": ("Lugares del país: {b}.",),
    },
    "member_of": {
        "en": ("It is a member of the {b}.", "It belongs to the {b}."),
        "de": ("Mitgliedschaften: {b}.",),
        "fr": ("Le pays fait partie de : {b}.",),
        "es": ("Pertenece a: {b}.",),
    },
    "has_code": {
        "en": ("Its three-letter code is {b}.", "It is abbreviated {b}."),
        "de": ("Der Code aus drei Buchstaben ist {b}.",),
        "fr": ("Le code à trois lettres est {b}.",),
        "es": ("El código de tres letras es {b}.",),
    },
}
MOST = {"used_currency": 3, "has_city": 5}  # of those that would be long lists


def passage(country: str, language: str, label: Label) -> list[Sentence]:
    """The sentences about a country: where it lies comes first, the rest in an order of the country's own."""
    facts = _about()[country]
    order = [name for name in SENTENCES if name in facts]
    mixed = [order[0], *sorted(order[1:], key=lambda name: share(f"{country} {name}", salt="order"))]
    return [_sentence(country, name, facts[name], language, label) for name in mixed]


def _sentence(country: str, name: str, facts: Sequence[Triple], language: str, label: Label) -> Sentence:
    wordings = SENTENCES[name][language]
    template = wordings[int(share(f"{country} {name}", salt="wording") * len(wordings))]
    called = label("country", country)
    things = [label(fact.object_type, fact.object) for fact in facts]
    code = _about()[country]["has_code"][0]
    if name == "in_region":
        things = [in_sentence(things[0], language)]
    names = {
        "a": in_sentence(called, language, country),
        "name": called,
        "b": ", ".join(things[:-1]) + _AND[language] + things[-1] if len(things) > 1 else things[0],
        "share": f"{facts[0].share or 0:g}",
        "code": code.object,
    }
    said = [fact.id for fact in facts]
    return Sentence(sentence(template, names), tuple([*said, code.id] if "{code}" in template else said))


@cache
def _about() -> Mapping[str, Mapping[str, list[Triple]]]:
    """Country -> kind of sentence -> the triples it states."""
    found: dict[str, dict[str, list[Triple]]] = {}
    for triple in triples():
        if triple.subject_type == "country" and triple.relation in SENTENCES:
            found.setdefault(triple.subject, {}).setdefault(triple.relation, []).append(triple)
        if triple.share is not None:
            found.setdefault(triple.subject, {}).setdefault("main_language", []).append(triple)
    for facts in found.values():
        for name, most in MOST.items():
            if name in facts:
                facts[name] = facts[name][:most]
        if "main_language" in facts:
            best = max(facts["main_language"], key=lambda triple: (triple.share or 0, triple.object))
            facts["main_language"] = [best]
    return found
