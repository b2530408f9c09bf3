"""Who somebody is, and who pays.

In: what people show of themselves at a machine or over the network. Out: the `User`, or a refusal
with advice, and what that person may spend. Secrets are looked at here and stand nowhere: passwords
as Argon2id, cards and PINs as keyed hashes. Whoever guesses waits longer and longer, by account, by
device and by node, also across restarts.
"""
