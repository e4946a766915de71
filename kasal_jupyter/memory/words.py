"""Words: what a text is compared by where no model does it.

A word counts by its stem, and a little by its parts, so that *preferred* finds *preference* and a slip of the
pen finds its word. The rules are few and light, for languages that are written with an alphabet; Chinese,
Japanese and Korean are read by pairs of characters.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from zlib import crc32

COMMON_WEIGHT = 0.1
"""What a word that stands in every text counts, against 1 for another."""

PART_LENGTH = 4
"""Characters of a word's parts."""

PARTS_WEIGHT = 0.5
"""What all parts of a word count together, against 1 for the word."""

_OF_PARTS = 1
"""What makes a part's number another than that of a word that is the same."""

MOST_WORDS = 2_000
"""Words of a text that are looked at: more say nothing new of what it is about."""

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W\d_]+)?")
_PAIRED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")

_ENDINGS = (
    ("ies", "y"),
    ("ied", "y"),
    ("ingly", ""),
    ("edly", ""),
    ("ings", ""),
    ("ing", ""),
    ("ed", ""),
    ("ly", ""),
    ("es", ""),
    ("en", ""),
    ("s", ""),
    ("e", ""),
)
"""What words lose, the first that fits; English in the main, with the plurals of its neighbours."""

_SHORTEST_STEM = 3

_COMMON = frozenset(
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


def plain(text: str) -> str:
    """Give a text in lower case and without accents."""
    if text.isascii():
        return text.lower()
    apart = unicodedata.normalize("NFKD", text.casefold())
    # Together again what is no accent: Korean syllables are taken apart too.
    return unicodedata.normalize("NFC", "".join(each for each in apart if not unicodedata.combining(each)))


def words_of(text: str) -> list[str]:
    """Give a text's words in their order, plain; at most :data:`MOST_WORDS`."""
    found: list[str] = _WORD.findall(plain(text))
    if not text.isascii() and _PAIRED.search(text):
        found = [part for word in found for part in (_pairs(word) if _PAIRED.search(word) else [word])]
    return found[:MOST_WORDS]


def stem(word: str) -> str:
    """Give what a plain word counts by."""
    word = word.partition("'")[0].partition("\u2019")[0]
    if not word.isalpha():
        return word
    for ending, instead in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            word = word[: -len(ending)] + instead
            break
    # Preferred is prefer, planning is plan.
    if len(word) > _SHORTEST_STEM and word[-1] == word[-2] and word[-1] not in "aeiouls":
        word = word[:-1]
    return word


@lru_cache(maxsize=8_192)
def _weighted(word: str) -> tuple[str, float]:
    """Give a plain word's stem, and what it counts where it stands once."""
    return stem(word), COMMON_WEIGHT if word in _COMMON else 1.0


def number_of(stemmed: str) -> int:
    """Give the 32 bits that a stem is known by."""
    return crc32(stemmed.encode())


@lru_cache(maxsize=4_096)
def parts_of(stemmed: str) -> tuple[int, ...]:
    """Give the 32 bits of each of a stem's parts; short stems and numbers have none."""
    if len(stemmed) < PART_LENGTH or not stemmed.isalpha():
        return ()
    framed = f"<{stemmed}>"
    ends = range(PART_LENGTH, len(framed) + 1)
    return tuple(crc32(framed[end - PART_LENGTH : end].encode(), _OF_PARTS) for end in ends)


def stems_of(text: str) -> dict[str, float]:
    """Give a text's stems with what each counts: by how often it stands there, little where it is common."""
    stems: dict[str, float] = {}
    for word, count in Counter(words_of(text)).items():
        stemmed, weight = _weighted(word)
        stems[stemmed] = stems.get(stemmed, 0.0) + (weight if count == 1 else weight * (1 + math.log(count)))
    return stems


def alike(one: Iterable[str], other: Iterable[str]) -> float:
    """Say how much two texts' stems are the same: 0 to 1, Jaccard's measure."""
    first, second = set(one), set(other)
    return len(first & second) / len(first | second) if first or second else 1.0


def _pairs(word: str) -> list[str]:
    """Take a word apart that is, in part, written without an alphabet."""
    found: list[str] = []
    at = 0
    for run in _PAIRED.finditer(word):
        found += [word[at : run.start()]] if run.start() > at else []
        signs = run[0]
        found += [signs[i : i + 2] for i in range(len(signs) - 1)] or [signs]
        at = run.end()
    return [*found, word[at:]] if at < len(word) else found
