"""What a document contains, found by a process apart that cannot hurt the daemon.

In: a document (a descriptor, a path, or bytes). Out: `Contents`. `Counter` is the door: it starts
a worker when it is needed, gives it a document and a deadline, and replaces it when it dies.
The worker has no network, no files, no other programs, and an allowance of memory and processor.
"""
