"""A broker on a real socket that reads what is published and does not confirm it; its frames are pika's."""

from __future__ import annotations

import socket
from typing import Any

from pika import frame, spec

from tests.support.broker_peer import HEADER, answer_to
from tests.support.threaded_server import ThreadedServer

HANDSHAKE = {
    "Connection.StartOk": spec.Connection.Tune(2047, 131072, 0),
    "Connection.Open": spec.Connection.OpenOk(),
}


class SilentBroker(ThreadedServer):
    """The broker.

    It confirms the first message of a channel, which says how large others may be, and no other.

    :ivar url: of its form, as a ``RabbitNode`` has it
    :ivar published: how many messages were published
    """

    def __init__(self) -> None:
        super().__init__(socket.create_server(("127.0.0.1", 0)))
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"
        self.published = 0

    def serve(self, connection: socket.socket) -> None:
        data = connection.recv(len(HEADER), socket.MSG_WAITALL)
        assert data == HEADER
        start = spec.Connection.Start(server_properties={}, mechanisms="AMQPLAIN PLAIN", locales="en_US")
        connection.sendall(frame.Method(0, start).marshal())
        data, left, channels = b"", 0, set()
        while chunk := connection.recv(2**18):
            data += chunk
            while True:
                used, found = frame.decode_frame(data)
                if not used:
                    break
                data = data[used:]
                answer = None
                if isinstance(found, frame.Method):
                    answer = self._answer(found.method)
                elif isinstance(found, frame.Header):
                    left = found.body_size
                elif isinstance(found, frame.Body):
                    left -= len(found.fragment)
                    if left == 0:
                        self.published += 1
                        if found.channel_number not in channels:
                            channels.add(found.channel_number)
                            answer = spec.Basic.Ack(1)
                elif isinstance(found, frame.Heartbeat):
                    connection.sendall(frame.Heartbeat().marshal())
                if answer is not None:
                    connection.sendall(frame.Method(found.channel_number, answer).marshal())

    def _answer(self, method: Any) -> Any:
        if method.NAME == "Basic.Consume":
            return spec.Basic.ConsumeOk(method.consumer_tag)
        return HANDSHAKE.get(method.NAME) or answer_to(method)
