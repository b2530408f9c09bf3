"""What a CUPS server's files become, and what is told of the rest; nothing is added here."""

from __future__ import annotations

import json

import pytest

from spoold import cli
from spoold.cli.cups_devices import NotTaken, shown_uri, take
from spoold.cli.cups_plan import ServerFiles, plan


def queue(name: str, *lines: str, uri: str = "socket://192.0.2.7", kind: str = "Printer") -> bytes:
    text = "\n".join((f"<{kind} {name}>", f"DeviceURI {uri}", *lines, f"</{kind}>", ""))
    return text.encode()


def wish(*lines: str, **files):
    (made,) = plan(ServerFiles(printers=queue("desk", *lines), **files)).wishes
    return made


# --- device URIs ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "taken", "options", "left"),
    [
        ("socket://192.0.2.7/", "socket://192.0.2.7", {}, []),
        ("socket://h:9101/?waiteof=true", "socket://h:9101", {}, []),
        ("socket://h/?waiteof=false", "socket://h", {"silence": "acknowledged"}, []),
        ("socket://h/?snmp=no&contimeout=5", "socket://h", {"snmp": "off"}, ["contimeout=5"]),
        ("socket://h/?odd=1", "socket://h", {}, ["odd=1"]),
        (
            "lpd://desk@h/raw?order=data,control&reserve=yes&banner&format=o&timeout=60&mode=stream",
            "lpd://h/raw",
            {
                "order": "data,control",
                "reserve": "rfc1179",
                "banner": "on",
                "format": "o",
                "timeout_s": "60",
            },
            ["user desk", "mode=stream"],
        ),
        ("lpd://h/q?reserve=any", "lpd://h/q", {"reserve": "any"}, []),
        ("ipp://h/ipp/print?waitjob=no", "ipp://h/ipp/print", {}, ["waitjob=no"]),
        ("ipps://h/ipp/print?encryption=required", "ipps://h/ipp/print", {}, []),
        ("http://h:631/ipp", "ipp://h:631/ipp", {}, []),
        ("https://h/ipp", "ipps://h:443/ipp", {}, []),
        ("file:///var/out/last.prn", "file:///var/out", {}, ["file:///var/out/last.prn"]),
    ],
)
def test_devices_that_come_along(uri, taken, options, left):
    """Each option is one of ours, or is listed with the reason why it is not."""
    found = take(uri)
    assert (found.uri, found.options) == (taken, options)
    assert [what for what, _ in found.left_out] == left
    assert all(why for _, why in found.left_out)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "socket://",
        "usb://Acme/Jet?serial=1",
        "dnssd://Acme._ipp._tcp.local/",
        "smb://user:secret@server/share",
        "hp:/net/Jet",
        "file:///dev/null",
        "file:///out.prn",
        "file:///dev/shm/x/../../usb/lp0",
        "ipp://h/p?encryption=required",
        "socket://[::1",
        "socket://h:99999999/",
        "nonsense",
    ],
)
def test_devices_that_do_not(uri):
    """Each with a reason."""
    with pytest.raises(NotTaken, match=r".{10,}"):
        take(uri)


def test_a_password_in_a_device_uri_is_never_shown():
    """Listings are mailed around."""
    assert "secret" not in shown_uri("smb://user:secret@server/share")
    assert shown_uri("socket://192.0.2.7") == "socket://192.0.2.7"


# --- queues -----------------------------------------------------------------------------------


def test_what_a_queue_says_of_itself_comes_along():
    """Texts, states, and defaults in IPP's words."""
    found = wish(
        "Info Front",
        "Location Hall",
        "Organization Acme",
        "GeoLocation geo:48.2,16.4",
        "MakeModel Acme Jet",
        "State Stopped",
        "StateMessage toner",
        "Accepting No",
        "Shared Yes",
        "Option sides two-sided-long-edge",
        "Option media a4",
        "Option job-cancel-after 100",
    )
    assert found.args == {
        "name": "desk",
        "uri": "socket://192.0.2.7",
        "info": "Front",
        "location": "Hall",
        "organization": "Acme",
        "geo_location": "geo:48.2,16.4",
        "accepting": False,
        "shared": True,
        "offer": {
            "printer-make-and-model": "Acme Jet",
            "sides-default": "two-sided-long-edge",
            "media-default": "iso_a4_210x297mm",
        },
    }
    assert found.pause_reason == "toner"
    assert [what for what, _ in found.left_out] == ["by default job-cancel-after=100"]


