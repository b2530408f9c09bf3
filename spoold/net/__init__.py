"""Streams: TCP, TLS and Unix sockets as one small contract, without a layer more than it needs.

In: addresses and TLS contexts. Out: connected `Stream`s. What closing means is explicit here:
`abort` is a reset, `finish` is an orderly end, and nothing ends a connection politely by accident.
"""
