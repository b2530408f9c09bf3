"""The benchmarks: spoold beside CUPS 2.4, and beside a bare loop, on one machine and one disk.

peers    CUPS, spoold and the bare loop as processes     ipp      requests for CUPS
load     clients, in a process of their own              sink     raw printers that only count
bare     receive, BLAKE3, write, sync                     control  spoold's control socket
rows     what is measured                                 report   the table and the JSON
"""