def test_a_server_that_did_not_announce_its_queues_shares_none():
    """To CUPS every queue is shared, and `Browsing No` is what keeps them quiet."""
    assert wish("Shared Yes", cupsd=b"Browsing On\n").args["shared"]
    assert "shared" not in wish("Shared Yes", cupsd=b"Browsing No\n").args


def test_a_queue_for_some_users_is_not_opened_to_all():
    """There is no such list here; it takes no jobs before somebody says so."""
    found = wish("Accepting Yes", "AllowUser alice", "AllowUser @staff")
    assert found.args["accepting"] is False
    ((what, why),) = found.left_out
    assert "AllowUser alice, AllowUser @staff" in what
    assert "spoold printer set desk --accepting on" in why


def test_what_has_no_place_is_listed_with_its_line():
    """Nothing is dropped without a word, and nothing that says nothing is listed."""
    found = wish(
        "JobSheets standard none",
        "QuotaPeriod 86400",
        "PageLimit 0",
        "OpPolicy default",
        "ErrorPolicy abort-job",
        "PortMonitor tbcp",
        "Type 4",
        "Nonsense 1",
        f"Info {'x' * 200}",
    )
    said = [what for what, _ in found.left_out]
    assert said[0].startswith("the end of info 'xx")
    assert said[1:] == [
        "line 3: JobSheets standard none",
        "line 4: QuotaPeriod 86400",
        "line 7: ErrorPolicy abort-job",
        "line 8: PortMonitor tbcp",
        "line 10: Nonsense 1",
    ]
    assert len(found.args["info"]) == 127


def test_a_ppd_says_what_the_printer_offers():
    """Media, sides and formats; lpoptions have the last word; a default that cannot be is left."""
    ppd = (
        b'*PPD-Adobe: "4.3"\n*NickName: "Acme"\n*PageSize A4: ""\n*PaperDimension A4: "595 842"\n'
        b'*Duplex None: ""\n*Duplex DuplexNoTumble: ""\n'
    )
    found = wish(
        "MakeModel Acme Jet",
        lpoptions=b"Dest desk Duplex=DuplexNoTumble PageSize=A0 fit=1\nDest desk/draft a=1\n",
        ppd=lambda name: ppd if name == "desk" else b"",
    )
    assert found.args["formats"] == ["application/postscript"]
    offer = found.args["offer"]
    assert offer["printer-make-and-model"] == "Acme Jet"
    assert offer["media-supported"] == ["iso_a4_210x297mm"]
    assert (offer["media-default"], offer["sides-default"]) == (
        "iso_a4_210x297mm",
        "two-sided-long-edge",
    )
    assert [what for what, _ in found.left_out] == ["by default PageSize=A0", "by default fit=1"]


def test_classes_become_pools_of_what_came_along():
    """Classes in classes are opened once, also when they hold each other."""
    files = ServerFiles(
        printers=queue("a") + queue("b") + queue("usb", uri="usb://Acme/Jet"),
        classes=(
            b"<Class all>\nPrinter inner\nPrinter a\nPrinter usb\n</Class>\n"
            b"<Class inner>\nPrinter b\nPrinter a\nPrinter all\n</Class>\n"
            b"<Class none>\nPrinter usb\n</Class>\n"
        ),
    )
    found = {one.name: one for one in plan(files).wishes}
    assert found["all"].args["members"] == ["b", "a"]
    assert [what for what, _ in found["all"].left_out] == ["member usb"]
    assert "none of its members" in found["none"].refused
    assert "USB" in found["usb"].refused


