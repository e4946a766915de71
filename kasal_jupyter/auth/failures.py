"""Failed logins: how many an account and an address may have."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from kasal_jupyter.auth.rates import Rate, RateMeter
from kasal_jupyter.errors import TooManyRequests, Unauthorized

QUARTER = 900

PER_ACCOUNT = Rate(10, QUARTER, "10 failed logins of one account in 15 minutes")
PER_ADDRESS = Rate(50, QUARTER, "50 failed logins from one address in 15 minutes")


class FailedLogins:
    """Stops who guesses passwords before a password is even hashed.

    Parameters
    ----------
    meter
        Where failures are counted.
    """

    def __init__(self, meter: RateMeter) -> None:
        self._meter = meter
        self._under_way: Counter[str] = Counter()

    @contextmanager
    def attempt(self, account: str, address: str) -> Iterator[None]:
        """Try a password inside; that it is wrong is told by raising :class:`Unauthorized`.

        Attempts that are under way count as if they had failed: otherwise, a thousand made at the same
        time would all be let through.

        Parameters
        ----------
        account
            The e-mail address that is tried, whether there is such an account or not.
        address
            Where the request comes from.

        Raises
        ------
        TooManyRequests
            So many have failed that this one is not tried.
        """
        counted = ((f"account {account}", PER_ACCOUNT), (f"address {network_of(address)}", PER_ADDRESS))
        for name, rate in counted:
            if self._meter.left(name, rate).remaining <= self._under_way[name]:
                seconds = self._meter.wait(name, rate)
                raise TooManyRequests(
                    f"More than {rate.words}; try again in {seconds} s", retry_after=seconds
                )
        for name, _ in counted:
            self._under_way[name] += 1
        try:
            yield
        except Unauthorized:
            for name, rate in counted:
                self._meter.count(name, rate)
            raise
        finally:
            for name, _ in counted:
                self._under_way[name] -= 1
                if not self._under_way[name]:
                    del self._under_way[name]


def network_of(address: str) -> str:
    """Give what stands for the sender: of IPv6, a /64, since everybody has 2⁶⁴ addresses there."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        # A server on a UNIX socket has no addresses.
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address
