"""Webhook and MQTT: sinks of events on other machines, delivered at least once from the spool."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import logging
import os
import ssl
import time
from importlib import import_module
from typing import Any
from urllib.parse import unquote, urlsplit

from foveate import __version__
from foveate.core import ConfigError, FoveateError, MissingExtra
from foveate.live.clips import safe_name
from foveate.live.events import Event
from foveate.live.sinks import RejectedError, SinkSettings

WEBHOOK_SECRET = "FOVEATE_WEBHOOK_SECRET"
MQTT_PASSWORD = "FOVEATE_MQTT_PASSWORD"
# Answers that mean that this event will not be accepted later either; all others are repeated.
_REJECTED = frozenset([400, 410, 413, 415, 422])


def _split(url: str, option: str, schemes: tuple[str, ...]) -> Any:
    """The parts of an address.

    Raises:
        ConfigError: It is no address of these schemes; it is not repeated, as it may hold secrets.
    """
    hint = f"{schemes[-1]}://HOST/PATH"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigError(f"{option}: not an address", hint) from None
    if parts.scheme not in schemes or not host:
        raise ConfigError(f"{option}: the address must begin with {' or '.join(schemes)}", hint)
    return parts


class Webhook:
    """Sends events as JSON with POST, signed as in the Standard Webhooks specification.

    The headers are `webhook-id` (the event's id and revision, the same in all attempts),
    `webhook-timestamp` and, with a secret, `webhook-signature`: `v1,` and the base64 of the
    HMAC-SHA256 of `ID.TIMESTAMP.BODY`. Any 2xx answer is success. Redirects are not followed.

    Args:
        url: `http` or `https`; a user name and password in it are sent as basic authentication.
        settings: Time limit.
        secret: Key of the signature, `whsec_` and base64, or any text; the environment variable
            `FOVEATE_WEBHOOK_SECRET` if None.

    Raises:
        ConfigError: The address or the secret cannot be used.
    """

    name = "webhook"

    def __init__(self, url: str, settings: SinkSettings, secret: str | None = None) -> None:
        self._parts = _split(url, "--webhook", ("http", "https"))
        self._timeout = settings.timeout
        path = self._parts.path or "/"
        self._path = f"{path}?{self._parts.query}" if self._parts.query else path
        if any(ord(c) <= 32 or ord(c) > 126 for c in self._path):
            raise ConfigError("--webhook: the address has characters that must be escaped")
        self._key = _key(os.environ.get(WEBHOOK_SECRET) if secret is None else secret)
        self._retry_at = 0.0

    @property
    def shown(self) -> str:
        """Scheme, host and port: paths of webhooks are often secret."""
        port = f":{self._parts.port}" if self._parts.port else ""
        return f"{self._parts.scheme}://{self._parts.hostname}{port}"

    def headers(self, event: Event, body: bytes, now: float) -> dict[str, str]:
        """The headers of one attempt at a time in seconds of the Unix clock."""
        name, stamp = f"{event.id}.{event.revision}", str(int(now))
        found = {
            "content-type": "application/json",
            "user-agent": f"foveate/{__version__}",
            "webhook-id": name,
            "webhook-timestamp": stamp,
        }
        if self._key:
            signed = hmac.new(self._key, f"{name}.{stamp}.".encode() + body, hashlib.sha256)
            found["webhook-signature"] = "v1," + base64.b64encode(signed.digest()).decode()
        if self._parts.username is not None:
            user = unquote(f"{self._parts.username}:{self._parts.password or ''}")
            found["authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
        return found

    def deliver(self, event: Event) -> None:
        """Send one event.

        Raises:
            RejectedError: The server will never accept it.
            FoveateError: It was not accepted.
        """
        if time.monotonic() < self._retry_at:
            raise FoveateError(f"{self.shown}: asked to wait")
        body = event.to_json().encode()
        secure = self._parts.scheme == "https"
        maker: Any = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = maker(self._parts.hostname, self._parts.port, timeout=self._timeout)
        try:
            connection.request("POST", self._path, body, self.headers(event, body, time.time()))
            answer = connection.getresponse()
            status, wait = answer.status, answer.getheader("retry-after") or ""
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise FoveateError(f"{self.shown}: {reason}") from None
        finally:
            connection.close()
        if 200 <= status < 300:
            return
        if status in _REJECTED:
            raise RejectedError(f"{self.shown}: rejected an event with status {status}")
        if wait.isdigit():
            self._retry_at = time.monotonic() + min(int(wait), 3600)
        raise FoveateError(f"{self.shown}: status {status}")

    def close(self) -> None:
        """Nothing to close between events."""


def _key(secret: str | None) -> bytes:
    if not secret:
        return b""
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError:
        raise ConfigError(f"{WEBHOOK_SECRET}: whsec_ must be followed by base64") from None


class Mqtt:
    """Publishes events with MQTT 3.1.1, quality of service 1.

    Topics: `PREFIX/CAMERA/LABEL` has the events as JSON; `PREFIX/status` has `online` or
    `offline` (retained; the broker sets it if the connection is lost). In names of cameras and
    labels other characters than letters, digits, `.`, `-` and `_` are replaced by `_`.

    Args:
        url: `mqtt://USER:PASSWORD@HOST:PORT/PREFIX` or `mqtts://` (TLS); the password may be in the
            environment variable `FOVEATE_MQTT_PASSWORD`. The prefix is `foveate` if there is none.
        settings: Time limit.

    Raises:
        ConfigError: The address cannot be used.
        MissingExtra: paho-mqtt is not installed.
    """

    name = "mqtt"

    def __init__(self, url: str, settings: SinkSettings) -> None:
        parts = _split(url, "--mqtt", ("mqtts", "mqtt"))
        try:
            self._mqtt: Any = import_module("paho.mqtt.client")
        except ImportError:
            raise MissingExtra("paho-mqtt", "mqtt") from None
        self.prefix = unquote(parts.path).strip("/") or "foveate"
        if any(c in self.prefix for c in "+#\0"):
            raise ConfigError("--mqtt: a topic must not contain + or #")
        self._parts, self._timeout = parts, settings.timeout
        self._client: Any = None
        self._refused: str | None = None
        logging.getLogger("paho").setLevel(logging.CRITICAL)

    @property
    def shown(self) -> str:
        """The address without credentials."""
        host = self._parts.hostname
        return f"{self._parts.scheme}://{host}:{self._port}"

    @property
    def _port(self) -> int:
        return int(self._parts.port or (8883 if self._parts.scheme == "mqtts" else 1883))

    def topic(self, event: Event) -> str:
        """The topic of an event."""
        return f"{self.prefix}/{safe_name(event.camera)}/{safe_name(event.label)}"

    def idle(self) -> None:
        """Stay connected, so that the status is right while nothing happens.

        Raises:
            FoveateError: The broker cannot be reached.
        """
        try:
            self._connect()
        except (OSError, ValueError) as error:
            self._drop()
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise FoveateError(f"{self.shown}: {reason}") from None

    def _connect(self) -> Any:
        """A client that is connected."""
        if self._client is not None and self._client.is_connected():
            return self._client
        self._drop()
        client = self._mqtt.Client(
            self._mqtt.CallbackAPIVersion.VERSION2, protocol=self._mqtt.MQTTv311,
            reconnect_on_failure=False,
        )  # fmt: skip
        if self._parts.username is not None:
            password = self._parts.password
            password = os.environ.get(MQTT_PASSWORD) if password is None else unquote(password)
            client.username_pw_set(unquote(self._parts.username), password)
        if self._parts.scheme == "mqtts":
            client.tls_set_context(ssl.create_default_context())
        client.will_set(f"{self.prefix}/status", "offline", qos=1, retain=True)
        client.on_connect = self._connected
        client.connect_timeout = self._timeout
        self._client, self._refused = client, None
        client.connect(self._parts.hostname, self._port, keepalive=30)
        client.loop_start()
        until = time.monotonic() + self._timeout
        while not client.is_connected():
            if self._refused or time.monotonic() > until:
                raise FoveateError(f"{self.shown}: {self._refused or 'no answer'}")
            time.sleep(0.01)
        client.publish(f"{self.prefix}/status", "online", qos=1, retain=True)
        return client

    def _connected(self, client: Any, user: Any, flags: Any, code: Any, properties: Any) -> None:
        """Called in the thread of paho."""
        if code.is_failure:
            self._refused = f"connection refused ({str(code).lower()})"

    def deliver(self, event: Event) -> None:
        """Publish one event and wait until the broker has acknowledged it.

        Raises:
            FoveateError: It was not acknowledged.
        """
        self.idle()
        client = self._client
        try:
            sent = client.publish(self.topic(event), event.to_json(), qos=1)
            until = time.monotonic() + self._timeout
            while not sent.is_published():
                if not client.is_connected() or time.monotonic() > until:
                    raise FoveateError(f"{self.shown}: not acknowledged")
                sent.wait_for_publish(0.05)
        except (OSError, ValueError, RuntimeError) as error:
            self._drop()
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise FoveateError(f"{self.shown}: {reason}") from None
        except FoveateError:
            # A new client, or paho would send again what the spool sends again.
            self._drop()
            raise

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()
            client.loop_stop()

    def close(self) -> None:
        """Say `offline` and disconnect."""
        client = self._client
        if client is not None and client.is_connected():
            sent = client.publish(f"{self.prefix}/status", "offline", qos=1, retain=True)
            try:
                sent.wait_for_publish(1.0)
            except (ValueError, RuntimeError) as error:
                raise FoveateError(f"{self.shown}: {error}") from None
        self._drop()
