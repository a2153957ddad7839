"""The compose file on a real engine: run with `make compose-test`, never by `make test`."""
