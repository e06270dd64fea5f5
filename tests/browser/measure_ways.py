"""How late a picture and its sound are on the page, over WebRTC and over WebTransport, in real Chromium.

    .venv/bin/python -m tests.browser.measure_ways [--seconds 8] [--loss 0.02] [--delay-ms 20] [--jitter-ms 10]

The publisher's camera is a canvas that shows the time in black and white blocks, and a beep at each full second; the
viewer's page reads both off what it plays. Everything runs on this machine, so there is one clock. The viewer's
datagrams go through a bad network, the same for both ways.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import trio

from bench.impairment import Impairment, relay
from tests.browser.browsers import Browser, start_chromium
from tests.browser.servers import Server, running
from tests.browser.visitors import Theatre, Visitor

SETTLE_S = 4.0  # for buffers to find their size
BITS = 16
# Stands in for the camera and the microphone.
CLOCK = """() => {
  navigator.mediaDevices.getUserMedia = async () => {
    const canvas = document.createElement('canvas'); canvas.width = 640; canvas.height = 360;
    const paint = canvas.getContext('2d', { alpha: false });
    setInterval(() => {
      const now = Date.now();
      for (let bit = 0; bit < 16; bit++) {
        paint.fillStyle = now >> bit & 1 ? '#fff' : '#000';
        paint.fillRect(bit * 40, 0, 40, 360);
      }
    }, 10);
    const context = new AudioContext(), tone = new OscillatorNode(context, { frequency: 1000 });
    const gate = new GainNode(context, { gain: 0 }), out = context.createMediaStreamDestination();
    tone.connect(gate).connect(out);
    tone.start();
    setInterval(() => {
      const at = context.currentTime + (1000 - Date.now() % 1000) / 1000;
      gate.gain.setValueAtTime(1, at);
      gate.gain.setValueAtTime(0, at + 0.1);
    }, 1000);
    return new MediaStream([...canvas.captureStream(30).getVideoTracks(), ...out.stream.getAudioTracks()]);
  };
}"""
MEASURE = """
  const [seconds] = values, video = document.querySelector('#video'), pictures = [], sounds = [];
  const canvas = new OffscreenCanvas(16, 1), paint = canvas.getContext('2d', { willReadFrequently: true });
  const until = performance.now() + seconds * 1000;
  const look = () => {
    const now = Date.now();
    paint.drawImage(video, 0, 0, 16, 1);
    const pixels = paint.getImageData(0, 0, 16, 1).data;
    let then = 0;
    for (let bit = 0; bit < 16; bit++) if (pixels[bit * 4] > 127) then |= 1 << bit;
    pictures.push((now - then) & 0xffff);
    if (performance.now() < until) video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);
  const context = new AudioContext(), meter = context.createAnalyser(), wave = new Float32Array(256);
  meter.fftSize = 256;
  context.createMediaStreamSource(video.srcObject).connect(meter);
  let isLoud = true;
  await new Promise(done => {
    const timer = setInterval(() => {
      meter.getFloatTimeDomainData(wave);
      const loud = wave.some(one => Math.abs(one) > 0.1);
      if (loud && !isLoud) sounds.push(Date.now() % 1000);
      isLoud = loud;
      if (performance.now() > until) { clearInterval(timer); done(); }
    }, 2);
  });
  context.close();
  return { pictures, sounds };
"""
# Leads the viewer's datagrams to the relay's ports, whichever the server names.
THROUGH = """() => {
  const Transport = window.WebTransport, Peer = window.RTCPeerConnection;
  window.WebTransport = class extends Transport {
    constructor(address, options) {
      const elsewhere = new URL(address);
      elsewhere.port = QUIC;
      super(elsewhere.href, options);
    }
  };
  window.RTCPeerConnection = class extends Peer {
    setRemoteDescription({ type, sdp }) {
      const candidates = /(a=candidate:\\S+ \\d+ udp \\d+ )\\S+ \\d+/gi;
      return super.setRemoteDescription({ type, sdp: sdp.replace(candidates, '$1127.0.0.1 MEDIA') });
    }
  };
}"""


async def preload(visitor: Visitor, script: str) -> None:
    """Run a script before each page's own."""
    page = visitor.page
    await page.connection.ask("script.addPreloadScript", functionDeclaration=script, contexts=[page.context])


def summary(latencies: list[float]) -> str:
    """Say median and the 95th percentile."""
    if len(latencies) < 2:
        return "none"
    ordered = sorted(latencies)
    return f"{statistics.median(ordered):.0f} ms, p95 {ordered[int(len(ordered) * 0.95)]:.0f} ms, {len(ordered)} seen"


async def measure(server: Server, chromium: Browser, seconds: float, impairment: Impairment) -> None:
    """Publish once and watch both ways, one after the other."""
    addresses = json.loads(next(line for line in server.log().splitlines() if '"media"' in line))
    ports = [int(addresses[kind].rpartition(":")[2]) for kind in ("quic", "media")]
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx2.AsyncClient(base_url=server.url, timeout=20))
        connection = await stack.enter_async_context(chromium.connect())
        quic, media = [
            await stack.enter_async_context(relay(("127.0.0.1", port), impairment, impairment, seed=port))
            for port in ports
        ]
        through = THROUGH.replace("QUIC", str(quic.address[1])).replace("MEDIA", str(media.address[1]))
        theatre = Theatre(server, http, {"chromium": connection})
        publisher = await theatre.visitor("chromium", await theatre.person("ann"))
        await preload(publisher, CLOCK)
        stream = await publisher.go_live("The time")
        for way in ("webrtc", "webtransport"):
            viewer = await theatre.visitor("chromium", await theatre.person("bob"))
            await preload(viewer, through)
            await viewer.page.run("localStorage.setItem('mesi.way', values[0])", way)
            await viewer.watch(stream)
            await viewer.sees_moving_picture()
            await trio.sleep(SETTLE_S)
            seen: dict[str, Any] = await viewer.page.run(MEASURE, seconds)
            print(f"{way}: picture {summary(seen['pictures'])}; sound {summary(seen['sounds'])}", flush=True)
            lost = {"webrtc": media, "webtransport": quic}[way].down.counts
            print(f"  of {lost.entered} datagrams to the viewer {lost.lost} were lost", flush=True)
            await viewer.page.open("about:blank")
        await theatre.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--loss", type=float, default=0.0, help="share of the viewer's datagrams, each way")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="each way")
    parser.add_argument("--jitter-ms", type=float, default=0.0, help="on top of the delay, at most")
    options = parser.parse_args()
    impairment = Impairment(loss=options.loss, delay_ms=options.delay_ms, jitter_ms=options.jitter_ms)
    with (
        tempfile.TemporaryDirectory() as folder,
        start_chromium() as chromium,
        running(Server(Path(folder))) as server,
    ):
        trio.run(measure, server, chromium, options.seconds, impairment)


if __name__ == "__main__":
    main()
