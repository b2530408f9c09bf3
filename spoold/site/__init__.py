"""A site server and its application servers: the one line between them, and what goes over it.

The site dials, always (DECISIONS 21). `line` is the site's end, `presence` the other one.
"""
