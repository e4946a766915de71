"""Comparing crews: the statistics against others' figures, the scores, and a whole comparison by a server."""

import json
import math
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from scipy import stats

from kasal_jupyter.cli.compare import gate_failures, junit
from kasal_jupyter.errors import Conflict
from kasal_jupyter.kernel.comparison import arms as running
from kasal_jupyter.kernel.comparison.arms import Ran
from kasal_jupyter.kernel.comparison.comparison import carry_out, read_asked
from kasal_jupyter.kernel.comparison.figures import Pair, arm_figures, pair_words, pairs_of
from kasal_jupyter.kernel.comparison.judge import Case, Judge, judge_cases, read_judge, scores_of
from kasal_jupyter.kernel.comparison.rows import given_rows
from kasal_jupyter.kernel.comparison.scorers import Answer, NoScore, read_score
from kasal_jupyter.kernel.comparison.statistics import (
    averaged,
    difference,
    estimate,
    least_differing,
    level_of_each,
    mcnemar,
)
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.schemas.datasets import DatasetRow, RatedRuns, Rating
from tests.kernels import kernel_of
from tests.sample_crews import crew_body, new_crew

# -- statistics -----------------------------------------------------------------------------------------


def test_repeats_are_averaged_within_a_row_before_anything_else():
    scores = [[1.0, 0.0, 1.0], [None, 1.0, 1.0], [None, None, None], [math.nan, 1.0, None]]
    assert averaged(scores, 0.0).tolist() == [2 / 3, 2 / 3, 0.0, 0.5]
    left_out = averaged(scores)
    assert left_out[[0, 1, 3]].tolist() == [2 / 3, 1.0, 1.0]
    assert math.isnan(left_out[2])
    # Ten runs of a row are no ten rows: the interval is that of the rows.
    few = estimate(averaged([[each] * 10 for each in (0.1, 0.5, 0.2, 0.9, 0.4, 0.7)]))
    assert few.rows == 6
    assert few == estimate(averaged([[each] for each in (0.1, 0.5, 0.2, 0.9, 0.4, 0.7)]))


@pytest.mark.parametrize(
    ("one", "other", "p"),
    [
        # Agresti, Categorical Data Analysis: approval of the prime minister, 86 against 150; and what
        # statsmodels' mcnemar(exact=True) gives.
        (86, 150, 3.7159361395713866e-05),
        (1, 7, 0.0703125),
        (5, 15, 0.04138946533203125),
        (0, 5, 0.0625),
        (0, 6, 0.03125),
        (0, 0, 1.0),
    ],
)
def test_yes_and_no_are_compared_by_mcnemars_exact_test(one, other, p):
    assert mcnemar(one, other) == pytest.approx(p, rel=1e-9)


def test_a_share_has_wilsons_interval():
    found = estimate(np.array([1.0] * 8 + [0.0] * 2), shares=True)
    # statsmodels' proportion_confint(8, 10, method="wilson").
    assert (found.low, found.high) == pytest.approx((0.49016247153664183, 0.9433178485456247))
    assert estimate(np.ones(10), shares=True).low == pytest.approx(0.7224672001371106)


def test_intervals_are_scipys_bca_widened_for_few_rows():
    values = np.random.default_rng(3).exponential(size=12)
    found = estimate(values, seed=7)
    reach = math.sqrt(12 / 11) * stats.t.ppf(0.975, 11)
    theirs = stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=1 - 2 * stats.norm.cdf(-reach),
        n_resamples=9_999,
        method="BCa",
        rng=np.random.default_rng(7),
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))
    # Of five there is nothing to resample: it is Student's.
    five = estimate(values[:5])
    t = stats.ttest_1samp(values[:5], 0).confidence_interval()
    assert (five.low, five.high) == pytest.approx((max(0.0, t.low), t.high))
    assert estimate(values[:1]).low is None
    assert estimate(np.array([math.nan])) is None
    # What is the same everywhere is so on average.
    assert (estimate(np.full(9, 0.25)).low, estimate(np.full(9, 0.25)).high) == (0.25, 0.25)


def test_differences_are_within_the_rows():
    rng = np.random.default_rng(5)
    rows = rng.uniform(0, 100, 40)
    one, other = rows, rows + 0.5 + rng.normal(0, 0.5, 40)
    found = difference(one, other)
    # Between the rows there is a hundred times as much.
    assert found.decided
    assert 0.3 < found.low < found.value < found.high < 0.8
    back = difference(other, one)
    assert back.decided
    assert back.value == pytest.approx(-found.value)
    assert (found.higher, found.lower) == (back.lower, back.higher)
    # A row that one of them has not is in neither.
    one[0] = math.nan
    assert difference(one, other).rows == 39
    assert difference(np.array([math.nan]), np.array([1.0])) is None


