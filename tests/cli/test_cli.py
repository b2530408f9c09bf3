"""The command line against a real daemon on free ports, and without any."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from argparse import ArgumentTypeError
from collections.abc import Iterator
from pathlib import Path

import pytest

from spoold import cli
from spoold.cli import grammar
from spoold.cli.control import candidates
from spoold.cli.submit import line
from spoold.daemon.config import Listen
from spoold.net.address import Address
from support.commands import Run, Server

EVIL = "evil \x1b[2J title\n\u202e"


def submit(run: Run, printer: str, letter: Path, *more: str) -> int:
    said = run(f"submit -P {printer} --json", *more, str(letter))
    assert said.code == 0, said.err
    return int(said.json["job_id"])


def test_a_submitted_file_is_a_job_in_the_list(run: Run, paused: str, letter: Path) -> None:
    """Its title, owner and size are told; nothing in a title acts on the terminal."""
    wish = "sides=two-sided-long-edge"
    number = submit(run, paused, letter, "--title", EVIL, "--user", "desk", "-o", wish)
    listed = run(f"job list --printer {paused}")
    head, row = listed.out.splitlines()
    assert head.split() == ["ID", "PRINTER", "STATE", "OWNER", "SIZE", "AGE", "TITLE", "REASON"]
    assert row.split()[:6] == [str(number), paused, "pending", "desk", "12", "B"]
    assert "evil" in row
    assert row.isprintable()
    (job,) = run(f"job list --printer {paused} --json").json
    assert job["owner"] == "desk"
    shown = run(f"job show {number}")
    assert "owner:     desk (claimed)" in shown.out
    assert f"asked for: {wish}" in shown.out
    assert all(row.isprintable() for row in shown.out.splitlines())


def test_a_job_explains_itself(run: Run, paused: str, letter: Path) -> None:
    """The story says where it came from, why it waits and who may act."""
    number = submit(run, paused, letter)
    said = run(f"job explain library/{number}")
    assert said.code == 0
    assert f"Job {number} on {paused}: letter.txt" in said.out
    assert "paused" in said.out
    assert "Who may act:" in said.out


def test_listings_are_cut_at_the_limit_and_say_so(run: Run, paused: str, letter: Path) -> None:
    """A limited listing is the newest jobs, and tells that there are more."""
    numbers = [submit(run, paused, letter) for _ in range(3)]
    said = run(f"job list --printer {paused} --limit 2")
    assert said.out.splitlines()[-1].startswith("There are more")
    assert [row.split()[0] for row in said.out.splitlines()[1:3]] == [
        str(numbers[2]),
        str(numbers[1]),
    ]
    assert len(run(f"job list --printer {paused} --limit 2 --json").json) == 2
    assert "There are more" not in run(f"job list --printer {paused} --all").out
    assert run(f"job list --printer {paused} --state finished").out == "No such jobs.\n"


def test_filters_choose_what_is_held_released_and_canceled(
    run: Run, paused: str, letter: Path
) -> None:
    """A dry run changes nothing; a line a job says what was done."""
    first = submit(run, paused, letter, "--user", "desk", "--title", "weekly report")
    second = submit(run, paused, letter, "--user", "till")
    dry = run(f"job hold --printer {paused} --owner desk --dry-run")
    assert dry.out == f"{first} (weekly report): hold (dry run): pending-held\n"
    assert "pending-held" not in run(f"job list --printer {paused}").out
    assert run(f"job hold --printer {paused} --title WEEKLY").code == 0
    states = {job["id"]: job["state"] for job in run("job list --json").json}
    assert (states[first], states[second]) == ("pending-held", "pending")
    assert run(f"job release {first}").code == 0
    canceled = run(f"job cancel --printer {paused} --since 1h")
    assert canceled.out.count("canceled") == 2
    assert run(f"job cancel --printer {paused} --until 1h --json").json == []


def test_waiting_jobs_are_changed_placed_and_copied(run: Run, paused: str, letter: Path) -> None:
    """Attributes and holds, who comes next, and new jobs of old ones; each with a line."""
    first, second = submit(run, paused, letter), submit(run, paused, letter)
    said = run(f"job set {first} --priority 80 --title Menu --hold-until 23:59")
    assert said.out == f"{first} (letter.txt): set: pending-held\n"
    shown = run(f"job show {first}").out
    assert "23:59" in shown
    (job,) = run(f"job show {first} --json").json
    assert (job["priority"], job["title"], job["hold_until"]) == (80, "Menu", "time")
    assert run(f"job hold {second} --hold-until indefinite").code == 0
    assert run(f"job release {first} {second}").code == 0
    assert run(f"job promote {second}").out.endswith("promote: pending\n")
    assert run(f"job promote {first} --after {second}").code == 0
    said = run(f"job resubmit {first}").out
    assert re.fullmatch(rf"{first}: resubmit: job [0-9]+, pending\n", said)
    made = run(f"job resubmit {first} 4000000 --copies 3 --json")
    assert made.code == grammar.REFUSED
    copy, refused = made.json
    (job,) = run(f"job show {copy['id']} --json").json
    assert (job["copies"], job["title"]) == (3, "Menu")
    assert refused["error"].startswith("there is no job")
    assert run(f"job set {first}").code == grammar.USAGE


def test_a_refusal_of_one_job_leaves_the_others_their_turn(
    run: Run, paused: str, letter: Path
) -> None:
    """Each named job has its line, and the exit code says that one was refused."""
    number = submit(run, paused, letter)
    said = run(f"job cancel 4000000 {number}")
    assert said.code == grammar.REFUSED
    refused, done = said.out.splitlines()
    assert refused.startswith("4000000: not done: there is no job 4000000")
    assert done == f"{number} (letter.txt): cancel: canceled"


def test_the_same_uuid_is_the_same_job(run: Run, paused: str, letter: Path) -> None:
    """A script may run its command again."""
    uuid = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
    first = run(f"submit -P {paused} --uuid {uuid}", str(letter))
    again = run(f"submit -P {paused} --uuid {uuid}", str(letter))
    assert first.code == again.code == 0
    assert first.out.split()[:2] == again.out.split()[:2]
    assert "as before" in again.out
    assert len(run(f"job list --printer {paused} --json").json) == 1


def test_submit_tells_refusal_from_silence(run: Run, letter: Path, tmp_path: Path) -> None:
    """Exit codes: 1 refused, 2 wrong usage or no such file, 75 nobody there."""
    refused = run("submit -P nowhere", str(letter))
    assert refused.code == grammar.REFUSED
    assert "nowhere" in refused.err
    missing = run("submit", str(tmp_path / "missing.pdf"))
    assert missing.code == grammar.USAGE
    assert "missing.pdf: No such file or directory" in missing.err
    assert run("submit --copies 0 x").code == grammar.USAGE
    refused = run("submit --user", "x" * 9000, str(letter))
    assert (refused.code, "more than 8,192 bytes" in refused.err) == (grammar.REFUSED, True)
    assert run("job show", os.fsdecode(b"\xe9")).code == grammar.USAGE


def test_a_file_is_a_job_however_it_is_called(run: Run, paused: str, tmp_path: Path) -> None:
    """Also by a name that is not UTF-8; a title is cut where it becomes too long."""
    file = tmp_path / os.fsdecode("Größe.txt".encode("latin-1"))
    file.write_bytes(b"one page\n")
    for more in ((), ("--title", "x" * 10_000)):
        assert run(f"submit -P {paused}", *more, str(file)).code == 0
    titles = [job["title"] for job in run(f"job list --printer {paused} --json").json]
    assert titles == ["x" * 255, "Größe.txt"]


@pytest.mark.slow
def test_submit_gives_up_on_servers_that_are_not_there(run: Run, letter: Path) -> None:
    """75 after the wait, with what each server did."""
    said = run("submit --wait 1 --server 127.0.0.1:1", str(letter))
    assert said.code == grammar.UNREACHABLE
    assert "127.0.0.1:1" in said.err


@pytest.mark.slow
def test_submit_says_what_to_do_about_certificates_and_ports_of_tls(
    run: Run, server: Server, letter: Path
) -> None:
    """A CA or a certificate that is missing, and a port of TLS that is spoken to in the clear."""
    tls = f"submit --wait 1 --server {server.address('tls')}"
    assert "Ports 9192 and 9195 speak TLS" in run(tls, str(letter)).err
    clear = f"submit --wait 1 --tls --server {server.address('clear')}"
    assert "Port 9191 speaks no TLS" in run(clear, str(letter)).err
    said = run(f"{tls} --tls", str(letter))
    assert said.code == grammar.REFUSED
    assert "unable to get local issuer certificate" in said.err
    assert "--ca names the CA of the server" in said.err


def test_submit_asks_the_daemon_of_this_machine_where_it_listens(
    run: Run, letter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has to name a server that does not listen where one does by default."""
    pid = os.getpid()
    clear = Address(f"127.1.{pid >> 8 & 255}.{pid & 255}", 29191)  # ours alone
    listen = Listen(clear=(clear,), tls=(), mutual=())
    monkeypatch.delenv("SPOOLD_SERVER")
    with Server(tmp_path, listen=listen) as elsewhere:
        assert elsewhere.running is not None
        monkeypatch.setenv("SPOOLD_CONTROL", str(elsewhere.running.control))
        said = run("submit", str(letter))
    assert said.code == 0, said.err
    assert "for default at library" in said.out


