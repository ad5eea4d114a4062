"""The register of examples: how each block of code in README and the pages of docs is tested.

The key is the start of the block.  ``tests/project/test_docs_examples.py`` fails for a block that is not here, and for
a line here that has no block or names a test that there isn't.
"""

from __future__ import annotations

from tests.support.pages import Block, all_blocks

MAKE = "tests/project/test_docs_examples.py::test_the_commands_of_make"
CONFIGURATION = "tests/project/test_docs_examples.py::test_a_configuration"
MONITORING = "tests/project/test_docs_examples.py::test_the_configuration_of_the_monitoring"
FORM = "tests/project/test_docs_examples.py::test_a_form"
DEMO = "tests/integration/test_page_commands.py::test_a_block"
CLIENTS = "tests/integration/test_client_pages.py"
BODIES = "tests/project/test_docs_bodies.py"
MIGRATION = "tests/integration/test_page_migration.py::test_the_steps"
INSTALL = "tests/integration/test_page_install.py"
RAPIDPRO = "tests/project/test_docs_rapidpro.py"
TURN = "tests/project/test_docs_turn.py"

PARSED = "tests/project/test_docs_examples.py::test_a_block_that_is_parsed"
"""For what can't run here: ``REASONS`` says why."""

REASONS = {
    "kubectl create secret": "needs a cluster",
    "kubectl apply": "needs a cluster",
    "docker buildx": "needs Docker and an image registry",
    "SERVERS_TREE=": "needs Debian 13 in var, which root makes",
    "pip install 'junebug-turn[otel]'": "would install into the environment of the tests",
    "curl https://whatsapp.turn.io": "needs an account at Turn",
}

