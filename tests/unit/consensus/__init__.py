"""Unit tests of `consensus`."""
