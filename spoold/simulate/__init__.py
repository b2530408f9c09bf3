"""Printers, MFDs and cables with faults, for people, for tests and for the demos.

In: connections over IPP, raw 9100 and LPD, and the faults to have. Out: `Paper`, what a printer
would have put into its tray. A simulated printer uses the codecs of spoold and none of its drivers,
so that it is a peer and not a mirror.
"""
