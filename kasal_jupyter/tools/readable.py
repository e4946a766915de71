"""The readable text of web pages and PDFs.

Their parsers have no end in sight for some files, hold the interpreter's lock, and take any memory: tools ask
:func:`read_pdf` and :func:`read_page`, which call them in a limited process. Nothing here is imported before
it is needed: the parsers take a quarter of a second.
"""

from __future__ import annotations

import io
import json
import re
import time

from kasal_jupyter.confined import TooMuch, confined
from kasal_jupyter.tools.tool import MAX_CHARACTERS

MAX_PAGES = 200
"""Most pages of a PDF that are read."""

SECONDS = 40.0
"""How long a file may take in all: a process, its parser, and the text."""

PDF_SECONDS = 20.0
"""How long the pages of a PDF may take; what was read by then is given."""

MAX_HTML = 2_000_000
"""Most characters of a page that are looked through."""

MAX_TAGS = 40_000
"""Most tags of a page whose article is looked for, which takes a sixth of a millisecond each: of a page with
more, all text is given."""

MAX_PDF_CHARACTERS = 20 * MAX_CHARACTERS
"""Most text of a PDF that is kept."""

_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?([A-Za-z0-9_:.-]{1,40})""", re.IGNORECASE)


def is_pdf(head: bytes) -> bool:
    """Say whether a file that begins like this is a PDF."""
    return b"%PDF-" in head[:1_024]


def read_pdf(data: bytes) -> str:
    """Give the text of a PDF, page by page, read in a limited process.

    Raises
    ------
    ValueError
        It cannot be read, has no text, or takes too much; in words for an agent.
    """
    return _read("answer_pdf", data, "The PDF")


def read_page(html: str, url: str, *, links: bool = False) -> str:
    """Give what is to be read of an HTML page, as :func:`page_text` does, read in a limited process.

    Raises
    ------
    ValueError
        It takes too much; in words for an agent.
    """
    asked = json.dumps({"url": url, "links": links}).encode()
    return _read("answer_page", asked + b"\n" + html[:MAX_HTML].encode(errors="replace"), "The page")


def _read(function: str, data: bytes, what: str) -> str:
    try:
        return confined(f"{__name__}:{function}", data, seconds=SECONDS).decode()
    except TooMuch as error:
        raise ValueError(f"{what} cannot be read: {error}. Look for the same in another form.") from None


# -- in the limited process ------------------------------------------------------------------------------


def answer_pdf(data: bytes) -> bytes:
    """Read a PDF, as :func:`read_pdf` says."""
    # Fonts can name halves of characters, here and there.
    return pdf_text(data).encode(errors="replace")


def answer_page(given: bytes) -> bytes:
    """Read a page, as :func:`read_page` says."""
    asked, _, html = given.partition(b"\n")
    return page_text(html.decode(), **json.loads(asked)).encode(errors="replace")


def pdf_text(data: bytes) -> str:
    """Give the text of a PDF, page by page.

    Raises
    ------
    ValueError
        It cannot be read, or has no text.
    """
    import pdfplumber
    from pdfminer.pdfexceptions import PDFException
    from pdfplumber.utils.exceptions import PdfminerException

    end = time.monotonic() + PDF_SECONDS
    pages: list[str] = []
    length = 0
    try:
        with pdfplumber.open(io.BytesIO(data)) as document:
            for number, page in enumerate(document.pages, 1):
                if number > MAX_PAGES or time.monotonic() > end or length > MAX_PDF_CHARACTERS:
                    pages.append(f"[It has {len(document.pages)} pages; those behind this are not read.]")
                    break
                text = page.extract_text()
                pages.append(f"[Page {number}]\n{text}")
                length += len(text)
                page.close()
    except (PDFException, PdfminerException, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"The PDF cannot be read: {str(error) or type(error).__name__}") from error
    if not length:
        raise ValueError("The PDF has no text; its pages may be pictures.")
    return "\n\n".join(pages)


def html_charset(head: bytes) -> str | None:
    """Give the encoding that an HTML page names in itself."""
    found = _CHARSET.search(head[:4_096])
    return found[1].decode() if found else None


def page_text(html: str, url: str, *, links: bool = False) -> str:
    """Give what is to be read of an HTML page, as Markdown: its title and text, without menus and the like.

    Parameters
    ----------
    html
        The page.
    url
        Where it is from: what its links begin with.
    links
        Whether to keep the addresses of links.
    """
    import trafilatura
    from lxml import etree  # type: ignore[import-untyped]
    from lxml import html as parser

    html = html[:MAX_HTML]
    text = None
    if html.count("<") <= MAX_TAGS:
        text = trafilatura.extract(
            html,
            url=url,
            include_links=links,
            include_tables=True,
            include_comments=False,
            output_format="markdown",
            favor_recall=True,
        )
    try:
        tree = parser.fromstring(html)
    except (etree.LxmlError, ValueError):
        return text or ""
    title = " ".join((tree.findtext(".//title") or "").split())
    if not text:
        # A page without an article: a form, a list, a page of a few words.
        etree.strip_elements(tree, "script", "style", "noscript", "template", "head", with_tail=False)
        lines = (" ".join(line.split()) for line in tree.text_content().splitlines())
        text = "\n".join(line for line in lines if line)
    return f"# {title}\n\n{text}" if title and title not in text[: 2 * len(title) + 4] else text
