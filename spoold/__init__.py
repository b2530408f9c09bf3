"""spoold: a print-job spooler and fail-over daemon.

A job walks one way: intake -> spool -> dispatch -> driver. The spool is the only meeting point.

model     nouns and rules: no I/O          codec     bytes <-> events, sans-IO
net       streams, TLS, sockets            spool     what survives a crash
provider  the client side                  counting  what a document contains
accounts  who may print, and who pays      intake    network -> spool
driver    bytes -> printer                 dispatch  spool -> driver
release   held jobs, people at machines    site      site server <-> application server
web       metrics, health, MFDs' HTTP      simulate  printers and MFDs with faults
daemon    wiring, and the demo             cli       operator commands
"""

__version__ = "0.1.0"
