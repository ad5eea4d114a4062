"""Compatibility with RabbitMQ 4 and Redis 8, ``make compat``: the tests on the servers of Debian 13."""
