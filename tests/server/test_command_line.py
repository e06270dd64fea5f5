"""The command line as an operator uses it: processes, exit codes, and words that say what to do next."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.server.sockets import upgrade

MESI = [sys.executable, "-m", "server.cli"]
ROOT = Path(__file__).resolve().parents[2]
START_S, END_S = 90, 10  # the first start compiles the forwarding kernel; an end must not wait for anybody
UNKNOWN = "01234567"


@dataclass
class Run:
    """A program that has ended."""

    code: int
    out: str
    err: str


def mesi(*words: str, folder: Path | None = None, **environment: str) -> Run:
    options = [] if folder is None else ["--data", str(folder)]
    done = subprocess.run(
        [*MESI, *words, *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=START_S,
        env={**os.environ, **environment},
    )
    return Run(done.returncode, done.stdout, done.stderr)


def one_line(run: Run) -> str:
    """Return the one line that a command printed for scripts."""
    assert run.code == 0, run.err
    assert run.out.count("\n") == 1, run.out
    return run.out.strip()


def refused(run: Run, *words: str, code: int = 1) -> None:
    """Check that a command failed in plain words."""
    assert run.code == code, run
    assert "Traceback" not in run.err, run.err
    # On a busy machine what takes long is said before.
    assert any(line.startswith("Error: ") for line in run.err.splitlines()), run.err
    for word in words:
        assert word in run.err, run.err


class Server:
    """`mesi serve` as a process of its own."""

    def __init__(self, folder: Path, *options: str, command: str = "serve") -> None:
        addresses = ["--listen", "127.0.0.1:0", "--media", "127.0.0.1:0"]
        words = [*MESI, command, "--data", str(folder), *addresses, *options]
        self.process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.fullmatch(r"Open (http://127\.0\.0\.1:(\d+))/ in a browser\. Ctrl-C ends the server\.\n", line)
        assert found, (line, self.process.stderr.read() if self.process.stderr and not line else "")
        self.url, self.port, self.folder = found[1], int(found[2]), folder

    def end(self, number: int = signal.SIGTERM) -> tuple[int, float, str]:
        """Send a signal; return the exit code, how long the end took, and what was said on standard error."""
        began = time.monotonic()
        self.process.send_signal(number)
        try:
            _, err = self.process.communicate(timeout=END_S)
        finally:
            self.process.kill()
        return self.process.returncode, time.monotonic() - began, err


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("operator") / "fresh")
    try:
        yield running
    finally:
        running.end()


def test_moderators_are_chosen_listed_and_let_go(server: Server) -> None:
    folder = server.folder
    mesi("account", "add", "mia", folder=folder)
    assert one_line(mesi("moderator", "add", "mia", folder=folder)) == "mia"
    assert one_line(mesi("moderator", "list", folder=folder)).startswith("mia  since 20")
    assert one_line(mesi("moderator", "remove", "mia", folder=folder)) == "mia"
    assert json.loads(mesi("moderator", "list", "--json", folder=folder).out) == {"moderators": []}
    refused(mesi("moderator", "add", "nobody", folder=folder), "account_unknown", "mesi account add NAME")


def test_a_stream_from_the_account_to_the_end(server: Server) -> None:
    folder = server.folder
    ann = one_line(mesi("account", "add", "ann", folder=folder))
    assert ann.startswith("a_")
    assert one_line(mesi("account", "add", "ANN", folder=folder)) == ann
    bob = json.loads(mesi("account", "add", "bob", "--json", folder=folder).out)
    assert bob["name"] == "bob"
    token = one_line(mesi("token", "ann", "--expires", "90s", folder=folder))
    assert token.count(".") == 2
    told = json.loads(mesi("token", "ann", "--expires", "2h", "--json", folder=folder).out)
    assert abs(told["expires_at"] / 1000 - time.time() - 7200) < 60
    stream = one_line(mesi("stream", "add", "ann", "--title", "A title", "--mode", "paid", folder=folder))
    listed = one_line(mesi("stream", "list", folder=folder))
    assert [stream, "paid"] == listed.split()[:2]
    assert "A title" in listed
    assert [card["id"] for card in json.loads(mesi("stream", "list", "--json", folder=folder).out)] == [stream]
    edit = ("stream", "edit", stream)
    assert one_line(mesi(*edit, "--title", "Another", "--description", "About it", folder=folder)) == stream
    assert "Another" in mesi("stream", "list", folder=folder).out
    refused(mesi(*edit, "--title", " ", folder=folder), "invalid_title")
    refused(mesi(*edit, folder=folder), "--title, --description or both", code=2)
    epoch = int(one_line(mesi("ticket", "grant", stream, "bob", folder=folder)))
    shown = mesi("room", "show", stream, folder=folder).out
    assert shown.startswith("Another by ann: paid, ")
    assert "tickets: bob" in shown
    assert int(one_line(mesi("ticket", "revoke", stream, "bob", folder=folder))) > epoch
    assert "tickets: nobody" in mesi("room", "show", stream, folder=folder).out
    prepared = one_line(mesi("stream", "mode", stream, "public", folder=folder))
    assert prepared == "0 would have to go: nobody. Add --confirm to switch."
    assert "paid" in mesi("stream", "list", folder=folder).out
    assert int(one_line(mesi("stream", "mode", stream, "public", "--confirm", folder=folder))) > epoch
    assert json.loads(mesi("room", "show", stream, "--json", folder=folder).out)["card"]["mode"] == "public"
    assert one_line(mesi("stream", "end", stream, folder=folder)) == stream
    assert mesi("stream", "list", folder=folder).out == ""
    refused(mesi("stream", "end", stream, folder=folder), "has ended")


def test_what_an_operator_gets_wrong_is_said_with_what_to_do(server: Server, tmp_path: Path) -> None:
    folder = server.folder
    refused(mesi("token", "nobody", folder=folder), "nobody is called 'nobody'", "`mesi account add NAME` makes one")
    refused(mesi("room", "show", UNKNOWN, folder=folder), "`mesi stream list` shows them")
    refused(mesi("account", "add", "a/b", folder=folder), "slash")
    refused(mesi("account", "add", "ann", "--admin-token", "a.b.c", folder=folder), "admin.token")
    refused(mesi("account", "add", "ann", "--admin-token", "ä", folder=folder), "ASCII")
    mesi("account", "add", "ann", folder=folder)
    user = one_line(mesi("token", "ann", folder=folder))
    refused(mesi("account", "add", "x", "--admin-token", user, folder=folder), "administrator", "admin.token")
    refused(mesi("stream", "list", folder=tmp_path), "can't read", "mesi serve --data", "--server URL")
    refused(mesi("stream", "list", "--server", "http://127.0.0.1:9", folder=folder), "can't reach", "Is it running?")
    refused(mesi("stream", "list", "--server", "nonsense", folder=folder), "nonsense")
    refused(mesi("stream", "list", "--server", "http://a:port", folder=folder), "is no address")
    refused(mesi("token", "ann", "--expires", "soon", folder=folder), "write a time like 90s", code=2)
    refused(mesi("token", "ann", "--expires", "2000d", folder=folder), "at most")
    refused(mesi("stream", "mode", UNKNOWN, "secret", folder=folder), "'public', 'private', 'paid'", code=2)


def test_the_environment_may_name_the_server_and_the_token(server: Server, tmp_path: Path) -> None:
    token = (server.folder / "admin.token").read_text().strip()
    run = mesi("account", "add", "env", MESI_DATA=str(tmp_path), MESI_SERVER=server.url, MESI_ADMIN_TOKEN=token)
    assert one_line(run).startswith("a_")


def test_two_servers_run_side_by_side_and_not_in_one_directory(server: Server, tmp_path: Path) -> None:
    other = Server(tmp_path / "other")
    try:
        one_line(mesi("account", "add", "only-here", folder=other.folder))
        refused(mesi("token", "only-here", folder=server.folder), "nobody is called")
        refused(mesi("serve", "--listen", "127.0.0.1:0", folder=server.folder), "another server uses", "--data DIR")
        taken = f"127.0.0.1:{server.port}"
        refused(
            mesi("serve", "--listen", taken, "--media", "127.0.0.1:0", folder=tmp_path / "3"), "can't listen", taken
        )
        with closing(socket.socket(type=socket.SOCK_DGRAM)) as held:
            held.bind(("127.0.0.1", 0))
            media = f"127.0.0.1:{held.getsockname()[1]}"
            refused(mesi("serve", "--media", media, folder=tmp_path / "3"), "can't use", "--media HOST:PORT")
            checked = mesi("check", "--listen", taken, "--media", media, folder=server.folder)
        assert checked.code == 1
        assert "FAIL  data: another server uses" in checked.out
        for place in (f"TCP {taken}", f"UDP {media}"):  # TCP of media's number may be somebody's, too
            assert f"FAIL  {place}: another program uses it; choose another with" in checked.out
    finally:
        assert other.end(signal.SIGINT)[0] == 0


def test_a_machine_is_checked_before_anything_runs(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[listen]\nport = 0\nhost = "0.0.0.0"\n[media]\nhost = "127.0.0.1"\nport = 0\n')
    run = mesi("check", "--config", str(config), folder=tmp_path / "data")
    assert run.code == 0, run
    for subject in (
        "configuration",
        "data",
        "TCP",
        "UDP 127",
        "media",
        "segmentation",
        "open files",
        "clock",
        "native",
        "Landlock",
    ):
        assert any(subject in line for line in run.out.splitlines()), subject
    assert "media stays on 127.0.0.1" in run.out
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("said", ["0", "17", "two"])
def test_a_number_of_workers_that_there_cannot_be_is_refused(tmp_path: Path, said: str) -> None:
    run = mesi("serve", "--workers", said, folder=tmp_path)
    assert run.code == 2
    assert "--workers" in run.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[listen]\nport = 0\n\n[media]\nhsot = 1\n", "line 5: media.hsot: is not known here; known there: host, port"),
        ("[listen\n", "line 1: not TOML"),
        (
            '[media]\nhost = "0.0.0.0"\n',
            "line 2: media.host: must be addresses of this machine, not a wildcard: any of",
        ),
    ],
)
@pytest.mark.parametrize("command", ["serve", "check", "demo"])
def test_a_broken_configuration_is_refused_with_its_line(tmp_path: Path, text: str, words: str, command: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(text)
    refused(mesi(command, "--config", str(config), folder=tmp_path / "data"), f"{config} {words}")


def test_a_directory_that_holds_no_data_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(mesi("serve", "--listen", "127.0.0.1:0", folder=tmp_path / "file" / "below"), "for data", "--data DIR")
    (tmp_path / "key").mkdir()
    (tmp_path / "key" / "token.key").write_bytes(b"\xff no key")
    addresses = ["--listen", "127.0.0.1:0", "--media", "127.0.0.1:0"]
    refused(mesi("serve", *addresses, folder=tmp_path / "key"), "holds no key", "remove it")
    (tmp_path / "database").mkdir()
    (tmp_path / "database" / "mesi.sqlite").write_bytes(b"not a database at all" * 100)
    refused(mesi("serve", *addresses, folder=tmp_path / "database"), "can't use the database", "--data DIR")


def test_a_signal_ends_a_server_cleanly_even_with_clients_that_do_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for number in (signal.SIGTERM, signal.SIGINT):  # the second time what was written is readable, and nothing locked
        server = Server(folder)
        with clients_that_do_not_read(server.port):
            code, took_s, err = server.end(number)
        assert code == 0, err
        assert took_s < END_S
        assert "Traceback" not in err
        refused(mesi("stream", "list", folder=folder), "can't reach", "Is it running?")
    assert "ok    data: " in mesi("check", "--listen", "127.0.0.1:0", "--media", "127.0.0.1:0", folder=folder).out


@contextmanager
def clients_that_do_not_read(port: int) -> Iterator[None]:
    """Connect one that says nothing, one that asks for more than it can hold, one on /ws, and one that begins TLS."""
    with ExitStack() as stack:
        for sent in (b"", b"GET /style.css HTTP/1.1\r\nHost: a\r\n\r\n" * 2000, upgrade(), b"\x16\x03\x01"):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            client.settimeout(1)
            client.connect(("127.0.0.1", port))
            client.sendall(sent)
        yield


def test_the_program_knows_its_version_and_completes_commands() -> None:
    assert re.fullmatch(r"mesi \d+\.\d+\.\d+\n", mesi("--version").out)
    completed = mesi(_MESI_COMPLETE="bash_complete", COMP_WORDS="mesi st", COMP_CWORD="1")
    assert "plain,stream" in completed.out
    for words in (["-h"], ["stream", "-h"], ["serve", "--help"]):
        assert "Usage: mesi" in mesi(*words).out
    refused(mesi("sreve"), "No such command 'sreve'", code=2)


SAYS_WHAT_IS_KEPT = """
import gc, os, signal, sys
import click
from server.cli import main
def say(*words):
    print(gc.get_freeze_count(), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
click.echo = say
main()
"""


def test_what_a_start_has_made_is_passed_over_by_the_garbage_collector(tmp_path: Path) -> None:
    arguments = ["serve", "--data", str(tmp_path), "--listen", "127.0.0.1:0", "--media", "127.0.0.1:0"]
    ended = subprocess.run(
        [sys.executable, "-c", SAYS_WHAT_IS_KEPT, *arguments], capture_output=True, text=True, check=True, timeout=300
    )
    assert int(ended.stdout.splitlines()[-1]) > 100_000