def test_few_rows_decide_nothing_however_they_differ():
    assert least_differing() == 6
    for rows in range(1, 6):
        assert not difference(np.zeros(rows), np.ones(rows), shares=True).decided
        assert not difference(np.zeros(rows), np.full(rows, 0.5)).decided
    assert difference(np.zeros(6), np.ones(6), shares=True).decided
    # Five of many: the bootstrap alone would be sure.
    some = np.zeros(100)
    some[:5] = 1.0
    found = difference(np.zeros(100), some, shares=True)
    assert found.low > 0
    assert found.p == pytest.approx(0.0625)
    assert not found.decided
    assert found.needed == 151


def test_how_many_rows_would_decide_it():
    # An effect of half a standard deviation: (1.96 + 0.84)² / 0.25 by the normal distribution; statsmodels'
    # TTestPower().solve_power(0.5, power=0.8, alpha=0.05) has 33.4, for Student's t.
    changes = np.array([1.5, -0.5] * 4) * 1.0
    changes = (changes - changes.mean()) / changes.std(ddof=1) + 0.5
    found = difference(np.zeros(8), changes)
    assert not found.decided
    assert 31 <= found.needed <= 34
    assert difference(np.zeros(8), np.zeros(8)).needed is None


def test_of_several_comparisons_all_hold_at_once():
    assert level_of_each(1) == pytest.approx(0.95)
    assert level_of_each(5) == pytest.approx(0.99)
    assert least_differing(0.99) == 8
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=30), rng.normal(size=30) + 0.4
    narrow, wide = difference(one, other), difference(one, other, level=level_of_each(4))
    assert wide.low < narrow.low < narrow.high < wide.high


# -- in words -------------------------------------------------------------------------------------------


def runs_of(scores, cost=0.01, seconds=2.0):
    """Give an arm's runs, and their scores; a score of None has failed."""
    runs = [
        [
            Ran(
                f"job_{row}_{repeat}",
                "failed" if score is None else "completed",
                None if score is None else "x",
                None,
                None if score is None else "X: it fell",
                cost,
                seconds,
            )
            for repeat, score in enumerate(repeats)
        ]
        for row, repeats in enumerate(scores)
    ]
    return runs, scores


def words_of(one, other, **more):
    first, second = runs_of(one), runs_of(other, **more)
    (pair,) = pairs_of(["A", "B"], [first[0], second[0]], [first[1], second[1]])
    return pair_words(pair)


def test_not_decided_is_said_in_words_with_the_rows_that_would_decide_it():
    one = [[1.0], [0.0]] * 10
    other = [[1.0], [0.0]] * 9 + [[1.0], [1.0]]
    said = words_of(one, other)
    assert said[0].startswith("Not decided: B scores higher than A by 0.050, and the interval of that,")
    assert "holds 0; McNemar's exact test: p = 1.000." in said[0]
    assert said[0].endswith(
        "rows like these would decide it, four times out of five, if the difference is what it looks like."
    )
    assert words_of(one, one) == [
        "Not decided: B and A score alike over 20 rows; McNemar's exact test: p = 1.000."
    ]
    better = words_of([[0.2]] * 10 + [[0.3]] * 10, [[0.5]] * 20, cost=0.02)
    assert better == [
        "B scores higher than A, by 0.250 (0.227 to 0.273), over 20 rows.".replace(
            "0.227 to 0.273", size(better[0])
        ),
        "B costs $0.0100 more a run than A ($0.0100 to $0.0100).",
    ]


def size(sentence):
    return sentence.partition("(")[2].partition(")")[0]


def test_rows_that_failed_count_both_ways():
    one = [[1.0]] * 20
    other = [[None]] * 8 + [[1.0]] * 12
    said = words_of(one, other)
    assert said[0].startswith("B scores lower than A, by 0.400")
    assert said[1] == (
        "It hangs on failures: the 8 runs that failed count as 0; left out, the difference is "
        "+0.000 (0.000 to 0.000), and it is not decided."
    )
    runs, scores = runs_of(other)
    figures = arm_figures("B", runs, scores)
    assert (figures.score.value, figures.completed.value) == (0.6, 1.0)
    assert (figures.failed, figures.runs, figures.completed.rows) == (8, 20, 12)
    # What failed has cost something all the same, and its time says nothing.
    assert figures.cost.rows == 20
    assert figures.seconds.rows == 12
    assert figures.spent == pytest.approx(0.2)


