"""AMQP 0-9-1 with RabbitMQ: the protocol, the reconnecting service and the connectors."""

from junebug_turn.amqp.broker import Broker
from junebug_turn.amqp.connector import Connector

__all__ = ["Broker", "Connector"]
