"""Runs the command: ``python -m mbi``."""

from __future__ import annotations

from mbi.cli import main

if __name__ == "__main__":
    main()