def test_printers_are_added_changed_shown_and_removed(run: Run, tmp_path: Path) -> None:
    """A printer's life, in words for people and as JSON."""
    uri = tmp_path.as_uri()
    added = run(f"printer add archive {uri} --info 'third floor' --order fifo")
    assert added.code == 0, added.err
    assert "spoold submit -P archive" in added.out
    assert run(f"printer add archive {uri}").code == grammar.REFUSED
    assert run("printer set archive --in-doubt reprint --accepting off").code == 0
    shown = run("printer show archive").out
    assert "state:       idle, not accepting" in shown
    assert "in doubt:    reprint" in shown
    assert "third floor" in shown
    assert run("printer pause archive --reason 'new toner'").code == 0
    (row,) = [row for row in run("printer list").out.splitlines() if row.startswith("archive")]
    assert "paused" in row
    printers = run("printer list --json").json
    (archive,) = [one for one in printers if one["name"] == "archive"]
    assert archive["order"] == "fifo"
    assert "archive" in run("device list").out
    assert run("device show archive").code == 0
    assert run("printer set archive").code == grammar.USAGE
    assert run("printer set archive --rename attic").code == 0
    assert run("printer resume attic").code == 0
    assert run("printer remove attic").code == 0
    assert run("printer show attic").code == grammar.REFUSED


