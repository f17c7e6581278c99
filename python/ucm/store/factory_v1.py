# SPDX-License-Identifier: Apache-2.0
"""`UcmConnectorFactoryV1`: stores for configurations of released UCM, with sizes in bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ucm.config.pipelines import NAMED
from ucm.store.factory import Registry, import_class, refuse_remote


class UcmConnectorFactoryV1:
    """Makes stores of the released interface."""

    _registry = Registry()

    @classmethod
    def register_connector(cls, name: str, module_path: str, class_name: str) -> None:
        """Makes a class of another package known under a name; it is imported when first used."""
        cls._registry.register(name, module_path, class_name)

    @classmethod
    def create_connector(
        cls, connector_name: str, config: Mapping[str, Any], module_path: str | None = None
    ) -> Any:
        """Opens a store.

        Args:
            connector_name: UcmPipelineStore, UcmNfsStore, ..., a registered name, or with
                `module_path` any class of that module.
            config: Its settings; sizes are bytes.
            module_path: Module that has the class.

        Raises:
            ConfigError: Unknown name, or a configuration that can not be used.
            Unsupported: A store that is not in this version.
        """
        refuse_remote(connector_name)
        ours = module_path is None or module_path.startswith("ucm.store.")
        registered = cls._registry.get(connector_name)
        if registered is not None:
            return registered(config)
        if ours and connector_name in NAMED:
            from ucm.store.pipeline.connector import UcmPipelineStore

            pipeline = NAMED[connector_name]
            named = pipeline and isinstance(config, Mapping)
            return UcmPipelineStore({"store_pipeline": pipeline, **config} if named else config)
        if module_path is None:
            raise cls._registry.unknown(connector_name)
        return import_class(module_path, connector_name)(config)
