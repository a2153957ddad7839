"""The files under deploy/ and the top-level compose file keep their word."""