def test_redirect_moves_what_waits(run: Run, paused: str, letter: Path, tmp_path: Path) -> None:
    """A dry run says what would move; then it does."""
    assert run(f"printer add {paused}b {tmp_path.as_uri()}").code == 0
    number = submit(run, paused, letter)
    assert run(f"printer redirect {paused} {paused}b --dry-run").out == (
        f"{number} (letter.txt): would move to {paused}b\n"
    )
    assert run(f"printer redirect {paused} {paused}b").code == 0
    assert "No jobs wait" in run(f"printer redirect {paused} {paused}b").out


def test_enrolling_writes_files_that_open_9195(
    run: Run, server: Server, paused: str, letter: Path, tmp_path: Path
) -> None:
    """Key and folder are for their owner's eyes; the provider can submit; revoked it cannot."""
    folder = tmp_path / "new"
    out = shlex.quote(str(folder))
    said = run(f"provider enrol {paused} --may-assert '*' --out {out}")
    assert said.code == 0, said.err
    assert folder.stat().st_mode & 0o777 == 0o700
    key = folder / f"{paused}.key"
    assert key.stat().st_mode & 0o777 == 0o600
    credentials = f"--ca {out}/ca.crt --cert {out}/{paused}.crt --key {out}/{paused}.key"
    there = f"submit -P {paused} --wait 1 --server {server.address('mutual')} {credentials}"
    assert run(there, "--user", "desk", str(letter)).code == 0
    (job,) = run(f"job list --printer {paused} --json").json
    assert (job["owner"], job["owner_known"]) == ("desk", "asserted")
    again = run(f"provider enrol {paused} --out {out}")
    assert again.code == grammar.REFUSED
    assert "Remove it" in again.err
    assert f"{paused}  valid" in run("provider list").out
    assert run(f"provider revoke {paused}").code == 0
    assert f"{paused}  revoked" in run("provider list").out


def test_an_enrolment_that_is_refused_leaves_no_key(run: Run, tmp_path: Path) -> None:
    """No file without a provider behind it."""
    said = run(f"provider enrol 'a b' --out {shlex.quote(str(tmp_path))}")
    assert said.code == grammar.REFUSED
    assert list(tmp_path.iterdir()) == []
    assert run("provider enrol ../x").code == grammar.USAGE


def test_node_and_status_are_told(run: Run) -> None:
    """The node's name, its CA as PEM on stdout alone, and how it is."""
    assert "library" in run("node show").out
    authority = run("node ca")
    assert authority.out.startswith("-----BEGIN CERTIFICATE-----")
    assert "fingerprint" in authority.err
    assert run("status --json").json["state"] == "up"
    assert "up for" in run("status").out


