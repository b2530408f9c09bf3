"""A real Prometheus: it takes the metrics, and its alerts fire when they should."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from support.peers import wait_until
from support.ports import own_port
from support.process import running, send_raw

RULES = Path(__file__).parents[2] / "systemd" / "spoold-alerts.yml"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Prometheus"),
]
# Minutes of the series, what fires at the end of them, and where.
SERIES = {
    "SpooldDown": ('up{job="spoold", instance="a"}', "0x5", 5),
    "SpooldStoreFails": ('spoold_health{part="store", instance="a"}', "2x5", 5),
    "SpooldDiskFull": ('spoold_health{part="disk", instance="a"}', "2", 0),
    "SpooldDiskFills": ('spoold_health{part="disk", instance="a"}', "1x40", 40),
    "SpooldPrintersStopped": ('spoold_health{part="printers", instance="a"}', "1x20", 20),
    "SpooldQueueOld": ('spoold_queue_oldest_seconds{printer="p", instance="a"}', "4000x10", 10),
    "SpooldNothingPrints": ('spoold_jobs_accepted_total{printer="p", instance="a"}', "0+1x40", 40),
    "SpooldJobsInDoubt": ('spoold_queue_in_doubt{instance="a"}', "2x10", 10),
    "SpooldClockJumped": ('spoold_health{part="clock", instance="a"}', "1", 0),
    "SpooldBackupOld": ('spoold_backup_seconds{instance="a"}', "-200000", 0),
    "SpooldCertificateEnds": (
        'spoold_certificate_end_seconds{certificate="node", instance="a"}',
        "86400",
        0,
    ),
    "SpooldCommitsSlow": ('spoold_commit_seconds_bucket{le="+Inf", instance="a"}', "0+9x20", 20),
    "SpooldLoopLate": ('spoold_loop_lag_seconds_bucket{le="+Inf", instance="a"}', "0+9x20", 20),
    "SpooldFilesShort": ('process_open_fds{job="spoold", instance="a"}', "95x10", 10),
    "SpooldSiteAlone": ('spoold_health{part="line", instance="a"}', "1x20", 20),
    "SpooldUplinkBehind": ('spoold_uplink_lag_records{instance="a"}', "2000x65", 65),
    "SpooldCopyOld": ('spoold_copy_age_seconds{instance="a"}', "1000x10", 10),
    "SpooldRightsEnd": ('spoold_rights_end_seconds{site="s", instance="a"}', "7200x20", 20),
    "SpooldJournalForked": ('spoold_health{part="journals", instance="a"}', "2x5", 5),
    "SpooldRecordsQuarantined": ('spoold_health{part="journals", instance="a"}', "1x20", 20),
}
# What the others are measured against.
BESIDE = {
    "SpooldCommitsSlow": ('spoold_commit_seconds_bucket{le="1.0", instance="a"}', "0+1x20"),
    "SpooldLoopLate": ('spoold_loop_lag_seconds_bucket{le="1.0", instance="a"}', "0+1x20"),
    "SpooldFilesShort": ('process_max_fds{job="spoold", instance="a"}', "100x10"),
}


def promtool(*words: object) -> None:
    done = subprocess.run(
        ["promtool", *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_alert_rules_are_rules():
    """promtool finds nothing to say of them."""
    promtool("check", "rules", RULES)


def test_every_rule_has_a_trial():
    """A new alert without one is noticed."""
    assert set(SERIES) == set(re.findall(r"alert: (\w+)", RULES.read_text()))


@pytest.mark.parametrize("alert", SERIES)
def test_an_alert_fires_when_it_should(tmp_path, alert):
    """Each with the series of such a node, and not with none."""
    series, values, minutes = SERIES[alert]
    found = [{"series": series, "values": values}]
    if alert in BESIDE:
        found.append(dict(zip(("series", "values"), BESIDE[alert], strict=True)))
    query = f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})'
    test = {
        "interval": "1m",
        "input_series": found,
        "promql_expr_test": [
            {
                "expr": query,
                "eval_time": f"{minutes}m",
                "exp_samples": [{"labels": "{}", "value": 1}],
            }
        ],
    }
    trial = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}
    file = tmp_path / "trial.yml"
    file.write_text(json.dumps(trial))  # JSON is YAML
    promtool("test", "rules", file)


class Prometheus:
    def __init__(self, folder: Path, port: int, target: str) -> None:
        self.port = port
        rules = re.sub(r"(?m)^( +for:) .*", r"\1 0s", RULES.read_text())
        (folder / "rules.yml").write_text(rules)
        (folder / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
            "rule_files: [rules.yml]\n"
            "scrape_configs:\n"
            f'  - {{job_name: spoold, static_configs: [{{targets: ["{target}"]}}]}}\n'
        )
        self.log = (folder / "prometheus.log").open("wb")
        self.process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            stdout=self.log,
            stderr=self.log,
        )

    def get(self, path: str, **query: str):
        where = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(where, timeout=30) as answer:
                return json.load(answer)["data"]
        except OSError:
            return {}

    def value(self, query: str) -> float | None:
        found = self.get("query", query=query).get("result", [])
        return float(found[0]["value"][1]) if found else None

    def firing(self) -> set[str]:
        return {
            one["labels"]["alertname"]
            for one in self.get("alerts").get("alerts", [])
            if one["state"] == "firing"
        }

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(60)
        self.log.close()


def test_a_real_prometheus_scrapes_a_node_and_tells_when_it_is_gone(tmp_path):
    """Counters count, every rule can be evaluated, and a killed node is told."""
    with running(tmp_path) as daemon, own_port() as port:
        prometheus = Prometheus(tmp_path, port, f"127.0.0.1:{daemon.port}")
        try:
            for _ in range(3):
                assert send_raw(daemon.port, b"%!PS\n")
            accepted = 'spoold_jobs_accepted_total{printer="default"}'
            assert wait_until(lambda: prometheus.value(accepted) == 3)
            delivered = 'spoold_jobs_delivered_total{printer="default"}'
            assert wait_until(lambda: prometheus.value(delivered) == 3)
            wait_until(lambda: prometheus.value('up{job="spoold"}') == 1)
            (group,) = prometheus.get("rules")["groups"]
            assert wait_until(
                lambda: (
                    {one["health"] for one in prometheus.get("rules")["groups"][0]["rules"]}
                    == {"ok"}
                ),
                30,
            )
            assert len(group["rules"]) == len(SERIES)
            wait_until(lambda: "SpooldDown" not in prometheus.firing())
            daemon.process.kill()
            assert wait_until(lambda: "SpooldDown" in prometheus.firing())
        finally:
            prometheus.end()
