"""Values that parsers stumble over, and what is made of them: bodies, queries, paths, headers."""

from __future__ import annotations

import base64
import bz2
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import orjson

from kasal_jupyter.api.openapi import ID_EXAMPLES, Endpoint


def damaged_zip(method: int, name: str = "crew.yaml") -> bytes:
    """Make a zip file whose one entry is damaged in its middle."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        # With a date of its own the file is the same whenever it is made.
        entry = zipfile.ZipInfo(name)
        archive.writestr(entry, "name: C\nagents: [{role: R, goal: G}]\n" * 200, method)
    data = bytearray(packed.getvalue())
    # Behind the entry's head, of 30 bytes and its name.
    begin = 30 + len(name) + 10
    data[begin : begin + 12] = bytes(each ^ 0xA5 for each in data[begin : begin + 12])
    return bytes(data)


def zips() -> Iterator[bytes]:
    """Give zip files that are none, or not quite."""
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        whole = damaged_zip(method)
        yield whole
        yield whole[: len(whole) // 2]
        # An unknown method, and one that the entry is not packed with.
        yield whole.replace(b"PK\x03\x04\x14\x00", b"PK\x03\x04\xff\x00")
        for other in (0, 8, 12, 14, 93, 99, 65535):
            yield _with_method(whole, other)
    # Names that are nothing, of another encoding, or hold a NUL; sizes that are not so.
    for name in ("a\x00b.yaml", "\ud7ff.yaml", "x" * 60_000 + ".yaml", "", "/", "\\", ".yaml", "CON.yaml"):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr(zipfile.ZipInfo(name or "x"), "name: C")
        yield packed.getvalue()
        yield packed.getvalue().replace(b"name: C", b"\xff\xfe\x00\xd8")
    yield b"PK\x05\x06" + b"\xff" * 18
    yield b"PK\x05\x06" + b"\0" * 18
    yield b"PK\x06\x06" + b"\xff" * 70 + b"PK\x06\x07" + b"\xff" * 16 + b"PK\x05\x06" + b"\xff" * 18


def _with_method(data: bytes, method: int) -> bytes:
    changed = bytearray(data)
    changed[8:10] = method.to_bytes(2, "little")
    directory = changed.find(b"PK\x01\x02")
    changed[directory + 10 : directory + 12] = method.to_bytes(2, "little")
    return bytes(changed)


TEXTS: list[str] = [
    "",
    " ",
    "\x00",
    "a\x00b",
    "\ufeff",
    "\ufffe\uffff",
    "\u202e\u2066",
    "\U0010ffff",
    "e\u0301" * 300,
    "9" * 5_000,
    "-" + "9" * 5_000,
    "1e999999",
    "1" * 400 + "." + "1" * 400,
    "0x" + "f" * 5_000,
    "NaN",
    "Infinity",
    "-0",
    "²",
    "١٢٣",
    "True",
    "null",
    "a()" * 700,
    "a" + "()" * 700,
    "(" * 700 + ")" * 700,
    "[" * 900,
    "[" * 900 + "]" * 900,
    '{"a":' * 900,
    "-" * 900 + "1",
    "not " * 900 + "a",
    "a." * 3_000 + "b",
    "a[0]" * 900,
    "lambda: " * 400 + "0",
    "{" * 900,
    "{}" * 900,
    "{a" + "!r" * 100 + "}",
    "{a:{b:{c}}}",
    "{0.__class__}",
    "%s%n%(a)s",
    "../../../../etc/passwd",
    "..",
    ".",
    "/",
    "\\\\?\\C:\\x",
    "a/" * 2_000,
    "x" * 5_000,
    "sandbox/" + "x" * 5_000,
    "/sandbox",
    "sandbox/",
    "http://[::1",
    "http://[",
    "http://]:80",
    "http://\x00/",
    "http://a:99999999999/",
    "http://a:" + "9" * 5_000,
    "http://a:-1",
    "http://a:²/",
    "http://" + "a" * 70_000,
    "http://" + "a." * 3_000,
    "http://xn--" + "a" * 100 + ".com/",
    "http://\u2024.\u3002/",
    "http://ſ⒈.com",
    "http://a@b@c:d:e/",
    "http://[fe80::1%25" + "e" * 500 + "]/",
    "http://0x7f.1/",
    "http:////",
    "http://a\r\nX: y/",
    "https://example.com/{" + "a" * 3_000 + "}",
    "https://example.com/{{{}}}{a!r}{0}",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "2024-13-45T99:99:99Z",
    "9999-12-31T23:59:59-23:59",
    "0001-01-01T00:00:00+23:59",
    "2024-01-15T10:30:00+99:99",
    "2024-01-15",
    "-2024-01-15T10:30:00Z",
    "2024-01-15T10:30:00.999999999999999Z",
    "20240115T103000Z",
    "2024-W03-1",
    "a@b",
    "@",
    "kasal_",
    "eyJ.e30.",
    "eyJhbGciOiJub25lIn0." + "a" * 3_000 + ".a",
    "name: *a",
    "a: &a [*a, *a]",
    "a: &a {b: *a}",
    "!!python/object/apply:os.system [id]",
    "!!binary ===",
    "!!timestamp 2024-99-99",
    "!!int 0b",
    "!!float .inf.",
    "!<tag:yaml.org,2002:int> x",
    "- " * 900,
    "a:\n" + "".join(" " * n + "a:\n" for n in range(300)),
    "agents: {a: {role: r, goal: g}}\n---\nb: c",
    "%YAML 9.9\n---\na: b",
    "%TAG ! tag:x,\n---\n!a b",
    "a: 1_000_000_0__0",
    "a: 0o99",
    "a: 1:2:3:4:" + "9" * 5_000,
    "a: " + "9" * 5_000,
    "a: 9999-99-99",
    "? [a, b]\n: c",
    "? {a: b}\n: c",
    "<<: 5",
    "<<: [1, 2]",
    "\ta: b",
    "a: \x07",
    "a: '\\ud800'",
    'a: "\\ud800"',
    'a: "\\UFFFFFFFF"',
    "`",
    "*" * 100,
    "(?P<a>" * 200,
    "(a+)+$",
    "[z-a]",
    "\\",
    "(?i",
    "a{99999999}",
    "\\p{Nope}",
    '"' * 301,
    "'\"`$(id)`;|&<>\n\r\t\x0b\x0c\x1b",
]
"""Texts that parsers of numbers, paths, addresses, times, YAML, Python and expressions take for theirs."""

VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    2**63,
    -(2**63),
    2**64 - 1,
    1e308,
    -1e-308,
    0.5,
    [],
    {},
    [[]],
    [None],
    [0, "", {}],
    {"": ""},
    {"\x00": "\x00"},
    {"__class__": {"__init__": []}},
    {"$ref": "#"},
    {"type": "object", "$ref": "#/nope"},
    {"type": "object", "properties": {"a": {"$ref": "#/properties/a"}}},
    {"type": "object", "properties": {"a": {"pattern": "(a+)+$["}}},
    {"type": "object", "properties": {"a": {"multipleOf": 0}}},
    {"type": "object", "required": ["a", "a"]},
    {"type": "object", "minProperties": 1e308},
    {str(n): n for n in range(1_000)},
    ["x"] * 2_000,
]
"""Values that are of another type, or larger, than what is asked for."""


def _nested(levels: int, make: str) -> Any:
    value: Any = "x"
    for _ in range(levels):
        match make:
            case "list":
                value = [value]
            case "object":
                value = {"a": value}
            case "schema":
                value = {"type": "object", "properties": {"a": value if isinstance(value, dict) else {}}}
            case "items":
                value = {"type": "array", "items": value if isinstance(value, dict) else {}}
            case "not":
                value = {"not": value if isinstance(value, dict) else {}}
            case "allOf":
                value = {"allOf": [value if isinstance(value, dict) else {}]}
    return value if make in {"list", "object"} else {"type": "object", "$defs": {"a": value}}


VALUES += [
    _nested(levels, make)
    for make in ("list", "object", "schema", "items", "not", "allOf")
    for levels in (20, 40, 90)
]

BODIES: list[bytes] = [
    b"",
    b"\x00",
    b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf{}",
    b"{",
    b"[" * 900,
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"[" * 900 + b"]" * 900,
    b"9" * 5_000,
    b"-" + b"9" * 400,
    b"1e99999",
    b"NaN",
    b'{"a": Infinity}',
    b'"\\ud800"',
    b'{"\\ud800": 1}',
    b'{"name": "\\udfff\\ud800"}',
    b'{"name": "\xed\xa0\x80"}',
    b"null",
    b'"x"',
    b"0",
    b"[]",
    b'{"a": 1, "a": 2}',
]
"""Bodies that are no JSON, or no object."""

HEADERS = (
    *("Accept", "Accept-Encoding", "Authorization", "Content-Type", "Cookie", "Host", "If-Match"),
    *("If-None-Match", "Idempotency-Key", "Last-Event-ID", "Origin", "Range", "Referer", "X-XSRFToken"),
    *("Sec-WebSocket-Key", "Sec-WebSocket-Version", "Upgrade", "X-Forwarded-For", "X-Real-Ip"),
)


def files() -> Iterator[str]:
    """Give files in base64 that are not what their names say."""
    pdf = b"%PDF-1.7\n1 0 obj\n<< /Length 99999999999 >>\nstream\n"
    yield from ("=", "a", "é", "A" * 1_000_001)
    for data in (
        *zips(),
        pdf,
        b"%PDF-" + b"9" * 5_000,
        bz2.compress(b"a" * 1_000),
        lzma.compress(b"a" * 1_000),
        zlib.compress(b"a" * 1_000),
        b"\xff\xfe\x00\xd8",
        b"\x00" * 1_000,
    ):
        yield base64.b64encode(data).decode()


def path_of(endpoint: Endpoint, **given: str) -> str:
    """Give an endpoint's path with ids filled in."""
    path = endpoint.path
    for name, example in ID_EXAMPLES.items():
        path = path.replace(f"{{{name}}}", given.get(name, example))
    return path


def bodies_of(body: Any, value: Any) -> Iterator[Any]:
    """Put a value in the place of each part of a body, however deep."""
    yield value
    if isinstance(body, dict):
        for key, part in body.items():
            for changed in bodies_of(part, value):
                yield {**body, key: changed}
        if isinstance(value, str):
            yield {**body, value: 1}
    elif isinstance(body, list):
        for position, part in enumerate(body):
            for changed in bodies_of(part, value):
                yield [*body[:position], changed, *body[position + 1 :]]


def encoded(body: Any) -> bytes:
    """Write a body; what JSON cannot hold is left to others."""
    return orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)
