"""Transports of Junebug's channels as workers that run elsewhere: of vumi2 where it has them, else of vumi.

The names are those of ``vumi2/transports/smpp/smpp.py``, of ``processors.py`` beside it and of
``vumi2/transports/aat_ussd/``; on Junebug's side they are those of ``vumi/transports/smpp/config.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

SMPP = "vumi2.transports.smpp.smpp.SmppTransceiverTransport"
AAT_USSD = "vumi2.transports.AatUssdTransport"

# Of Junebug, of vumi and of docker-junebug.
_VUMI = {
    "telnet": "vumi.transports.telnet.TelnetServerTransport",
    "xmpp": "vumi.transports.xmpp.XMPPTransport",
    "dmark": "vumi.transports.dmark.DmarkUssdTransport",
    "dmark_ussd": "vumi.transports.dmark.DmarkUssdTransport",
    "whatsapp": "vxyowsup.whatsapp.WhatsAppTransport",
    "vumigo": "vumi.transports.vumi_bridge.GoConversationTransport",
}

_TYPES = {"telnet": "telnet", "xmpp": "xmpp", "dmark": "ussd", "dmark_ussd": "ussd", "aat_ussd": "ussd"}

_TON = (
    "UNKNOWN",
    "INTERNATIONAL",
    "NATIONAL",
    "NETWORK_SPECIFIC",
    "SUBSCRIBER_NUMBER",
    "ALPHANUMERIC",
    "ABBREVIATED",
)
_NPI = {
    0: "UNKNOWN",
    1: "ISDN",
    3: "DATA",
    4: "TELEX",
    6: "LAND_MOBILE",
    8: "NATIONAL",
    9: "PRIVATE",
    10: "ERMES",
    14: "INTERNET",
    18: "WAP_CLIENT_ID",
}
_CODINGS = {
    0: "SMSC_DEFAULT_ALPHABET",
    1: "IA5_ASCII",
    2: "OCTET_UNSPECIFIED",
    3: "LATIN_1",
    4: "OCTET_UNSPECIFIED_COMMON",
    5: "JIS",
    6: "CYRILLIC",
    7: "ISO_8859_8",
    8: "UCS2",
}
_ADDRESS_NAMES: dict[str, Mapping[int, str]] = {
    "source_addr_ton": dict(enumerate(_TON)),
    "source_addr_npi": _NPI,
    "dest_addr_ton": dict(enumerate(_TON)),
    "dest_addr_npi": _NPI,
}
_MULTIPART = {
    "send_multipart_udh": "multipart_udh",
    "send_multipart_sar": "multipart_sar",
    "send_long_messages": "message_payload",
}

# What only Junebug's own start of a transport needs.
_JUNEBUGS = ("transport_name", "worker_name", "publish_status")


@frozen
class Transport:
    """A worker that has to run for a channel.

    :ivar worker: its class path
    :ivar config: its configuration file
    :ivar lost: those options of Junebug's that it does not have
    :ivar vumi2: whether it is vumi2's; else it is vumi's, or one that was written for vumi
    """

    worker: str
    config: dict[str, Any] = field(repr=False)
    lost: tuple[str, ...]
    vumi2: bool


def transport_type(type: Any) -> str:
    """Return the transport type of messages of a channel of this type."""
    return _TYPES.get(type, "sms") if isinstance(type, str) else "sms"


def transport(
    id: str, type: Any, config: Any, amqp: Mapping[str, Any], classes: Mapping[str, Any]
) -> Transport | None:
    """Return the transport of a channel; None where nothing says which one it is.

    :param config: the channel's property
    :param amqp: the broker, as vumi2 has it
    :param classes: type -> class, as junebug.yml has them
    """
    given = config if isinstance(config, dict) else {}
    own = {key: value for key, value in given.items() if key not in _JUNEBUGS}
    base = {"transport_name": id}
    if type == "smpp":
        made, lost = _smpp(own)
        return Transport(SMPP, base | made | {"amqp": dict(amqp)}, lost, True)
    if type == "aat_ussd":
        made, lost = _aat_ussd(own)
        return Transport(AAT_USSD, base | made | {"amqp": dict(amqp)}, lost, True)
    worker = classes.get(type) or _VUMI.get(type) if isinstance(type, str) else None
    if worker is None:
        return None
    # vumi has the broker on its command line.
    return Transport(str(worker), base | {"publish_status": True} | own, (), False)


def _smpp(given: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the options of vumi2's transport, and the names of those that it lacks."""
    rest = dict(given)
    made: dict[str, Any] = {}
    if (address := _address(rest.get("twisted_endpoint"))) is not None:
        made["host"], made["port"] = address
        del rest["twisted_endpoint"]
    for name in ("system_id", "password", "system_type", "address_range"):
        if (text := rest.pop(name, None)) is not None:
            made[name] = str(text)
    for name in ("interface_version", "smpp_enquire_link_interval", "smpp_bind_timeout"):
        if (number := _number(rest.get(name))) is not None:
            made[name] = number
            del rest[name]
    submit = _submit(rest)
    if submit:
        made["submit_sm_processor_config"] = submit
    deliver = rest.get("deliver_short_message_processor_config")
    if isinstance(deliver, dict) and deliver.keys() == {"data_coding_overrides"}:
        overrides = deliver["data_coding_overrides"]
        if isinstance(overrides, dict) and all(_number(code) in _CODINGS for code in overrides):
            named = {_CODINGS[int(code)]: codec for code, codec in overrides.items()}
            made["sm_processor_config"] = {"data_coding_overrides": named}
            del rest["deliver_short_message_processor_config"]
    reports = rest.get("delivery_report_processor_config")
    names = {"delivery_report_regex": "regex", "delivery_report_status_mapping": "status_mapping"}
    if isinstance(reports, dict) and reports.keys() <= names.keys():
        made["dr_processor_config"] = {names[name]: value for name, value in reports.items()}
        del rest["delivery_report_processor_config"]
    if (number := _number(rest.get("third_party_id_expiry"))) is not None:
        made["smpp_cache_config"] = {"timeout": number}
        del rest["third_party_id_expiry"]
    return made, tuple(sorted(map(str, rest)))