def test_the_journal_is_read_from_a_position_and_behind_a_cursor(
    run: Run, paused: str, letter: Path
) -> None:
    """A cursor goes on where it stopped; each record is a line of JSON."""
    submit(run, paused, letter)
    everything = [json.loads(row) for row in run("journal --from 1 --json").out.splitlines()]
    assert [one["position"] for one in everything] == list(range(1, len(everything) + 1))
    assert "job-accepted" in {one["kind"] for one in everything}
    assert len(run(f"journal --cursor {paused} --json").out.splitlines()) >= len(everything)
    number = submit(run, paused, letter)
    news = [json.loads(row) for row in run(f"journal --cursor {paused} --json").out.splitlines()]
    assert [one["kind"] for one in news].count("job-accepted") == 1
    assert str(number)
    assert "job-accepted" in run("journal").out
    run("printer set default --accepting off")
    said = run("journal --audit").out.splitlines()[-1]
    run("printer set default --accepting on")
    assert "  accepting=false  " in said  # what it is not is told as well


@pytest.mark.slow
def test_a_follower_that_is_stopped_goes_on_behind_what_it_printed(
    run: Run, server: Server, paused: str, letter: Path
) -> None:
    """SIGTERM keeps the cursor; the next follower sees each record once."""
    assert server.running is not None
    environ = {**os.environ, "SPOOLD_CONTROL": str(server.running.control)}
    words = [sys.executable, "-m", "spoold", "journal", "--follow", "--json", "--cursor", "f"]
    positions: list[int] = []
    for _ in range(2):
        number = submit(run, paused, letter)
        with subprocess.Popen(words, env=environ, stdout=subprocess.PIPE, text=True) as follower:
            assert follower.stdout is not None
            watchdog = threading.Timer(60, follower.kill)
            watchdog.start()
            for row in follower.stdout:
                record = json.loads(row)
                positions.append(record["position"])
                if record["payload"].get("job") == number:
                    break
            watchdog.cancel()
            follower.terminate()
            assert follower.wait(30) == 130
    assert positions == list(range(1, len(positions) + 1))


