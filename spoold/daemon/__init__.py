"""The daemon: wiring.

A configuration enters; a running node leaves: `service` starts the tasks that it asks for. Nothing
here decides about a job.
"""