def test_hostile_classes_take_no_time():
    """Each class holds the next one twice: 2^200 ways, one walk."""
    classes = b"".join(
        b"<Class c%d>\nPrinter c%d\nPrinter c%d\n</Class>\n" % (n, n + 1, n + 1) for n in range(200)
    )
    made = plan(ServerFiles(printers=queue("c200"), classes=classes))
    assert made.wishes[1].args["members"] == ["c200"]


def test_the_default_printer_and_the_server_are_told():
    """lpoptions decide over the mark in printers.conf; instances and unknown queues are listed."""
    files = ServerFiles(
        printers=queue("a", kind="DefaultPrinter") + queue("b"),
        lpoptions=b"Default b/draft x=1\nDest gone y=1\n",
        cupsd=b"MaxJobs 100\nLogLevel warn\n<Policy a>\nMaxJobTime 1\n</Policy>\n",
    )
    made = plan(files)
    assert made.default == "b"
    assert [what for what, _ in made.left_out] == [
        "lpoptions 1: b/draft",
        "lpoptions 2: gone",
        "cupsd.conf 1: MaxJobs 100",
    ]
    assert plan(ServerFiles(printers=files.printers)).default == "a"


@pytest.mark.parametrize("name", ["a@b", ".hidden", "x" * 128, "Büro!"])
def test_names_that_are_none_here_are_refused_one_by_one(name):
    """The others come along."""
    bad, good = plan(ServerFiles(printers=queue(name) + queue("good"))).wishes
    assert "printer name" in bad.refused
    assert not good.refused


# --- the command ------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path, capsys):
    """`run(...)` imports `tmp_path`, where nobody answers on the control socket."""

    def run_command(*arguments: str) -> tuple[int, str, str]:
        control = ["--control", str(tmp_path / "nobody")]
        code = cli.main(["import", "cups", str(tmp_path), *control, *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run_command


def test_a_dry_run_needs_no_daemon(run, tmp_path):
    """It says what would be done; doing it needs one."""
    usb = queue("gone", uri="usb://x", kind="DefaultPrinter")
    (tmp_path / "printers.conf").write_bytes(queue("desk") + usb)
    code, out, _ = run("--dry-run")
    assert code == 1
    assert "desk (socket://192.0.2.7): would be added" in out
    assert "gone (usb://x): not taken over" in out
    assert "The default printer was gone, which is not taken over" in out
    assert "The daemon does not run here" in out
    code, out, _ = run("--dry-run", "--json")
    shown = json.loads(out)
    assert [(one["name"], one["action"]) for one in shown["queues"]] == [
        ("desk", "add"),
        ("gone", "refused"),
    ]
    code, _, err = run()
    assert (code, "not running" in err) == (75, True)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("printers.conf", b"<Printer a>\n", r"printers.conf: line 1: <Printer a> has no end"),
        ("classes.conf", b"\nX\n</Class>\n", "classes.conf: line 3"),
        ("lpoptions", b"Nonsense\n", "lpoptions: line 1"),
        ("cupsd.conf", b"a\0b\n", "cupsd.conf: line 1"),
        ("ppd/desk.ppd", b"<html>", "ppd/desk.ppd: line 1: this is no PPD"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_its_line(run, tmp_path, name, content, message):
    """Nothing is taken over then."""
    (tmp_path / "ppd").mkdir()
    (tmp_path / "printers.conf").write_bytes(queue("desk"))
    (tmp_path / name).write_bytes(content)
    code, out, err = run("--dry-run")
    assert (code, out) == (1, "")
    assert message in err
    assert "Nothing was taken over" in err


def test_a_directory_that_is_none_is_refused(run, tmp_path):
    """Without any of the two files it is no ServerRoot; what is no file is not read."""
    code, _, err = run("--dry-run")
    assert (code, "neither printers.conf nor classes.conf" in err) == (1, True)
    (tmp_path / "printers.conf").mkdir()
    code, _, err = run("--dry-run")
    assert (code, "it is not a file" in err) == (1, True)
