"""The seven relations of ATOMIC 20/20 that machines are asked for, as questions in plain words, with examples.

An event has PersonX in it. Names of relations: Hwang et al. 2021; the examples are our own.
"""

from __future__ import annotations

from stillroom.synthesis.triples import Relation

ATOMIC = (
    Relation(
        "xAttr",
        "How would one describe the person?",
        "PersonX is seen as:",
        (
            ("PersonX helps PersonY move house", "helpful"),
            ("PersonX runs a marathon", "athletic"),
            ("PersonX forgets the keys at home", "absent-minded"),
            ("PersonX gives money to a stranger", "generous"),
            ("PersonX shouts at the waiter", "rude"),
        ),
    ),
    Relation(
        "xWant",
        "What does the person want to do afterwards?",
        "Afterwards, PersonX wants:",
        (
            ("PersonX comes home from work", "to rest on the sofa"),
            ("PersonX wins the lottery", "to tell the family"),
            ("PersonX breaks PersonY's window", "to apologise to PersonY"),
            ("PersonX bakes a cake", "to share it with friends"),
            ("PersonX loses the wallet", "to cancel the bank card"),
        ),
    ),
    Relation(
        "xNeed",
        "What did the person have to do or have before?",
        "Before that, PersonX needed:",
        (
            ("PersonX plays the violin in a concert", "to practise for weeks"),
            ("PersonX posts a letter", "to buy a stamp"),
            ("PersonX drives PersonY to the station", "to have a car"),
            ("PersonX paints the fence", "to open a tin of paint"),
            ("PersonX climbs the mountain", "to pack a rucksack"),
        ),
    ),
    Relation(
        "xReact",
        "How does the person feel?",
        "PersonX feels:",
        (
            ("PersonX misses the last bus", "annoyed"),
            ("PersonX gets a letter from PersonY", "happy"),
            ("PersonX fails the exam", "disappointed"),
            ("PersonX hears a noise at night", "frightened"),
            ("PersonX finishes a long book", "satisfied"),
        ),
    ),
    Relation(
        "xEffect",
        "What happens to the person as a result?",
        "As a result, PersonX",
        (
            ("PersonX stays up all night", "is tired in the morning"),
            ("PersonX eats too much ice cream", "gets a stomach ache"),
            ("PersonX waters the plants every day", "has a green garden"),
            ("PersonX sells the bicycle", "has to walk to work"),
            ("PersonX lies to PersonY", "loses PersonY's trust"),
        ),
    ),
    Relation(
        "xIntent",
        "Why does the person do it?",
        "PersonX did this in order:",
        (
            ("PersonX buys flowers", "to surprise a friend"),
            ("PersonX takes a taxi", "to arrive in time"),
            ("PersonX studies every evening", "to pass the exam"),
            ("PersonX calls PersonY", "to ask PersonY for advice"),
            ("PersonX closes the window", "to keep the room warm"),
        ),
    ),
    Relation(
        "HinderedBy",
        "What could stand in the way of it?",
        "This does not happen if",
        (
            ("PersonX goes for a swim", "the lake is frozen"),
            ("PersonX cooks dinner for PersonY", "PersonY is not hungry"),
            ("PersonX reads the newspaper", "PersonX has lost the glasses"),
            ("PersonX flies to Rome", "the airport is closed"),
            ("PersonX mends the chair", "there are no nails in the house"),
        ),
    ),
)
