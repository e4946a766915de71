import pytest

from tests.server import start_server


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("--KasalApp.max_queued=many", "'max_queued' trait"),
        ("--KasalApp.allowed_hosts=not a host!", "KasalApp.allowed_hosts: 'not a host!' is no host"),
    ],
)
def test_with_a_wrong_setting_a_standalone_server_does_not_start(tmp_path, setting, told):
    # Jupyter would go on with the defaults of all settings: another data folder, for one.
    with pytest.raises(AssertionError, match="the server ended at once") as refusal:
        start_server(tmp_path, setting, standalone=True)
    assert "Kasal is not served" in str(refusal.value)
    assert told in str(refusal.value)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("setting", ["--KasalApp.max_queued=many", "--KasalApp.allowed_hosts=not a host!"])
def test_with_a_wrong_setting_a_jupyter_server_does_not_serve_kasal(tmp_path, setting):
    server = start_server(tmp_path, setting, ready=None)
    try:
        with server.client() as api:
            assert api.get("/health").status_code == 404
        assert "Kasal is not served" in server.log.read_text()
        assert not (tmp_path / "data").exists()
    finally:
        server.close()
