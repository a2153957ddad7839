"""Networks of real node processes on loopback, observed through HTTP only."""
