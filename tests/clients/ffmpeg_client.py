"""FFmpeg's WHIP muxer as a process: publishes a clapper board as H264 and Opus to an address until it is ended.

It is given a certificate: the one that FFmpeg makes with GnuTLS is on a curve that OpenSSL takes from nobody.
"""

from __future__ import annotations

import datetime
import sys
import tempfile
import time
from pathlib import Path

import av
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.matrix.clapper import HEIGHT, RATE, SOUND_RATE, WIDTH, clips

SECONDS = 60.0  # a process that nobody ends stops by itself


def make_certificate(folder: Path) -> dict[str, str]:
    """Return FFmpeg's options for a new certificate on P-256."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ffmpeg")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(
        now + datetime.timedelta(days=9)
    )
    pem = serialization.Encoding.PEM
    (folder / "tls.crt").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(pem))
    form = serialization.PrivateFormat.TraditionalOpenSSL
    (folder / "tls.key").write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))
    return {"cert_file": str(folder / "tls.crt"), "key_file": str(folder / "tls.key")}


def main(folder: str, url: str, token: str, flags: str) -> None:
    options = {"authorization": token, **make_certificate(Path(folder)), **({"whip_flags": flags} if flags else {})}
    with av.open(url, "w", format="whip", options=options) as output:
        encoding = {"tune": "zerolatency", "preset": "ultrafast", "profile": "baseline", "g": str(RATE)}
        video = output.add_stream("libx264", rate=RATE, options=encoding)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = output.add_stream("libopus", rate=SOUND_RATE, layout="stereo")
        output.start_encoding()  # connects, which takes its time
        started = time.monotonic()
        for clip in clips(SECONDS):
            time.sleep(max(0.0, started + clip.at_s - time.monotonic()))
            if isinstance(clip.frame, av.VideoFrame):
                output.mux(video.encode(clip.frame))
            else:
                output.mux(audio.encode(clip.frame))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(folder, *sys.argv[1:])
