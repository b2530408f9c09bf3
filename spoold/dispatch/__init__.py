"""Spool -> driver.

In: jobs that wait, as the journal tells of them. Out: attempts, each begun and ended by a durable
change. Promised: one attempt at a time on a device; a stuck or dead device delays no other; every
throttle ends by itself; a job whose bytes may have left is settled by evidence or by its printer's
policy, never by a guess. Not promised: that a pool starts on the best member, only on a fit one.
"""
