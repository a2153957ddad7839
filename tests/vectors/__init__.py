"""Golden encodings, signatures and roots that pin the formats of docs/protocol.md."""
