"""Which of Python's regular expressions read any text in linear time.

Its ``re`` tries one way after another. That takes more than linear time where the same characters can be
read in several ways: by two repetitions that share them, or by one repetition that is begun at each of them,
as a search does. Both are ambiguities of the automaton: states ``p`` and ``q``, and a word that leads from
``p`` to ``p``, from ``p`` to ``q`` and from ``q`` to ``q`` (Weber and Seidl, *On the degree of ambiguity of
finite automata*, 1991); a search is an automaton that may begin at each character. Nothing is tried again
where nothing can fail: a repetition that may end the match is no danger.

The check is on the safe side: what it cannot judge, it calls more than linear.
"""

import re
from dataclasses import dataclass, field
from itertools import product
from re import _constants as codes
from re import _parser as parser

MOST_TIMES = 300
"""Repetitions up to so many count as a constant; beyond, as any number."""

LETTERS = [chr(code) for code in range(256)] + list(
    "\u0130\u0131\u0660\u0902\u200b\u2028\u3042\ufeff\U0001f600"
)

CATEGORIES = {
    codes.CATEGORY_DIGIT: r"\d",
    codes.CATEGORY_NOT_DIGIT: r"\D",
    codes.CATEGORY_SPACE: r"\s",
    codes.CATEGORY_NOT_SPACE: r"\S",
    codes.CATEGORY_WORD: r"\w",
    codes.CATEGORY_NOT_WORD: r"\W",
}

Classes = frozenset[str]


class NotJudged(ValueError):
    """What is in an expression that the check knows nothing of."""


@dataclass
class Piece:
    """A part of an expression: where it begins and ends, and whether it can be empty.

    ``empty`` is None where it cannot, else the set of assertions that must hold then.
    """

    first: dict[int, frozenset[str]]
    last: dict[int, frozenset[str]]
    empty: frozenset[str] | None


NOTHING = Piece({}, {}, frozenset())