def commands() -> Iterator[list[str]]:
    """Every command of the grammar, as words."""

    def walk(parser: object, words: list[str]) -> Iterator[list[str]]:
        actions = [one for one in parser._actions if hasattr(one, "_name_parser_map")]  # type: ignore[attr-defined]
        if not actions:
            yield words
        for action in actions:
            for name, inner in action._name_parser_map.items():
                yield from walk(inner, [*words, name])

    yield from walk(cli.parser(), [])


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_every_command_has_help_with_examples(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Examples begin with the command itself, and pass the grammar."""
    with pytest.raises(SystemExit):
        cli.main([*words, "--help"])
    text = capsys.readouterr().out
    _, _, examples = text.partition("\nexamples:\n")
    lines = [one.strip() for one in examples.splitlines() if " ".join(words) in one]
    assert lines
    for one in lines:
        command = one.partition("#")[0].rpartition(" | ")[2].partition(" > ")[0]
        example = shlex.split(command)[1:]
        cli.parser(example[0]).parse_args(example)


@pytest.mark.parametrize("module", cli.MODULES)
def test_each_module_declares_commands_that_begin_with_its_words(module: str) -> None:
    """The first word of a command line says which grammar is needed; any other needs all."""
    for word in cli.MODULES[module]:
        assert list(first_words(cli.parser(word))) == list(cli.MODULES[module])
    every = [word for words in cli.MODULES.values() for word in words]
    assert list(first_words(cli.parser("nonsense"))) == every


def first_words(parser: object) -> Iterator[str]:
    for action in parser._actions:  # type: ignore[attr-defined]
        yield from getattr(action, "_name_parser_map", ())


@pytest.mark.parametrize(
    "command",
    [
        "job list --state printing",
        "job list --since yesterday-ish",
        "job list --limit 0",
        "job cancel",
        "job cancel 7 --owner desk",
        "job settle 7",
        "job move 7",
        "job hold 7 --hold-until tomorrow",
        "job promote 7 8",
        "journal --from 1 --cursor x",
        "printer add x file:///tmp --option pjl",
        "simulate printer --raw 70000",
        "submit --uuid 7 x",
        "nonsense",
        "",
    ],
)
def test_wrong_usage_is_2(command: str, run: Run) -> None:
    """A usage error says something, and nothing is done."""
    said = run(command)
    assert said.code == grammar.USAGE
    assert said.err


def test_without_a_daemon_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """75, where it looked, how to start one; also when a dead daemon's socket is still there."""
    monkeypatch.delenv("SPOOLD_CONTROL", raising=False)
    path = tmp_path / "control"
    for _ in range(2):
        assert cli.main(["--control", str(path), "job", "list"]) == grammar.UNREACHABLE
        err = capsys.readouterr().err
        assert str(path) in err
        assert "spoold serve" in err
        import socket

        with socket.socket(socket.AF_UNIX) as left_behind:
            if not path.exists():
                left_behind.bind(str(path))


def test_the_control_socket_is_looked_for_where_a_daemon_puts_it() -> None:
    """What is named wins alone; else the runtime directory, /run, and the working directory."""
    assert candidates("a", {"SPOOLD_CONTROL": "b"}) == [Path("a")]
    assert candidates(None, {"SPOOLD_CONTROL": "b"}) == [Path("b")]
    assert candidates(None, {"RUNTIME_DIRECTORY": "/run/x:/run/y"}) == [
        Path("/run/x/control"),
        Path("/run/spoold/control"),
        Path("spoold-data/control"),
    ]


def test_states_and_times_are_parsed() -> None:
    """Groups become states; ages and local dates become moments."""
    assert grammar.states("waiting,pending,aborted") == ("pending", "pending-held", "aborted")
    assert grammar.moment_us("2 days") < grammar.moment_us("2h") < grammar.moment_us("1s")
    assert grammar.moment_us("2025-03-01T12:00+00:00") == 1_740_830_400_000_000


def test_times_beyond_all_bounds_are_told_from_wrong_ones() -> None:
    """An age before 1970 is since ever; what no operation can be told is wrong usage."""
    now_us = grammar.moment_us("0s")
    assert grammar.until_us("2h") > now_us > grammar.moment_us("2h")
    assert grammar.moment_us("99999999999999999999d") == grammar.moment_us("0001-06-01") == 0
    for read, text in (
        (grammar.moment_us, "9" * 400 + "d"),
        (grammar.moment_us, "9999-12-31"),
        (grammar.hold_until, "9999-12-31"),
        (grammar.duration, "99999999999999999999"),
        (grammar.duration, "9" * 400 + "d"),
        (grammar.until_us, "25:00"),
        (grammar.hold_until, "2020-01-01"),
        (grammar.whole, "-1"),
        (grammar.whole, "99999999999999999999"),
    ):
        with pytest.raises(
            ArgumentTypeError, match=r"no time|is past|more than|no age|not a whole"
        ):
            read(text)


def test_the_progress_line_tells_pace_and_rest() -> None:
    """Half way through a gigabyte at 64 MiB/s."""
    half = 512 * 1024 * 1024
    assert line(half, 2 * half, half, 8.0) == (
        "[############............]  50 %  512.0 MiB of 1.0 GiB  64.0 MiB/s  8 s left"
    )
    assert line(0, 10, 0, 0.0).endswith("0 of 10 B")


def test_what_a_terminal_cannot_show_is_escaped(
    run: Run, server: Server, paused: str, letter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A title in another script ends no listing where the locale is ASCII."""
    submit(run, paused, letter, "--title", "漢字")
    assert server.running is not None
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    control = str(server.running.control)
    assert cli.main(["job", "list", "--printer", paused, "--control", control]) == grammar.DONE
    assert b"\\u6f22\\u5b57" in out.buffer.getvalue()


@pytest.mark.slow
def test_a_listing_into_a_closed_pipe_is_quiet(server: Server) -> None:
    """`spoold … | head` complains about nothing."""
    assert server.running is not None
    environ = {**os.environ, "SPOOLD_CONTROL": str(server.running.control)}
    done = subprocess.run(
        f"{shlex.quote(sys.executable)} -m spoold journal --from 1 --json | true",
        shell=True,
        env=environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stderr == ""


@pytest.mark.slow
def test_commands_start_without_trio() -> None:
    """What takes long to import is not imported for a look at the jobs."""
    code = (
        "import sys\nfrom spoold import cli\nassert cli.main(['--control', '/nowhere/x', 'job', "
        "'list']) == 75\nprint(sorted({'trio', 'ssl', 'asyncio', 'structlog', 'tomllib'} "
        "& set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "[]\n"
