"""Shared budgets: what a batch, a schedule or a user may spend, whatever number of runs spends it at once.

A run that spends from one asks before each call of a model. What it has used and reserved is *held*, in a
change of the store: of several runs, on whatever servers, one comes first, and those behind it see what it
holds. As the run is booked, which happens once whoever ended it, what it holds goes in the same change, and
what its journal tells is spent in its place. So a run that was killed leaves nothing behind, and nothing is
counted twice.

What a user may spend in a day or a month begins with what the books have of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

from kasal_jupyter.errors import BudgetUsedUp
from kasal_jupyter.schemas.allowances import (
    PERIODS,
    Allowance,
    Hold,
    LimitState,
    Period,
    Share,
    Sum,
    Wish,
)
from kasal_jupyter.schemas.usage import LedgerEntry, Usage
from kasal_jupyter.store.store import Store

_USER = "user:"


class Allowances:
    """The shared budgets of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def set(
        self, allowance_id: str, *, max_cost: float | None = None, max_tokens: int | None = None
    ) -> None:
        """Bound a budget, or bound it anew: what is spent of it stays so."""
        await self._store.change(lambda: bound(self._store, allowance_id, max_cost, max_tokens))

    def get(self, allowance_id: str) -> Allowance | None:
        """Give a budget as it stands; None where nothing bounds it."""
        return self._store.allowances.readable(allowance_id)

    async def forget(self, allowance_id: str) -> None:
        """Forget a budget, with what it was for."""
        await self._store.change(lambda: self._store.allowances.delete(allowance_id))

    def spent_from(self, owner: str, ids: Sequence[str]) -> list[str]:
        """Give the budgets that a run spends from, its owner's own included; none, where there are none."""
        user = [f"{_USER}{owner}"] if any(_limits(self._store, owner)) else []
        return [*(each for each in ids if not each.startswith(_USER)), *user]

    def require_left(self, owner: str, ids: Sequence[str]) -> None:
        """See to it that something is left for a run that is asked for.

        Raises
        ------
        BudgetUsedUp
            Nothing is; it says of which budget, and when its day or month ends.
        """
        for allowance in _current(self._store, owner, ids, make=False):
            if allowance.used_up:
                most = allowance.max_cost
                of_cost = most is not None and allowance.spent.cost >= most
                words = _spent(allowance) if of_cost else _spent_tokens(allowance)
                raise BudgetUsedUp(f"{words}; nothing is left of it.{_until(allowance)}")

    async def reserve(self, job_id: str, owner: str, ids: Sequence[str], wish: Wish) -> str | None:
        """Hold what a run wants for its next call; say why it cannot have it, else None.

        Parameters
        ----------
        job_id, owner, ids
            The run, whose it is, and what it spends from.
        wish
            What it has used, and wants. Of one that asks for nothing, it is noted what it has used.
        """
        return await self._store.change(lambda: _reserve(self._store, job_id, owner, ids, wish))

    def limits_of(self, owner: str) -> list[LimitState]:
        """Say how the limits of a user stand; none, where nothing bounds them."""
        return [
            LimitState(
                period=_period(each.id),
                max_cost=each.max_cost,
                cost=round(each.spent.cost, 9),
                reserved=round(each.held.cost, 9),
                ends_at=_end(each.id),
            )
            for each in _current(self._store, owner, (), make=False)
            if each.max_cost is not None
        ]


# Within a change of the store.


def bound(store: Store, allowance_id: str, max_cost: float | None, max_tokens: int | None) -> None:
    """Bound a budget, or bound it anew, within a change."""
    bounds = {"max_cost": max_cost, "max_tokens": max_tokens}
    if store.allowances.has(allowance_id):
        store.allowances.update(allowance_id, bounds)
    else:
        store.allowances.insert(Allowance.model_validate({"id": allowance_id, "spent": Sum(), **bounds}))


def settle_hold(store: Store, job_id: str, usage: Usage, entries: Sequence[LedgerEntry]) -> None:
    """Have what a run holds be spent, as far as its journal tells; within the change that books it.

    A call that its provider has not counted is in no journal: there counts what the run took it to be.

    Parameters
    ----------
    store
        Where the budgets are.
    job_id, usage, entries
        The run, what it has used, and what it is in the books.
    """
    hold = store.holds.readable(job_id)
    shares = {share.allowance: share for share in hold.shares} if hold is not None else {}
    booked = {name: _sum(usage) for name in shares if not name.startswith(_USER)}
    for entry in entries:
        for period in PERIODS:
            name = _name(entry.owner, period, entry.day)
            booked[name] = booked.get(name, Sum()).plus(_sum(entry.usage))
    for name in booked.keys() | shares.keys():
        allowance, share = store.allowances.readable(name), shares.get(name)
        if allowance is None:
            # Nothing bounds it, or what it was for is gone.
            continue
        used = booked.get(name, Sum())
        held = allowance.held
        if share is not None:
            used, held = used.at_least(share.used), held.minus(share.held)
        _write(store, allowance, spent=allowance.spent.plus(used), held=held)
    if hold is not None:
        store.holds.delete(job_id)


def forget_holds(store: Store) -> None:
    """Let go of what runs hold that are stored no more, within a change."""
    for job_id in store.holds.ids():
        if not store.executions.has(job_id):
            settle_hold(store, job_id, Usage(), ())


