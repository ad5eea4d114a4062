"""A Twisted daemon between vumi's AMQP queues and the HTTP APIs of Junebug and Turn."""