def _submit(rest: dict[str, Any]) -> dict[str, Any]:
    """Take what vumi2's processor of outbound messages has out of ``rest``, and return it."""
    submit: dict[str, Any] = {}
    if (text := rest.pop("service_type", None)) is not None:
        submit["service_type"] = str(text)
    for name, names in _ADDRESS_NAMES.items():
        if (number := _number(rest.get(name))) in names:
            submit[name] = names[number or 0]
            del rest[name]
    if (number := _number(rest.get("registered_delivery"))) in (0, 1, 2):
        submit["registered_delivery"] = {"delivery_receipt": number}
        del rest["registered_delivery"]
    processor = rest.get("submit_short_message_processor_config")
    if isinstance(processor, dict) and processor.keys() <= _MULTIPART.keys() | {"submit_sm_data_coding"}:
        chosen = [name for flag, name in _MULTIPART.items() if processor.get(flag)]
        coding = _number(processor.get("submit_sm_data_coding", 0))
        if len(chosen) <= 1 and coding in _CODINGS:
            submit |= {"multipart_handling": chosen[0]} if chosen else {}
            submit |= {"data_coding": _CODINGS[coding]} if coding else {}
            del rest["submit_short_message_processor_config"]
    return submit


def _aat_ussd(given: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    rest = dict(given)
    made: dict[str, Any] = {name: rest.pop(name) for name in ("base_url", "web_path") if name in rest}
    if (port := _number(rest.get("web_port"))) is not None:
        made["http_bind"] = f"0.0.0.0:{port}"
        del rest["web_port"]
    return made, tuple(sorted(map(str, rest)))


def _number(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _address(endpoint: Any) -> tuple[str, int] | None:
    """Return host and port of a Twisted client endpoint over TCP, as ``tcp:host=smsc:port=2775``."""
    if not isinstance(endpoint, str):
        return None
    kind, *words = endpoint.replace("\\:", "\0").split(":")
    named = dict(word.split("=", 1) for word in words if "=" in word)
    bare = [word for word in words if "=" not in word]
    host = named.pop("host", None) or (bare.pop(0) if bare else "")
    port = _number(named.pop("port", None) or (bare.pop(0) if bare else ""))
    named.pop("timeout", None)
    if kind != "tcp" or not host or port is None or named or bare:
        return None
    return host.replace("\0", ":"), port
