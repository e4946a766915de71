"""What somebody new mistypes, in a real kernel: each answer says what to type instead."""

import pytest

from kasal_jupyter.kernel.magics.command_line import split
from kasal_jupyter.kernel.magics.crew_words import with_names_whole
from kasal_jupyter.kernel.magics.subcommands import COMMANDS
from tests.kernels import kernel_of
from tests.sample_crews import crew_body, new_crew


@pytest.fixture(scope="module")
def kernel(live_server, tmp_path_factory):
    with live_server.client() as api:
        new_crew(api, crew_body("Clumsy report"))
    with kernel_of(live_server, tmp_path_factory.mktemp("kernel")) as running:
        running.run("subject = 'green tea'\ncustomers = [1, 2]\nfolder_of = {}")
        yield running


def refused(kernel, code):
    """Give the message of a cell that fails."""
    cell = kernel.run(code)
    assert cell.status == "error", (code, cell.text, cell.shown)
    assert "Traceback" not in cell.error
    return cell.error.removeprefix("CellError: ")


def test_a_crews_name_with_blanks_needs_no_quotes(kernel, api):
    assert kernel.run("%kasal run Clumsy report topic=tea").status == "ok"
    latest = api.get("/executions").json()["executions"][0]
    assert (latest["crew_name"], latest["inputs"]) == ("Clumsy report", {"topic": "tea"})
    for line in ("show Clumsy report", "check Clumsy report topic=tea", "export Clumsy report"):
        assert kernel.run(f"%kasal {line}").status == "ok", line
    assert kernel.run("%kasal memory Clumsy report which sources").status == "ok"
    for line in ("ps --crew Clumsy report --limit 3", "usage --crew Clumsy report --by model"):
        assert kernel.run(f"%kasal {line}").status == "ok", line
    assert "will remember" in kernel.run("%kasal memory Clumsy report --add tea is green --about tea").text
    for line in ("copy Clumsy report Other report", "rename Other report Third report here"):
        assert kernel.run(f"%kasal {line}").status == "ok", line
    assert "Third report here" in kernel.run("%kasal rm Third report here").text


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ps --crew Market research --limit 3", ["--crew", "Market research", "--limit", "3"]),
        ("ps --crew 'Market research'", ["--crew", "Market research"]),
        ("traces 2 --agent Lead writer --find rate limit --failed", None),
        ("traces --agent Lead writer job_1 --find x", ["--agent", "Lead writer", "job_1", "--find", "x"]),
        ("import tea.yaml --name Green tea", ["tea.yaml", "--name", "Green tea"]),
        ("import --name Tea green.yaml", ["--name", "Tea", "green.yaml"]),
        ("crew Tea --as Green tea --force", ["Tea", "--as", "Green tea", "--force"]),
        ("generate a report --name Green tea", ["a", "report", "--name", "Green tea"]),
    ],
)
def test_a_name_or_a_text_behind_an_option_is_all_up_to_the_next(line, words):
    name, *rest = split(line)
    found = with_names_whole(COMMANDS[name].parser(), rest, None)
    assert found == (words or ["2", "--agent", "Lead writer", "--find", "rate limit", "--failed"])


def test_a_cell_without_a_body_is_answered_by_the_magic_itself(kernel):
    for cell in ("%%kasal crew Empty", "%%kasal crew Empty\n", "%%kasal crew Empty\n  \n"):
        said = refused(kernel, cell)
        assert said == "%%kasal crew reads the lines below it, and there are none; write the YAML there"
    assert "%%kasal ps reads no cell" in refused(kernel, "%%kasal ps")
    # Loading the extension again adds nothing twice.
    kernel.run("%load_ext kasal_jupyter\n%reload_ext kasal_jupyter")
    kernel.run("added = [getattr(each, '__name__', '') for each in get_ipython().input_transformers_cleanup]")
    assert kernel.value("added.count('with_body')") == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("run", 'needs a crew: "Clumsy report"'),
        ("run", '%kasal run "Clumsy report" topic=…'),
        ("run --bg", 'needs a crew: "Clumsy report"'),
        ("show", 'needs a crew: "Clumsy report"'),
        ("edit", "%kasal edit"),
        ("run Clumsi reprt topic=tea", 'it is %kasal run "Clumsy report" topic=tea'),
        ("show Clumsi reprt", "There is no crew 'Clumsi reprt'; did you mean 'Clumsy report'?"),
        ("show CLUMSY REPORT", "did you mean 'Clumsy report'?"),
        ("import", "needs FILE, as in: %kasal import research.yaml"),
        ("export", "needs a crew"),
        ('run "Clumsy report" topic=green tea', 'a text with blanks is in quotes: topic="green tea"'),
        ('run "Clumsy report" topic: tea', "on this line it is topic=tea"),
        ('run "Clumsy report" topic = tea', "An input has no blanks around its ="),
        ('run "Clumsy report" topic=…', "put what you want in its place"),
        ('run "Clumsy report" topic=Tom\'s', "an apostrophe is a quote here"),
        ('run "Clumsy report" topci=tea', "topci"),
        ('run "Clumsy report" topic=tea --bgg', "did you mean '--bg'?"),
        ('run "Clumsy report" topic=tea --max-cost', "expected one argument"),
        ("rnu x", "did you mean 'run'?"),
        ("usage --by modle", "did you mean 'model'?"),
        ("ps --status complete", "did you mean 'completed'?"),
        ("tools calculater", "did you mean 'calculator'?"),
        ("status job_nope", "There is no run 'job_nope'"),
        ("show Clum", "did you mean 'Clumsy report'?"),
        ("tools calcu", "did you mean 'calculator'?"),
        ("Clumsy report", "a crew is run by `%kasal run NAME`"),
        ('run "Clumsy report" --topic tea', "an input is written without dashes: topic=value"),
        ("doctor quick", "did you mean --quick?"),
        ("demo now", "'now' is one word too many."),
        ("usage --since yesterday", "'yesterday' is no day; write one as 2024-01-15"),
        ("crew Some name", "begin it with %%kasal crew"),
    ],
)
def test_the_answer_says_what_to_type(kernel, line, said):
    assert said in refused(kernel, f"%kasal {line}")