def test_a_cost_that_is_not_known_is_nobodys_zero():
    runs, scores = runs_of([[1.0]] * 6)
    runs[0] = [Ran("job_0", "completed", "x", None, None, None, 1.0)]
    figures = arm_figures("A", runs, scores)
    assert figures.spent is None
    assert figures.cost.rows == 5
    assert isinstance(pairs_of(["A", "B"], [runs, runs], [scores, scores])[0], Pair)


# -- scores ---------------------------------------------------------------------------------------------


def score(how, output, expected=None, **more):
    given = {"inputs": {"topic": "tea"}, "structured": None, "job_id": "job_1"} | more
    return read_score(how).score(Answer(expected=expected, output=output, **given))


@pytest.mark.parametrize(
    ("how", "output", "expected", "wanted"),
    [
        ("exact", " tea\n", "tea", 1),
        ("exact", "teas", "tea", 0),
        ("exact", "b", ["a", "b"], 1),
        ("exact", "3", 3, 1),
        ("contains", "Green TEA", ["tea", "green"], 1),
        ("contains", "Green", "tea", 0),
        ("regex:^x+$", "xxx", None, 1),
        ("regex", "abc", "b.", 1),
        ("numeric", "So it is $1,234.50.", "1234.5", 1),
        ("numeric", "first 7, then -3e2", -300, 1),
        ("numeric", "2, 3", 3, 1),
        ("numeric", "no number", 3, 0),
        ("numeric:1%", "99.5", 100, 1),
        ("numeric:0.1", "99.5", 100, 0),
        ("numeric:0.5", "99.5", 100, 1),
        ("json:a.0", '```json\n{"a": [1.0]}\n```', {"a": [1]}, 1),
        ("json:a", '{"a": "x "}', "x", 1),
        ("json:a", '{"a": true}', 1, 0),
        ("json:b", '{"a": "x"}', "x", 0),
        ("json:a", "[" * 100_000, "x", 0),
    ],
)
def test_answers_are_scored_by_what_is_expected(how, output, expected, wanted):
    assert score(how, output, expected) == wanted


def test_a_function_is_given_what_it_names():
    assert score(lambda output: output == "x", "x") == 1
    assert score(lambda o, e: o == e, "x", "x") == 1
    assert score(lambda inputs, job_id: len(inputs["topic"]) * (job_id == "job_1"), "x") == 3
    assert score(lambda structured: structured["n"], "x", structured={"n": np.float32(0.5)}) == 0.5
    for bad in ("3 / 0", "'good'", "nan", "None"):
        with pytest.raises(NoScore):
            score(lambda job_id, bad=bad: eval(job_id and "1") and eval(bad, {"nan": math.nan}), "x")


def test_what_cannot_score_is_refused_before_anything_runs():
    for how in ("exat", "numeric:x", "numeric:-1", "json", "regex:(", "exact:x", 3):
        with pytest.raises(CellError):
            read_score(how)
    with pytest.raises(CellError, match="did you mean 'exact'"):
        read_score("exat")
    with pytest.raises(NoScore, match="nothing is expected"):
        score("exact", "x")
    with pytest.raises(NoScore, match="no regular expression"):
        score("regex", "x", "(")


def test_no_answer_keeps_an_expression_busy():
    assert score("regex:^(a+)+$", "a" * 100_000 + "!") == 0


def test_rows_come_of_frames_and_lists():
    import pandas as pd
    import polars as pl

    data = {"topic": ["tea", "milk"], "n": [1, 2], "expected": ["a", None]}
    listed = [{"topic": "tea", "n": 1, "expected": "a"}, {"topic": "milk", "n": 2}]
    for each in (pd.DataFrame(data), pl.DataFrame(data), listed):
        rows = given_rows(each)
        assert rows.inputs == [{"topic": "tea", "n": 1}, {"topic": "milk", "n": 2}]
        assert rows.expected == ["a", None]
    assert given_rows(listed, "topic").expected == ["tea", "milk"]
    with pytest.raises(CellError, match="no column 'topik'; did you mean 'topic'"):
        given_rows(listed, "topik")
    with pytest.raises(CellError, match="DataFrame"):
        given_rows(3)


# -- the judge ------------------------------------------------------------------------------------------


def answered(text):
    return Ran("job_1", "completed", text, None, None, 0.5, 1.0)


