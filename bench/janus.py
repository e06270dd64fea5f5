"""A Janus of the tool's own, from Debian's package, whose VideoRoom carries the same publishers and viewers.

It runs on loopback with a configuration made here: nothing but the VideoRoom, ICE-lite as the others, no event loops
("as it comes", a thread for each connection) or a given number of them.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import httpx2
import trio

from bench.crowd import Place
from bench.janus_api import JanusApi
from bench.load import Room
from bench.mesi import PINNED, ServerFailed
from media.webrtc.ice import IceCredentials
from server.client import Endpoint, Publisher, TakeOver, keep
from server.offers import Kind, build_offer, certificate, choose_sources

PROGRAM, LIBRARIES = "janus", "/usr/lib/*/janus"
START_S = 15.0
LOOK_S = 0.02
CONFIG = """\
general: {{
  configs_folder = "{folder}"
  plugins_folder = "{libraries}/plugins"
  transports_folder = "{libraries}/transports"
  events_folder = "{libraries}/events"
  loggers_folder = "{libraries}/loggers"
  debug_level = 2
  session_timeout = 0
  {loops}
}}
media: {{ ipv6 = false }}
nat: {{ ice_lite = true, ice_enforce_list = "lo,127.0.0.1" }}
plugins: {{ disable = "{others}" }}
transports: {{ disable = "{carriers}" }}
"""
# Its Unix socket would need no port, and ends at once when its thread is faster than the one that starts it (1.1.2).
WEBSOCKET = 'general: {{ json = "compact", ws = true, ws_port = {port}, ws_ip = "127.0.0.1" }}\n'


@dataclass(frozen=True, slots=True)
class Janus:
    """A running Janus."""

    pid: int
    api: JanusApi

    async def rooms(self, rooms: int, viewers: int) -> list[Room]:
        """Make rooms of one publisher each, and places for their viewers."""
        made = []
        for number in range(rooms):
            handle = await self.api.attach()
            room = 1000 + number
            body = {"request": "create", "room": room, "publishers": 1, "bitrate": 0, "fir_freq": 0}
            body |= {"videocodec": "vp8", "audiocodec": "opus", "audiolevel_ext": False, "playoutdelay_ext": False}
            await self.api.ask({"janus": "message", "handle_id": handle, "body": body})
            place = Place("", "", number, enter=partial(self._watch, room))
            made.append(Room("", "", (place,) * viewers, opening=partial(self._publish, room)))
        return made

    @asynccontextmanager
    async def _publish(self, room: int, kinds: tuple[Kind, ...]) -> AsyncIterator[Publisher]:
        handle, ice = await self.api.attach(), IceCredentials.random()
        ssrcs, rtx_ssrc = choose_sources(ice, kinds)
        offer = {"type": "offer", "sdp": build_offer(ice, "sendonly", kinds, ssrcs, rtx_ssrc)}
        body = {"request": "joinandconfigure", "ptype": "publisher", "room": room, "id": 1}
        told = await self.api.message(handle, body, offer)
        endpoint = Endpoint(ice, told["jsep"]["sdp"])
        async with keep(endpoint, partial(self._detach, handle)):
            yield Publisher(endpoint, ssrcs, rtx_ssrc)

    @asynccontextmanager
    async def _watch(self, room: int, http: httpx2.AsyncClient, on_secured: TakeOver) -> AsyncIterator[Endpoint]:
        handle, ice = await self.api.attach(), IceCredentials.random()
        body: dict[str, Any] = {"request": "join", "ptype": "subscriber", "room": room, "streams": [{"feed": 1}]}
        offered = (await self.api.message(handle, body))["jsep"]["sdp"]
        endpoint = Endpoint(ice, offered, on_secured)
        answer = {"type": "answer", "sdp": answer_to(offered, ice)}
        await self.api.message(handle, {"request": "start"}, answer)
        async with keep(endpoint, partial(self._detach, handle)):
            yield endpoint

    async def _detach(self, handle: int) -> None:
        await self.api.ask({"janus": "detach", "handle_id": handle})


def answer_to(offer: str, ice: IceCredentials) -> str:
    """Return an answer that takes all that is offered, by one who begins the DTLS handshake."""
    session, *media = offer.replace("\r\n", "\n").split("\nm=")
    group = next(line for line in session.split("\n") if line.startswith("a=group:"))
    lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0", group]
    for section in media:
        first, *others = section.strip().split("\n")
        lines += [f"m={first}", "c=IN IP4 127.0.0.1", "a=recvonly", "a=rtcp-mux", "a=setup:active"]
        lines += [line for line in others if line.startswith(("a=mid:", "a=rtpmap:", "a=fmtp:", "a=rtcp-fb:"))]
        lines += [f"a=ice-ufrag:{ice.ufrag}", f"a=ice-pwd:{ice.password}"]
        lines.append(f"a=fingerprint:sha-256 {certificate().fingerprint}")
    return "\r\n".join(lines) + "\r\n"


@asynccontextmanager
async def open_janus(core: int | None = None, event_loops: int | None = None) -> AsyncIterator[Janus]:
    """Start a Janus, on one processor core where given, and stop it afterwards.

    Raises ClickException where it is not installed, and ServerFailed when it does not start.
    """
    libraries = find_libraries()
    with tempfile.TemporaryDirectory(prefix="janus-bench-") as folder:
        port = write_config(Path(folder), libraries, event_loops)
        command = [PROGRAM, "--config", str(Path(folder, "janus.jcfg")), "--configs-folder", folder, "--disable-colors"]
        if core is not None:
            command = [sys.executable, "-c", PINNED, str(core), shutil.which(PROGRAM) or PROGRAM, *command[1:]]
        process = await trio.lowlevel.open_process(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            await _await_port(process, port)
            api = JanusApi(f"ws://127.0.0.1:{port}")
            async with trio.open_nursery() as nursery:
                await nursery.start(api.run)
                yield Janus(process.pid, api)
                nursery.cancel_scope.cancel()
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


def write_config(folder: Path, libraries: Path, event_loops: int | None) -> int:
    """Write the configuration; returns the port where Janus will listen."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    loops = "" if event_loops is None else f"event_loops = {event_loops}"
    settings = {"folder": folder, "libraries": libraries, "loops": loops}
    settings |= {"others": _all_but("videoroom", libraries / "plugins")}
    settings |= {"carriers": _all_but("websockets", libraries / "transports")}
    (folder / "janus.jcfg").write_text(CONFIG.format(**settings))
    (folder / "janus.transport.websockets.jcfg").write_text(WEBSOCKET.format(port=port))
    return port


def _all_but(kept: str, folder: Path) -> str:
    return ",".join(sorted(each.name for each in folder.glob("*.so") if kept not in each.name))


def find_libraries() -> Path:
    """Return where Debian puts Janus' parts. Raises ClickException where it is not installed."""
    libraries = next(Path("/").glob(LIBRARIES[1:]), None)
    if shutil.which(PROGRAM) is None or libraries is None:
        raise click.ClickException("Janus is not installed: on Debian, as root: apt-get install janus")
    return libraries


async def _await_port(process: trio.Process, port: int) -> None:
    with trio.move_on_after(START_S):
        while process.poll() is None:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                await trio.sleep(LOOK_S)
                continue
            await stream.aclose()
            return
    raise ServerFailed(f"Janus did not start within {START_S:g} s")
