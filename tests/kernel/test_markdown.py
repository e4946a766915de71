"""Answers as HTML: what Markdown becomes, and that what a model says stays data."""

import re
from html.parser import HTMLParser

import pytest

from kasal_jupyter.events.trace import build_trace
from kasal_jupyter.kernel.views.markdown import MOST_READ, answer_html
from kasal_jupyter.kernel.views.view_html import render_html, render_live
from tests.kernel.test_views import events, parsed, without_styles

KNOWN = {
    *("div", "span", "p", "strong", "em", "s", "a", "br", "hr", "pre", "code", "blockquote"),
    *("ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td", "details", "summary"),
}
ATTRIBUTES = {
    *("style", "dir", "class", "role", "aria-level", "href", "title", "target", "rel", "start", "border"),
    "cellpadding",
}
REPORT = r"""# Tea prices

Prices **fell 4 %** in *Assam*; a pound costs $5, two cost $9.
Source: [the auction](https://auction.example/week_47).

| region | price |
|:-------|------:|
| Assam  | 2.10  |
| Kenya  | 2.35  |

1. Buy `CTC` grades
2. Wait
   - for spring

```python
price = 2.10 * 0.96  # <b>not bold</b>
```

> Kept from last week.

With $p_1 * q_1$ and \(q_2\):

$$
\frac{p_1}{p_0}
+ \epsilon_*
$$
"""


def read(html):
    """Give the words that a page shows, folds included."""
    return " ".join(" ".join(parsed(html).text).split())


def test_markdown_becomes_headings_tables_lists_code_and_links():
    html = answer_html(REPORT)
    for piece in (
        "<strong>Tea prices</strong></div>",
        "<strong>fell 4 %</strong> in <em>Assam</em>",
        ">Assam</td>",
        "text-align:right",
        "<ol",
        "<ul",
        ">CTC</code>",
        "price = 2.10 * 0.96  # &lt;b&gt;not bold&lt;/b&gt;",
        "<blockquote",
        'href="https://auction.example/week_47"',
    ):
        assert piece in html
    assert parsed(html).tags <= KNOWN


def test_formulas_are_left_to_jupyter_and_prices_are_none():
    html = answer_html(REPORT)
    formulas = re.findall(r'<span class="tex2jax_process mathjax_process">(.*?)</span>', html, re.DOTALL)
    assert formulas == ["$p_1 * q_1$", r"\(q_2\)", "$$\n\\frac{p_1}{p_0}\n+ \\epsilon_*\n$$"]


@pytest.mark.parametrize(
    "formula",
    [
        r"$\href{javascript:alert(1)}{x}$",
        r"\[\class{jp-Dialog}{x}\]",
        "$$\n\\def\\frac#1#2{0}\n$$",
        r"\(\unicode{x41}\)",
        r"$\require{html}$",
    ],
)
def test_a_formula_that_could_do_more_than_be_shown_is_text(formula):
    assert "mathjax_process" not in answer_html(f"**so** {formula}\n\n{formula}")


def test_the_raw_text_is_whole_one_click_away():
    html = answer_html(REPORT)
    _, raw = html.rsplit("raw text, ", 1)
    assert "".join(parsed(raw).text).split("</summary>")[-1].endswith(REPORT)
    assert answer_html("Tea fell.\nBy 4 %.").count("Tea fell") == 1
    assert "<details" not in answer_html("Tea fell.\nBy 4 %.")


@pytest.mark.parametrize(
    ("text", "piece", "often"),
    [
        ("# all\n\n" + "A line about tea.\n\n" * 400, ">A line about tea.</p>", 400),
        ("| a | b |\n|---|---|\n" + "| tea | 4 |\n" * 400, ">tea</td>", 400),
        ("\n".join(f"{number}. point" for number in range(1, 401)), ">point</li>", 400),
        ("```\n" + "code\n" * 900 + "```", "code\n", 900),
    ],
)
def test_a_long_answer_is_folded_and_each_piece_of_it_is_there_once(text, piece, often):
    rendered = answer_html(text).rsplit("<details", 1)[0]
    head, fold = rendered.split("<details", 1)
    assert head.count(piece) + fold.count(piece) == often
    assert 10 <= head.count(piece) <= 40
    assert " more</summary>" in fold


