"""An exhaustive model of the voting rules, written from the specification and not from the code.

``python -m tests.model`` explores everything; ``docs/verification.md`` says what is abstracted and
why that is sound.
"""
