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

_ELIDED = 2
"""Letters before an apostrophe that are no word: *l'eau* is *eau*, and *customer's* is *customer*."""

_ACCENTS = re.compile("[\u0300-\u036f]+")
_BEYOND = re.compile("[\u0483-\u1fff\u2c00-\U0010ffff]")
"""Writing that has other signs upon its letters."""

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W\d_]+)?")
_SIGNS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff]+"
)

COMMON = frozenset(
    # English, German, French, Spanish, Italian, Portuguese: articles, pronouns, prepositions, auxiliaries.
    """
    a aber about after al all als also am an and any ao aos are as at au auch auf aus aux avec be been
    before bei bin bis but by can ce ces cette che chi ci com como con could cual da dal dann dans das
    de dei del della dem den der des desde di did die dies diese do does donde dos du e ein eine einem
    einen einer el ela ele ella elle em en entre er era es est esta este et foi for from fue fur get gli
    ha had has hat have hay he her his ho how i ich if ihr il ils im in into is ist it its ja je just
    kann la las le les leur lo los lui ma mais make mas may me mi mit more most must muy my na nach nao
    nas ne nel nicht no noch non nos not nous nur o oder of on one only or os other ou our out over par
    para pas pela pelo per pero piu please plus por pour qu que qui sa se sem ser ses seu she should si
    sich sie sin sind so sobre some son sono sont su sua such sur sus than that the their them then
    there these they this to tra uber um uma un una und under une uno uns up us use using von vor vous
    war was we were what when where which while who why wie will wir wird with would y ya you your zu
    zum zur
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
