"""Tests of the node, from single functions to networks of real processes."""