def test_what_a_judge_says_is_read_strictly():
    assert scores_of(answered('{"scores": [10, 2.5], "reason": "x"}'), 2, 10) == [1.0, 0.25]
    for said in ("nonsense", '{"scores": [1]}', '{"scores": [11, 1]}', '{"scores": ["1", 2]}', "[1, 2]"):
        assert scores_of(answered(said), 2, 10) is None


def test_the_candidates_are_told_apart_by_lot_alone(client, monkeypatch):
    """A judge that likes what is long: whatever place it has, each score comes back to whose it is."""
    shown = []

    def judged(client, arms, rows, **_):
        shown[:] = [json.loads(row["candidates"]) for row in rows[0]]
        said = [[len(each["answer"]) for each in candidates] for candidates in shown]
        return [[answered(json.dumps({"scores": each})) for each in said]]

    monkeypatch.setattr("kasal_jupyter.kernel.comparison.judge.run_arms", judged)
    cases = [Case({"q": row}, None, ["a", "bbbb", None]) for row in range(40)]
    arm = read_judge(client, Judge("Is it long?"), 3)
    assert arm.inputs == {"rubric", "candidates", "inputs", "expected"}
    judge = Judge("Is it long?", highest=20, seed=3)
    found = judge_cases(client, judge, arm, cases)
    assert found.scores == [[0.05, 0.2, None]] * 40
    # Each place is had by each; the lot is drawn again with the same seed.
    assert {candidates[0]["answer"] for candidates in shown} == {"a", "bbbb", "(no answer)"}
    assert "bbbb" not in str(arm.crew)
    assert judge_cases(client, judge, arm, cases).orders == found.orders
    assert (found.cost, found.failed, found.seed) == (20.0, 0, 3)
    with pytest.raises(CellError, match=r"cannot judge: it has no place for \{candidates\}, \{rubric\}"):
        read_judge(client, Judge("x", crew=plain(client).id), 2)


def plain(client):
    return client.crew(client.crews(name="Plain")[0].id)


def test_repeats_come_back_to_their_row(client, monkeypatch):
    """Each arm's rows are run one behind the other, each as often as it is said."""

    def ran(client, arms, rows, **_):
        return [
            [answered(f"{arm.label} {row['topic']} {place}") for place, row in enumerate(each)]
            for arm, each in zip(arms, rows, strict=True)
        ]

    monkeypatch.setattr("kasal_jupyter.kernel.comparison.comparison.run_arms", ran)
    data = [{"topic": "tea"}, {"topic": "milk"}]
    asked = read_asked(client, ["Plain", "Long"], data, len, repeats=3)
    found = carry_out(client, asked)
    assert [run.output for run in found.runs_of[1][1]] == ["Long milk 3", "Long milk 4", "Long milk 5"]
    assert found.arms[0].score.rows == 2
    assert found.arms[0].runs == 6


# -- by a server ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def crews(live_server):
    """Two crews of which the second says more, and one that fails."""
    with live_server.client() as api:
        made = {
            "Plain": one_task("Plain", answer_words=4),
            "Long": one_task("Long", answer_words=9),
            "Failing": one_task("Failing", fail_at=1),
        }
        for body in made.values():
            new_crew(api, body)


def one_task(name, **sandbox):
    body = crew_body(name, **sandbox)
    body["agents"], body["tasks"] = body["agents"][:1], body["tasks"][:1]
    body["agents"][0]["tools"] = []
    return body


TOPICS = ["tea", "milk", "cocoa", "water", "juice", "coffee", "wine", "broth"]


@pytest.fixture(scope="module")
def whole(client, crews):
    """Eight rows through each of the three."""
    rows = [{"topic": each, "more": 1, "expected": "4"} for each in TOPICS]
    asked = read_asked(
        client,
        ["Plain", "Long", "Failing"],
        rows,
        lambda output, inputs: min(1.0, len(output.split()) / 100) + (len(inputs["topic"]) > 4) / 100,
    )
    told = []
    found = carry_out(client, asked, concurrency=4, told=lambda each: told.append({**each}))
    assert told[-1]["Plain"].done == 8
    assert told[-1]["Failing"].failed == 8
    return found


