"""The process that reads PDFs and pages: bytes in, text out.

Run as ``python -m kasal_jupyter.memory.parse <media type>``. What cannot be read ends it with status 1, and a
sentence on its standard error.
"""

from __future__ import annotations

import sys

MOST_MEMORY = 1_500_000_000
"""Bytes of address space: what a malicious file may not go beyond."""


def main(media_type: str, data: bytes) -> str:
    """Give the readable text of a document.

    Raises
    ------
    ValueError
        It cannot be read.
    """
    from kasal_jupyter.tools.readable import html_charset, is_pdf, page_text, pdf_text

    if media_type == "application/pdf":
        if not is_pdf(data):
            raise ValueError("It is no PDF.")
        return pdf_text(data)
    charset = html_charset(data) or "utf-8"
    try:
        html = data.decode(charset, errors="replace")
    except LookupError:
        html = data.decode(errors="replace")
    return page_text(html, "")


def _limit() -> None:
    try:
        import resource
    except ImportError:  # Windows: the time alone is limited.
        return
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))


if __name__ == "__main__":
    _limit()
    try:
        _text = main(sys.argv[1], sys.stdin.buffer.read())
    except ValueError as error:
        sys.exit(str(error))
    except MemoryError:
        sys.exit("It takes too much memory to read")
    sys.stdout.buffer.write(_text.encode())
