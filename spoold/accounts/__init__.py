"""Who somebody is, and who pays.

In: what people show of themselves at a machine or over the network, directories that people come
from, and what a work will cost. Out: the `User`, or a refusal with advice; users as a directory has
them; charges that are reserved, settled or given back. Secrets are looked at here and stand
nowhere: passwords as Argon2id, cards and PINs as keyed hashes. Whoever guesses waits longer and
longer, by account, by device and by node, also across restarts.

`authentication` and `throttle` are the door for people, `directory`, `rounds` and `synchronise`
take them over from LDAP in a process of its own, `charging` is the door to prices and purses. What
a purse is stands in `model/purse.py`, how it is booked in `spool/ledger.py`.
"""
