"""Unit tests of `node`."""
