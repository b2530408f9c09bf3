"""A daemon tells how it is, to load balancers, to Prometheus and to its operators."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request

import pytest

from support.process import running, send_raw


def get(daemon, path):
    """(status, body) of a GET on the clear port."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{daemon.port}{path}", timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.mark.slow
def test_a_daemon_tells_how_it_is(tmp_path):
    """Health answers at once after the start; metrics count what happens; polling is cheap."""
    with running(tmp_path) as daemon:
        for path in ("/livez", "/readyz", "/healthz"):
            status, body = get(daemon, path)
            assert status == 200
            assert json.loads(body)["status"] == "ok"
        assert send_raw(daemon.port, b"%!PS\n")
        text = get(daemon, "/metrics")[1].decode()
        assert 'spoold_jobs_accepted_total{printer="default"} 1.0' in text
        assert "spoold_commit_seconds_bucket" in text
        assert "process_open_fds" in text
        began = time.monotonic()
        for _ in range(100):
            assert get(daemon, "/healthz")[0] == 200
        assert time.monotonic() - began < 5
        assert daemon.end() == 0