EXAMPLES: dict[str, dict[str, str]] = {
    "README.md": {
        "make ": MAKE,
        "telnet": DEMO,
        "curl": DEMO,
        "receiver |": "tests/integration/test_page_commands.py::test_the_output_of_the_receiver",
    },
    "CONTRIBUTING.md": {"make ": MAKE},
    "docs/alerts.md": {
        "rule_files:": MONITORING,
        "route:": MONITORING,
        "sed ": "tests/project/test_docs_examples.py::test_the_address_of_the_alerts",
    },
    "docs/backup-and-logs.md": {
        "sqlite3": "tests/integration/test_backup.py::test_backup_and_restore",
        "systemctl stop": "tests/integration/test_backup.py::test_backup_and_restore",
        "sources:": "tests/integration/test_backup.py::test_the_snippet",
    },
    "docs/caches.md": {
        "state_cache_": CONFIGURATION,
        '{"status": 200': f"{BODIES}::test_the_status_of_a_message",
    },
    "docs/channels.md": {
        "http_bind:": CONFIGURATION,
        "channels:": CONFIGURATION,
        "POST /": "tests/integration/test_page_commands.py::test_the_requests_for_channels",
    },
    "docs/clients-junebug.md": {
        "curl": f"{CLIENTS}::test_the_commands_for_junebug",
        "- application: junebug": f"{CLIENTS}::test_an_inbound_message",
        "SECRET=": f"{CLIENTS}::test_an_inbound_message",
        ".venv/bin/python -m tools.demo.phone": f"{CLIENTS}::test_an_inbound_message",
        "kill -STOP": f"{CLIENTS}::test_the_process_of_the_broker",
        "import json": f"{CLIENTS}::test_a_program_that_sends",
        "const { randomUUID }": f"{CLIENTS}::test_a_program_that_sends",
        "secret:": "tests/project/test_docs_clients.py::test_the_vector_of_webhooks",
        "import base64": f"{CLIENTS}::test_a_receiver",
        "const crypto": f"{CLIENTS}::test_a_receiver",
        '{"status": 200': f"{CLIENTS}::test_the_commands_for_junebug",
        '{"status": 400': "tests/project/test_docs_clients.py::test_the_form_of_an_error",
    },
    "docs/clients-kannel.md": {
        "import urllib": f"{CLIENTS}::test_a_client_of_kannel",
        "import urllib.parse\nfrom http": f"{CLIENTS}::test_a_receiver_of_forms",
        "const http": f"{CLIENTS}::test_a_receiver_of_forms",
        "const { randomUUID }": f"{CLIENTS}::test_a_client_of_kannel",
        "curl": f"{CLIENTS}::test_the_commands_for_kannel",
        "0: Accepted": f"{CLIENTS}::test_the_commands_for_kannel",
        "Empty receiver": "tests/project/test_docs_clients.py::test_the_form_of_an_error",
    },
    "docs/clients-rapidpro.md": {
        "import urllib": f"{CLIENTS}::test_a_client_of_rapidpro",
        "import urllib.parse\nfrom http": f"{CLIENTS}::test_a_receiver_of_forms",
        "const http": f"{CLIENTS}::test_a_receiver_of_forms",
        "const { randomUUID }": f"{CLIENTS}::test_a_client_of_rapidpro",
        "curl": f"{CLIENTS}::test_the_command_for_rapidpro",
        '{"message_id"': f"{CLIENTS}::test_the_command_for_rapidpro",
        '{"error"': "tests/project/test_docs_clients.py::test_the_form_of_an_error",
    },
    "docs/clients-turn.md": {
        "secret:": "tests/project/test_docs_clients.py::test_the_vector_of_turn",
        "set -a": f"{CLIENTS}::test_a_client_of_turn",
        "body=": f"{CLIENTS}::test_a_client_of_turn",
        "import base64": f"{CLIENTS}::test_a_client_of_turn",
        "const crypto": f"{CLIENTS}::test_a_client_of_turn",
        '{"errors"': "tests/project/test_docs_clients.py::test_the_form_of_an_error",
    },
    "docs/deliveries.md": {
        "$ curl": "tests/integration/test_page_commands.py::test_the_health",
    },
    "docs/development.md": {
        "SERVERS_TREE=": PARSED,
        ".venv/bin/towncrier": "tests/project/test_docs_examples.py::test_the_changelog_of_a_release",
    },
    "docs/junebug.md": {
        "POST /channels/": f"{BODIES}::test_a_message",
        "HTTP/1.1 201": f"{BODIES}::test_a_message",
        "HTTP/1.1 400": f"{BODIES}::test_a_refused_message",
        "POST /c/jn/": f"{BODIES}::test_an_inbound_message",
        "POST /events": f"{BODIES}::test_an_event",
        '{"channel_id"': f"{BODIES}::test_a_status_of_a_transport",
    },
    "docs/kannel.md": {
        "application: kannel": f"{RAPIDPRO}::test_options",
        "Add Kannel channel": FORM,
        "curl": DEMO,
        "0: Accepted for delivery\n": f"{RAPIDPRO}::test_kannel_tables",
        "0: Accepted for delivery.": f"{BODIES}::test_several_receivers_of_kannel",
        "receive_method:": CONFIGURATION,
        ".venv/bin/python": DEMO,
    },
    "docs/kubernetes.md": {"kubectl": PARSED},
    "docs/middlewares.md": {
        "middlewares:": CONFIGURATION,
        "import attrs": f"{BODIES}::test_the_middleware",
    },
    "docs/migrating.md": {
        "redis-server": MIGRATION,
        "rabbitmqctl": MIGRATION,
        "make ": MAKE,
        "umask": MIGRATION,
        ".venv/bin/python": MIGRATION,
        "VUMI_CONFIG_FILE": "tests/integration/test_page_migration.py::test_from_vumi2",
        "junebug-turn check-config": MIGRATION,
        "junebug-turn import-junebug": MIGRATION,
        "# Channel": MIGRATION,
        "/opt/junebug-turn/bin/jb": MIGRATION,
        "curl": MIGRATION,
    },
    "docs/networks.md": {"amqp:": CONFIGURATION, "http_proxy:": CONFIGURATION},
    "docs/operations.md": {
        "sudo python3": f"{INSTALL}::test_with_systemd",
        "export": f"{INSTALL}::test_with_systemd",
        "sudo install": f"{INSTALL}::test_the_manual_page",
        "sudo rabbitmqctl": f"{INSTALL}::test_the_user",
        "[Service]": f"{INSTALL}::test_further_secrets",
        "mkdir": f"{INSTALL}::test_with_docker",
        '{"time"': f"{BODIES}::test_a_line_of_the_log",
        "$ junebug-turn trace": "tests/integration/test_page_commands.py::test_a_trace",
        "admin_bind:": CONFIGURATION,
        "curl -s -u anna": DEMO,
        "operator_url:": CONFIGURATION,
        '{"type"': f"{BODIES}::test_an_operator_event",
        "docker buildx": PARSED,
    },
    "docs/options.md": {
        "amqp:": CONFIGURATION,
        "application: junebug": CONFIGURATION,
        "api_auth:": CONFIGURATION,
        "event_url_allowed_hosts:": CONFIGURATION,
        "junebug-turn: amqp.port": "tests/project/test_docs_examples.py::test_the_faults",
    },
    "docs/rapidpro.md": {
        "application: rapidpro": f"{RAPIDPRO}::test_options",
        "Add External API channel": FORM,
        '{"message_id"': f"{RAPIDPRO}::test_rapidpro_examples",
        "POST /rapidpro/send": f"{RAPIDPRO}::test_rapidpro_examples",
        "How are you?": f"{RAPIDPRO}::test_rapidpro_examples",
        "from=": f"{RAPIDPRO}::test_rapidpro_examples",
        '{"error"': f"{BODIES}::test_an_error_of_rapidpro",
        ".venv/bin/python": DEMO,
    },
    "docs/retries.md": {"$ export": DEMO, "junebug-turn delayed": DEMO},
    "docs/tracing.md": {"pip install": PARSED},
    "docs/troubleshooting.md": {"junebug-turn parked": DEMO},
    "docs/turn.md": {
        "curl https://whatsapp.turn.io": PARSED,
        "application: turn": f"{TURN}::test_the_configuration",
        '{\n  "to": "+27820000002",\n  "from"': f"{TURN}::test_a_message_from_turn",
        '{"messages"': f"{TURN}::test_a_message_from_turn",
        "body=": DEMO,
        '{\n  "to": "+27820000002",\n  "turn"': f"{TURN}::test_menus",
        "Clinic": f"{TURN}::test_menus",
        "Which topic?": f"{TURN}::test_menus",
        '{\n  "contact": {"id": "+27820000002", "profile": {"name": "+27820000002"}},\n  "message": {\n'
        '    "type": "interactive"': f"{TURN}::test_the_choice",
        '{\n  "contact": {"id": "+27820000002", "profile": {"name": "+27820000002"}},\n  "message": {\n'
        '    "type": "text"': f"{TURN}::test_a_message_to_turn",
        '{\n  "status"': f"{TURN}::test_statuses",
        '{\n  "user_message_id"': f"{TURN}::test_statuses",
        '{"errors"': f"{TURN}::test_the_example_of_an_error",
        ".venv/bin/python": DEMO,
    },
    "docs/where-is-my-message.md": {"junebug-turn": DEMO, "curl": DEMO},
}


def way_of(block: Block) -> str | None:
    """The test of a block; None where no line is its start."""
    starts = EXAMPLES.get(block.page, {})
    found = [start for start in starts if block.text.lstrip().startswith(start)]
    return starts[max(found, key=len)] if found else None


def examples_of(test: str) -> list[Block]:
    """The blocks that a test is for."""
    return [block for block in all_blocks() if way_of(block) == test]
