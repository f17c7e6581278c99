# SPDX-License-Identifier: Apache-2.0
"""`ucm deploy`: the packaged files for Grafana, Prometheus, Kubernetes and nginx."""

from __future__ import annotations

from pathlib import Path

import click

from ucm import deploy as packaged
from ucm.cli.output import console, note, table, write_json
from ucm.cli.params import json_option

_ALIASES = {"k8s": "kubernetes"}


def topics() -> dict[str, list[str]]:
    """Topic -> packaged files. Kubernetes' files belong together; any other is one topic."""
    found: dict[str, list[str]] = {}
    for name in packaged.FILES:
        folder, stem = name.partition("/")[0], Path(name).stem
        topic = folder if folder == "kubernetes" or stem == "ucm" else stem
        found.setdefault(topic, []).append(name)
    return found


@click.command(
    epilog="Examples: ucm deploy grafana > dashboard.json; ucm deploy k8s | kubectl apply -f -; "
    "ucm deploy k8s --out manifests"
)
@click.argument("topic", required=False)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the files into this directory instead.",
)
@json_option()
def deploy(topic: str | None, out: Path | None, as_json: bool) -> None:
    """Print packaged deployment files; without TOPIC, list them.

    TOPIC is grafana, alerts, prometheus, kubernetes (or k8s), nginx, or the name of one file.
    """
    known = topics()
    if topic is None:
        if out is not None:
            raise click.UsageError("--out DIR needs a TOPIC; ucm deploy lists them")
        _list(known, as_json)
        return
    names = known.get(_ALIASES.get(topic, topic)) or [
        name for name in packaged.FILES if name == topic
    ]
    if not names:
        raise click.UsageError(
            f"there is no topic {topic!r}; there are: {', '.join(sorted(known))}"
        )
    texts = {name: packaged.path(name).read_text(encoding="utf-8") for name in names}
    if out is not None:
        _write(texts, out)
    if as_json:
        write_json({"files": [str(out / Path(name).name) for name in names]} if out else texts)
    elif out is None:
        _print(texts)


def _list(known: dict[str, list[str]], as_json: bool) -> None:
    if as_json:
        write_json(known)
        return
    shown = table(None, [("topic", "left"), ("files", "left")])
    for topic, names in known.items():
        shown.add_row(topic, ", ".join(names))
    console().print(shown)
    console().print("`ucm deploy TOPIC` prints them, `--out DIR` writes them.")


def _print(texts: dict[str, str]) -> None:
    """Several YAML files become one stream of documents."""
    for index, text in enumerate(texts.values()):
        if index:
            click.echo("---")
        click.echo(text.rstrip("\n"))


def _write(texts: dict[str, str], out: Path) -> None:
    targets = {out / Path(name).name: text for name, text in texts.items()}
    for target in targets:
        if target.exists():
            raise click.ClickException(f"{target} exists; remove it or choose another directory")
    out.mkdir(parents=True, exist_ok=True)
    for target, text in targets.items():
        target.write_text(text, encoding="utf-8")
        note(f"wrote {target}")
