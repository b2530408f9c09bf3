"""A simulated MFD for people: lines in, what the panel would show out.

Each line is a command: what somebody would do at the machine. `help` lists them. Who logs in is
followed meanwhile, so that whatever the server tells is shown as it comes.
"""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import trio

from spoold.model.errors import OperationError
from spoold.model.money import format_amount
from spoold.provider.course import Lost
from spoold.simulate.mfd import Mfd

Say = Callable[[str], None]
Command = Callable[[list[str]], Awaitable[None]]

HELP = """\
card NUMBER [PIN]          put a card on the reader
pin NUMBER                 log in by PIN
login NAME PASSWORD        log in by name and password
associate NUMBER NAME PASSWORD | NUMBER PIN
                           make a new card somebody's own
list                       the held jobs
release all | ID…          print them here; then maybe copies=2 sides=two-sided-long-edge
                           color=monochrome account=NAME printer=NAME
change ID copies=2 …       change a job
delete ID…                 delete jobs
accounts                   who can pay
copy N | scan N | fax N    ask, make and report N pages, without color but for color=color;
                           sides=… media=… account=…
who                        who is logged in
wait SECONDS               do nothing
logout                     go away
quit                       the end
"""

AGAIN_S = 3.0  # between attempts to follow a session over another connection
_WITHOUT_LOGIN = frozenset({"card", "pin", "login", "associate", "wait"})


