"""Held jobs and the people at the machine: what may be fetched where, and sessions at MFDs.

Rooms on the same floor (dispatch) and below (intake, accounts) are not asked by name where a
Protocol will do; `daemon/service.py` plugs them in.
"""
