"""Tests of the HTTP API over a small real chain in memory and a scripted node around it."""
