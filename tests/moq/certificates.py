"""One certificate for all tests: making a key for each would be most of their time."""

from __future__ import annotations

import datetime

from media.moq.quic.certificate import QuicCertificate

CERTIFICATE = QuicCertificate.self_made(["localhost", "127.0.0.1"], datetime.datetime.now(datetime.UTC))