def test_a_comparison_says_which_is_better(whole, client):
    plain, long, failing = whole.arms
    assert [arm.runs for arm in whole.arms] == [8, 8, 8]
    assert (plain.failed, failing.failed) == (0, 8)
    assert long.score.value > plain.score.value > failing.score.value == 0
    assert failing.completed is None
    assert whole.pairs[0].score.value > 0
    assert "Failing scores lower than Plain" in "\n".join(whole.words)
    assert "without them no row is left" in "\n".join(whole.words)
    # Each row leads to the two runs that are furthest apart.
    first = whole.disagreements[0]
    assert len(first.scores) == 3
    assert client.diff(*first.jobs)
    said = json.loads(whole.to_json())
    assert said["disagreements"][0]["jobs"] == list(first.jobs)
    assert [arm["label"] for arm in said["arms"]] == ["Plain", "Long", "Failing"]
    frame = whole.runs()
    assert len(frame) == 24
    assert frame.score.isna().sum() == 8
    assert list(whole.df().crew) == ["Plain", "Long", "Failing"]


def test_what_is_done_is_not_paid_for_again_and_what_failed_is_tried_again(whole, client):
    rows = [{"topic": each} for each in reversed(TOPICS)]

    def compared(names, **more):
        found = carry_out(
            client, read_asked(client, names, rows, len, repeats=more.pop("repeats", 1)), **more
        )
        return [{run.job_id for row in runs for run in row} for runs in found.runs_of]

    plain, _, failing = [{run.job_id for row in runs for run in row} for runs in whole.runs_of]
    again = compared(["Plain", "Failing"])
    assert again[0] == plain
    assert len(again[1]) == 8
    assert not again[1] & failing
    # Of a row's repeats, the first was run already; and all that is asked for afresh is run.
    twice = compared(["Plain"], repeats=2)[0]
    assert len(twice) == 16
    assert twice > plain
    assert not compared(["Plain"], fresh=True)[0] & twice


def test_rows_that_were_never_run_are_no_failures(client, live_server):
    with live_server.client() as api:
        new_crew(api, one_task("Endless", latency=60))
    (rows, names) = ([{"topic": "tea"}, {"topic": "milk"}], ["Plain", "Endless"])

    def stop(_):
        (batch,) = client.batches(name="Comparison: Endless v1")
        if batch.status == "running":
            client.tell_batch(batch.id, "stop")

    with pytest.raises(CellError, match="Comparison: Endless v1 did not come to its end: it was stopped"):
        carry_out(client, read_asked(client, names, rows, len), told=stop)


def test_a_judge_that_cannot_judge_is_told_before_the_crews_have_run(client, monkeypatch):
    def ran(*_, **more):
        pytest.fail("it was run")

    monkeypatch.setattr("kasal_jupyter.kernel.comparison.comparison.run_arms", ran)
    judge = Judge("Is it short?", model="nobody-serves-this")
    asked = read_asked(client, ["Plain", "Long"], [{"topic": "tea"}], judge)
    with pytest.raises(CellError, match="Judge of 2 cannot run: no provider is known"):
        carry_out(client, asked)


def test_a_comparison_is_shown_as_tables_sentences_and_a_plot(whole):
    text, html = repr(whole), whole._repr_html_()
    for each in (
        *whole.words,
        *(f"%kasal diff {each.jobs[0]} {each.jobs[1]}" for each in whole.disagreements[:3]),
    ):
        assert each in text
    assert "user-select:all" in html
    assert "<script" not in html
    assert "completed alone" in text
    plot = whole.plot()
    assert plot.across == "seconds"
    # What has no time, for it has never completed, is not drawn.
    assert [label for label, _, _ in plot.points] == ["Plain", "Long"]
    assert plot._repr_mimebundle_()["image/png"].startswith("iVBOR")


def test_a_gate_fails_by_the_score_or_by_its_lower_end(whole):
    assert not gate_failures(whole)
    assert gate_failures(whole, below=0.0).keys() == set()
    assert gate_failures(whole, below=2.0).keys() == {"Long", "Failing"}
    between = (whole.arms[1].score.low + whole.arms[1].score.value) / 2
    assert gate_failures(whole, below=between).keys() == {"Failing"}
    assert gate_failures(whole, below=between, surely=True).keys() == {"Long", "Failing"}
    worse = gate_failures(whole, if_worse=True)
    assert worse.keys() == {"Failing"}
    suite = ET.fromstring(junit(whole, worse))
    assert (suite.get("tests"), suite.get("failures")) == ("3", "1")
    (failure,) = suite.iter("failure")
    assert failure.get("message") == worse["Failing"]


