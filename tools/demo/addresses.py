"""Addresses of ``make run``, from the daemon's configuration, and the instructions for a person.

Tested by tests/tools/demo/test_run.py.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from urllib.parse import quote, urlsplit

from attrs import frozen

from junebug_turn.amqp.options import AmqpOptions
from junebug_turn.applications.junebug.options import JunebugOptions
from junebug_turn.applications.kannel.options import KannelOptions
from junebug_turn.applications.rapidpro.options import RapidProOptions
from junebug_turn.applications.turn.options import TurnOptions
from junebug_turn.daemon.settings import load
from tools.demo import rapidpro, webhook
from tools.servers.process import ROOT

PHONE_NUMBER = "+27820000001"
TURN_PHONE_NUMBER = webhook.PHONE_NUMBER
RAPIDPRO_PHONE_NUMBER = rapidpro.PHONE_NUMBER
KANNEL_PHONE_NUMBER = rapidpro.KANNEL_PHONE_NUMBER

Address = tuple[str, int]


class RunError(Exception):
    """The demo can't go on; the text is for the person at the terminal."""


@frozen
class Addresses:
    """The address of each part of the demo, and the options that it is from.

    :ivar config: the configuration file
    :ivar turn: the Turn application, None where the file has none; then ``turn_phone`` is not needed
    :ivar turn_path: below which the receiver is Turn
    :ivar rapidpro: the External channel of RapidPro, in the same way
    :ivar kannel: the Kannel channel, in the same way
    :ivar operators: the operators' address, None where the file has none
    """

    config: str
    amqp: AmqpOptions
    junebug: JunebugOptions
    turn: TurnOptions | None
    http: Address
    receiver: Address
    turn_path: str
    phone: Address
    turn_phone: Address
    rapidpro: RapidProOptions | None
    rapidpro_phone: Address
    kannel: KannelOptions | None
    kannel_phone: Address
    operators: Address | None

    @classmethod
    def of(
        cls,
        path: str,
        phone_port: int,
        turn_phone_port: int,
        rapidpro_phone_port: int,
        kannel_phone_port: int,
    ) -> Addresses:
        """Read the addresses from the configuration file at ``path``.

        :raises ConfigError: the file has a fault
        :raises RunError: it is not one for the demo
        """
        settings = load({"config": path}, os.environ)
        applications, admin = settings.applications, settings.daemon.admin_bind
        junebug = next((each for each in applications if isinstance(each, JunebugOptions)), None)
        turn = next((each for each in applications if isinstance(each, TurnOptions)), None)
        rapidpro = next((each for each in applications if isinstance(each, RapidProOptions)), None)
        kannel = next((each for each in applications if isinstance(each, KannelOptions)), None)
        if junebug is None:
            raise RunError(f"{path} has no junebug application to show")
        receiver = _address(urlsplit(junebug.mo_message_url or "").netloc, "mo_message_url")
        turn_url = urlsplit(turn.turn_api_url if turn else "")
        others = ((turn, "turn_api_url"), (rapidpro, "rapidpro_url"), (kannel, "receive_url"))
        for application, option in others:
            if application is None:
                continue
            if application.http_bind != junebug.http_bind:
                raise RunError("all applications must have the same http_bind for this")
            if _address(urlsplit(application.urls.get(option, "")).netloc, option) != receiver:
                raise RunError(f"{option} must have the host and port of mo_message_url for this")
        return cls(
            config=path,
            amqp=settings.daemon.amqp,
            junebug=junebug,
            turn=turn,
            http=_address(str(junebug.http_bind), "http_bind"),
            receiver=receiver,
            turn_path=turn_url.path,
            phone=("127.0.0.1", phone_port),
            turn_phone=("127.0.0.1", turn_phone_port),
            rapidpro=rapidpro,
            rapidpro_phone=("127.0.0.1", rapidpro_phone_port),
            kannel=kannel,
            kannel_phone=("127.0.0.1", kannel_phone_port),
            operators=None if admin is None else _address(str(admin), "admin_bind"),
        )

    @property
    def listeners(self) -> list[tuple[str, Address]]:
        """Each part of the demo that listens, in words, with its address."""
        found = [
            ("the daemon (http_bind)", self.http),
            ("the receiver (mo_message_url)", self.receiver),
            ("the phone", self.phone),
        ]
        if self.turn:
            found.append(("the phone of the Turn channel", self.turn_phone))
        if self.rapidpro:
            found.append(("the phone of the RapidPro channel", self.rapidpro_phone))
        if self.kannel:
            found.append(("the phone of the Kannel channel", self.kannel_phone))
        if self.operators:
            found.append(("the operators' page (admin_bind)", self.operators))
        return found

    @property
    def health_url(self) -> str:
        """The URL of the daemon's health."""
        return f"http://{_netloc(self.http)}/health"

    @property
    def amqp_url(self) -> str:
        """The URL of the broker, as the phones take it."""
        amqp = self.amqp
        user = f"{quote(amqp.username, safe='')}:{quote(amqp.password, safe='')}"
        scheme = "amqps" if amqp.tls else "amqp"
        return f"{scheme}://{user}@{amqp.hostname}:{amqp.port}/{quote(amqp.vhost, safe='')}"

    def instructions(self, broker: str) -> str:
        """Write what listens where, and the lines to copy.

        :param broker: in words, who started the broker
        """
        api = f"http://{_netloc(self.http)}{self.junebug.path}/messages"
        receiver = f"http://{_netloc(self.receiver)}"
        phone = f"{self.phone[0]} {self.phone[1]}"
        message = json.dumps({"to": PHONE_NUMBER, "from": "8864", "content": "Hello, phone!"})
        roles, turn_addresses, turn_lines = "RapidPro", "", ""
        if self.turn:
            roles = f"RapidPro and, at {self.turn_path or '/'}, for Turn"
            turn_addresses, turn_lines = self._turn_addresses(self.turn), self._turn_lines()
        if self.rapidpro:
            turn_addresses += self._rapidpro_addresses(self.rapidpro)
            turn_lines += self._rapidpro_lines()
        if self.kannel:
            turn_addresses += self._kannel_addresses(self.kannel)
            turn_lines += self._kannel_lines()
        operators = f"  operators' page       http://{_netloc(self.operators)}/\n" if self.operators else ""
        return f"""
  Junebug Message API   {api}
  its phone             {_netloc(self.phone)}  (a line typed is a message; what is sent to it appears)
{turn_addresses}  receiver              {receiver}  (stands in for {roles}; prints what it gets)
  health                {self.health_url}
{operators}  RabbitMQ              {self.amqp.hostname}:{self.amqp.port}  ({broker})

Try, each in another terminal:

  1. be the phone (type a line, and see it arrive at the receiver):
     telnet {phone}        # or: nc {phone}
  2. send a message to the phone:
     curl -s {api} -d '{message}'
  3. reply to the last message that the phone sent:
     curl -s {api} -d '{{"reply_to": "'$(curl -s {receiver}/last/message_id)'", "content": "Hello back!"}}'
{turn_lines}
Ctrl-C stops everything.
"""

    def _turn_addresses(self, turn: TurnOptions) -> str:
        return f"""\
  Turn Channels API     http://{_netloc(self.http)}{turn.path}/messages
  its phone             {_netloc(self.turn_phone)}  (the same, for the channel of Turn)
"""

    def _turn_lines(self) -> str:
        phone = f"{self.turn_phone[0]} {self.turn_phone[1]}"
        return f"""
The same through Turn:

  4. be the phone of the Turn channel:
     telnet {phone}        # or: nc {phone}
  5. send it a text as Turn does, in a signed webhook:
     {self._webhook_line("Hello from Turn!")}
  6. send it a menu; answer 1 or 2 at the phone, and see at the receiver what was chosen:
     {self._webhook_line("How are you?", "--waiting", "--buttons", "Well", "Not well")}
     and Turn's quota, 60 calls in 60 seconds: send more at once, see the receiver count the calls that are left, and
     the daemon wait for its turn (destinations.waiting in {self.health_url}):
     {self._webhook_line("Hello again!", "--count", "40")}
"""

    def _rapidpro_addresses(self, rapidpro: RapidProOptions) -> str:
        return f"""\
  RapidPro, External    http://{_netloc(self.http)}{rapidpro.path}/send
  its phone             {_netloc(self.rapidpro_phone)}  (USSD: the first line opens a session)
"""

    def _rapidpro_lines(self) -> str:
        phone = f"{self.rapidpro_phone[0]} {self.rapidpro_phone[1]}"
        return f"""
The same through RapidPro:

  7. be the phone of the RapidPro channel, and type a line:
     telnet {phone}        # or: nc {phone}
  8. answer it as a flow does; then type 1 or 2, and see the receiver get the quick reply:
     {self._command("rapidpro", "How are you?", "--waiting", "--quick-replies", "Well", "Not well")}
  9. end the session:
     {self._command("rapidpro", "Goodbye!", "--completed")}
"""

    def _kannel_addresses(self, kannel: KannelOptions) -> str:
        return f"""\
  RapidPro, Kannel      http://{_netloc(self.http)}{kannel.path}/cgi-bin/sendsms
  its phone             {_netloc(self.kannel_phone)}  (SMS)
"""

    def _kannel_lines(self) -> str:
        phone = f"{self.kannel_phone[0]} {self.kannel_phone[1]}"
        return f"""
The same through Kannel's interface:

 10. be the phone of the Kannel channel:
     telnet {phone}        # or: nc {phone}
 11. send it an SMS as RapidPro's Kannel channel does, and see the receiver get the reports:
     {self._command("rapidpro", "Hello through Kannel!", "--kannel")}
"""

    def _webhook_line(self, *words: str) -> str:
        return self._command("webhook", *words)

    def _command(self, module: str, *words: str) -> str:
        """Write a command that works in any folder; it names the file where that isn't the command's default."""
        python = Path(sys.executable)
        shown = str(python.relative_to(ROOT) if python.is_relative_to(ROOT) else python)
        default = webhook.arguments([]).config
        named = () if self.config == default else ("--config", str(Path(self.config).resolve()))
        # The words come first: --buttons takes all that follow it.
        command = shlex.join([shown, "-m", f"tools.demo.{module}", *words[:1], *named, *words[1:]])
        return f"cd {shlex.quote(str(ROOT))} && {command}"


def _address(netloc: str, option: str) -> Address:
    parts = urlsplit(f"//{netloc}")
    try:
        if parts.hostname and parts.port:
            return parts.hostname, parts.port
    except ValueError:
        pass
    raise RunError(f"{option} must have a host and a port for this")


def _netloc(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
