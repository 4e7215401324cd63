"""What the Kafka stream asks of the cluster itself: connections, the topic, and its offsets."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from kafka import KafkaAdminClient, OffsetSpec, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import (
    AuthorizationError,
    KafkaError,
    KafkaTimeoutError,
    RetriableError,
    SaslAuthenticationFailedError,
    TopicAlreadyExistsError,
)
from kafka.net.compat import KafkaNetClient

from armlift.errors import InputError, StreamError
from armlift.settings import KafkaSettings, kafka_address
from armlift.streams.stream import Partition

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
_MAX_BYTES = "max.message.bytes"
_BATCH_BYTES = 512
"""What a batch of one message adds to it, at most."""
_DAY_MS = 86_400_000
_RETRY_SECONDS = 0.1
_UNKNOWN_TOPIC = 3
_CLASSES = re.compile(r"^(\[Error \d+\] )?(\w+Error: )+")
"""What kafka-python puts before an error's own words."""


class MissingTopicError(StreamError):
    """There is no such topic, and it must not be made."""


class Topic(NamedTuple):
    """A topic: its id for ever, the partitions it is known to have, and the bytes a message may have."""

    id: str
    partitions: int
    limit: int


class Cluster:
    """The brokers of a kafka:// URL, and the topic it names, which is made where the settings allow it.

    Raises InputError for settings that do not fit together, StreamError when no broker answers within
    `connect_seconds`, none takes the user and password, or the topic is missing.
    """

    def __init__(self, url: str, settings: KafkaSettings, *, connect_seconds: float) -> None:
        self.url = url
        self._settings = settings
        servers, self.topic_name = kafka_address(url)
        self._connect_seconds = connect_seconds
        self._options = {
            "bootstrap_servers": servers,
            "bootstrap_timeout_ms": connect_seconds * 1000,
            "client_id": "armlift",
            "reconnect_backoff_max_ms": 1000,
            "metadata_max_age_ms": 5000,
            **_security(settings),
        }
        self._admin = self.open(KafkaAdminClient)
        try:
            with failing(url, "describe the topic"):
                self.topic = self._topic()
        except BaseException:
            self._admin.close()
            raise

    def open(self, make: Callable[..., Any], **options: object) -> Any:
        """Open a client of kafka-python; what it began is ended when it cannot connect."""
        begun: list[Any] = []
        errors: list[KafkaError] = []

        def begin(**settings: Any) -> Any:
            begun.append(_watched(KafkaNetClient(**settings), errors))
            return begun[0]

        try:
            made = make(**self._options, **options, kafka_client=begin)
        except KafkaError as error:
            for network in begun:
                network.close()
                network._net.stop()
            raise StreamError(f"{self.url}: {self._unreachable(errors)}") from error
        del begun[0]._manager.get_connection
        return made

    def offsets(self, spec: OffsetSpec, *, wait_seconds: float = 0.0) -> dict[Partition, int]:
        """Look up the first or the next offset of every partition; brokers that are away are waited for."""
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                with failing(self.url, "look up offsets"):
                    found = self._admin.list_partition_offsets(
                        {TopicPartition(self.topic_name, part): spec for part in range(self.topic.partitions)}
                    )
                return {place.partition: each.offset for place, each in sorted(found.items())}
            except StreamError as error:
                if not passes(error) or time.monotonic() >= deadline:
                    raise
            time.sleep(_RETRY_SECONDS)

    def follow(self, metadata: Any) -> None:
        """Learn from a client's metadata of partitions that were added to the topic.

        Raises StreamError when it knows the topic by another id than ours.
        """
        self._check_id(metadata.topic_id(self.topic_name))
        self.grow(len(metadata.partitions_for_topic(self.topic_name) or ()))

    def grow(self, partitions: int) -> None:
        """Learn that the topic has at least so many partitions; it never has fewer again."""
        self.topic = self.topic._replace(partitions=max(partitions, self.topic.partitions))

    def ask_same(self) -> None:
        """Raise StreamError when the brokers know the topic by another id than ours."""
        found = self._describe()
        self._check_id(found and found["topic_id"])

    def _check_id(self, now: object) -> None:
        if now is not None and str(now) != self.topic.id.rpartition("/")[2]:
            raise StreamError(f"{self.url}: the topic was deleted and made again, must be opened anew")

    def close(self) -> None:
        """Close the connection."""
        self._admin.close()

    def _unreachable(self, errors: list[KafkaError]) -> str:
        refused = [
            one for one in errors if isinstance(one, SaslAuthenticationFailedError | AuthorizationError)
        ]
        if refused:
            return f"the broker refuses kafka.user and kafka.password: {_words(refused[-1])}"
        last = [_words(one) for one in errors if not isinstance(one, KafkaTimeoutError)][-1:]
        text = ": ".join([f"no broker answers within {self._connect_seconds:g} s", *last])
        # A refusal is lost where the broker hangs up before kafka-python has read it.
        return f"{text}, kafka.password may be wrong" if self._settings.user and last else text

    def _topic(self) -> Topic:
        found = self._describe()
        if found is None:
            if not self._settings.create_topic:
                raise MissingTopicError(
                    f"{self.url}: there is no such topic, must be made first (kafka.create_topic is false)"
                )
            self._create()
            found = self._describe()
        if found is None:
            raise StreamError(f"{self.url}: the topic was deleted as it was made")
        cluster = self._admin.describe_cluster()["cluster_id"]
        return Topic(f"{cluster}/{found['topic_id']}", len(found["partitions"]), self._limit())

    def _describe(self) -> Mapping[str, Any] | None:
        (found,) = self._admin.describe_topics([self.topic_name])
        if found["error_code"] == _UNKNOWN_TOPIC:
            return None
        self._admin.wait_for_topics([self.topic_name])
        return dict(found)

    def _create(self) -> None:
        configs = {
            "retention.ms": str(round(self._settings.retention_days * _DAY_MS)),
            _MAX_BYTES: str(MAX_MESSAGE_BYTES + _BATCH_BYTES),
            # So that a record tells when it came, not what time its producer thought it was.
            "message.timestamp.type": "LogAppendTime",
        }
        made = {"num_partitions": self._settings.partitions, "configs": configs}
        try:
            self._admin.create_topics({self.topic_name: made})
        except TopicAlreadyExistsError:
            pass  # another process was first
        except KafkaError as error:
            raise StreamError(f"{self.url}: cannot make the topic: {_words(error)}") from error
        self._admin.wait_for_topics([self.topic_name])

    def _limit(self) -> int:
        """Ask what a message may have at most; where nobody may ask, a refusal shows at `flush`."""
        asked = ConfigResource(ConfigResourceType.TOPIC, self.topic_name, {_MAX_BYTES: None})
        try:
            found = self._admin.describe_configs([asked], config_filter="all")
        except KafkaError:
            return MAX_MESSAGE_BYTES
        allowed = int(found["topic"][self.topic_name][_MAX_BYTES]["value"])
        return min(MAX_MESSAGE_BYTES, allowed - _BATCH_BYTES)