def test_what_cannot_be_compared_is_refused_before_anything_runs(client, monkeypatch):
    monkeypatch.setattr(running, "run_arms", None)
    rows = [{"topic": "tea"}]
    for crews, data, how, said in (
        (["Plain", "Plain"], rows, "exact", "is named twice"),
        (["Plain"], rows, "exact", "goes by what is expected"),
        (["Plain"], [{"tropic": "tea"}], len, r"Plain takes \{topic\}, which the table does not have"),
        (["Plian"], rows, len, "did you mean 'Plain'"),
        (["Plain@99"], rows, len, "version"),
        (["Plain"], [], len, "has no rows"),
        (["Plain"], "questions", len, "There is no dataset 'questions'"),
        ([], rows, len, "Name the crews"),
    ):
        with pytest.raises(CellError, match=said):
            read_asked(client, crews, data, how)


def test_what_was_rated_becomes_tomorrows_rows(client, whole):
    jobs = [each[0].job_id for each in whole.runs_of[0]]
    again = whole.runs_of[1][0][0].job_id
    client.rate(jobs[0], Rating(thumb="up", answer=None, note=None))
    client.rate(jobs[1], Rating(thumb="down", answer="Milk is white", note="It was not said"))
    client.rate(jobs[2], Rating(thumb="down", answer=None, note=None))
    crew_id = client.execution(jobs[0]).crew_id
    made = client.create_dataset("Rated", rated=RatedRuns(crew_id=crew_id, thumb=None))
    rows = {row.inputs["topic"]: row for row in client.dataset_rows(made.id)}
    assert rows.keys() == {"tea", "milk", "cocoa"}
    assert rows["tea"].expected == client.execution(jobs[0]).result
    assert rows["milk"].expected == "Milk is white"
    assert rows["cocoa"].expected is None
    assert rows["milk"].source_job == jobs[1]
    assert (
        len(client.dataset_rows(client.create_dataset("Up", rated=RatedRuns(crew_id=None, thumb="up")).id))
        == 1
    )
    # Of the same inputs, what was said last counts.
    client.rate(again, Rating(thumb="up", answer="Tea is tea", note=None))
    latest = client.replace_dataset(made.id, rated=RatedRuns(crew_id=None, thumb=None))
    assert {row.expected for row in client.dataset_rows(latest.id)} >= {"Tea is tea", "Milk is white"}
    rated = client.execution(jobs[1]).rating
    assert (rated.thumb, rated.note) == ("down", "It was not said")
    client.unrate(jobs[1])
    assert client.execution(jobs[1]).rating is None
    # It is what crews are compared on.
    asked = read_asked(client, ["Plain"], "Rated", "exact")
    assert len(asked.rows) == latest.total


def test_a_dataset_keeps_many_rows_in_their_order(client):
    many = [DatasetRow(inputs={"n": place, "text": "x" * 300}, expected=[place]) for place in range(3_000)]
    made = client.create_dataset("Many", many)
    assert made.total == 3_000
    assert client.dataset_rows(made.id) == many
    with pytest.raises(Conflict):
        client.create_dataset("Many")
    assert client.replace_dataset(made.id, many[:2]).total == 2
    assert [each.id for each in client.datasets("Many")] == [made.id]
    client.delete_dataset(made.id)
    assert client.datasets("Many") == []


def test_the_magics_say_the_same(live_server, tmp_path):
    with kernel_of(live_server, tmp_path) as kernel:
        assert kernel.run("import pandas as pd; df = pd.DataFrame({'topic': ['tea', 'milk']})").status == "ok"
        cell = kernel.run("%kasal compare Plain Long --rows df --score contains --expected topic -o found")
        assert "Plain takes {topic}, which df does not have; it has none" in cell.error
        cell = kernel.run("%kasal compare Plain Long --rows df")
        assert "--score --judge is required" in cell.error
        cell = kernel.run("%kasal dataset Kept --thumb up")
        assert "stand with --rated" in cell.error
        kernel.run("df['wanted'] = df.topic\ndef words(output): return len(output.split())")
        cell = kernel.run("%kasal compare Plain Long --rows df --score words -o found")
        assert cell.status == "ok", cell.error
        assert "Not decided" in kernel.value("repr(found)")
        cell = kernel.run("%kasal dataset Kept --rows df --expected wanted")
        assert cell.shown[0]["text/plain"].startswith("Kept: 2 rows")
        job = kernel.value("found.runs().job_id[0]")
        assert "should be: Tea" in kernel.run(f"%kasal rate {job} down Tea").text
        assert "should be: Tea" in kernel.run(f"%kasal status {job}").shown[0]["text/plain"]
