"""`spoold count` tells what is in a document, without a daemon."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

PCL = b"\x1bE\x1b&l2x1s26Aone\x0ctwo\x0cthree\x0c\x1bE"


def run(*words: object, data: bytes = b"") -> tuple[int, str, str]:
    command = [sys.executable, "-m", "spoold", "count", *map(str, words)]
    done = subprocess.run(command, input=data, capture_output=True, timeout=60)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture
def letter(tmp_path):
    path = tmp_path / "letter.pcl"
    path.write_bytes(PCL)
    return path


def test_a_table_of_documents(letter, tmp_path):
    """Pages as they are, and what comes out of the device."""
    text = tmp_path / "list.txt"
    text.write_text("one\ftwo\n")
    code, out, err = run(letter, text)
    assert (code, err) == (0, "")
    head, first, second = out.splitlines()
    assert head.split()[:3] == ["FILE", "FORMAT", "PAGES"]
    assert first.split() == [
        *(str(letter), "vnd.hp-PCL", "3", "0", "2", "two-sided-long-edge", "6", "4", "A4")
    ]
    assert second.split()[:4] == [str(text), "plain", "2", "~"]


def test_json_of_the_standard_input_with_attributes_of_a_job():
    """For programs: the contents, and what would be charged."""
    code, out, _ = run("--json", "--copies", "3", "--sides", "one-sided", "-", data=PCL)
    (found,) = json.loads(out)
    assert code == 0
    assert (found["file"], found["pages"], found["copies"]) == ("-", 3, 2)
    assert found["media"] == [{"x_dimension": 21000, "y_dimension": 29700, "pages": 3}]
    assert (found["charged"]["impressions"], found["charged"]["media_sheets"]) == (9, 9)


def test_what_is_unknown_is_said_with_its_reason(tmp_path, letter):
    """The exit code tells scripts; the other documents are counted."""
    program = tmp_path / "program.ps"
    program.write_bytes(b"%!\nshowpage\n")
    code, out, _ = run(program, letter)
    assert code == 1
    assert "unknown" in out
    assert "without page comments" in out
    (found,) = json.loads(run("--json", program)[1])
    assert (found["pages"], found["reason"], found["charged"]) == (None, "pages-not-stated", None)


def test_a_file_that_cannot_be_read_is_wrong_usage(tmp_path):
    """It is named."""
    code, out, err = run(tmp_path / "missing.pdf")
    assert (code, out) == (2, "")
    assert "missing.pdf" in err
