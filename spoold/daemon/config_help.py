"""What each key of the configuration is for, a sentence each, for spoold.toml(5).

Values, ranges and defaults are not here: they are read from `config`. A test compares the keys.
"""

from __future__ import annotations

SECTIONS = {
    "node": "The node itself.",
    "listen": (
        "What is bound. Without a key of its own each of clear, tls, mutual and lpd takes the "
        "sockets that systemd hands over under its name (FileDescriptorName=)."
    ),
    "advertise": "What others are told of where this node is.",
    "dnssd": "Announcing shared printers on the network (DNS-SD over multicast DNS).",
    "limits": "What one client, and all of them, may take.",
    "tls": "The certificate of port 9192. Without it the deployment's own CA signs one.",
    "upstream": "The application servers of a site.",
    "retention": "How long finished things stay.",
    "dispatch": "How jobs are handed to printers.",
    "conversion": "What one run of a converter may take.",
    "drain": "What happens at SIGTERM.",
    "documents": "How documents are stored.",
    "health": "From which on /healthz and `spoold status` warn.",
    "metrics": "What monitoring may read at /metrics.",
}

KEYS = {
    "node.name": "The name of this node, as in NODE/ID of a job.",
    "node.role": "What this node is in its deployment.",
    "node.guid": "Who this node is, for ever; only a new node can be given one.",
    "node.data_dir": "Holds everything that must survive.",
    "listen.clear": "IPP, raw streams and frames in the clear; health.",
    "listen.tls": "The same over TLS, and logins.",
    "listen.mutual": "TLS with client certificates: print providers, users, MFDs and sites.",
    "listen.lpd": "LPD (RFC 1179). Port 515 takes a socket from systemd.",
    "listen.raw_printer": "Where raw streams on clear, tls and mutual go that name no printer.",
    "listen.ends_on": "How the end of a raw job is known on these ports.",
    "listen.raw": "Tables [[listen.raw]]: one address for one printer.",
    "listen.raw.address": "Where this one listens.",
    "listen.raw.printer": "Where its jobs go.",
    "listen.raw.ends_on": (
        'How the end of a job is known: "half-close" by the sender\'s end of stream, "idle 2s" by '
        'silence, "zpl" by the end of a label. With the last two the sender may keep its '
        "connection for as long as it likes."
    ),
    "listen.proxy_from": "Load balancers that say who they are for (PROXY protocol, version 2).",
    "advertise.names": "Names and addresses of this node for clients and its certificate.",
    "advertise.endpoints": "Where print providers find this node's port 9195.",
    "advertise.to": "Tables [[advertise.to]]: endpoints for some clients; the first fits.",
    "advertise.to.networks": "Whose clients these are.",
    "advertise.to.endpoints": "What they are told.",
    "dnssd.enabled": "Whether printers marked as shared are announced.",
    "dnssd.interfaces": "The interfaces to announce them on; all but loopback without it.",
    "limits.connections_max": "Open connections in all.",
    "limits.connections_per_address_max": "Open connections from one address, or one /64 of IPv6.",
    "limits.exempt": "Clients that are not counted by address, such as print servers.",
    "limits.handshake_deadline_s": "How long a TLS handshake may take.",
    "limits.header_deadline_s": "How long the beginning of a request may take.",
    "limits.idle_deadline_s": "How long a connection may be silent in the midst of something.",
    "limits.minimum_rate_bytes_s": "What a sender must manage on average; 0 for no limit.",
    "limits.minimum_rate_grace_s": "After how long it is asked for.",
    "limits.document_bytes_max": "The largest document.",
    "limits.job_bytes_max": "The largest job, all its documents together.",
    "limits.spool_share": "New jobs are refused when the disk would be fuller than this share.",
    "limits.reserve_bytes": "New jobs are refused when less than this would be free.",
    "limits.multiple_operation_time_out_s": "How long a job without its document waits for it.",
    "tls.certificate": 'The chain as PEM, the server\'s first; or "credential:NAME". Read anew.',
    "tls.key": 'Its key as PEM, without a password; or "credential:NAME".',
    "upstream.servers": "Where their port 9195 is, in order; `spoold site join` adds its own.",
    "upstream.connect_timeout_s": "How long one may take to answer before the next is tried.",
    "upstream.beat_s": "How often either side gives a sign of life; gone after three missed ones.",
    "upstream.retry_max_s": "The longest pause between two tries while none answers.",
    "upstream.question_deadline_s": "How long a question may take before this site decides alone.",
    "retention.finished_jobs_s": "Finished jobs.",
    "retention.finished_jobs_max": "The most finished jobs that are kept.",
    "retention.documents_s": "Documents of finished jobs; 0 keeps none.",
    "retention.documents_bytes_max": "The most that documents of finished jobs may take.",
    "retention.records_s": "Records of the journal, and the uuids of removed jobs.",
    "retention.charges_s": "Charges and entries of the ledger; then they are sums by month.",
    "retention.quarantine_s": "Damaged and ownerless documents that were moved aside.",
    "retention.sweep_interval_s": "How often this is looked at.",
    "dispatch.backoff_first_s": "How long a printer that failed is left alone at first.",
    "dispatch.backoff_max_s": "How long at most.",
    "dispatch.stalled_after_s": "After how long without progress a printer counts as stalled.",
    "dispatch.deliveries_max": "How many deliveries run at once.",
    "dispatch.refresh_s": "How often an idle IPP printer is asked how it is; 0 is never.",
    "conversion.memory_bytes_max": "Memory of one process.",
    "conversion.cpu_s_max": "Time of the processor.",
    "conversion.output_bytes_max": "What it may write.",
    "conversion.deadline_s": "Time in all.",
    "conversion.at_once": "How many run at once.",
    "drain.deadline_s": "How long uploads and deliveries may go on.",
    "health.commit_s": "A commit that takes longer is slow.",
    "health.commit_failed_s": "A commit that takes longer makes the answer 503.",
    "health.loop_lag_s": "A node whose tasks wait longer for their turn is overloaded.",
    "health.disk_share": "The disk is nearly full from this share on.",
    "health.printer_stopped_s": "A printer has stood still for too long.",
    "health.job_waiting_s": "A job has waited for too long.",
    "health.certificate_days": "A certificate ends in fewer days.",
    "health.backup_age_s": "The last backup is older; 0 misses none.",
    "metrics.allow": "Who may read them without a login.",
    "metrics.printers_max": "How many printers have figures of their own.",
    "documents.inline_bytes_max": "Documents up to this size lie in the database, larger in files.",
}

# Defaults that only the machine knows.
DEFAULTS = {
    "node.name": "the host name",
    "node.guid": "made at the first start",
    "node.data_dir": "$STATE_DIRECTORY, else spoold-data in the current directory",
}