def test_help_is_given_of_what_is_asked_about(kernel):
    assert kernel.run("%kasal help run").text == kernel.run("%kasal run --help").text


def test_an_input_that_no_placeholder_has_is_named_with_the_one_that_is_missing(kernel):
    said = refused(kernel, '%kasal run "Clumsy report" topci=tea')
    assert "{topic}" in said
    assert "nothing uses 'topci', was that meant?" in said
    assert said.endswith('Here that is %kasal run "Clumsy report" topic=…')


def test_a_variable_that_is_not_there_is_never_a_builtin(kernel):
    said = refused(kernel, '%kasal run "Clumsy report" topic=$opne')
    assert "the notebook has no variable 'opne'" in said
    assert "did you mean" not in said
    assert "did you mean 'subject'?" in refused(kernel, '%kasal run "Clumsy report" topic=$subjct')
    assert "did you mean 'subject'?" in refused(kernel, '%kasal run "Clumsy report" topic={subjct}')


def test_a_variable_in_braces_is_the_variable(kernel, api):
    assert kernel.run('%kasal run "Clumsy report" topic={subject}').status == "ok"
    assert api.get("/executions").json()["executions"][0]["inputs"] == {"topic": "green tea"}


@pytest.mark.parametrize(
    ("word", "said"),
    [
        (
            "topic=subjct",
            "topic is the text 'subjct'; the notebook has 'subject', which topic=$subject takes",
        ),
        ("topic=len(custmers)", "no variable 'custmers'; did you mean 'customers'?"),
        ('topic="about {subject}"', 'topic has {subject} as it stands; topic=f"…" fills it in'),
    ],
)
def test_a_text_that_may_be_a_variable_is_said_to_be_one(kernel, word, said):
    assert said in kernel.run(f'%kasal check "Clumsy report" {word}').text


@pytest.mark.parametrize("word", ["topic=tea", "topic=green-tea", "topic=example.com", 'topic="{topic}"'])
def test_what_is_a_text_beyond_doubt_is_not_spoken_of(kernel, word):
    assert kernel.run(f'%kasal check "Clumsy report" {word}').text == ""


def test_a_placeholder_in_a_cell_of_inputs_is_no_mapping(kernel):
    said = refused(kernel, '%%kasal run "Clumsy report"\ntopic: {subject}\n')
    assert "in line 2" in said
    assert "{{subject}}" in said


def test_the_greeting_can_be_typed_as_it_stands(kernel, api):
    for crew in api.get("/crews").json()["crews"][:1]:
        inputs = "topic=…" in kernel.run("%kasal").text
        assert inputs, crew


def test_a_check_calls_a_guess_a_guess(kernel, api):
    new_crew(api, crew_body("Never ran"))
    title = kernel.run('%kasal check "Never ran" topic=tea').shown[0]["text/plain"]
    assert title.startswith("✔ Never ran can run; no run of it tells yet how long it takes (guessed ")
    kernel.run('%kasal run "Never ran" topic=tea')
    title = kernel.run('%kasal check "Never ran" topic=tea').shown[0]["text/plain"].splitlines()[0]
    assert title.startswith("✔ Never ran can run; its last run took ")


def test_one_reason_is_said_once_for_all_models_that_have_it(kernel, api):
    text = kernel.run("%kasal models").shown[0]["text/plain"]
    reasons = [line.split("  ")[-1] for line in text.splitlines() if line.startswith("✖")]
    assert len(reasons) == len(set(reasons))
    models = api.get("/models", params={"per_page": 500}).json()["models"]
    assert len(text.splitlines()) < len(models) / 2


def test_a_moment_is_written_in_one_way(kernel):
    kernel.run('%kasal run "Clumsy report" topic=tea')
    for line in ("ps", "crews"):
        shown = kernel.run(f"%kasal {line}").shown[0]["text/plain"]
        assert " UTC" in shown
        assert "T" not in shown.splitlines()[-1].split("UTC")[0].split()[-2]
