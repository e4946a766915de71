"""Which hosts a tool may call."""

import pytest

from kasal_jupyter.tools.guard import HostGuard, HostRefused, origin_of, system_addresses


def guard(*allowed, **names):
    """A guard that knows some names besides addresses, dots written as underscores."""

    def resolve(host, _port):
        found = names.get(host.replace(".", "_"), [host])
        if not found:
            raise OSError("no such name")
        return found

    return HostGuard(allowed, resolve)


REFUSED = [
    "0.0.0.0",
    "0.1.2.3",
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.168.0.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2002:c0a8:101::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "4000::1",
    "100::1",
]


@pytest.mark.parametrize("address", REFUSED)
def test_what_is_not_public_is_refused(address):
    with pytest.raises(HostRefused, match="administrator"):
        guard().addresses(address, 443)


@pytest.mark.parametrize("address", REFUSED)
def test_and_so_is_a_name_that_leads_there(address):
    with pytest.raises(HostRefused, match=r"There is no public host 'tool\.example' to be found"):
        guard(tool_example=[address]).addresses("tool.example", 443)


@pytest.mark.parametrize(
    "address",
    [
        "93.184.216.34",
        "172.15.255.255",
        "172.32.0.0",
        "100.128.0.1",
        "169.253.0.1",
        "192.0.3.1",
        "223.255.255.255",
        "2606:2800:220:1:248:1893:25c8:1946",
        "::ffff:93.184.216.34",
        "64:ff9b::5db8:d822",
    ],
)
def test_public_addresses_may_be_called(address):
    assert [str(found) for found in guard(tool_example=[address]).addresses("tool.example", 443)]


def test_one_refused_address_is_enough():
    with pytest.raises(HostRefused, match="no public host"):
        guard(tool_example=["93.184.216.34", "10.0.0.1"]).addresses("tool.example", 443)


@pytest.mark.parametrize(
    ("allowed", "host"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("10.0.0.0/8", "10.20.30.40"),
        ("10.0.0.0/8", "::ffff:10.20.30.40"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("fd00::/8", "fd12::1"),
        ("intranet.local", "intranet.local"),
        ("Intranet.Local", "INTRANET.local."),
        ("192.168.1.5", "intranet.local"),
    ],
)
def test_the_administrator_allows_hosts_addresses_and_networks(allowed, host):
    names = {"intranet_local": ["192.168.1.5"], "INTRANET_local_": ["192.168.1.5"]}
    assert guard(allowed, **names).addresses(host, 80)


@pytest.mark.parametrize(
    ("allowed", "host"),
    [
        ("127.0.0.1", "127.0.0.2"),
        ("10.0.0.0/8", "192.168.1.5"),
        ("intranet.local", "other.intranet.local"),
        ("intranet.local", "192.168.1.5"),
    ],
)
def test_and_nothing_else(allowed, host):
    names = {"intranet_local": ["192.168.1.5"], "other_intranet_local": ["192.168.1.5"]}
    with pytest.raises(HostRefused):
        guard(allowed, **names).addresses(host, 80)


@pytest.mark.parametrize(
    "entry", ["http://intranet", "10.0.0.1/8", "10.0.0.0/99", "300.1.2.3", "127.0.0", "a b", "host:80", ""]
)
def test_what_is_no_host_cannot_be_allowed(entry):
    with pytest.raises(ValueError, match="is no host"):
        HostGuard([entry])


@pytest.mark.parametrize(
    "leads_to", [[], ["10.0.0.1"], ["::1"], ["169.254.169.254"], ["8.8.8.8", "10.0.0.1"]]
)
def test_a_name_that_leads_inside_is_told_like_one_that_is_unknown(leads_to):
    with pytest.raises(HostRefused) as caught:
        guard(tool_example=leads_to).addresses("tool.example", 443)
    with pytest.raises(HostRefused) as unknown:
        HostGuard().addresses("no-such-host.invalid", 443)
    assert str(caught.value) == str(unknown.value).replace("no-such-host.invalid", "tool.example")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "10.1.2.3"])
def test_an_address_that_was_asked_for_is_told_what_it_is(host):
    with pytest.raises(HostRefused, match=r"is (this machine|a private network); only public hosts"):
        HostGuard().addresses(host.strip("[]"), 443)
    with pytest.raises(HostRefused, match=r"is (this machine|a private network); only public hosts"):
        HostGuard().check(f"http://{host}/")


def test_names_are_not_looked_up_before_they_are_called():
    def resolve(host, port):
        raise AssertionError((host, port))

    HostGuard((), resolve).check("https://internal.example/x")


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/x",
        "http://localhost:8888/x",
        "http://tool.LOCALHOST/x",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://[::1]/",
        "https://[::ffff:127.0.0.1]:8443/",
    ],
)
def test_the_many_ways_to_write_this_machine(url):
    with pytest.raises(HostRefused):
        HostGuard().check(url)


def test_the_system_gives_each_address_once():
    assert system_addresses("127.0.0.1", 80) == ["127.0.0.1"]


def test_an_origin_is_scheme_host_and_port():
    assert origin_of("https://Example.com/a") == origin_of("https://example.com.:443/b?c")
    assert origin_of("https://example.com") != origin_of("http://example.com")
    assert origin_of("https://example.com") != origin_of("https://example.com:8443")
