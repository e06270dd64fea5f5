"""WebRTC, sans-IO: STUN, ICE-lite, DTLS, SRTP keys, SDP, negotiation, and the two kinds of peer."""
