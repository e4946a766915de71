"""What runs have used, drawn: with matplotlib and without, with styles and without."""

import base64
import re
import sys

import pytest

from kasal_jupyter.kernel.runs.usage import MOST_BARS, UsagePlot, UsageTable, bar_text
from kasal_jupyter.schemas.usage import Stored, UsageGroup, UsageList, UsageTotal

DAYS = {"2026-11-02": (0.5, 1_000), "2026-11-05": (0.25, 3_000)}


def answer(by, groups, **whole):
    listed = [
        UsageGroup(key=name, name=name, runs=1, cost=cost, total_tokens=tokens, llm_calls=1)
        for name, (cost, tokens) in groups.items()
    ]
    total = UsageTotal(runs=2, cost=0.75, total_tokens=4_000, llm_calls=2)
    about = {"since": "2026-11-01", "until": "2026-11-30", "group_by": by, "whole": total, **whole}
    about["stored"] = Stored(bytes=0, most_bytes=None, crews=0, most_crews=None)
    return UsageList(groups=listed, total=len(listed), page=1, per_page=500, **about)


@pytest.fixture
def plot():
    crews = {"Tea & <b>co</b>": (0.75, 4_000), "$free": (0.0, 10)}
    return UsagePlot([answer("day", DAYS), answer("crew", crews)])


def test_days_on_which_nothing_was_used_are_drawn_as_well(plot):
    assert [bar.name for bar in plot.charts["day"]] == [f"2026-11-0{day}" for day in (2, 3, 4, 5)]
    assert [bar.tokens for bar in plot.charts["day"]] == [1_000, 0, 0, 3_000]


def test_the_bars_are_read_where_styles_are_dropped(plot):
    text = " ".join(re.sub(r"<[^>]*>", " ", plot.html()).split())
    assert "2026-11-05 $0.2500 ████████████ 3,000 ████████████████████████" in text
    assert "Tea &amp; &lt;b&gt;co&lt;/b&gt;" in text
    lines = repr(plot).splitlines()
    assert lines[0] == "2026-11-01 to 2026-11-30: $0.7500, 4,000 tokens"
    assert lines[3] == f"2026-11-02  $0.5000 {'█' * 24}  1,000 {'█' * 8}"


def test_what_is_unknown_is_never_nothing():
    groups = [
        UsageGroup(key="m", name="m", runs=None, cost=None, cost_at_least=0.5, total_tokens=5, llm_calls=2),
        UsageGroup(key="n", name="n", runs=None, cost=None, cost_at_least=0, total_tokens=5, llm_calls=2),
    ]
    found = answer("model", {}).model_copy(update={"groups": groups})
    assert [bar.spent for bar in UsagePlot([found]).charts["model"]] == ["at least $0.5000", "unknown"]


def test_many_are_one_bar_more():
    many = answer("model", {f"model {number:02}": (1.0, number) for number in range(40)})
    bars = UsagePlot([many]).charts["model"]
    assert len(bars) == MOST_BARS + 1
    assert (bars[-1].name, bars[-1].spent) == ("28 others", "$28.00")
    assert sum(bar.tokens for bar in bars) == sum(range(40))


def test_whatever_is_above_nothing_can_be_seen():
    assert bar_text(0, 10) == ""
    assert bar_text(0, 0) == ""
    assert bar_text(1e-9, 10) == "▏"
    assert bar_text(10, 10) == "█" * 24


def test_with_matplotlib_it_is_a_picture(plot):
    pytest.importorskip("matplotlib")
    bundle = plot._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "image/png"}
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert len(plot.figure.axes) == 4
    assert "matplotlib.pyplot" not in sys.modules


def test_what_has_cost_nothing_is_drawn_in_tokens_alone():
    pytest.importorskip("matplotlib")
    free = UsagePlot([answer("day", {"2026-11-02": (0.0, 5)}), answer("model", {"sandbox": (0.0, 5)})])
    assert [axes.get_title(loc="left") for axes in free.figure.axes] == ["tokens by day", "tokens by model"]


def test_a_bar_says_what_it_stands_for(plot):
    pytest.importorskip("matplotlib")
    said = [text.get_text() for text in plot.figure.axes[2].texts]
    assert said == [r"\$0.7500", r"\$0"]


def test_without_matplotlib_it_is_html(plot, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    bundle = plot._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    assert plot.figure is None


def test_nothing_used_is_drawn_as_nothing():
    empty = UsagePlot([answer("day", {}), answer("model", {})])
    assert "by day: nothing" in repr(empty)
    assert "by model: nothing" in empty.html()
    assert "text/plain" in empty._repr_mimebundle_()


def test_a_table_draws_day_model_and_crew_or_what_it_tells_apart():
    asked = []

    def ask(by):
        asked.append(by)
        return answer(by, {"x": (1.0, 1)})

    assert list(UsageTable(answer("day", DAYS), ask).plot().charts) == ["day", "model", "crew"]
    assert asked == ["model", "crew"]
    assert list(UsageTable(answer("agent", DAYS), ask).plot().charts) == ["agent"]
    assert list(UsageTable(answer("day", DAYS), ask).plot("model").charts) == ["model"]
