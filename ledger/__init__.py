"""What a valid transaction, block and state are: values, encoding, rules, execution and proofs.

The package is pure. It takes bytes, times and keys as arguments and returns values; it opens no
socket, reads no clock and draws no randomness. It imports none of the other packages.
"""
