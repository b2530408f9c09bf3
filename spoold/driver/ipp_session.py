"""Requests to one printer over one kept connection: HTTP/1.1, TLS, logins, documents on their way.

In: IPP messages, and a document as an `Upload`. Out: the printer's answers, or why there are none:
`Broken` (nobody knows how the exchange ended), `HttpRefused` (HTTP said no). What HTTP asks for on
the way is done here and kept in `Habits`: a login (401), TLS by upgrade (426, RFC 2817), a body
without chunks (411), a request without `Expect` (417). Every wait has a deadline but the one for a
printer that takes a document slowly: that one is reported.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import trio

from spoold.codec import ipp
from spoold.codec.http_client import (
    BodyChunk,
    Closed,
    Continue,
    End,
    Event,
    HttpClient,
    Response,
)
from spoold.driver import sending
from spoold.driver.ipp_settings import Place, Settings
from spoold.driver.ipp_trust import Login, NoPassword, NotTrusted, Trust
from spoold.driver.ipp_upload import Upload
from spoold.driver.link import Network
from spoold.driver.sending import SourceFailed
from spoold.model.errors import RemoteProtocolError
from spoold.net.stream import Stream
from spoold.net.tcp import SocketStream

MEDIA_TYPE: Final = "application/ipp"
TURNS_MAX: Final = 5  # a login, an upgrade, a length, no Expect, and the request itself
LAST_WORDS_S: Final = 2.0  # for an answer that came before the connection broke
GOODBYE_S: Final = 1.0
TEXT_BYTES_MAX: Final = 2048
UPGRADE: Final = "TLS/1.2, TLS/1.3"


class Broken(Exception):
    """There is no answer. `may_have_arrived`: the request may have been carried out all the same.

    `reason` is a keyword for the outcome.
    """

    def __init__(
        self, cause: str, *, may_have_arrived: bool, reason: str = "connecting-to-device"
    ) -> None:
        super().__init__(cause)
        self.may_have_arrived = may_have_arrived
        self.reason = reason


class HttpRefused(Exception):
    """The answer was an HTTP status and no IPP message."""

    def __init__(self, status: int, detail: str, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.retry_after_s = retry_after_s


@dataclass(slots=True)
class Habits:
    """What one printer turned out to need; kept from one connection to the next."""

    version: tuple[int, int] = (2, 0)
    is_chunked: bool = False
    expects: bool = True
    needs_login: bool = False
    is_upgraded: bool = False


Reply = tuple[Response, bytes | ipp.Message]  # an HTTP status may come with another body


class Session:
    """One conversation. `close` ends it; after that, or a break, the next request connects anew."""

    def __init__(
        self,
        place: Place,
        settings: Settings,
        network: Network,
        trust: Trust,
        login: Login | None,
        habits: Habits,
    ) -> None:
        self._place = place
        self._settings = settings
        self._network = network
        self._trust = trust
        self._login = login
        self._habits = habits
        self._stream: Any = None
        self._http = HttpClient()
        self._is_used = False  # an answer has come on this connection
        self._is_secure = False

    # --- requests ---------------------------------------------------------------------------------

    async def ask(self, message: ipp.Message, *, is_repeatable: bool = True) -> ipp.Message:
        """The answer to a request without a document.

        Raises:
            Broken, HttpRefused: there is none.
        """
        wire = ipp.encode(message)
        has_repeated = False
        while True:
            was_used = self._is_used
            try:
                with trio.fail_after(self._settings.answer_timeout_s):
                    return await self._turns(wire, None)
            except trio.TooSlowError:
                self.abort()
                cause = f"no answer within {self._settings.answer_timeout_s:g} s"
                raise Broken(f"{self._place.where}: {cause}.", may_have_arrived=True) from None
            except Broken:
                # A kept connection may have ended while nobody looked.
                if has_repeated or not (is_repeatable and was_used):
                    raise
                has_repeated = True

    async def send(self, message: ipp.Message, upload: Upload) -> ipp.Message:
        """The answer to a request and its document. `upload` says how far that came.

        Raises:
            Broken, HttpRefused: there is none.
            SourceFailed: the document could not be read to its end.
        """
        try:
            return await self._turns(ipp.encode(message), upload)
        finally:
            upload.end()

    async def certificate(self) -> bytes:
        """The certificate that the printer shows, as DER, on a fresh connection.

        Raises:
            Broken: there is no connection, or no TLS.
        """
        await self._connect()
        return self._stream.peer_certificate_der() or b""

    async def close(self) -> None:
        """End the connection in order, or at once when that takes too long."""
        if self._stream is not None:
            with trio.move_on_after(GOODBYE_S), suppress(trio.BrokenResourceError):
                await self._stream.finish()
        self.abort()

    def abort(self) -> None:
        stream, self._stream = self._stream, None
        self._is_used = False
        if stream is not None:
            stream.abort()

    async def _turns(self, head: bytes, upload: Upload | None) -> ipp.Message:
        """Ask, and do what HTTP wants first."""
        habits = self._habits
        for _ in range(TURNS_MAX):
            before = replace(habits)
            try:
                response, body = await self._exchange(head, upload)
            except RemoteProtocolError as error:
                self.abort()
                cause = f"what it answered is no IPP ({error})"
                raise Broken(f"{self._place.where}: {cause}.", may_have_arrived=True) from error
            except trio.BrokenResourceError as error:
                self.abort()
                cause = str(error) or "the connection broke"
                raise Broken(f"{self._place.where}: {cause}.", may_have_arrived=True) from error
            except BaseException:
                self.abort()
                raise
            if isinstance(body, ipp.Message):
                return body
            self._learn(response.status)
            if habits == before:
                raise self._refused(response, body)
            if habits.is_upgraded is not before.is_upgraded:
                self.abort()  # what is open is in the clear
        raise HttpRefused(response.status, f"HTTP {response.status} again and again.")

    def _learn(self, status: int) -> None:
        habits = self._habits
        if status == 401 and self._login is not None:
            if self._is_secure or self._settings.may_login_in_clear:
                habits.needs_login = True
            else:
                habits.is_upgraded = True
        elif status == 426 and not self._place.is_tls:
            habits.is_upgraded = True
        elif status == 417:
            habits.expects = False
        elif status == 411:
            habits.is_chunked = False

    def _refused(self, response: Response, body: bytes) -> HttpRefused:
        where, status = self._place.where, response.status
        retry_after = response.header("retry-after") or ""
        wait_s = float(retry_after) if retry_after.isdecimal() and len(retry_after) < 9 else None
        said = " ".join(body[:TEXT_BYTES_MAX].decode("utf-8", "replace").split())
        if status == 401:
            advice = "it wants a login: set user=NAME and password_file=PATH."
            if self._login is not None:
                advice = f"it does not take the login of {self._login.user}."
            return HttpRefused(status, f"{where}: {advice}")
        if status == 404:
            return HttpRefused(status, f"{where} has no printer at {self._place.path}.")
        if 300 <= status < 400:
            to = response.header("location") or "somewhere else"
            return HttpRefused(status, f"{where} sends us to {to}: use that as the device's URI.")
        name = f"{status} {response.reason}".strip()
        if status == 200:
            said = "That is no answer of a printer: look at the path of the device's URI."
        return HttpRefused(status, f"{where}: HTTP {name}. {said}"[:500].strip(), wait_s)

    # --- one exchange -----------------------------------------------------------------------------

    async def _exchange(self, head: bytes, upload: Upload | None) -> Reply:
        """One request and its answer, which may come before the request is whole."""
        if self._stream is None:
            await self._connect()
        place, habits, http = self._place, self._habits, self._http
        headers = [("Host", place.where), ("Content-Type", MEDIA_TYPE), ("User-Agent", "spoold")]
        if habits.needs_login and self._login is not None:
            try:
                headers.append(("Authorization", await self._login.header()))
            except NoPassword as error:
                raise HttpRefused(401, str(error)) from error
        if upload is None:
            request = http.request("POST", place.path, headers, len(head))
            await self._stream.send_all(request + http.body(head) + http.end())
            return await self._answer()
        expects = habits.expects and upload.source.size > sending.SMALL_BYTES
        if expects:
            headers.append(("Expect", "100-continue"))
        length = None if habits.is_chunked else len(head) + upload.source.size
        request = http.request("POST", place.path, headers, length)
        if not expects:
            await self._stream.send_all(request + http.body(head))
            return await self._send_body(upload)
        await self._stream.send_all(request)
        early: Event | None = None
        with trio.move_on_after(self._settings.expect_wait_s):
            early = await self._event()
        if early is None:
            habits.expects = False  # it knows nothing of that: never wait for it again
        elif not isinstance(early, Continue):
            with trio.move_on_after(self._settings.answer_timeout_s):
                return await self._answer(early)
            raise Broken(f"{place.where}: half an answer.", may_have_arrived=False)
        await self._stream.send_all(http.body(head))
        return await self._send_body(upload)

    async def _send_body(self, upload: Upload) -> Reply:
        """Send the document, and listen meanwhile: whoever has answered takes no more of it."""
        found: Reply | None = None
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:

            async def listen() -> None:
                nonlocal found, failure
                try:
                    found = await self._answer()
                except (trio.BrokenResourceError, RemoteProtocolError) as error:
                    failure = failure or error
                nursery.cancel_scope.cancel()

            nursery.start_soon(listen)
            nursery.start_soon(upload.watch, self._stream)
            try:
                await self._send_document(upload)
                nursery.cancel_scope.deadline = (
                    trio.current_time() + self._settings.document_timeout_s
                )
            except trio.ClosedResourceError:
                pass  # an answer came, after which the printer takes no more
            except (trio.BrokenResourceError, SourceFailed) as error:
                failure = error
                # What the printer said before it hung up tells more than that it did.
                is_ours = isinstance(error, SourceFailed)
                nursery.cancel_scope.deadline = trio.current_time() + LAST_WORDS_S * (not is_ours)
            upload.bytes_sent()
        if isinstance(failure, SourceFailed):
            raise failure
        if found is not None:
            return found
        if failure is None:
            cause = f"no answer within {self._settings.document_timeout_s:g} s"
            failure = Broken(f"{self._place.where}: {cause}.", may_have_arrived=True)
        raise failure

    async def _send_document(self, upload: Upload) -> None:
        """The kernel has taken the whole document, straight from its file where that can be."""
        stream, http, source = self._stream, self._http, upload.source
        upload.begin(stream)
        descriptor = source.fileno()
        is_framed = self._habits.is_chunked
        offset = 0
        while offset < source.size:
            window = sending.READ_BYTES if is_framed else sending.WINDOW_BYTES
            count = min(window, source.size - offset)
            try:
                if descriptor is not None and not is_framed and isinstance(stream, SocketStream):
                    if not sending.is_cached(descriptor, offset, count):
                        await trio.to_thread.run_sync(sending.warm, descriptor, offset, count)
                    sent = await stream.sendfile(descriptor, offset, count)
                    http.body_bytes_sent(sent)
                else:
                    count = min(count, sending.READ_BYTES)
                    if descriptor is None:
                        data = source.read_at(offset, count)
                    else:
                        data = await trio.to_thread.run_sync(source.read_at, offset, count)
                    sent = len(data)
                    await stream.send_all(http.body(data))
            except OSError as error:
                raise SourceFailed from error
            if not sent:
                raise SourceFailed
            offset += sent
        if end := http.end():
            await stream.send_all(end)
        upload.is_whole = True

    async def _event(self) -> Event:
        while (event := self._http.next_event()) is None:
            self._http.receive_data(await self._stream.receive_some(65536))
        return event

    async def _answer(self, event: Event | None = None) -> Reply:
        """The answer, whose first event may be known: its head, and an IPP message or the first
        bytes of another body. Then the connection is ready for the next request, or gone.

        Raises:
            trio.BrokenResourceError, RemoteProtocolError: there is none.
        """
        response: Response | None = None
        decoder: ipp.Decoder | None = None
        message: ipp.Message | None = None
        body = b""
        while not isinstance(event, End):
            match event:
                case Response():
                    response = event
                    kind = (event.header("content-type") or "").partition(";")[0].strip().lower()
                    if event.status == 200 and kind == MEDIA_TYPE:
                        decoder = ipp.Decoder(ipp.ANSWER_LIMITS)
                case BodyChunk(data):
                    if decoder is None:
                        body = (body + data)[:TEXT_BYTES_MAX]
                    elif message is None:
                        message = decoder.feed(data)
                case Closed():
                    raise trio.BrokenResourceError("the printer closed without an answer")
            event = await self._event()
        assert response is not None
        if decoder is not None and message is None:
            decoder.end()
        self._is_used = True
        if not self._http.start_next_cycle():
            self.abort()
        return response, message if message is not None else body

    # --- the connection ---------------------------------------------------------------------------

    async def _connect(self) -> None:
        """A fresh connection, with TLS where that is asked for.

        Raises:
            Broken: there is none; nothing has arrived.
        """
        place = self._place
        try:
            stream: Stream = await self._network.connect(
                place.host, place.port, timeout_s=self._settings.connect_timeout_s
            )
            self._is_secure = place.is_tls or self._habits.is_upgraded
            if place.is_tls:
                stream = await self._trust.secure(stream, self._settings.connect_timeout_s)
            self._stream = stream
            self._http = HttpClient()
            if not place.is_tls and self._habits.is_upgraded:
                await self._upgrade(stream)
        except NotTrusted as error:
            self.abort()
            detail = f"{place.where} is not trusted: {error}. Where that is as it should be, "
            raise Broken(
                f"{detail}set tls=pin and fingerprint=.",
                may_have_arrived=False,
                reason="device-not-trusted",
            ) from error
        except OSError as error:
            self.abort()
            told = sending.not_connected(error, place.where)
            raise Broken(told.detail, may_have_arrived=False) from error
        except (trio.BrokenResourceError, RemoteProtocolError, trio.TooSlowError) as error:
            self.abort()
            cause = str(error) or "no answer"
            raise Broken(f"{place.where}: {cause}.", may_have_arrived=False) from error
        except BaseException:
            self.abort()
            raise

    async def _upgrade(self, stream: Stream) -> None:
        """TLS on a connection that began without it (RFC 2817 3.2), as libcups does it."""
        place = self._place
        headers = [("Host", place.where), ("Upgrade", UPGRADE), ("Connection", "Upgrade")]
        with trio.fail_after(self._settings.answer_timeout_s):
            request = self._http.request("OPTIONS", "*", headers, 0) + self._http.end()
            await stream.send_all(request)
            event = await self._event()
            if not isinstance(event, Response) or event.status != 101:
                self._habits.is_upgraded = False
                cause = "it asks for TLS and gives none: try ipps:// in the device's URI"
                if self._login is not None:
                    cause = "it gives no TLS; only clear_password=on sends a password without it"
                raise OSError(errno.EPROTO, cause)
            self._stream = await self._trust.secure(stream, self._settings.connect_timeout_s)
            await self._answer()