@pytest.mark.parametrize("text", ["word **so** " * 900, "word so " * 900])
def test_of_one_endless_paragraph_the_beginning_is_shown(text):
    head, fold = answer_html(text).split("<details", 1)
    assert 100 < len(read(head)) < 600
    assert fold.count("word") >= 900


def test_a_list_and_a_table_go_on_behind_the_fold():
    html = answer_html("\n".join(f"{number}. point" for number in range(1, 400)))
    head, fold = html.split("<details", 1)
    begun = head.count("<li")
    assert f'<ol start="{begun + 1}"' in fold
    table = answer_html("| head |\n|---|\n" + "| tea |\n" * 400)
    assert table.count(">head</th>") == 2


class Balanced(HTMLParser):
    """Sees that every element is closed in its turn, and collects what there is."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.links = [], set(), set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value for name, value in attrs if name == "href"]
        if tag not in {"br", "hr"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


HOSTILE = [
    "<script>alert(1)</script>",
    "**x** <img src=x onerror=alert(1)>",
    "[l](javascript:alert(1)) **x**",
    "[l](JaVaScRiPt:alert(1)) [d](data:text/html,x) [v](vbscript:x)",
    "[f](file:///etc/passwd) [r](/api/kernels) [p](//evil.example/) [q](\\\\evil)",
    "![tracked](https://evil.example/pixel.png?secret=1)",
    "![t](data:image/svg+xml;base64,PHN2Zz4=)",
    '[x](https://a.example/"onmouseover=alert(1)) <https://b.example/"onclick=alert(1)>',
    '# h" onclick="alert(1)\n\n```js" onclick="x\ncode\n```',
    "| a | b |\n|---|---|\n| <td onclick=x> | `</td>` |",
    "[a]: javascript:alert(1)\n\n[a] and [b][a]",
    "**bold** &#x202e;gnp.exe &#0; &lt;script&gt; \u202egnp.exe \x1b[31mred",
    "*" * 3_000 + "[" * 3_000 + "> " * 3_000,
    "- " * 2_000 + "\n" + "> " * 2_000 + "a",
    "\ud800 **x** \udfff",
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("most", [None, 1_000])
def test_hostile_markdown_is_shown_and_does_nothing(text, most):
    html = answer_html(text, most=most)
    found = Balanced()
    found.feed(html)
    found.close()
    assert found.open == []
    assert found.tags <= KNOWN
    assert found.attributes <= ATTRIBUTES
    assert all(link.startswith(("http://", "https://", "mailto:")) for link in found.links)
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e\ud800-\udfff]", html)


def test_an_image_is_a_link_that_nothing_loads():
    html = answer_html("![a pixel](https://evil.example/p.png)")
    assert "<img" not in html
    assert re.search(r'<a href="https://evil.example/p.png"[^>]* rel="noopener[^>]*>image: a pixel</a>', html)


def test_what_becomes_many_times_its_size_is_cut_and_says_so():
    html = answer_html("*a* " * (MOST_READ // 2), most=60_000)
    assert len(html) < 1_000_000
    assert "The rest is in the raw text only" in html
    assert len(answer_html("\u202e" * 100_000, most=60_000)) < 1_000_000


def test_the_answer_is_rendered_once_in_the_kept_view():
    html = render_html(build_trace(events(answer=REPORT)))
    # Once as it is read, once raw, once as the model gave it, once as the tool was asked.
    assert html.count("<strong>fell 4 %</strong>") == 1
    assert "result: the answer above" in html
    assert "<table" not in render_live(build_trace(events(answer=REPORT)[:-1]))


def test_a_tasks_own_result_is_rendered_as_well():
    steps = events(answer="plain")
    steps[-2]["result"] = REPORT
    assert "<strong>fell 4 %</strong>" in render_html(build_trace(steps))


def test_without_styles_an_answer_still_reads_well():
    lines = without_styles(render_html(build_trace(events(answer=REPORT))))
    assert any(line.startswith("Tea prices") for line in lines)
    assert "price = 2.10 * 0.96  # <b>not bold</b>" in lines
