"""Bytes -> printer or MFD.

In: a `link.Delivery` (a job, its document, its device). Out: an `Outcome` with evidence. A driver
knows nothing of spool, journal or schedule, and promises never to call printed what it cannot
know: doubt is an answer of its own.
"""