@contextmanager
def failing(url: str, doing: str) -> Iterator[None]:
    """Turn an error of kafka-python into a StreamError that says what could not be done."""
    try:
        yield
    except KafkaError as error:
        raise StreamError(f"{url}: cannot {doing}: {_words(error)}") from error


def passes(error: StreamError) -> bool:
    """Tell whether an error is one that passes by itself, such as a broker that is away."""
    return isinstance(error.__cause__, RetriableError)


def _words(error: KafkaError) -> str:
    return _CLASSES.sub("", " ".join(str(error).split()))[:200]


def _watched(network: KafkaNetClient, errors: list[KafkaError]) -> KafkaNetClient:
    """Note why connections fail; kafka-python itself only says that time ran out."""
    connect = network._manager.get_connection

    def get_connection(*places: Any, **options: Any) -> Any:
        connection = connect(*places, **options)
        connection.init_future.add_errback(errors.append)
        return connection

    network._manager.get_connection = get_connection
    return network


def _security(settings: KafkaSettings) -> dict[str, object]:
    options: dict[str, object] = {"security_protocol": settings.security}
    sasl, password = settings.security.startswith("SASL_"), settings.password.get_secret_value()
    if bool(settings.user) != sasl or bool(password) != sasl:
        takes = "takes kafka.user and kafka.password, both" if sasl else "takes neither, they"
        raise InputError(f"kafka.security: {settings.security} {takes} must {'' if sasl else 'not '}be given")
    if sasl:
        options |= {
            "sasl_mechanism": settings.mechanism,
            "sasl_plain_username": settings.user,
            "sasl_plain_password": password,
        }
    if settings.ca_file:
        if not settings.security.endswith("SSL"):
            raise InputError(f"kafka.ca_file: {settings.security} takes none, must not be given")
        if not Path(settings.ca_file).is_file():
            raise InputError(f"kafka.ca_file: there is no file {settings.ca_file}, must be a PEM file")
        options["ssl_cafile"] = settings.ca_file
    return options
