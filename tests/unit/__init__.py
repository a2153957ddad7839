"""Tests of one behaviour each, laid out like the packages they test."""
