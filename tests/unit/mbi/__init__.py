"""Unit tests of `mbi`."""
