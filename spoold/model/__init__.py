"""Nouns and rules of printing: no I/O, no clock, no async, standard library only.

What enters and leaves are frozen values. Time comes in as an argument, in microseconds since the
epoch (`*_us`) for recorded times. Nothing here waits, logs or fails for a reason of the world.
"""
