"""Transports of Junebug's channels as workers of vumi2 and of vumi."""

from __future__ import annotations

from typing import Any

import pytest

from junebug_turn.daemon.junebug.transports import AAT_USSD, SMPP, transport, transport_type

AMQP = {"hostname": "rabbit"}


def smpp(**config: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The configuration of vumi2's transport without what all have, and the options that are lost."""
    found = transport("id", "smpp", config, AMQP, {})
    assert found is not None
    assert (found.worker, found.vumi2) == (SMPP, True)
    made = dict(found.config)
    assert (made.pop("transport_name"), made.pop("amqp")) == ("id", AMQP)
    return made, found.lost


class TestSmpp:
    def test_whole(self) -> None:
        """All that vumi2's transport has is there, by its names; what it lacks is named."""
        made, lost = smpp(
            twisted_endpoint="tcp:host=smsc.example.org:port=2775:timeout=30",
            system_id="me",
            password="word",
            system_type="t",
            interface_version="34",
            address_range="1",
            smpp_enquire_link_interval=30,
            smpp_bind_timeout=20,
            service_type="s",
            source_addr_ton=5,
            source_addr_npi=0,
            dest_addr_ton="1",
            dest_addr_npi=9,
            registered_delivery=1,
            submit_short_message_processor_config={"send_multipart_sar": True, "submit_sm_data_coding": 8},
            deliver_short_message_processor_config={"data_coding_overrides": {"0": "utf-8"}},
            delivery_report_processor_config={"delivery_report_regex": "id:(?P<id>.*)"},
            third_party_id_expiry=60,
            mt_tps=5,
            # Of Junebug's own start of a transport.
            transport_name="other",
            worker_name="w",
            publish_status=True,
        )
        assert made == {
            "host": "smsc.example.org",
            "port": 2775,
            "system_id": "me",
            "password": "word",
            "system_type": "t",
            "interface_version": 34,
            "address_range": "1",
            "smpp_enquire_link_interval": 30,
            "smpp_bind_timeout": 20,
            "submit_sm_processor_config": {
                "service_type": "s",
                "source_addr_ton": "ALPHANUMERIC",
                "source_addr_npi": "UNKNOWN",
                "dest_addr_ton": "INTERNATIONAL",
                "dest_addr_npi": "PRIVATE",
                "registered_delivery": {"delivery_receipt": 1},
                "multipart_handling": "multipart_sar",
                "data_coding": "UCS2",
            },
            "sm_processor_config": {"data_coding_overrides": {"SMSC_DEFAULT_ALPHABET": "utf-8"}},
            "dr_processor_config": {"regex": "id:(?P<id>.*)"},
            "smpp_cache_config": {"timeout": 60},
        }
        assert lost == ("mt_tps",)

    @pytest.mark.parametrize(
        ("endpoint", "host", "port"),
        [
            ("tcp:smsc:2775", "smsc", 2775),
            ("tcp:host=smsc:port=1", "smsc", 1),
            ("tcp:smsc:port=1", "smsc", 1),
            (r"tcp:host=\:\:1:port=1", "::1", 1),
        ],
    )
    def test_endpoints(self, endpoint: str, host: str, port: int) -> None:
        """Each form of a TCP endpoint is a host and a port."""
        assert smpp(twisted_endpoint=endpoint) == ({"host": host, "port": port}, ())

    @pytest.mark.parametrize(
        "config",
        [
            {"twisted_endpoint": "ssl:smsc:2775"},
            {"twisted_endpoint": "tcp:smsc"},
            {"twisted_endpoint": 5},
            {"twisted_endpoint": "tcp:a:1:bindAddress=b"},
            {"dest_addr_ton": 99},
            {"dest_addr_npi": True},
            {"registered_delivery": 16},
            {"interface_version": "new"},
            {"submit_short_message_processor_config": {"send_long_messages": 1, "send_multipart_udh": 1}},
            {"submit_short_message_processor_config": {"allow_long_messages": 1}},
            {"submit_short_message_processor_config": "x"},
            {"deliver_short_message_processor_config": {"data_coding_overrides": {"99": "x"}}},
            {"deliver_short_message_processor_config": {"data_coding_overrides": {}, "more": 1}},
            {"delivery_report_processor_config": {"more": 1}},
            {"third_party_id_expiry": None},
        ],
    )
    def test_lost(self, config: dict[str, Any]) -> None:
        """What has no counterpart, or a value that it can't have, is named and not guessed."""
        assert smpp(**config) == ({}, tuple(config))

    @pytest.mark.parametrize(("number", "name"), [(0, "UNKNOWN"), (14, "INTERNET"), (18, "WAP_CLIENT_ID")])
    def test_numbering_plans(self, number: int, name: str) -> None:
        """Each numbering plan of SMPP 3.4 has the name that vumi2's library has for it."""
        assert smpp(dest_addr_npi=number) == ({"submit_sm_processor_config": {"dest_addr_npi": name}}, ())


def test_aat_ussd() -> None:
    """vumi2 has AAT's USSD: with the port as its http_bind."""
    config = {"web_path": "/aat", "web_port": 8091, "base_url": "https://u.example.org", "provider": "x"}
    found = transport("id", "aat_ussd", config, AMQP, {})
    assert found is not None
    assert (found.worker, found.lost, found.vumi2) == (AAT_USSD, ("provider",), True)
    assert found.config == {
        "transport_name": "id",
        "base_url": "https://u.example.org",
        "web_path": "/aat",
        "http_bind": "0.0.0.0:8091",
        "amqp": AMQP,
    }


def test_vumi() -> None:
    """Other types have vumi's transport, or the class that junebug.yml gives; of an unknown one nothing is made up."""
    found = transport("id", "telnet", {"twisted_endpoint": "tcp:9001"}, AMQP, {})
    assert found is not None
    assert (found.worker, found.vumi2) == ("vumi.transports.telnet.TelnetServerTransport", False)
    assert found.config == {"transport_name": "id", "publish_status": True, "twisted_endpoint": "tcp:9001"}
    other = transport("id", "mine", None, AMQP, {"mine": "some.Transport"})
    assert other is not None
    assert other.worker == "some.Transport"
    for type in ("mine", None, 7):
        assert transport("id", type, {}, AMQP, {}) is None


def test_transport_types() -> None:
    """The messages of a channel have the transport type of its network."""
    given = ("smpp", "telnet", "xmpp", "dmark", "aat_ussd", "mine", None)
    assert [transport_type(each) for each in given] == ["sms", "telnet", "xmpp", "ussd", "ussd", "sms", "sms"]
