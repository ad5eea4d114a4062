"""Makes ``junebug-turn`` a command of twistd."""

from twisted.application.service import ServiceMaker

junebug_turn = ServiceMaker(
    "junebug-turn",
    "junebug_turn.daemon.tap",
    "The Junebug Message API and the Turn Channels API over the AMQP queues of vumi.",
    "junebug-turn",
)
