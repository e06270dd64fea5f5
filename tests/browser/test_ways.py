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
# On a busy machine Chromium may hear from its network process that the session is gone before it hears why.
CLOSINGS = 3
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
  const how = await transport.closed.then(({ closeCode, reason }) => [closeCode, reason], () => null);
  return { protocol: transport.protocol, welcome: welcome.type, pong: [pong.type, pong.id], last: last.code, how };
"""
# Groups as they may arrive: in turn, overtaken, lost, cut off. Each letter is a frame; what is due is in `due`.
ORDER = """
  const { GroupOrder, PlayoutClock } = await import('/js/playout.js');
  const turn = () => new Promise(done => setTimeout(done));
  const scene = async play => {
    const taken = [], due = new Set();
    const take = (frame, isFirst) => taken.push(isFirst ? frame.toUpperCase() : frame);
    const order = new GroupOrder(take, frame => due.has(frame));
    const open = sequence => {
      const waiting = []; let wake = () => {}, over = false;
      const frames = (async function* () {
        for (;;) {
          while (waiting.length) yield waiting.shift();
          if (over === 'reset') throw new Error('reset');
          if (over) return;
          await new Promise(done => (wake = done));
        }
      })();
      order.add(sequence, frames, () => {});
      return { say: async text => { waiting.push(...text); wake(); await turn(); },
        end: async how => { over = how ?? true; wake(); await turn(); } };
    };
    await play({ open, due, order });
    return taken.join('');
  };
  const clock = new PlayoutClock(), delays = [];
  clock.joins(4000);
  for (let at = -2000; at < -1000; at += 20) clock.arrived(at, 4500);
  for (let at = 0; at < 1000; at += 20) clock.arrived(at, 5000 + at);
  delays.push(clock.delay, clock.due(1000) - 6000);
  clock.arrived(1020, 6200);
  delays.push(clock.delay);
  for (const at of [1100, 1200, 1300, 1400]) clock.arrived(at, 5180 + at + 100);
  delays.push(clock.delay, clock.due(1020) - 6020);
  for (let at = 1420; at < 15000; at += 20) clock.arrived(at, 5000 + at);
  delays.push(clock.delay);
  clock.arrived(90000, 20000);
  delays.push(clock.due(90000) - 20000);
  return {
    delays,
    inTurn: await scene(async ({ open }) => {
      const one = open(1), two = open(2);
      await two.say('cd'); await one.say('a'); await one.say('b'); await one.end(); await two.say('e');
    }),
    lost: await scene(async ({ open, due }) => {
      const one = open(1); await one.say('ab'); await one.end();
      const three = open(3); await three.say('e'); due.add('e'); await three.say('f');
      const two = open(2); await two.say('cd');
    }),
    stuck: await scene(async ({ open, due }) => {
      const one = open(1); await one.say('ab');
      const two = open(2); await two.say('c'); due.add('c'); await two.say('d');
      await one.say('x');
    }),
    cutOff: await scene(async ({ open }) => {
      const one = open(1); await one.say('ab'); await one.end('reset');
      const two = open(2); await two.say('c');
    }),
    ended: await scene(async ({ open, order }) => {
      const one = open(1); await one.say('a'); order.end(); await one.say('b'); await open(2).say('c');
    }),
  };
"""
FITTING = """
  const { fitting } = await import('/js/moq_catalog.js');
  const pictures = [720, 180, 360].map(height => ({ track: String(height), height }));
  return [[300, Infinity], [360, Infinity], [2000, Infinity], [2000, 720], [2000, 180]].map(([height, ceiling]) =>
    fitting(pictures, height, ceiling).track).concat(fitting([], 300, Infinity));
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
    ways_out = set()
    for _ in range(CLOSINGS):
        seen = await visitor.page.run(SIGNALLING, person.token)
        ways_out.add(tuple(seen.pop("how") or ()))
        assert seen == {
            "protocol": "mesi.v1.json",
            "welcome": "welcome",
            "pong": ["ok", 7],
            "last": "malformed_message",
        }
    assert ways_out - {()} == {(4400, "malformed")}


async def test_groups_play_in_their_order_and_what_is_late_is_given_up_when_the_next_is_due(hall: Theatre) -> None:
    visitor = await hall.stranger("chromium")
    await visitor.page.open(f"{visitor.url}/icon.svg")
    seen = await visitor.page.run(ORDER)
    assert seen.pop("delays") == [30, 30, 30, 295, 295, 30, 30]
    assert seen == {"inTurn": "AbCde", "lost": "AbEf", "stuck": "AbCd", "cutOff": "AbC", "ended": "A"}


async def test_the_smallest_picture_that_fills_its_place_is_asked_for(hall: Theatre) -> None:
    visitor = await hall.stranger("chromium")
    await visitor.page.open(f"{visitor.url}/icon.svg")
    assert await visitor.page.run(FITTING) == ["360", "360", "720", "360", "180", None]
