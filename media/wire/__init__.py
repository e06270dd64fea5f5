"""RTP, RTCP and payload formats as bytes: pure readers and writers."""
