"""A small web site on loopback: an article, a form, JSON, a feed, a PDF, a picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.servers.endpoint_server import EndpointServer, endpoint_server, redirect, reply

ARTICLE = """<!doctype html>
<html lang="en"><head><title>All about tea</title>
<style>.menu { color: red }</style><script>var tracked = "by a script";</script></head>
<body><nav class="menu"><a href="/">Home</a> <a href="/shop">Our shop</a></nav>
<main><article><h1>All about tea</h1>
<p>Tea is a drink made of the leaves of <em>Camellia sinensis</em>, and people have been drinking it for
thousands of years. It comes as green, black, white and oolong tea.</p>
<h2>How to make it</h2>
<p>Boil the water, wait a little, and pour it over the leaves. See <a href="/making">the whole method</a> for
what to do then. Most teas need three minutes; some need five.</p>
<table><tr><th>Tea</th><th>Minutes</th></tr><tr><td>Green</td><td>2</td></tr><tr><td>Black</td><td>4</td></tr>
</table></article></main>
<footer>Cookies, imprint, and other things nobody reads</footer></body></html>"""


LINE = "<p>A line of the page that goes on and on, so that there is much of it.</p>"


def pdf(*pages: str) -> bytes:
    """Write a PDF with a line of text on each page."""
    count = len(pages)
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(count))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {count} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, text in enumerate(pages):
        said = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
        drawn = f"BT /F1 12 Tf 72 720 Td ({said}) Tj ET" if text else ""
        objects.append(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> >> "
            f"/Contents {5 + 2 * number} 0 R >>"
        )
        objects.append(f"<< /Length {len(drawn)} >>\nstream\n{drawn}\nendstream")
    data = b"%PDF-1.4\n"
    places = []
    for number, each in enumerate(objects, 1):
        places.append(len(data))
        data += f"{number} 0 obj\n{each}\nendobj\n".encode("latin-1")
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    size = len(objects) + 1
    end = f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n<< /Size {size} /Root 1 0 R >>\n"
    return data + f"{end}startxref\n{len(data)}\n%%EOF\n".encode("latin-1")


@contextmanager
def site_server() -> Iterator[EndpointServer]:
    """Run it."""
    with endpoint_server() as server:
        html = "text/html; charset=utf-8"
        server.replies |= {
            "/tea": reply(ARTICLE, content_type=html),
            "/moved": redirect("/tea", 301),
            "/form": reply("<title>Log in</title><form>Name <input name=n></form>", content_type=html),
            "/latin": reply(
                "<html><head><meta charset='iso-8859-1'><title>Grün</title></head>"
                "<body><p>Grüner Tee schmeckt</p></body></html>".encode("latin-1"),
                content_type="text/html",
            ),
            "/long": reply(f"<html><body>{LINE * 1_600}", content_type=html),
            "/data": reply('{"price": 17.5}', content_type="application/json"),
            "/plain": reply("only text", content_type="text/plain"),
            "/feed": reply("<rss><channel/></rss>", content_type="application/rss+xml"),
            "/paper": reply(pdf("Tea (Camellia) in numbers", "The end"), content_type="application/pdf"),
            "/scan": reply(pdf(""), content_type="application/pdf"),
            "/broken": reply(b"%PDF-1.4\nnothing of it", content_type="application/pdf"),
            "/picture": reply(b"\x89PNG\r\n\x1a\n\0\0", content_type="image/png"),
            "/empty": reply("", content_type=html),
            "/gone": reply("<h1>There is no such tea</h1>", 404, content_type=html),
        }
        yield server