@dataclass
class Automaton:
    """Glushkov's: a state for each character that is read; every step is on a character of the next state."""

    letters: list[str]
    flags: int
    reads: list[Classes] = field(default_factory=list)
    follow: list[set[int]] = field(default_factory=list)
    doubled: set[int] = field(default_factory=set)

    def state(self, reads):
        self.reads.append(frozenset(reads))
        self.follow.append(set())
        return len(self.reads) - 1

    def char(self, reads):
        new = self.state(reads)
        return Piece({new: frozenset()}, {new: frozenset()}, None)

    def link(self, before, after):
        for one in before:
            self.follow[one] |= set(after)

    def sequence(self, pieces):
        whole = NOTHING
        for piece in pieces:
            self.link(whole.last, piece.first)
            first, last = dict(whole.first), dict(piece.last)
            if whole.empty is not None:
                first |= {one: held | whole.empty for one, held in piece.first.items()}
            if piece.empty is not None:
                last |= {one: held | piece.empty for one, held in whole.last.items()}
            both = None if whole.empty is None or piece.empty is None else whole.empty | piece.empty
            whole = Piece(first, last, both)
        return whole

    def either(self, pieces):
        first, last, empty = {}, {}, None
        for piece in pieces:
            first |= piece.first
            last |= piece.last
            if piece.empty is not None:
                empty = piece.empty if empty is None else empty & piece.empty
        return Piece(first, last, empty)

    def matches(self, code, value):
        """Give the letters that one element of an expression reads."""
        match code:
            case codes.LITERAL:
                return self.alike({chr(value)})
            case codes.NOT_LITERAL:
                return set(self.letters) - self.alike({chr(value)})
            case codes.ANY:
                return set(self.letters) - (set() if self.flags & re.DOTALL else {"\n"})
            case codes.RANGE:
                return self.alike({each for each in self.letters if value[0] <= ord(each) <= value[1]})
            case codes.CATEGORY:
                flags = self.flags & re.ASCII
                return {each for each in self.letters if re.match(CATEGORIES[value], each, flags)}
            case codes.IN:
                negated = value[0][0] is codes.NEGATE
                found = set().union(*(self.matches(*each) for each in value[negated:]))
                return set(self.letters) - found if negated else found
        raise NotJudged(str(code))

    def alike(self, found):
        if not self.flags & re.IGNORECASE:
            return found & set(self.letters)
        folded = {each.casefold() for each in found}
        return {each for each in self.letters if each in found or each.casefold() in folded}

    def build(self, tree):
        return self.sequence([self.element(code, value) for code, value in tree])

    def element(self, code, value):
        match code:
            case codes.SUBPATTERN:
                before, self.flags = self.flags, (self.flags | value[1]) & ~value[2]
                piece = self.build(value[3])
                self.flags = before
                return piece
            case codes.ATOMIC_GROUP:
                return self.build(value)
            case codes.BRANCH:
                return self.either([self.build(each) for each in value[1]])
            case codes.MAX_REPEAT | codes.MIN_REPEAT | codes.POSSESSIVE_REPEAT:
                return self.repeat(*value)
            case codes.AT:
                return Piece({}, {}, frozenset({str(value)}))
            case codes.ASSERT | codes.ASSERT_NOT:
                if any(most > MOST_TIMES for most in repetitions(value[1])):
                    raise NotJudged("a repetition in a look ahead")
                return Piece({}, {}, frozenset({str(code)}))
        return self.char(self.matches(code, value))

    def repeat(self, least, most, tree):
        pieces = [self.build(tree) for _ in range(min(least, 2))]
        if most > MOST_TIMES:
            piece = self.build(tree)
            # A repetition of a repetition: the same step in two ways.
            self.doubled |= {one for one in piece.last if self.follow[one] & set(piece.first)}
            self.link(piece.last, piece.first)
            pieces.append(Piece(piece.first, piece.last, frozenset()))
        elif most > least:
            piece = self.build(tree)
            pieces.append(Piece(piece.first, piece.last, frozenset()))
        return self.sequence(pieces)

    def reached(self, begin):
        """Give the states that can be reached from one, by a step at least."""
        found, todo = set(), [begin]
        while todo:
            for each in self.follow[todo.pop()]:
                if each not in found and self.reads[each]:
                    found.add(each)
                    todo.append(each)
        return found


def repetitions(tree):
    for code, value in tree:
        match code:
            case codes.MAX_REPEAT | codes.MIN_REPEAT | codes.POSSESSIVE_REPEAT:
                yield value[1]
                yield from repetitions(value[2])
            case codes.SUBPATTERN:
                yield from repetitions(value[3])
            case codes.BRANCH:
                for each in value[1]:
                    yield from repetitions(each)
            case codes.ASSERT | codes.ASSERT_NOT:
                yield from repetitions(value[1])


def alphabet(tree):
    """Give some letters of each kind that an expression tells apart."""
    letters = set(LETTERS)

    def look(value):
        if isinstance(value, int) and not isinstance(value, codes._NamedIntConstant):
            around = (value - 1, value, value + 1)
            letters.update(chr(code) for code in around if 0 <= code < 0x110000)
        elif isinstance(value, (list, tuple, parser.SubPattern)):
            for each in value:
                look(each)

    look(list(tree))
    return sorted(letters)


def ambiguity(pattern, flags=0, how="search"):
    """Say why an expression may take more than linear time on some text; None where it never does.

    Parameters
    ----------
    pattern, flags
        What ``re.compile`` is given.
    how
        ``search`` (or ``sub``, ``split`` …), ``match`` or ``fullmatch``.
    """
    tree = parser.parse(pattern, flags)
    elements = list(tree)
    ways = elements[0][1][1] if len(elements) == 1 and elements[0][0] is codes.BRANCH else [elements]
    found = (_ambiguity(list(way), alphabet(tree), tree.state.flags, how) for way in ways)
    return next((each for each in found if each is not None), None)


