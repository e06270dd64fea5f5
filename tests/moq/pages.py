"""The ecosystem's own player and publisher, bundled as they come from npm, and the pages that hold them."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
MODULES = FOLDER / "node_modules"
CAMERA = (
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",  # grants without asking
)

# What a person would notice: a moving picture and a sound that is not silence.
WATCHED = """
  const player = document.querySelector('moq-watch'), canvas = document.querySelector('canvas');
  const value = signal => { try { return signal.peek(); } catch { return undefined; } };
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  let colours = 0, sum = 0; const seen = new Set();
  for (let i = 0; i < pixels.length; i += 16) { sum = (sum * 31 + pixels[i] + pixels[i+1] * 7 + pixels[i+2] * 13) >>> 0;
    seen.add(pixels[i] >> 5 << 6 | pixels[i+1] >> 5 << 3 | pixels[i+2] >> 5); }
  const stats = part => { const v = value(player[part].out.stats); return v === undefined ? null :
    JSON.parse(JSON.stringify(v, (k, x) => typeof x === 'bigint' ? Number(x) : x)); };
  return {status: value(player.broadcast.out.status), colours: seen.size, sum, width: canvas.width,
    video: stats('video'), audio: stats('audio'),
    version: String(value(player.connection.established)?.version),
    transport: String(value(player.connection.established)?.transport)};
"""


@cache
def bundle(name: str) -> bytes:
    """Return `web/<name>.js` with everything it imports, as one module; installs the packages once."""
    if not (MODULES / ".package-lock.json").exists():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=FOLDER, check=True)
    command = [str(MODULES / ".bin" / "esbuild"), f"web/{name}.js", "--bundle", "--format=esm", "--log-level=error"]
    return subprocess.run(command, cwd=FOLDER, check=True, capture_output=True).stdout


def publish_page(port: int, name: str, token: str = "", root: str = "anon") -> bytes:
    """Return a page that publishes the camera."""
    url = json.dumps(f"http://127.0.0.1:{port}/{root}{token}")
    return f"""<!doctype html><body>
<moq-publish url={url} name="{name}" source="camera"><video width="320" muted></video></moq-publish>
<script type="module" src="/publish.js"></script>""".encode()


def reporting_watch_page(port: int, name: str, token: str = "", root: str = "anon") -> bytes:
    """Return a page that plays and posts four times a second what it shows."""
    report = f"const look = async () => {{{WATCHED}}};"
    send = "fetch('/report', {method: 'POST', body: JSON.stringify(await look())})"
    loop = f"setInterval(async () => {{ try {{ await {send}; }} catch (e) {{ console.log(e); }} }}, 250);"
    return watch_page(port, name, token, root) + f"<script type=module>{report} {loop}</script>".encode()


def watch_page(port: int, name: str, token: str = "", root: str = "anon") -> bytes:
    """Return a page that plays; it is always `visible`, since a headless page may not count as seen."""
    url = json.dumps(f"http://127.0.0.1:{port}/{root}{token}")
    return f"""<!doctype html><body style="margin:0">
<moq-watch url={url} name="{name}" visible="always"><canvas width="320" height="240"></canvas></moq-watch>
<script type="module" src="/watch.js"></script>""".encode()