class Terminal:
    """`failures` counts the commands that were refused."""

    def __init__(self, mfd: Mfd, say: Say, nursery: trio.Nursery) -> None:
        self._mfd = mfd
        self._say = say
        self._nursery = nursery
        self._following: trio.CancelScope | None = None
        self._name = ""  # of who is logged in
        self.failures = 0
        self._commands: dict[str, Command] = {
            "card": self._card,
            "pin": self._pin,
            "login": self._login,
            "associate": self._associate,
            "list": self._list,
            "release": self._release,
            "change": self._change,
            "delete": self._delete,
            "accounts": self._accounts,
            "copy": self._work("copy"),
            "scan": self._work("scan"),
            "fax": self._work("fax"),
            "who": self._who,
            "wait": self._wait,
            "logout": self._logout,
        }

    async def run(self, lines: AsyncIterator[str]) -> None:
        """Do what each line says, until `quit` or the last one; then nobody is logged in."""
        async for line in lines:
            try:
                words = shlex.split(line, comments=True)
            except ValueError as error:
                self._refuse(f"this line cannot be read: {error}.")
                continue
            if words and words[0] == "quit":
                break
            if words:
                await self._do(words)
        if self._mfd.session:
            await self._do(["logout"])

    async def _do(self, words: list[str]) -> None:
        command = self._commands.get(words[0])
        if words[0] == "help":
            self._say(HELP.rstrip())
        elif command is None:
            self._refuse(f"there is no {words[0]}; `help` lists what there is.")
        elif words[0] not in _WITHOUT_LOGIN and not self._mfd.session:
            self._refuse("nobody is logged in.")
        else:
            try:
                await command(words[1:])
            except (OperationError, Lost) as error:
                self._refuse(str(error))
            except (ValueError, IndexError):
                self._refuse(f"{words[0]} is used otherwise; see `help`.")

    def _refuse(self, why: str) -> None:
        self.failures += 1
        self._say(f"! {why}")

    # -- sessions --------------------------------------------------------------------------------

    async def _card(self, words: list[str]) -> None:
        number, *pin = words
        await self._begun(self._mfd.login(card=number, pin=pin[0] if pin else ""))

    async def _pin(self, words: list[str]) -> None:
        (pin,) = words
        await self._begun(self._mfd.login(pin=pin))

    async def _login(self, words: list[str]) -> None:
        name, password = words
        await self._begun(self._mfd.login(name=name, password=password))

    async def _associate(self, words: list[str]) -> None:
        number, *proof = words
        if len(proof) == 1:
            await self._begun(self._mfd.associate(number, pin=proof[0]))
        else:
            name, password = proof
            await self._begun(self._mfd.associate(number, name=name, password=password))

    async def _begun(self, login: Awaitable[dict[str, Any]]) -> None:
        answer = await login
        self._name = answer["user"]
        self._say(f"Hello {answer['full_name'] or answer['user']} ({answer['method']}).")
        self._stop_following()
        scope = self._following = trio.CancelScope()
        self._nursery.start_soon(self._follow, scope)

    async def _follow(self, scope: trio.CancelScope) -> None:
        with scope:
            try:
                reason = await self._followed()
            except OperationError as error:
                self._say(f"* the session cannot be followed: {error}")
                return
            if scope.cancel_called:  # its end and the answer to the next login came together
                return
            if reason not in ("logout", "stopping"):
                self._mfd.session = ""
            self._say(f"* the session is over: {reason}")

    async def _followed(self) -> str:
        """Why the session is over; it goes on over whatever connection there is."""
        while True:
            try:
                return await self._mfd.follow(self._heard)
            except Lost as error:
                self._say(f"* not connected: {error}")
                await trio.sleep(AGAIN_S)

    def _heard(self, name: str, args: dict[str, Any]) -> None:
        if name == "job-state":
            reasons = f" ({', '.join(args['reasons'])})" if args["reasons"] else ""
            self._say(f"* job {args['job_id']} is {args['state']}{reasons}")
        elif name == "balance":
            self._say(f"* balance {_money(args['balance'])}")
        elif name == "node-mode":
            self._say(f"* the server is {args['mode']}")
        else:
            self._say(f"* {name}")

    def _stop_following(self) -> None:
        if self._following is not None:
            self._following.cancel()
            self._following = None

    async def _who(self, words: list[str]) -> None:
        answer = await self._mfd.resume()
        self._say(f"{answer['user']}, by {answer['method']}; on {', '.join(answer['printers'])}.")

    async def _logout(self, words: list[str]) -> None:
        self._stop_following()
        await self._mfd.logout()
        self._say("Nobody is logged in.")

    async def _wait(self, words: list[str]) -> None:
        (seconds,) = words
        await trio.sleep(float(seconds))

    # -- jobs ------------------------------------------------------------------------------------

    async def _list(self, words: list[str]) -> None:
        jobs = await self._mfd.jobs()
        for job in jobs:
            pages = "? pages" if job["pages"] is None else f"{job['pages']} pages"
            pages = "1 page" if job["pages"] == 1 else pages
            copies = f" x {job['copies']}" if job["copies"] > 1 else ""
            price = "" if job["price"] is None else f", {_money(job['price'])}"
            why = "" if job["fits"] else f"  [not here: {job['why']}]"
            whose = "" if job["owner"] == self._name else f" of {job['owner']}"
            where = f", at {job['node']}" if job["node"] else ""
            title = f"{job['title'] or 'no title'}{whose}"
            self._say(f"{job['id']:>8}  {title}: {pages}{copies}{price}{where}{why}")
        if not jobs:
            self._say("No held jobs.")
        self._tell_unheard()

    async def _release(self, words: list[str]) -> None:
        ids, options = _split(words)
        if "all" in ids:
            results = await self._mfd.release(None, **options)
            self._tell_unheard()
        else:
            results = await self._mfd.release([int(one) for one in ids], **options)
        self._tell(results)

    async def _change(self, words: list[str]) -> None:
        (id_,), options = _split(words)
        self._tell([await self._mfd.change(int(id_), **options)])

    async def _delete(self, words: list[str]) -> None:
        self._tell(await self._mfd.delete([int(one) for one in words]))

    def _tell_unheard(self) -> None:
        for name in self._mfd.unheard:
            self._say(f"* {name} does not answer: more may wait there")

    def _tell(self, results: list[dict[str, Any]]) -> None:
        for one in results:
            if one["error"] is not None:
                self._refuse(f"{one['id']}: {one['error']['message']} {one['error']['advice']}")
            else:
                price = "" if one["price"] is None else f", {_money(one['price'])}"
                self._say(f"{one['id']:>8}  {one['title'] or 'no title'}: {one['state']}{price}")
        if not results:
            self._say("Nothing to do.")

    async def _accounts(self, words: list[str]) -> None:
        for one in await self._mfd.accounts():
            code = f" ({one['code']})" if one["code"] else ""
            has = "" if one["balance"] is None else f": {_money(one['balance'])}"
            self._say(f"  {one['name'] or 'my own'}{code}{has}")

    # -- copies, scans and faxes -----------------------------------------------------------------

    def _work(self, work: str) -> Command:
        async def make(words: list[str]) -> None:
            (pages,), options = _split(words)
            options.setdefault("color", "monochrome")
            answer = await self._mfd.make(work, int(pages), **options)
            flags = f" [{', '.join(answer['flags'])}]" if answer["flags"] else ""
            made = answer["impressions"]
            self._say(f"{work} of {made} of {pages} pages: {_money(answer['total'])}{flags}")

        return make


def _split(words: list[str]) -> tuple[list[str], dict[str, Any]]:
    """The plain words, and the options of NAME=VALUE; copies are a number."""
    plain = [word for word in words if "=" not in word]
    options: dict[str, Any] = dict(word.split("=", 1) for word in words if "=" in word)
    if "copies" in options:
        options["copies"] = int(options["copies"])
    return plain, options


def _money(amount: int | None) -> str:
    return "free" if amount is None else format_amount(amount)
