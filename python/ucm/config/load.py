# SPDX-License-Identifier: Apache-2.0
"""A file, a dict and the environment -> one `UcmConfig`."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping
from typing import Any

from ucm.config import answers
from ucm.config.env import CONFIG_FILE, env_values
from ucm.config.model import StoreConfig, UcmConfig
from ucm.config.pipelines import NAMED, parse_pipeline
from ucm.config.read import (
    Reader,
    check_key,
    given_keys,
    is_store_key,
    nearest_key,
    read_store,
    top_keys,
)
from ucm.config.source import Document, KeyPath, Origin, read_yaml
from ucm.config.sparse import METHODS, NOTE, check_sparse
from ucm.errors import ConfigError, UcmError

_LOG = logging.getLogger("ucm.config")
_FORMS = ("ucm_connectors", "ucm_connector_config")


def load_config(
    source: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    bytes_door: bool = False,
) -> UcmConfig:
    """Reads and checks a configuration.

    What the program passes wins over the environment, that over the file, that over the defaults.

    Args:
        source: Path of a YAML file; or a dict with the same keys, which may name a file as
            `UCM_CONFIG_FILE` and override its keys; None reads the file that the environment
            variable UCM_CONFIG_FILE names, or nothing.
        environ: Environment variables; os.environ when absent.
        bytes_door: `block_size` is bytes, as in configurations of released UCM.

    Returns:
        The configuration. Keys without an effect are listed in `notes` and logged once each.

    Raises:
        ConfigError: It can not be used; the text names the file, the line and the key.
        Unsupported: It asks for a stage that is not in this version.
    """
    environ = os.environ if environ is None else environ
    notes: list[str] = []
    passed = dict(source) if isinstance(source, Mapping) else {}
    file = passed.pop("UCM_CONFIG_FILE", None) if isinstance(source, Mapping) else source
    if file is None and not passed:
        file = next((environ[name] for name in CONFIG_FILE if environ.get(name)), None)
    layers: list[_Layer] = []
    if file is not None:
        document = _open(file)
        notes.extend(document.notes)
        layers.append(_read_layer(document.values, document.origin, notes, bytes_door))
    env_store, env_top, env_notes = env_values(environ)
    notes.extend(env_notes)
    layers.append(_read_layer({**env_store, **env_top}, Origin("environment"), notes, False))
    layers.append(_read_layer(passed, Origin(), notes, bytes_door))
    config = _merge(layers, notes)
    _report(config.notes)
    return config


@dataclasses.dataclass
class _Layer:
    store: dict[str, Any]
    top: dict[str, Any]
    connector: dict[str, str]
    origin: Origin
    store_path: KeyPath = ()


def _open(file: Any) -> Document:
    if not isinstance(file, str | os.PathLike):
        raise ConfigError(f"a path or a dict is expected, not {type(file).__name__}")
    path = os.fspath(file)
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ConfigError(f"the configuration file can not be read: {reason}", file=path) from error
    return _unwrap(read_yaml(text, path))


def _unwrap(document: Document) -> Document:
    """A Kubernetes ConfigMap holds the file as text; other manifests are no configuration."""
    values = document.values
    if "kind" not in values or "apiVersion" not in values:
        return document
    entries = values.get("data")
    inner = entries.get("ucm_config.yaml") if isinstance(entries, dict) else None
    if values["kind"] == "ConfigMap" and isinstance(inner, str):
        return read_yaml(inner, f"{document.origin.file}[ucm_config.yaml]")
    raise document.origin.error(
        f"this is a Kubernetes {values['kind']}, not a configuration of ucm; name the YAML that "
        "its ConfigMap holds under data: ucm_config.yaml",
        ("kind",),
    )


def _read_layer(
    values: dict[str, Any], origin: Origin, notes: list[str], bytes_door: bool
) -> _Layer:
    reader = Reader(origin, notes)
    layer = _Layer({}, {}, {}, origin)
    for name in values:
        check_key(name, (name,), origin)
    forms = [form for form in _FORMS if form in values]
    if len(forms) > 1:
        raise origin.error("`ucm_connectors` and `ucm_connector_config`: keep one", (forms[1],))
    if forms:
        section, layer.store_path = _connector_section(values, forms[0], layer, origin)
        layer.store = read_store(reader, section, layer.store_path, bytes_door=bytes_door)
    flat = {name: value for name, value in values.items() if is_store_key(name)}
    layer.store.update(read_store(reader, flat, (), bytes_door=bytes_door))
    rest = {
        name: value for name, value in values.items() if name not in flat and name not in _FORMS
    }
    for name in ("ucm_connector_name", "ucm_connector_module_path"):
        if name in rest:
            layer.connector[name] = _text(rest.pop(name), name, origin)
    layer.top = reader.section(UcmConfig, rest, (), answers.TOP.get, _near_store_key)
    return layer


def _near_store_key(name: str) -> str | None:
    if nearest_key(name, top_keys()) is not None:
        return None
    from ucm.config.fields import names_of

    nearest = nearest_key(name, [*names_of(StoreConfig), *_FORMS])
    return f"is an unknown key; did you mean `{nearest}`?" if nearest else None


def _text(value: Any, name: str, origin: Origin) -> str:
    if not isinstance(value, str) or not value:
        raise origin.error(f"`{name}`: a text is expected, not {value!r}", (name,))
    return value


def _connector_section(
    values: dict[str, Any], form: str, layer: _Layer, origin: Origin
) -> tuple[dict[str, Any], KeyPath]:
    if form == "ucm_connector_config":
        return {} if values[form] is None else values[form], (form,)
    connectors = values[form]
    example = "[{ucm_connector_name: UcmPipelineStore, ucm_connector_config: {...}}]"
    if not isinstance(connectors, list) or len(connectors) != 1:
        count = len(connectors) if isinstance(connectors, list) else repr(connectors)
        raise origin.error(
            f"`ucm_connectors`: a list with one connector is expected, not {count}: {example}. "
            "Several stages are one connector with a longer `store_pipeline`",
            (form,),
        )
    entry = connectors[0]
    path: KeyPath = (form, 0)
    if not isinstance(entry, dict):
        raise origin.error(f"`ucm_connectors`: {example} is expected, not {entry!r}", path)
    known = {
        "ucm_connector_name": "ucm_connector_name",
        "name": "ucm_connector_name",
        "ucm_connector_module_path": "ucm_connector_module_path",
        "module_path": "ucm_connector_module_path",
        "ucm_connector_config": "",
        "config": "",
    }
    section: dict[str, Any] | None = None
    for name, value in entry.items():
        if name not in known:
            nearest = nearest_key(name, known)
            hint = f"; did you mean `{nearest}`?" if nearest else ""
            raise origin.error(f"unknown key `{name}` of a connector{hint}", (*path, name), nearest)
        if known[name]:
            layer.connector[known[name]] = _text(value, name, origin)
        else:
            section, path = {} if value is None else value, (form, 0, name)
    if "ucm_connector_name" not in layer.connector:
        raise origin.error(f"`ucm_connectors`: ucm_connector_name is missing: {example}", path)
    if section is None:
        raise origin.error(f"`ucm_connectors`: ucm_connector_config is missing: {example}", path)
    return section, path


def _merge(layers: list[_Layer], notes: list[str]) -> UcmConfig:
    store: dict[str, Any] = {}
    top: dict[str, Any] = {}
    connector: dict[str, str] = {}
    origin, store_path = Origin(), ()
    for layer in layers:
        overrides = {**store.get("overrides", {}), **layer.store.get("overrides", {})}
        store.update(layer.store)
        if overrides:
            store["overrides"] = overrides
        _update_top(top, layer.top)
        connector.update(layer.connector)
        _check_sparse(layer, notes)
        if layer.origin.lines:
            origin, store_path = layer.origin, layer.store_path
    name = connector.get("ucm_connector_name", "UcmPipelineStore")
    if store.get("store_pipeline") is None and NAMED.get(name) is not None:
        store["store_pipeline"] = NAMED[name]
    if top.get("load_only_first_rank"):
        notes.append(
            "`load_only_first_rank` has no effect: each rank itself reads the blocks MLA shares"
        )
    _answer_ascend(store, notes)
    _spread_sections(store)
    _check_pipeline(store, origin, store_path)
    return UcmConfig(
        store=StoreConfig(**store, origin=origin),
        connector_name=name,
        connector_module_path=connector.get("ucm_connector_module_path"),
        **top,
        notes=tuple(dict.fromkeys(notes)),
        origin=origin,
    )


def _update_top(top: dict[str, Any], layer: dict[str, Any]) -> None:
    """Sections of one layer over those of another: key by key, not as a whole."""
    for name, value in layer.items():
        old = top.get(name)
        top[name] = value if type(old) is not type(value) else _section_over(old, value)
    if "enabled" in given_keys(layer.get("metrics")):
        top["enable_metrics"] = layer["metrics"].enabled and layer.get("enable_metrics", True)


def _section_over(old: Any, new: Any) -> Any:
    if not dataclasses.is_dataclass(new):
        return new
    changes = {name: getattr(new, name) for name in given_keys(new)}
    for name, value in changes.items():
        if type(getattr(old, name)) is type(value):
            changes[name] = _section_over(getattr(old, name), value)
    return dataclasses.replace(old, **changes)


def _answer_ascend(store: dict[str, Any], notes: list[str]) -> None:
    ascend, platform = store.get("ascend_config"), store.get("platform")
    if ascend is None:
        return
    if platform not in (None, "auto", "ascend"):
        notes.append(f"`ascend_config` has no effect: the platform is {platform}")
    elif ascend.enable_hccl:
        notes.append(
            "`ascend_config.enable_hccl` has no effect: each rank copies its own blocks between "
            "its NPU and host memory, so there is no collective that HCCL could run"
        )


def _spread_sections(store: dict[str, Any]) -> None:
    """`nfs_config` and `transport` say the same as plain keys, which win."""
    nfs, transport = store.get("nfs_config"), store.get("transport")
    pairs = []
    if nfs is not None:
        pairs += [("retry_count", nfs.retry_count), ("timeout_s", nfs.timeout_seconds)]
    if transport is not None:
        pairs += [
            ("pinned_pool_size", transport.pinned_pool_size),
            ("max_pinned_size", transport.max_pinned_size),
            ("copy_threads", transport.num_streams),
        ]
    for name, value in pairs:
        if value is not None and store.get(name) is None:
            store[name] = value


def _check_pipeline(store: dict[str, Any], origin: Origin, path: KeyPath) -> None:
    text = store.get("store_pipeline")
    if text is None:
        return
    try:
        parse_pipeline(text)
    except ConfigError as error:
        raise origin.error(error.message, (*path, "store_pipeline"), error.nearest) from None
    except UcmError as error:
        place = origin.place((*path, "store_pipeline"))
        raise type(error)(place + error.message) from None


def _check_sparse(layer: _Layer, notes: list[str]) -> None:
    method = layer.top.get("ucm_sparse_method")
    config = layer.top.get("ucm_sparse_config")
    methods = check_sparse(config, layer.origin, ("ucm_sparse_config",)) if config else []
    if method is not None and method not in METHODS:
        raise layer.origin.error(f"unknown sparse method {method!r}", ("ucm_sparse_method",))
    if method is not None and config is not None and methods and method not in methods:
        raise layer.origin.error(
            f"`ucm_sparse_method` is {method!r} and `ucm_sparse_config` describes "
            f"{', '.join(methods)}",
            ("ucm_sparse_method",),
        )
    if method or methods:
        notes.append(NOTE.format(method=method or methods[0]))


_reported: set[str] = set()


def _report(notes: tuple[str, ...]) -> None:
    for note in notes:
        if note not in _reported:
            _reported.add(note)
            _LOG.warning("%s", note)
