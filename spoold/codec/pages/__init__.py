"""What is in a document: pages, copies, sides, sizes, colour; sans-IO and bounded.

A counter reads through `read_at(offset, n)` and never asks for time or files. `container.count` is
the door; PDF needs a reader from outside (`spoold/counting/pdf.py`), for that one is a library.
"""
