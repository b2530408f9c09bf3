"""An IPP server over real sockets, in this process: requests in, answers out."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager

import h11
import trio

from spoold.codec import ipp
from spoold.codec.ipp_values import Message, Tag
from spoold.intake import ipp_icon
from spoold.intake.deadlines import Deadlines
from spoold.intake.http import Site, serve_http
from spoold.model.errors import RemoteProtocolError
from spoold.model.principal import Port, Principal, Role
from spoold.net.tcp import SocketStream

HERE = Principal("address:192.0.2.7", Port.CLEAR, address="192.0.2.7")
THERE = Principal("address:192.0.2.8", Port.CLEAR, address="192.0.2.8")
OPERATOR = Principal("user:1", Port.TLS, frozenset({Role.OPERATOR, Role.USER}), "op")
ANN = Principal("user:2", Port.TLS, frozenset({Role.USER}), "ann")
PDF = b"%PDF-1.7\n1 0 obj\nendobj\n%%EOF\n"
PRINTER = "ipp://localhost/printers/default"


class IppNode:
    """A served IPP printer called `default`, whose jobs wait."""

    def __init__(self, desk, ipp_server, spool) -> None:
        self.desk = desk
        self.ipp = ipp_server
        self.spool = spool
        self.deadlines = Deadlines(0.01)

    def answer(self, path):
        found = self.ipp.about(path)
        return (404, {}) if found is None else (200, found)

    @asynccontextmanager
    async def connection(self, principal=HERE, logins=None):
        ours, theirs = socket.socketpair()
        client = SocketStream(theirs)

        async def serve():
            stream = SocketStream(ours)
            limits = self.desk.services.config.limits
            site = Site(self.answer, self.ipp, logins, files=ipp_icon.FILES)
            with self.deadlines.watch(stream, 5) as watch:
                try:
                    await serve_http(stream, b"", principal, site, limits, watch)
                except (RemoteProtocolError, trio.TooSlowError, trio.BrokenResourceError):
                    pass
                finally:
                    stream.abort()

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve)
                try:
                    yield client
                finally:
                    client.abort()

    async def ask(self, operation, *attributes, groups=(), document=b"", principal=HERE, **more):
        """The answer to one request on a connection of its own."""
        answer, rest = await self.fetch(
            operation, *attributes, groups=groups, document=document, principal=principal, **more
        )
        assert not rest
        return answer

    async def fetch(self, operation, *attributes, groups=(), document=b"", principal=HERE, **more):
        """The same, and what came behind the answer."""
        body = request(operation, *attributes, groups=groups, **more) + document
        async with self.connection(principal) as client:
            await client.send_all(post(body))
            status, _, answer = await answer_of(client)
        assert status == 200
        decoder = ipp.Decoder(ipp.ANSWER_LIMITS)
        message = decoder.feed(answer)
        assert message is not None
        return message, decoder.rest

    async def jobs(self):
        return await self.desk.ask("job.list")


def request(operation, *attributes, groups=(), target=None, user="ada", request_id=7):
    """The octets of a request."""
    head = [
        ipp.charset("attributes-charset", "utf-8"),
        ipp.language("attributes-natural-language", "en"),
        target or ipp.uri("printer-uri", PRINTER),
        ipp.name_("requesting-user-name", user),
    ]
    found = [ipp.group(Tag.OPERATION, [*head, *attributes]), *groups]
    return ipp.encode(Message((2, 0), operation, request_id, found))


def post(body, *headers, length=None):
    lines = [b"POST /printers/default HTTP/1.1", b"Host: print.example.org:9191"]
    lines += [b"Content-Type: application/ipp", *headers]
    lines.append(b"Content-Length: %d" % (len(body) if length is None else length))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


async def answer_of(client, parser=None):
    """Status, headers and body of the next response that is final."""
    parser = parser or h11.Connection(h11.CLIENT)
    if parser.our_state is h11.IDLE:
        parser.send(h11.Request(method="POST", target="/", headers=[("Host", "x")]))
        parser.send(h11.EndOfMessage())
    head, body = None, b""
    while True:
        event = parser.next_event()
        if event is h11.NEED_DATA:
            parser.receive_data(await client.receive_some())
        elif isinstance(event, h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return head.status_code, dict(head.headers), body


def decoded(answer):
    message = ipp.Decoder(ipp.ANSWER_LIMITS).feed(answer)
    assert message is not None
    return message


def job_group(*attributes):
    return ipp.group(Tag.JOB, attributes)
