# SPDX-License-Identifier: Apache-2.0
"""The metrics for Prometheus: on a port of their own, or inside a registry that exists."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ucm.config import UcmConfig
from ucm.errors import ConfigError, Unsupported
from ucm.metrics import monitor
from ucm.metrics.names import BY_NAME
from ucm.metrics.settings import MetricsFile, read_metrics_file

if TYPE_CHECKING:
    from prometheus_client.registry import CollectorRegistry

_LOG = logging.getLogger("ucm.metrics")
_PREFIX = "ucm_"


class StoreCollector:
    """Hands the sums of all stores to a registry whenever it is scraped.

    Args:
        labels: Added to every metric, e.g. model_name.
        prefix: What the names begin with.
        source: Where samples come from; all stores of this process by default.
    """

    def __init__(
        self,
        labels: Mapping[str, str] | None = None,
        prefix: str = _PREFIX,
        source: Callable[[], Iterable[monitor.Sample]] = monitor.collect,
    ) -> None:
        self._labels = {str(name): str(value) for name, value in (labels or {}).items()}
        self._prefix = prefix
        self._source = source

    def describe(self) -> list[Any]:
        """Nothing in advance: registering asks for no samples."""
        return []

    def collect(self) -> Iterator[Any]:
        """One family per metric."""
        families: dict[str, Any] = {}
        for name, kind, labels, value in self._source():
            family = families.get(name)
            if family is None:
                family = families[name] = self._family(name, kind, tuple(labels))
            texts = [*(str(labels[each]) for each in labels), *self._labels.values()]
            if kind == "histogram":
                family.add_metric(texts, _buckets(value), sum_value=value[2])
            else:
                family.add_metric(texts, value)
        yield from families.values()

    def _family(self, name: str, kind: str, labels: tuple[str, ...]) -> Any:
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        cls = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}.get(
            kind, HistogramMetricFamily
        )
        known = BY_NAME.get(name)
        text = known.help if known else name
        shown = self._prefix + name.removeprefix(_PREFIX)
        return cls(shown.removesuffix("_total"), text, labels=[*labels, *self._labels])


def _buckets(value: Any) -> list[tuple[str, float]]:
    bounds, counts, _ = value
    total, buckets = 0.0, []
    for bound, count in zip([*map(_bound, bounds), "+Inf"], counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets


def _bound(value: float) -> str:
    return repr(float(value))


class Endpoint:
    """A running endpoint. `close` ends it and frees the port."""

    def __init__(self, port: int, server: Any, thread: Any) -> None:
        self.port = port
        self._server = server
        self._thread = thread

    @property
    def closed(self) -> bool:
        """Whether it was ended."""
        return self._server is None

    def close(self) -> None:
        """Ends the endpoint. Idempotent."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None


_lock = threading.Lock()
_running: dict[tuple[str, int], Endpoint] = {}


def register(
    registry: CollectorRegistry | None = None,
    labels: Mapping[str, str] | None = None,
    prefix: str = _PREFIX,
) -> StoreCollector:
    """Adds the metrics to a registry, by default the process-wide one of prometheus_client.

    Raises:
        Unsupported: prometheus_client is not installed.
    """
    client = _client()
    collector = StoreCollector(labels, prefix)
    (registry if registry is not None else client.REGISTRY).register(collector)
    return collector


def serve(
    port: int,
    address: str = "0.0.0.0",
    labels: Mapping[str, str] | None = None,
    prefix: str = _PREFIX,
) -> Endpoint:
    """Opens an endpoint with the metrics of this process at http://address:port/metrics.

    Args:
        port: TCP port; 0 takes a free one.
        address: Address to listen on.
        labels: Added to every metric.
        prefix: What the names begin with.

    Raises:
        ConfigError: The port is taken or not allowed.
        Unsupported: prometheus_client is not installed.
    """
    client = _client()
    registry = client.CollectorRegistry()
    registry.register(StoreCollector(labels, prefix))
    try:
        server, thread = client.start_http_server(port, addr=address, registry=registry)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"metrics port {address}:{port} can not be opened: "
            f"{getattr(error, 'strerror', None) or error}; choose another "
            "with monitoring.prometheus.port or UCM_METRICS_PORT",
            key="monitoring.prometheus.port",
        ) from error
    return Endpoint(server.server_port, server, thread)


def start(
    config: UcmConfig, labels: Mapping[str, str] | None = None, port_offset: int = 0
) -> Endpoint | None:
    """What the configuration asks for; an endpoint that can not be opened is logged, not raised.

    Called again for the same port it answers the endpoint that is running.

    Args:
        config: The configuration; its metrics file is read.
        labels: Added to every metric, beside those of the metrics file.
        port_offset: Added to the port that the configuration names; port 0 stays 0.

    Returns:
        The endpoint, or None when none is asked for.

    Raises:
        ConfigError: The metrics file can not be used.
    """
    file = read_metrics_file(config.metrics_config_path) if config.metrics_config_path else None
    port, address = _wanted(config, file or MetricsFile())
    if port is None:
        return None
    with _lock:
        return _open_once(port and port + port_offset, address, file, labels)


def _open_once(
    port: int, address: str, file: MetricsFile | None, labels: Mapping[str, str] | None
) -> Endpoint | None:
    running = _running.get((address, port))
    if running is not None and not running.closed:
        return running
    extra = {**((file.labels or {}) if file else {}), **(labels or {})}
    try:
        endpoint = serve(port, address, extra, file.metric_prefix if file else _PREFIX)
    except (ConfigError, Unsupported) as error:
        _LOG.warning("no metrics endpoint: %s", error)
        return None
    _running[address, port] = endpoint
    _LOG.info("metrics at http://%s:%d/metrics", address, endpoint.port)
    return endpoint


def _wanted(config: UcmConfig, file: MetricsFile) -> tuple[int | None, str]:
    if not config.enable_metrics or not file.enabled:
        return None, ""
    monitoring = config.monitoring.prometheus if config.monitoring else None
    section = monitoring or file.prometheus
    if config.metrics_port is not None:
        return config.metrics_port, section.address if section else "0.0.0.0"
    if monitoring is None and file.prometheus is not None and file.prometheus.enabled:
        return file.prometheus.port or 9090, file.prometheus.address
    return None, ""


def _client() -> Any:
    try:
        import prometheus_client
    except ImportError:
        raise Unsupported(
            "metrics for Prometheus need a package: pip install prometheus_client"
        ) from None
    return prometheus_client