def _reserve(store: Store, job_id: str, owner: str, ids: Sequence[str], wish: Wish) -> str | None:
    execution = store.executions.readable(job_id)
    if execution is None or execution.booked is not None:
        return "The run is over"
    hold = store.holds.readable(job_id) or Hold(id=job_id, shares=[])
    shares = {share.allowance: share for share in hold.shares}
    changed: list[tuple[Allowance, Sum]] = []
    for allowance in _current(store, owner, ids, make=True):
        share = shares.get(allowance.id)
        since = share.since if share is not None else wish.used
        used = wish.used.minus(since)
        held = used.plus(wish.reserved)
        others = allowance.held.minus(share.held) if share is not None else allowance.held
        if wish.reserve and (refusal := _refusal(allowance, others.plus(held), wish)) is not None:
            return refusal
        shares[allowance.id] = Share(allowance=allowance.id, since=since, used=used, held=held)
        changed.append((allowance, others.plus(held)))
    for allowance, held in changed:
        _write(store, allowance, spent=allowance.spent, held=held)
    made = Hold(id=job_id, shares=list(shares.values()))
    if store.holds.has(job_id):
        store.holds.replace(made)
    else:
        store.holds.insert(made)
    return None


def _refusal(allowance: Allowance, held: Sum, wish: Wish) -> str | None:
    """Say why a call may not be made; None where it may."""
    would = allowance.spent.plus(held)
    before = would.minus(wish.expected)
    if allowance.max_cost is not None:
        if not wish.priced:
            return f"What {wish.model} costs is unknown, and {_spent(allowance, before)}.{_until(allowance)}"
        if would.cost > allowance.max_cost:
            return (
                f"The next call of {wish.model} would cost about ${wish.expected.cost:.4g}, and "
                f"{_spent(allowance, before)}.{_until(allowance)}"
            )
    if allowance.max_tokens is not None and would.tokens > allowance.max_tokens:
        return (
            f"The next call of {wish.model} would take about {wish.expected.tokens:,} tokens, and "
            f"{_spent_tokens(allowance, before)}.{_until(allowance)}"
        )
    return None


def _current(store: Store, owner: str, ids: Iterable[str], *, make: bool) -> Iterator[Allowance]:
    """Give the budgets that a run spends from now, those that are named and its owner's."""
    for name in ids:
        if not name.startswith(_USER) and (named := store.allowances.readable(name)) is not None:
            yield named
    today = _today()
    for period, most in zip(PERIODS, _limits(store, owner), strict=True):
        if most is None:
            continue
        name = _name(owner, period, today)
        found = store.allowances.readable(name)
        if found is None:
            spent = _booked(store, owner, period, today)
            found = Allowance(id=name, owner=owner, max_cost=most, spent=spent)
            if make:
                _forget_past(store, owner, today)
                store.allowances.insert(found)
        yield found.model_copy(update={"max_cost": most})


def _limits(store: Store, owner: str) -> tuple[float | None, float | None]:
    user = store.users.readable(owner)
    return (None, None) if user is None else (user.limits.max_cost_day, user.limits.max_cost_month)


def _forget_past(store: Store, owner: str, today: str) -> None:
    now = {_name(owner, period, today) for period in PERIODS}
    for name in store.allowances.ids(owner=owner):
        if name not in now:
            store.allowances.delete(name)


def _booked(store: Store, owner: str, period: Period, today: str) -> Sum:
    """Give what the books have of an owner's day or month."""
    first = date.fromisoformat(today)
    days = [today]
    if period == "month":
        days = [(first - timedelta(days=back)).isoformat() for back in range(first.day)]
    found = Sum()
    for day in days:
        for entry in store.ledger.find(day=day, owner=owner):
            found = found.plus(_sum(entry.usage))
    return found


def _write(store: Store, allowance: Allowance, *, spent: Sum, held: Sum) -> None:
    store.allowances.update(
        allowance.id,
        {"spent": spent.model_dump(), "held": held.model_dump(), "max_cost": allowance.max_cost},
    )


def _sum(usage: Usage) -> Sum:
    return Sum(tokens=usage.total_tokens, cost=usage.cost if usage.cost is not None else usage.cost_at_least)


# In words, and by the calendar.


def is_shared(message: str) -> bool:
    """Say whether a run that its budget has ended was told of a shared one, and not of its own."""
    return " or reserved" in message


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _name(owner: str, period: Period, day: str) -> str:
    return f"{_USER}{owner}:{day if period == 'day' else day[:7]}"


def _period(name: str) -> Period:
    return "day" if len(name.rpartition(":")[2]) == len("2024-01-15") else "month"


def _end(name: str) -> str:
    """Give when the day or the month of a budget is over."""
    when = name.rpartition(":")[2]
    if _period(name) == "day":
        after = date.fromisoformat(when) + timedelta(days=1)
    else:
        after = (date.fromisoformat(f"{when}-01") + timedelta(days=31)).replace(day=1)
    return f"{after.isoformat()}T00:00:00Z"


def _whose(allowance: Allowance) -> str:
    if allowance.owner is not None:
        return f"you may spend a {_period(allowance.id)}"
    return f"the {allowance.id.partition('_')[0]} may cost"


def _spent(allowance: Allowance, taken: Sum | None = None) -> str:
    taken = taken or allowance.spent
    return f"${taken.cost:.4g} of the ${allowance.max_cost:g} that {_whose(allowance)} are spent or reserved"


def _spent_tokens(allowance: Allowance, taken: Sum | None = None) -> str:
    taken = taken or allowance.spent
    what = _whose(allowance).replace("cost", "take")
    return f"{taken.tokens:,} of the {allowance.max_tokens:,} tokens that {what} are used or reserved"


def _until(allowance: Allowance) -> str:
    if allowance.owner is None:
        return ""
    period = _period(allowance.id)
    return f" That {period} ends at {_end(allowance.id)}; an administrator sets what you may spend."
