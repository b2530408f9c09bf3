"""Held jobs and the people at the machine: what may be fetched where, and sessions at MFDs.

In: jobs that wait, a person whom `accounts` has made sure of, the printers that a machine stands
for. Out: releases that are counted, priced and reserved in one transaction; how many pages may be
copied, and a charge for those that were. `desk` is what a panel asks, `counts` and `clearing` get a
job ready, `releasing` commits it, `sessions` and `work` serve MFDs. The rules: `README.md` here.

Rooms on the same floor (dispatch) and below (intake, accounts) are not asked by name where a
Protocol will do; `daemon/rooms.py` plugs them in.
"""
