"""The page plays over WebTransport where that is chosen or all that works, and over WebRTC where it is not."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest
import trio

from tests.browser.browsers import Browser
from tests.browser.servers import Server
from tests.browser.test_stories import on_air
from tests.browser.visitors import Theatre, Visitor, comes_true, open_theatre

# The loudness of what the <video> plays; the mean square of half a second.
LOUDNESS = """
  const context = new AudioContext(), meter = context.createAnalyser();
  meter.fftSize = 16384;
  context.createMediaStreamSource(document.querySelector('#video').srcObject).connect(meter);
  await new Promise(done => setTimeout(done, 500));
  const wave = new Float32Array(meter.fftSize);
  meter.getFloatTimeDomainData(wave);
  await context.close();
  return Math.sqrt(wave.reduce((sum, one) => sum + one * one, 0) / wave.length);
"""
# All QUIC goes to a port where nobody answers, as behind a wall that lets no UDP through.
WALL = """() => {
  const Made = window.WebTransport;
  window.attempts = 0;
  window.WebTransport = class extends Made {
    constructor(address, options) {
      window.attempts++;
      const elsewhere = new URL(address);
      elsewhere.port = PORT;
      super(elsewhere.href, options);
    }
  };
}"""
# WebRTC would have to go through a relay, of which there is none.
NO_PATH = """() => {
  const Made = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Made {
    constructor(given) { super({...given, iceTransportPolicy: 'relay'}); }
  };
}"""
SIGNALLING = """
  const { StreamReader, prefixed } = await import('/js/moq_wire.js');
  const { bytesOf } = await import('/js/moq_catalog.js');
  const answer = await fetch('/certificate.sha256');
  const hash = { algorithm: 'sha-256', value: bytesOf(await answer.text()) };
  const address = `https://127.0.0.1:${answer.headers.get('Quic-Port')}/ws?jwt=${values[0]}`;
  const transport = new WebTransport(address, { serverCertificateHashes: [hash], protocols: ['mesi.v1.json'] });
  await transport.ready;
  const stream = await transport.createBidirectionalStream();
  const writer = stream.writable.getWriter(), reader = new StreamReader(stream.readable);
  const say = message => writer.write(prefixed(new TextEncoder().encode(JSON.stringify(message))));
  const hear = async () => JSON.parse(new TextDecoder().decode(await reader.prefixed(65536)));
  say({ type: 'hello' });
  const welcome = await hear();
  say({ type: 'ping', id: 7 });
  const pong = await hear();
  say({ type: 'hello?' });
  let last = await hear();
  writer.write(Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff));  // the longest length there is
  const { closeCode, reason } = await transport.closed;
  return { protocol: transport.protocol, welcome: welcome.type, pong: [pong.type, pong.id], last: last.code,
    closeCode, reason };
"""


@pytest.fixture
async def hall(server: Server, chromium: Browser) -> AsyncIterator[Theatre]:
    async with open_theatre(server, chromium) as theatre:
        yield theatre


async def preload(visitor: Visitor, script: str) -> None:
    page = visitor.page
    await page.connection.ask("script.addPreloadScript", functionDeclaration=script, contexts=[page.context])


async def hears(visitor: Visitor) -> None:
    async def is_loud() -> bool:
        return float(await visitor.page.run(LOUDNESS)) > 0.005

    assert await comes_true(is_loud), await visitor.page.run(LOUDNESS)


@contextmanager
def deaf_port() -> Iterator[int]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
        nobody.bind(("127.0.0.1", 0))
        yield int(nobody.getsockname()[1])


async def test_a_viewer_chooses_webtransport_is_cut_comes_back_and_the_choice_is_kept(hall: Theatre) -> None:
    streamer, stream = await on_air(hall, "chromium", "ways-ann", source="test")
    ann, ben = await hall.person("ways-ann"), await hall.person("ways-ben")
    viewer = await hall.visitor("chromium", ben)
    await viewer.watch(stream)
    await viewer.sees_moving_picture()
    await viewer.sees(".way", "Plays over WebRTC")

    await viewer.fill("#way-choice", "webtransport")
    await viewer.sees(".way", "Plays over WebTransport")
    await viewer.sees_no("#slate")
    await viewer.sees_moving_picture()
    await hears(viewer)
    assert await viewer.page.run("return window.connections.every(one => one.connectionState === 'closed')")
    await viewer.shoot("ways")

    await ann.ask("PUT", f"/streams/{stream}/ejected/{ben.name}")
    await viewer.sees("#slate", "You were put out")
    assert await viewer.page.run("return document.querySelector('#video').srcObject.getTracks().length") == 0
    await ann.ask("DELETE", f"/streams/{stream}/ejected/{ben.name}")
    await viewer.sees_no("#slate")
    await viewer.sees_moving_picture()

    await viewer.page.reload()
    await viewer.sees(".way", "Plays over WebTransport")
    assert await viewer.page.run("return document.querySelector('#way-choice').value") == "webtransport"
    await viewer.sees_moving_picture()
    assert await viewer.page.run("return window.connections.length") == 0

    await streamer.press("#end-stream")
    await streamer.press("#end-confirm")
    await viewer.sees("#slate", "The stream is over")


async def test_each_way_stands_in_for_the_other(hall: Theatre) -> None:
    _, stream = await on_air(hall, "chromium", "ways-cat", source="test")
    walled = await hall.visitor("chromium", await hall.person("ways-dan"))
    await walled.page.run("localStorage.setItem('mesi.way', 'webtransport')")
    lost = await hall.visitor("chromium", await hall.person("ways-eve"))
    await preload(lost, NO_PATH)
    with deaf_port() as port:
        await preload(walled, WALL.replace("PORT", str(port)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(falls_back, walled, stream, "Plays over WebRTC")
            nursery.start_soon(falls_back, lost, stream, "Plays over WebTransport")
        assert await walled.page.run("return window.attempts") == 1


async def falls_back(viewer: Visitor, stream: str, words: str) -> None:
    await viewer.watch(stream)
    await viewer.sees(".way", words)
    await viewer.sees_moving_picture()


async def test_a_browser_speaks_the_signalling_over_webtransport(hall: Theatre) -> None:
    person = await hall.person("ways-flo")
    visitor = await hall.visitor("chromium", person)
    assert await visitor.page.run(SIGNALLING, person.token) == {
        "protocol": "mesi.v1.json",
        "welcome": "welcome",
        "pong": ["ok", 7],
        "last": "malformed_message",
        "closeCode": 4400,
        "reason": "malformed",
    }
