"""The forms in which a secret is written, and by which anybody has it back."""

import base64
import html
import json
from urllib.parse import quote, quote_plus


def encodings(secret):
    """Give the forms in which programs write a secret."""
    data = secret.encode()
    yield "as it is", secret
    yield "JSON", json.dumps(secret)[1:-1]
    yield "JSON with its characters", json.dumps(secret, ensure_ascii=False)[1:-1]
    yield "JSON of PHP", json.dumps(secret)[1:-1].replace("/", "\\/")
    yield "JSON in JSON in JSON", json.dumps(json.dumps(json.dumps(secret)))
    yield (
        "every character escaped",
        "".join(f"\\u{unit.hex()}" for each in secret for unit in _units(each.encode("utf-16-be"))),
    )
    yield "Python", repr(secret)[1:-1]
    yield "Python's ASCII", ascii(secret)[1:-1]
    yield "Python's bytes", repr(data)[2:-1]
    yield "HTML", html.escape(secret)
    yield "HTML by numbers", "".join(f"&#{ord(each)};" for each in secret)
    yield "HTML by hex numbers", "".join(f"&#x{ord(each):X};" for each in secret)
    yield "an address", quote(secret)
    yield "an address without slashes", quote(secret, safe="")
    yield "an address in small letters", _small(quote(secret, safe=""))
    yield "a form", quote_plus(secret)
    yield "an address in an address", quote(quote(secret, safe=""), safe="")
    yield "all of it encoded", "".join(f"%{byte:02x}" for byte in data)
    yield "half of it encoded", quote(secret[:9]) + secret[9:]
    yield "hex", data.hex()
    yield "HEX", data.hex().upper()
    for before in ("", "a", "ab", "user:", "https://u:"):
        for after in ("", "@h", "@ho", "\n"):
            whole = f"{before}{secret}{after}".encode()
            yield f"base64 of {before}…{after}", base64.b64encode(whole).decode()
            yield f"base64 of {before}…{after} without padding", base64.b64encode(whole).decode().rstrip("=")
            yield f"URL-safe base64 of {before}…{after}", base64.urlsafe_b64encode(whole).decode()
            yield f"base64 in lines of {before}…{after}", base64.encodebytes(whole * 3).decode()
            yield f"base64 of {before}…{after} in an address", quote(base64.b64encode(whole), safe="")


def _units(data):
    return [data[at : at + 2] for at in range(0, len(data), 2)]


def _small(text):
    return "".join(
        each.lower() if text[max(0, at - 2) : at].find("%") >= 0 else each for at, each in enumerate(text)
    )


def traces(secret):
    """Give what reveals a secret where it stands in some bytes, whatever stands beside it."""
    data = secret.encode()
    for form in (
        secret,
        json.dumps(secret)[1:-1],
        quote(secret, safe=""),
        quote_plus(secret),
        html.escape(secret),
    ):
        yield form.encode()
    yield data.hex().encode()
    yield data.hex().upper().encode()
    for shift in range(3):
        whole = base64.b64encode(bytes(shift) + data)[-(-8 * shift // 6) : 8 * (shift + len(data)) // 6]
        yield whole
        yield whole.replace(b"+", b"-").replace(b"/", b"_")
