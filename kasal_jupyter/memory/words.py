"""Words: what a text is found by, and what two texts are compared by.

What a word is, is said here alone: SQLite splits what it is given at blanks, and takes English endings off
(its tokenizer ``porter``). Chinese, Japanese, Korean, Thai and others that have no blanks are read by pairs
of signs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

MOST_WORDS = 2_000
"""Words of a text that are looked at: more say nothing new of what it is about."""

_LONGEST = 64
"""Characters of a word that are looked at."""

SHORTEST_PART = 5
"""Letters of a word that is found in longer ones."""

_ENDING = 2
"""Letters at its end that need not be there."""

_ELIDED = 2
"""Letters before an apostrophe that are no word: *l'eau* is *eau*, and *customer's* is *customer*."""

_ACCENTS = re.compile("[\u0300-\u036f]+")
# Said by what is not in it: a range up to the last character takes 20 times as long to compile.
_BEYOND = re.compile("[^\x00-\u0482\u2000-\u2bff]")
"""Writing that has other signs upon its letters."""

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W\d_]+)?")
_SIGNS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff]+"
)

COMMON = frozenset(
    # English, German, French, Spanish, Italian, Portuguese: articles, pronouns, prepositions, auxiliaries.
    """
    a aber about after again against al all als also am an and any ao aos are as at au auch auf aus aux
    avec be become becomes been before bei being bin bis both but by can cannot ce ces cette che chi ci
    com como con could cual da dal dann dans das de dei del della dem den der des desde di did die dies
    diese do does doing donde done dos du e each ein eine einem einen einer el ela ele ella elle em en
    entre er era es est esta este et few foi for from fue fur further get gets getting give given gives
    gli go goes going ha had happen happened happens has hat have having hay he her here his ho how i
    ich if ihr il ils im in into is ist it its ja je just kann la las le les let leur lo los lui ma mais
    make many mas may me mi mit more most much must muy my na nach nao nas ne nel never next nicht no
    noch non nos not nous now nur o oder of off often on once one only or os other ou our out over own
    par para pas pela pelo per pero piu please plus por pour qu que qui sa same se see sem ser ses seu
    she should show si sich sie sin sind so sobre some son sono sont still su sua such sur sus than that
    the their them then there these they this to too tra uber um uma un una und under une uno uns until
    up us use using very von vor vous want wants war was we were what when where whether which while who
    why wie will wir wird with would y ya yet you your zu zum zur
    """.split()  # noqa: SIM905 - a list of so many would fill pages
)
"""Words that stand in every text, and tell nothing of it."""


def plain(text: str) -> str:
    """Give a text in lower case and without accents."""
    if text.isascii():
        return text.lower()
    apart = _ACCENTS.sub("", unicodedata.normalize("NFKD", text.casefold()))
    if _BEYOND.search(apart):
        apart = "".join(each for each in apart if not unicodedata.combining(each))
    # Together again what is no accent: Korean syllables are taken apart too.
    return unicodedata.normalize("NFC", apart)


def words_of(text: str) -> list[str]:
    """Give a text's words in their order, plain; at most :data:`MOST_WORDS`."""
    found = [_word(each) for each in _WORD.findall(plain(text))]
    if not text.isascii() and _SIGNS.search(text):
        found = [part for word in found for part in (_pairs(word) if _SIGNS.search(word) else [word])]
    return [word[:_LONGEST] for word in found[:MOST_WORDS]]


def telling(text: str) -> list[str]:
    """Give the words that say what a text is about, each once, in their order."""
    return [word for word in dict.fromkeys(words_of(text)) if word not in COMMON]


def parts_of(word: str) -> list[str]:
    """Give what a plain word is looked for by in longer words: each three letters of it, but for its ending.

    So *Steuern* is found in *Umsatzsteuer*. Short words have none: they are in too many others.
    """
    if len(word) < SHORTEST_PART or not word.isalpha():
        return []
    part = word[: max(SHORTEST_PART, len(word) - _ENDING)]
    return [part[at : at + 3] for at in range(len(part) - 2)]


def alike(one: Iterable[str], other: Iterable[str]) -> float:
    """Say how much two texts' words are the same: 0 to 1, Jaccard's measure."""
    first, second = set(one), set(other)
    return len(first & second) / len(first | second) if first or second else 1.0


def _word(found: str) -> str:
    before, apostrophe, after = found.replace("\u2019", "'").partition("'")
    return after if apostrophe and len(before) <= _ELIDED else before


def _pairs(word: str) -> list[str]:
    """Take a word apart that is, in part, written in signs."""
    found: list[str] = []
    at = 0
    for run in _SIGNS.finditer(word):
        found += [word[at : run.start()]] if run.start() > at else []
        signs = run[0]
        found += [signs[i : i + 2] for i in range(len(signs) - 1)] or [signs]
        at = run.end()
    return [*found, word[at:]] if at < len(word) else found
