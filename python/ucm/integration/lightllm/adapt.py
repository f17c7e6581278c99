# SPDX-License-Identifier: Apache-2.0
"""What is put in place of LightLLM's classes, module by module."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any

from ucm.errors import Unsupported
from ucm.integration.lightllm import figures, memory
from ucm.integration.lightllm.client import CallLock, PageClient, attach_pages, create_pages
from ucm.integration.lightllm.transfer import PageTransfer

_LOG = logging.getLogger("ucm.lightllm")
_CLIENT = "CpuKvCacheClient"
_CREATOR = "CpuCacheCreator"
_OPERATORS = "lightllm.common.kv_cache_mem_manager.operator."
_LOADS = ("load_cpu_cache_to_gpu", "load_cpu_kv_to_gpu")
_OFFLOADS = ("offload_gpu_kv_to_cpu_cache", "offload_gpu_kv_to_cpu")
_OWN_COPIES = ("NormalMemOperator", "Deepseek2MemOperator")
"""Operators whose pages are (layers, tokens, heads, head_dim) in one dtype."""

_clients: dict[type, type] = {}
_depth = threading.local()


def adapt(module: ModuleType, parts: tuple[str, ...]) -> None:
    """Puts the chosen parts into a module of LightLLM that was just imported.

    Raises:
        Unsupported: Its classes are not those this version of ucm knows.
    """
    client = module.__dict__.get(_CLIENT)
    if "index" in parts and isinstance(client, type) and client.__module__ != module.__name__:
        setattr(module, _CLIENT, client_class(client))
    creator = module.__dict__.get(_CREATOR)
    if "memory" in parts and isinstance(creator, type) and creator.__module__ == module.__name__:
        memory.take_over(creator)
    if module.__name__.startswith(_OPERATORS):
        for each in list(vars(module).values()):
            if isinstance(each, type) and each.__module__ == module.__name__:
                _wrap_copies(each, "transfer" in parts)


def client_class(original: type) -> type:
    """LightLLM's client with ucm's index instead of its own.

    Args:
        original: LightLLM's class. It goes on to make the tensor of the pages.

    Raises:
        Unsupported: It has no step of its own that makes the index, or calls ucm does not know.
    """
    if issubclass(original, PageClient):
        return original
    if original in _clients:
        return _clients[original]
    if not hasattr(original, "_create_cpu_status_list"):
        raise _unknown(original, "makes its index in another way")
    # A method that only LightLLM's own index has would work on an index that nobody else sees.
    public = {name for name, each in vars(original).items() if callable(each) and name[0] != "_"}
    if foreign := sorted(public - set(dir(PageClient))):
        raise _unknown(original, f"has calls that ucm does not: {', '.join(foreign)}")

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original.__init__(self, *args, **kwargs)  # type: ignore[misc]
        self.lock = CallLock()

    def _create_cpu_status_list(self: Any, init_shm_data: bool) -> None:
        name = server_name(getattr(self, "cache_name", "cpu_kv_cache"))
        pages = (
            create_pages(name, self.page_num)
            if init_shm_data
            else attach_pages(name, with_memory=False)
        )
        self.use(pages, self.args.cpu_cache_token_page_size)
        if init_shm_data:
            figures.offer(self)

    body = {
        "__init__": __init__,
        "_create_cpu_status_list": _create_cpu_status_list,
        "__doc__": "LightLLM's CPU cache client over the page index of ucm.",
    }
    made = type(_CLIENT, (PageClient, original), body)
    _clients[original] = made
    _LOG.info("LightLLM's CPU cache uses the page index of ucm")
    return made


def _unknown(original: type, what: str) -> Unsupported:
    return Unsupported(
        f"this LightLLM's {original.__module__}.{_CLIENT} {what}; start the server without "
        "UCM_LIGHTLLM"
    )


def server_name(what: str) -> str:
    """What the processes of this server meet by."""
    from lightllm.utils.envs_utils import get_unique_server_name

    return re.sub(r"[^A-Za-z0-9._-]", "-", f"lightllm-{get_unique_server_name()}-{what}")


def _wrap_copies(operator: type, own_copies: bool) -> None:
    for load, names in ((True, _LOADS), (False, _OFFLOADS)):
        for name in names:
            if name in vars(operator):
                original = vars(operator)[name]
                setattr(operator, name, _copying(operator, original, load, own_copies))


def _copying(
    operator: type, original: Callable[..., Any], load: bool, own_copies: bool
) -> Callable[..., Any]:
    """A copy method that counts its pages and, where wanted, copies by itself."""
    ours = own_copies and operator.__name__ in _OWN_COPIES

    @wraps(original)
    def copying(self: Any, *args: Any, **kwargs: Any) -> Any:
        outermost = not getattr(_depth, "inside", False)
        _depth.inside = True
        try:
            if ours and type(self) is operator:
                result = _copy(self, load, *args, **kwargs)
            else:
                result = original(self, *args, **kwargs)
        finally:
            if outermost:
                _depth.inside = False
        if outermost:
            _count(load, args, kwargs)
        return result

    return copying


def _count(load: bool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    everything = [*args, *kwargs.values()]
    client = next((each for each in everything if isinstance(each, PageClient)), None)
    pages = kwargs.get("page_indexes", args[1] if len(args) > 1 else ())
    if client is not None and _rank_and_ranks()[0] == 0:
        client.pages.count_transfer(load, len(pages))


def _copy(
    operator: Any,
    load: bool,
    mem_indexes: Any,
    page_indexes: Any,
    *rest: Any,
    cpu_cache_client: Any = None,
    page_readies: Any = None,
    req: Any = None,
) -> None:
    left = list(rest)
    if not load and page_readies is None:
        page_readies = left.pop(0)
    client = cpu_cache_client if cpu_cache_client is not None else left.pop(0)
    kv_buffer = operator.mem_manager.kv_buffer
    transfer = operator.__dict__.get("_ucm_transfer")
    if transfer is None:
        platform, device_id = memory.platform_of(kv_buffer)
        transfer = operator._ucm_transfer = PageTransfer(
            kv_buffer,
            client.cpu_kv_cache_tensor,
            *_rank_and_ranks(),
            platform=platform,
            device_id=device_id,
        )
    event, handle = memory.event_of(kv_buffer)
    if load:
        transfer.load(mem_indexes, page_indexes, handle).wait()
    else:
        # LightLLM marks the pages by an event of its own stream, so they are complete on return.
        transfer.offload(mem_indexes, page_indexes, page_readies, handle).wait()
    del event


def _rank_and_ranks() -> tuple[int, int]:
    from lightllm.utils.dist_utils import get_current_rank_in_dp, get_dp_world_size

    return get_current_rank_in_dp(), get_dp_world_size()
