# syntax=docker/dockerfile:1
# The daemon in a container: docs/operations.md says how it is configured and run.
# docs/operations.md says how the digest is renewed, or another image is taken: --build-arg PYTHON_IMAGE=...
ARG PYTHON_IMAGE=python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b

# The first stage has the tools for the build, and makes a virtual environment.
FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements-run.lock pyproject.toml setup.cfg MANIFEST.in README.md CHANGELOG.md LICENSE ./
COPY junebug_turn junebug_turn
COPY twisted twisted
# Nothing is installed whose hash is not in the lock file, setuptools neither, which builds our own wheel.
RUN python -m venv /opt/junebug-turn \
    && /opt/junebug-turn/bin/python -m pip install --require-hashes -r requirements-run.lock \
    && /opt/junebug-turn/bin/python -m pip install --no-deps --no-build-isolation . \
    && /opt/junebug-turn/bin/twistd --help >/dev/null

FROM ${PYTHON_IMAGE}
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin junebug-turn
COPY --from=build /opt/junebug-turn /opt/junebug-turn
USER 10001:10001
WORKDIR /tmp
EXPOSE 8080
# With another port in --http-bind, change the health check too.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["/opt/junebug-turn/bin/python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/health', timeout=4)"]
# The daemon finishes its running work, within shutdown_timeout.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/junebug-turn/bin/twistd", "--nodaemon", "--pidfile=", "junebug-turn"]
# Defaults as flags, which no variable loses by VUMI_CONFIG_PREFIX; arguments of docker run take their place.
CMD ["--http-bind=0.0.0.0:8080", "--log-format=json"]
