"""How the questions of `facts` are worded: skeleton -> language -> paraphrases, of which the first is canonical.

Where a name would need a form that the CLDR does not give (German and French articles), the sentence is built so that
the name can stand as it is.
"""

from __future__ import annotations

from collections.abc import Mapping

LANGUAGES = ("en", "de", "fr", "es")

QUESTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "population": {
        "en": (
            "What is the population of {country}?",
            "How many people live in {country}?",
            "How many inhabitants does {country} have?",
            "Give the number of people in {country}.",
        ),
        "de": ("Wie viele Einwohner hat {country}?", "Nenne die Zahl der Einwohner: {country}."),
        "fr": ("{country} : combien d'habitants ?", "Combien de personnes vivent dans ce pays : {country} ?"),
        "es": ("¿Cuántos habitantes tiene {country}?", "¿Cuánta gente vive en {country}?"),
    },
    "literacy": {
        "en": (
            "What is the literacy rate of {country}?",
            "What percentage of the people of {country} can read and write?",
            "How literate is {country}, in percent?",
            "Give the share of people in {country} who can read.",
        ),
        "de": ("Wie viel Prozent der Menschen können lesen: {country}?", "Welche Alphabetisierungsrate hat {country}?"),
        "fr": (
            "{country} : quel est le taux d'alphabétisation ?",
            "Quel pourcentage des gens sait lire dans ce pays : {country} ?",
        ),
        "es": (
            "¿Cuál es la tasa de alfabetización de {country}?",
            "¿Qué porcentaje de la gente de {country} sabe leer?",
        ),
    },
    "code": {
        "en": (
            "What is the three-letter code of {country}?",
            "Which three letters stand for {country}?",
            "Give the ISO code of {country} with three letters.",
            "How is {country} abbreviated to three letters?",
        ),
        "de": ("Welchen Code aus drei Buchstaben hat {country}?", "Welche drei Buchstaben stehen für {country}?"),
        "fr": (
            "{country} : quel est le code à trois lettres ?",
            "Quelles trois lettres désignent ce pays : {country} ?",
        ),
        "es": ("¿Cuál es el código de tres letras de {country}?", "¿Qué tres letras representan a {country}?"),
    },
    "currency": {
        "en": (
            "What is the currency of {country}?",
            "Which currency is used in {country}?",
            "What do people in {country} pay with?",
            "Name the money of {country}.",
        ),
        "de": ("Welche Währung hat {country}?", "Womit bezahlt man in diesem Land: {country}?"),
        "fr": ("{country} : quelle est la monnaie ?", "Avec quelle monnaie paie-t-on dans ce pays : {country} ?"),
        "es": ("¿Cuál es la moneda de {country}?", "¿Con qué moneda se paga en {country}?"),
    },
    "official_languages": {
        "en": (
            "What are the official languages of {country}?",
            "Which languages are official in {country}?",
            "Which languages does the government of {country} use?",
            "List the official languages in {country}.",
        ),
        "de": ("Welche Amtssprachen hat {country}?", "Welche Sprachen sind hier amtlich: {country}?"),
        "fr": (
            "{country} : quelles sont les langues officielles ?",
            "Quelles langues sont officielles dans ce pays : {country} ?",
        ),
        "es": ("¿Cuáles son los idiomas oficiales de {country}?", "¿Qué idiomas son oficiales en {country}?"),
    },
    "main_language": {
        "en": (
            "Which language is spoken by the most people in {country}?",
            "What is the most common language of {country}?",
            "Which language do most people in {country} speak?",
            "Name the biggest language in {country}.",
        ),
        "de": ("Welche Sprache sprechen hier die meisten Menschen: {country}?", "Die größte Sprache: {country}?"),
        "fr": (
            "{country} : quelle langue est la plus parlée ?",
            "Quelle est la première langue de ce pays : {country} ?",
        ),
        "es": ("¿Qué idioma habla más gente en {country}?", "¿Cuál es el idioma más hablado de {country}?"),
    },
    "count_official": {
        "en": (
            "How many official languages does {country} have?",
            "How many languages are official in {country}?",
            "What is the number of official languages of {country}?",
            "Count the official languages of {country}.",
        ),
        "de": ("Wie viele Amtssprachen hat {country}?", "Wie viele Sprachen sind hier amtlich: {country}?"),
        "fr": (
            "{country} : combien de langues officielles ?",
            "Combien de langues sont officielles dans ce pays : {country} ?",
        ),
        "es": ("¿Cuántos idiomas oficiales tiene {country}?", "¿Cuántos idiomas son oficiales en {country}?"),
    },
    "region": {
        "en": (
            "In which region of the world is {country}?",
            "Where in the world is {country}?",
            "Which region does {country} belong to?",
            "Name the part of the world that {country} lies in.",
        ),
        "de": ("In welcher Region der Welt liegt {country}?", "Wo auf der Welt liegt {country}?"),
        "fr": (
            "{country} : dans quelle région du monde ?",
            "Dans quelle partie du monde se trouve ce pays : {country} ?",
        ),
        "es": ("¿En qué región del mundo está {country}?", "¿A qué parte del mundo pertenece {country}?"),
    },
    "share": {
        "en": (
            "What percentage of the people in {country} speak {language}?",
            "How common is {language} in {country}, in percent?",
            "What share of {country} speaks {language}?",
            "Give the percentage of {language} speakers in {country}.",
        ),
        "de": (
            "Wie viel Prozent der Menschen sprechen {language} in diesem Land: {country}?",
            "Welchen Anteil hat die Sprache {language} hier: {country}?",
        ),
        "fr": (
            "{country} : quel pourcentage des gens parle cette langue : {language} ?",
            "Quelle part des gens parle « {language} » dans ce pays : {country} ?",
        ),
        "es": (
            "¿Qué porcentaje de la gente de {country} habla {language}?",
            "¿Qué parte de {country} habla {language}?",
        ),
    },
    "is_official": {
        "en": (
            "Is {language} an official language of {country}?",
            "Does {country} have {language} as an official language?",
            "In {country}, is {language} official?",
            "Is the language {language} official in {country}?",
        ),
        "de": ("Hat {country} die Amtssprache {language}?", "Ist die Sprache {language} hier amtlich: {country}?"),
        "fr": (
            "{country} : cette langue y est-elle officielle : {language} ?",
            "La langue « {language} » est-elle officielle dans ce pays : {country} ?",
        ),
        "es": ("¿Es {language} un idioma oficial de {country}?", "¿Es oficial el idioma {language} en {country}?"),
    },
    "more_people": {
        "en": (
            "Which has more people, {country} or {other}?",
            "Do more people live in {country} or in {other}?",
            "Of {country} and {other}, which is more populous?",
            "Which of {country} and {other} has the larger population?",
        ),
        "de": (
            "Welches Land hat mehr Einwohner: {country} oder {other}?",
            "Wo leben mehr Menschen: {country} oder {other}?",
        ),
        "fr": (
            "Quel pays a le plus d'habitants : {country} ou {other} ?",
            "{country} ou {other} : où vivent plus de gens ?",
        ),
        "es": (
            "¿Qué país tiene más habitantes, {country} o {other}?",
            "¿Dónde vive más gente, en {country} o en {other}?",
        ),
    },
    "richer": {
        "en": (
            "Which has the larger economy, {country} or {other}?",
            "Is the GDP of {country} or of {other} larger?",
            "Of {country} and {other}, which produces more?",
            "Which of {country} and {other} has the higher GDP?",
        ),
        "de": (
            "Welches Land hat die größere Wirtschaft: {country} oder {other}?",
            "Wo ist das Bruttoinlandsprodukt höher: {country} oder {other}?",
        ),
        "fr": (
            "Quel pays a la plus grande économie : {country} ou {other} ?",
            "{country} ou {other} : où le PIB est-il plus élevé ?",
        ),
        "es": (
            "¿Qué país tiene la economía más grande, {country} o {other}?",
            "¿Dónde es mayor el PIB, en {country} o en {other}?",
        ),
    },
    "city_country": {
        "en": (
            "In which country is {city}?",
            "Which country does the city of {city} belong to?",
            "What country would you find {city} in?",
            "Name the country where {city} lies.",
        ),
        "de": ("In welchem Land liegt {city}?", "Zu welchem Land gehört der Ort {city}?"),
        "fr": ("Dans quel pays se trouve {city} ?", "{city} : de quel pays cette ville fait-elle partie ?"),
        "es": ("¿En qué país está {city}?", "¿A qué país pertenece la ciudad de {city}?"),
    },
    "city_currency": {
        "en": (
            "What is the currency of the country of {city}?",
            "What do people in {city} pay with?",
            "Which currency does the country with the city {city} use?",
            "Which money is used in {city}?",
        ),
        "de": ("Welche Währung hat das Land von {city}?", "Womit bezahlt man in {city}?"),
        "fr": ("Quelle est la monnaie du pays où se trouve {city} ?", "Avec quelle monnaie paie-t-on à {city} ?"),
        "es": ("¿Cuál es la moneda del país de {city}?", "¿Con qué moneda se paga en {city}?"),
    },
    "city_languages": {
        "en": (
            "What are the official languages of the country of {city}?",
            "Which languages are official in the country where {city} lies?",
            "Which official languages has the country that {city} belongs to?",
            "List the official languages of the country around {city}.",
        ),
        "de": (
            "Welche Amtssprachen hat das Land von {city}?",
            "Welche Sprachen sind im Land des Ortes {city} amtlich?",
        ),
        "fr": (
            "Quelles sont les langues officielles du pays où se trouve {city} ?",
            "{city} : quelles langues sont officielles dans le pays de cette ville ?",
        ),
        "es": (
            "¿Cuáles son los idiomas oficiales del país de {city}?",
            "¿Qué idiomas son oficiales en el país donde está {city}?",
        ),
    },
    "count_in_region": {
        "en": (
            "How many countries are in {region}?",
            "How many countries does {region} have?",
            "What is the number of countries in {region}?",
            "Count the countries of {region}.",
        ),
        "de": ("Wie viele Länder gehören zu dieser Region: {region}?", "Zähle die Länder: {region}."),
        "fr": ("{region} : combien de pays ?", "Combien de pays compte cette région : {region} ?"),
        "es": ("¿Cuántos países hay en esta región: {region}?", "¿Cuántos países tiene {region}?"),
    },
    "largest_in_region": {
        "en": (
            "Which country in {region} has the largest population?",
            "What is the most populous country of {region}?",
            "In which country of {region} do the most people live?",
            "Name the country with the most people in {region}.",
        ),
        "de": (
            "Welches Land hat in dieser Region die meisten Einwohner: {region}?",
            "Wo leben die meisten Menschen in der Region {region}?",
        ),
        "fr": (
            "{region} : quel pays a le plus d'habitants ?",
            "Quel est le pays le plus peuplé de cette région : {region} ?",
        ),
        "es": (
            "¿Qué país de esta región tiene más habitantes: {region}?",
            "¿Cuál es el país más poblado de {region}?",
        ),
    },
    "people_in_region": {
        "en": (
            "How many people live in {region} altogether?",
            "What is the total population of {region}?",
            "How many inhabitants do all countries of {region} have together?",
            "Add up the people of {region}.",
        ),
        "de": ("Wie viele Menschen leben insgesamt in dieser Region: {region}?", "Alle Einwohner zusammen: {region}?"),
        "fr": (
            "{region} : combien d'habitants au total ?",
            "Combien de gens vivent au total dans cette région : {region} ?",
        ),
        "es": (
            "¿Cuánta gente vive en total en esta región: {region}?",
            "¿Cuántos habitantes suman los países de {region}?",
        ),
    },
    "countries_by_language": {
        "en": (
            "Which countries in {region} have {language} as an official language?",
            "In which countries of {region} is {language} official?",
            "Where in {region} is {language} an official language?",
            "List the countries of {region} with {language} as an official language.",
        ),
        "de": (
            "In welchen Ländern der Region {region} ist die Sprache {language} amtlich?",
            "Welche Länder der Region {region} haben die Amtssprache {language}?",
        ),
        "fr": (
            "{region} : dans quels pays cette langue est-elle officielle : {language} ?",
            "Quels pays de la région « {region} » ont « {language} » pour langue officielle ?",
        ),
        "es": (
            "¿En qué países de la región {region} es oficial el idioma {language}?",
            "¿Qué países de {region} tienen {language} como idioma oficial?",
        ),
    },
    "count_by_language": {
        "en": (
            "How many countries in {region} have {language} as an official language?",
            "In how many countries of {region} is {language} official?",
            "What is the number of countries in {region} where {language} is official?",
            "Count the countries of {region} whose official languages include {language}.",
        ),
        "de": (
            "In wie vielen Ländern der Region {region} ist die Sprache {language} amtlich?",
            "Wie viele Länder der Region {region} haben die Amtssprache {language}?",
        ),
        "fr": (
            "{region} : dans combien de pays cette langue est-elle officielle : {language} ?",
            "Combien de pays de la région « {region} » ont « {language} » pour langue officielle ?",
        ),
        "es": (
            "¿En cuántos países de la región {region} es oficial el idioma {language}?",
            "¿Cuántos países de {region} tienen {language} como idioma oficial?",
        ),
    },
    "count_users": {
        "en": (
            "How many countries use the {currency}?",
            "In how many countries can you pay with the {currency}?",
            "What is the number of countries whose currency is the {currency}?",
            "Count the countries where the {currency} is used.",
        ),
        "de": (
            "Wie viele Länder verwenden diese Währung: {currency}?",
            "In wie vielen Ländern gilt die Währung {currency}?",
        ),
        "fr": (
            "Combien de pays utilisent cette monnaie : {currency} ?",
            "{currency} : dans combien de pays cette monnaie a-t-elle cours ?",
        ),
        "es": (
            "¿Cuántos países usan esta moneda: {currency}?",
            "¿En cuántos países se paga con la moneda {currency}?",
        ),
    },
    "script": {
        "en": (
            "In which script is {language} written?",
            "Which writing system does {language} use?",
            "What script do people use to write {language}?",
            "Name the script of the language {language}.",
        ),
        "de": ("In welcher Schrift schreibt man die Sprache {language}?", "Welche Schrift verwendet {language}?"),
        "fr": (
            "Dans quelle écriture s'écrit cette langue : {language} ?",
            "{language} : quelle écriture cette langue utilise-t-elle ?",
        ),
        "es": ("¿En qué escritura se escribe el idioma {language}?", "¿Qué escritura usa {language}?"),
    },
    "country_scripts": {
        "en": (
            "In which scripts are the official languages of {country} written?",
            "Which scripts do you need for the official languages of {country}?",
            "What writing systems do the official languages of {country} use?",
            "List the scripts of the official languages in {country}.",
        ),
        "de": (
            "In welchen Schriften schreibt man die Amtssprachen dieses Landes: {country}?",
            "Die Schriften der Amtssprachen: {country}?",
        ),
        "fr": (
            "{country} : dans quelles écritures s'écrivent les langues officielles ?",
            "Quelles écritures utilisent les langues officielles de ce pays : {country} ?",
        ),
        "es": (
            "¿En qué escrituras se escriben los idiomas oficiales de {country}?",
            "¿Qué escrituras usan los idiomas oficiales de {country}?",
        ),
    },
    "richest_by_language": {
        "en": (
            "Which country where {language} is official has the largest GDP?",
            "What is the largest economy among the countries with {language} as an official language?",
            "Of all countries whose official languages include {language}, which has the highest GDP?",
            "Name the country with the most economic output where {language} is official.",
        ),
        "de": (
            "Welches Land mit der Amtssprache {language} hat das höchste Bruttoinlandsprodukt?",
            "Welches ist die größte Wirtschaft unter den Ländern mit der Amtssprache {language}?",
        ),
        "fr": (
            "Quel pays de langue officielle « {language} » a le PIB le plus élevé ?",
            "{language} : quel pays où cette langue est officielle a la plus grande économie ?",
        ),
        "es": (
            "¿Qué país con el idioma oficial {language} tiene el mayor PIB?",
            "¿Cuál es la mayor economía entre los países donde {language} es oficial?",
        ),
    },
    "members_in_region": {
        "en": (
            "How many countries in {region} belong to the {group}?",
            "How many members of the {group} are in {region}?",
            "What is the number of countries of {region} in the {group}?",
            "Count the members of the {group} that lie in {region}.",
        ),
        "de": (
            "Wie viele Länder der Region {region} gehören zu dieser Gruppe: {group}?",
            "{group}: Wie viele Mitglieder liegen in der Region {region}?",
        ),
        "fr": (
            "{group} : combien de membres dans la région « {region} » ?",
            "Combien de pays de la région « {region} » font partie de ce groupe : {group} ?",
        ),
        "es": (
            "¿Cuántos países de la región {region} pertenecen a este grupo: {group}?",
            "{group}: ¿cuántos miembros hay en la región {region}?",
        ),
    },
    "count_above": {
        "en": (
            "How many countries in {region} have more than {number} people?",
            "In how many countries of {region} do more than {number} people live?",
            "What is the number of countries in {region} with a population above {number}?",
            "Count the countries of {region} that have over {number} inhabitants.",
        ),
        "de": (
            "Wie viele Länder der Region {region} haben mehr als {number} Einwohner?",
            "In wie vielen Ländern der Region {region} leben mehr als {number} Menschen?",
        ),
        "fr": (
            "{region} : combien de pays ont plus de {number} habitants ?",
            "Dans combien de pays de la région « {region} » vivent plus de {number} personnes ?",
        ),
        "es": (
            "¿Cuántos países de la región {region} tienen más de {number} habitantes?",
            "¿En cuántos países de {region} viven más de {number} personas?",
        ),
    },
    "within": {
        "en": (
            "Is {country} in {region}?",
            "Does {country} lie in {region}?",
            "Is {country} a part of {region}?",
            "Does {country} belong to {region}?",
        ),
        "de": ("Gehört {country} zu dieser Region: {region}?", "Liegt {country} in der Region {region}?"),
        "fr": (
            "{country} : ce pays est-il dans la région « {region} » ?",
            "Ce pays fait-il partie de la région « {region} » : {country} ?",
        ),
        "es": ("¿Está {country} en la región {region}?", "¿Pertenece {country} a esta región: {region}?"),
    },
    "same_currency": {
        "en": (
            "Do {country} and {other} use the same currency?",
            "Can you pay in {country} with the money of {other}?",
            "Is there a currency that both {country} and {other} use?",
            "Is the currency of {country} also used in {other}?",
        ),
        "de": (
            "Haben diese Länder die gleiche Währung: {country} und {other}?",
            "Bezahlt man hier mit dem gleichen Geld: {country} und {other}?",
        ),
        "fr": (
            "{country} et {other} : ces pays ont-ils la même monnaie ?",
            "Paie-t-on avec la même monnaie dans ces pays : {country} et {other} ?",
        ),
        "es": (
            "¿Usan {country} y {other} la misma moneda?",
            "¿Se paga en {country} con la misma moneda que en {other}?",
        ),
    },
}

