"""Network -> spool.

In: connections on any port. Out: jobs in the spool, and answers after the commit, never before.
Every port passes one accept path (`listener`) and one door (`acceptance`). Promised: silence,
resets and limits never become printed jobs, and one client never costs the others anything.
"""
