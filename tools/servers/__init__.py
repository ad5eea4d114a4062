"""Private servers for the tests and the tools: RabbitMQ, Redis and an HTTP receiver."""
