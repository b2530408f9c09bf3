"""A site server and its application servers: the one line between them, and what goes over it.

In: what happened at either end. Out: the same known at both, and one answer to each question about
money and jobs, whether or not the line is there. The site dials, always: no firewall of a building
has to let anything in.

At the site `line` is the one connection; `uplink` sends the journal, `replica` keeps a copy of the
objects, `authority` asks, or decides alone, `fetching` and `giving` take jobs over and let them go.
At the application server `presence` is the other end; `receiver`, `objects`, `handing` and
`wanting` are the counterparts, and `recalling` and `reclaiming` bring money back.
"""