def _ambiguity(elements, letters, flags, how):
    automaton = Automaton(letters, flags)
    try:
        whole = automaton.build(elements)
        if how not in {"match", "fullmatch"}:
            _begin_anywhere(automaton, elements, whole)
    except NotJudged as what:
        return f"{what} is not judged"
    automaton.reads = _merged(automaton)
    return _ambiguous(automaton, set() if how == "fullmatch" else _may_end(automaton, whole))


def _begin_anywhere(automaton, elements, whole):
    skips = automaton.state(automaton.letters)
    automaton.follow[skips].add(skips)
    before = skips
    match elements[:1]:
        case [(codes.AT, codes.AT_BEGINNING)]:
            before = automaton.state("\n")
        case [(codes.ASSERT | codes.ASSERT_NOT as code, (-1, looked))] if len(looked) == 1:
            reads = automaton.matches(*looked[0])
            before = automaton.state(reads if code is codes.ASSERT else set(automaton.letters) - reads)
    automaton.follow[skips].add(before)
    # Of ^ and $, the parser does not say whether they are a line's.
    begins = {str(codes.AT_BEGINNING_STRING)} | (
        set() if automaton.flags & re.MULTILINE else {str(codes.AT_BEGINNING)}
    )
    automaton.follow[before] |= {one for one, held in whole.first.items() if not held & begins}


def _merged(automaton):
    """Write each state's letters as the classes of those that no state tells apart."""
    kinds = {}
    for letter in automaton.letters:
        kinds.setdefault(tuple(letter in reads for reads in automaton.reads), letter)
    return [reads & set(kinds.values()) for reads in automaton.reads]


def _may_end(automaton, whole):
    every = frozenset().union(*automaton.reads)
    ends = {str(codes.AT_END), str(codes.AT_END_STRING)}
    return {
        one
        for one, held in whole.last.items()
        # What reads everything always comes to the end of the text.
        if not held or (held <= ends and automaton.reads[one] == every and one in automaton.follow[one])
    }


def _ambiguous(automaton, harmless):
    """Look for two ways, of which the longer one goes on for long without a place where the match may end."""
    reached = [automaton.reached(one) for one in range(len(automaton.reads))]
    bare = [set() if one in harmless else each - harmless for one, each in enumerate(automaton.follow)]
    whole, automaton.follow = automaton.follow, bare
    turning = [one for one in range(len(bare)) if one in automaton.reached(one)]
    automaton.follow = whole
    for q in turning:
        if q in automaton.doubled or _twice(automaton, q, reached):
            return f"{_named(automaton, q)} is read in two ways"
        for p in range(len(reached)):
            both = p != q and p in reached[p] and q in reached[p]
            if both and _leads(automaton, (p, p, q), (p, q, q), reached, bare):
                return f"{_named(automaton, p)} and {_named(automaton, q)} read the same"
    return None


def _named(automaton, state):
    return "".join(sorted(automaton.reads[state])[:8])


def _steps(graphs, reads, states):
    for letter in frozenset().union(*reads):
        ways = [
            [each for each in graph[one] if letter in reads[each]]
            for graph, one in zip(graphs, states, strict=True)
        ]
        if all(ways):
            yield from product(*ways)


def _leads(automaton, begin, end, reached, bare=None):
    seen, todo = set(), [begin]
    graphs = [automaton.follow] * (len(begin) - 1) + [bare or automaton.follow]
    while todo:
        for step in _steps(graphs, automaton.reads, todo.pop()):
            if step == end:
                return True
            if step in seen or not all(goal in reached[at] for at, goal in zip(step, end, strict=True)):
                continue
            seen.add(step)
            todo.append(step)
    return False


def _twice(automaton, q, reached):
    """Say whether a state comes back to itself in two ways by one word: that is exponential."""
    seen, todo = set(), [(q, q)]
    while todo:
        for step in _steps([automaton.follow] * 2, automaton.reads, todo.pop()):
            if step in seen or not all(q in reached[at] for at in step):
                continue
            if step[0] != step[1] and _leads(automaton, step, (q, q), reached):
                return True
            seen.add(step)
            todo.append(step)
    return False