YES_NO = {"en": ("yes", "no"), "de": ("ja", "nein"), "fr": ("oui", "non"), "es": ("sí", "no")}

_GERMAN_WITH_ARTICLE = frozenset(
    ("AE", "BS", "CF", "CH", "DO", "KM", "MN", "MV", "NL", "PH", "SC", "SK", "TR", "UA", "US")
)


def in_sentence(name: str, language: str, key: str = "") -> str:
    """The name of a country or region as a sentence has it: with its article in English and German, if it has one."""
    if language == "de" and (key in _GERMAN_WITH_ARTICLE or name.lower().endswith("inseln")):
        return f"die {name}"
    if language == "en" and (name.endswith(_ENGLISH_ENDINGS) or name.startswith(("United ", "Isle "))):
        return f"the {name}"
    return name


_ENGLISH_ENDINGS = (
    *(
        "Islands",
        "Territory",
        "Territories",
        "Republic",
        "Netherlands",
        "Grenadines",
        "Region",
        "Americas",
        "Caribbean",
    ),
    *("Bahamas", "Comoros", "Gambia", "Maldives", "Philippines", "Seychelles"),
)


def sentence(template: str, names: Mapping[str, str]) -> str:
    """The template with its names, beginning with a capital letter, unless it begins with a number."""
    told = template.format(**names)
    start = next((place for place, letter in enumerate(told) if letter.isalnum()), 0)
    return told[:start] + told[start].upper() + told[start + 1 :]
