"""python -m benchmarks [ROW ...]: measures, prints a table, writes JSON."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

from benchmarks import (
    load,
    report,
    rows,
    rows_catchup,
    rows_copy,
    rows_count,
    rows_ipp,
    rows_mfd,
    rows_outage,
    rows_return,
    rows_years,
)
from benchmarks.rows import Bench

ROWS = (
    rows.ROWS
    | rows_ipp.ROWS
    | rows_count.ROWS
    | rows_mfd.ROWS
    | rows_copy.ROWS
    | rows_catchup.ROWS
    | rows_outage.ROWS
    | rows_return.ROWS
    | rows_years.ROWS
)
RESULTS = Path(__file__).parent / "results"
DESCRIPTORS = 12_000


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    options = _options()
    directory = Path(tempfile.mkdtemp(prefix="spoold-benchmark-", dir=options.directory))
    directory.chmod(0o711)  # The backends of CUPS run as another user.
    bench = _bench(directory, options)
    try:
        about = report.machine(directory) | {"quick": options.quick, "pairs": bench.pairs}
        if about["file_system"] == "tmpfs":
            _say(f"warning: {directory} is in memory; name a disk with --directory")
        findings, failed = _measure(bench, options.row or list(ROWS))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    path = options.json or RESULTS / time.strftime("%Y%m%dT%H%M%S.json")
    report.write_json(path, about, findings)
    print(report.table(findings))
    print(
        f"\n{about['processor']}, {about['cores']} cores, {about['file_system']}, an fsync of"
        f" 4 KiB takes {about['sync_ms']:.3f} ms; CUPS {about['cups']}. JSON: {path}"
    )
    if options.quick:
        print("These were tiny counts (--quick): the figures mean nothing.")
    if failed:
        print(f"These rows could not be measured: {' '.join(failed)}")
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/run",
        description="spoold beside CUPS, on this machine and one disk.",
        epilog=f"Rows: {' '.join(ROWS)}. Without a row, all of them: about half an hour.",
    )
    parser.add_argument("row", nargs="*", help="measure only these rows")
    parser.add_argument("--quick", action="store_true", help="small counts: whether it runs")
    parser.add_argument("--pairs", type=int, help="how many alternated pairs (5)")
    parser.add_argument("--directory", default="/var/tmp", help="on the disk to measure")
    parser.add_argument("--json", type=Path, help="where the JSON goes (benchmarks/results/)")
    options = parser.parse_args()
    unknown = [row for row in options.row if row not in ROWS]
    if unknown:
        parser.error(f"there is no row {unknown[0]}; rows: {' '.join(ROWS)}")
    if load.open_files_max() < DESCRIPTORS:
        parser.error(f"{DESCRIPTORS} open files are needed; raise the hard limit (ulimit -Hn)")
    return options


def _bench(directory: Path, options: argparse.Namespace) -> Bench:
    bench = Bench(directory, say=_say)
    if options.quick:
        bench = Bench(
            directory,
            pairs=1,
            accept_s=0.5,
            deliver_jobs=100,
            deliver_peer_jobs=20,
            latency_jobs=20,
            bulk_bytes=64 << 20,
            depth_jobs=2000,
            idle_connections=200,
            stalled_jobs=200,
            say=_say,
        )
    bench.pairs = options.pairs or bench.pairs
    return bench


def _measure(bench: Bench, rows: list[str]) -> tuple[list[report.Finding], list[str]]:
    """What was found, and the rows that could not be measured."""
    findings: list[report.Finding] = []
    failed = []
    for row in rows:
        _say(f"{row}: {(ROWS[row].__doc__ or '').strip()}")
        try:
            findings += ROWS[row](bench)
        except (OSError, RuntimeError, TimeoutError):
            # One row less is better than an hour of rows lost.
            traceback.print_exc()
            failed.append(row)
    return findings, failed


if __name__ == "__main__":
    sys.exit(main())
