"""What worker processes find in their environment."""

import importlib.util
from pathlib import Path

from kasal_jupyter.runs import environment
from kasal_jupyter.runs.environment import worker_environment


def test_keys_and_tokens_are_left_out_and_the_rest_is_kept(tmp_path):
    kept = {"PATH": "/bin", "HOME": "/home/ada", "LANG": "C.UTF-8", "HTTPS_PROXY": "http://p", "MONKEY": "1"}
    dropped = dict.fromkeys(
        [
            "OPENAI_API_KEY",
            "OPENAI_BASE_URL",
            "anthropic_api_key",
            "AWS_SECRET_ACCESS_KEY",
            "HF_TOKEN",
            "JUPYTERHUB_API_TOKEN",
            "DB_PASSWORD",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "CREWAI_USER_PAT",
            "REDIS_URL",
            "PYTHONDONTWRITEBYTECODE",
        ],
        "x",
    )
    made = worker_environment({**kept, **dropped}, tmp_path)
    assert kept.items() <= made.items()
    assert not set(dropped) & set(made)


def test_bytecode_goes_to_the_data_folder_only_where_it_can_go_nowhere_else(tmp_path, monkeypatch):
    package = tmp_path / "crewai" / "__init__.py"
    package.parent.mkdir()
    package.write_text("", encoding="utf-8")
    spec = importlib.util.spec_from_file_location("crewai", package)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: spec)
    assert "PYTHONPYCACHEPREFIX" not in worker_environment({}, tmp_path)
    # Root may write everywhere, so the answer of the file system is made up.
    monkeypatch.setattr(environment.os, "access", lambda _path, _mode: False)
    assert worker_environment({}, tmp_path)["PYTHONPYCACHEPREFIX"] == str(tmp_path / "pycache")
    compiled = Path(importlib.util.cache_from_source(str(package)))
    compiled.parent.mkdir()
    compiled.touch()
    assert "PYTHONPYCACHEPREFIX" not in worker_environment({}, tmp_path)
