"""The client side of frames (`codec/FRAMES.md`): hand jobs over, and never twice.

In: a document and where it may go. Out: a `Receipt` once a server has it durably, or an error that
says whether anything was accepted, and what to do. `client` is for Trio, `direct` for programs
that live for one job, `blocking` for plain scripts and the command line; `course` decides for all
of them. `cups_backend` is the one for queues of CUPS. `alone` prints where no server can be
reached, if that was set in advance, and keeps what it did in a `notebook`. `spoold.net`,
`spoold.codec` and `spoold.model` is all it needs.

    async with Provider(["hq-1.example.org:9191", "hq-2.example.org:9191"]) as provider:
        receipt = await provider.submit("letter.pdf", printer="front")
"""
