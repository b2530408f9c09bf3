"""Bytes <-> events, sans-IO: no trio, no files, no time.

Bytes from a peer enter, events leave, and the other way round. The one exception that leaves a
decoder is `RemoteProtocolError`; anything else it raises on any bytes is a bug, and a fuzz test
says so.
"""
