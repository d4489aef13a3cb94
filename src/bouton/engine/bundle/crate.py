"""``ro-crate-metadata.json``: the bundle as an RO-Crate 1.1 after the profile Workflow Run Crate 0.5.

Soiland-Reyes et al. 2022, doi:10.3233/DS-210053; Leo et al. 2024, doi:10.1371/journal.pone.0309210.
"""

from __future__ import annotations

import json
import mimetypes
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bouton.engine.bundle.archive import FileFact
from bouton.engine.bundle.manifest import CRATE, NAME, README, WORKFLOW, Manifest

CONTEXT = ["https://w3id.org/ro/crate/1.1/context", "https://w3id.org/ro/terms/workflow-run/context"]
SPECIFICATION = "https://w3id.org/ro/crate/1.1"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
LANGUAGE, ENGINE, RUN, NO_LICENCE = "#bouton-workflow", "#bouton", "#run", "#no-licence"
STATUS = {"done": "http://schema.org/CompletedActionStatus", "failed": "http://schema.org/FailedActionStatus"}
KINDS = {"layer": "Dataset", "table": "File", "files": "Dataset"}
WHAT = {
    NAME: "What the run was made of: steps, parameters, sources, models, versions, and the checksum of every file",
    README: "What this is and how to repeat it",
    WORKFLOW: "The workflow with every parameter, box and block written out",
    "original.yaml": "The workflow with the values that the command line set",
    "written.yaml": "The workflow as its author wrote it",
    "plan.json": "What was planned before the run",
    "plan_and_truth.json": "What was planned of each step, and what it took",
    "events.json": "How the run went: sessions, tries, failures",
    "report/index.html": "The report of the run",
}
Node = dict[str, Any]


@dataclass(frozen=True)
class About:
    """What only people know: the licence (an SPDX name or a URL), and who ran it (``Name <https://orcid.org/...>``)."""

    license: str = ""
    author: str = ""


def crate_bytes(manifest: Manifest, facts: Mapping[str, FileFact], about: About) -> bytes:
    """Return the metadata of a bundle.

    Parameters
    ----------
    facts : mapping of name -> FileFact
        All files of the bundle but this one.
    """
    person, licence = _person(about.author), _licence(about.license)
    nodes = [
        _descriptor(),
        _root(manifest, sorted(facts), licence["@id"], person),
        licence,
        *([person] if person else []),
        *({"@id": url, "@type": "CreativeWork", "name": n, "version": v} for url, (n, v) in PROFILES.items()),
        *_software(manifest),
        *_parameters(manifest),
        _action(manifest, sorted(facts), person),
        *_inputs(manifest),
        *_outputs(manifest),
        *(_file(name, fact, manifest) for name, fact in sorted(facts.items())),
    ]
    nodes = [{key: _single(value) for key, value in node.items() if value != []} for node in nodes]
    return json.dumps({"@context": CONTEXT, "@graph": nodes}, indent=1, sort_keys=True).encode()


def _single(value: Any) -> Any:
    """Return the only value of a list of one, as RO-Crate 1.1 recommends to write it."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _id(name: str) -> Node:
    return {"@id": name}


def _descriptor() -> Node:
    conforms = [_id(SPECIFICATION), _id("https://w3id.org/workflowhub/workflow-ro-crate/1.0")]
    return {"@id": CRATE, "@type": "CreativeWork", "about": _id("./"), "conformsTo": conforms}


def _root(manifest: Manifest, names: list[str], licence: str, person: Node | None) -> Node:
    node: Node = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Run {manifest.run}",
        "description": manifest.description or f"Provenance of the run {manifest.run} of bouton {manifest.bouton}",
        # RO-Crate wants a date; the run's, so that two exports are equal
        "datePublished": manifest.finished or manifest.started,
        "license": _id(licence),
        "conformsTo": [_id(url) for url in PROFILES],
        "hasPart": [_id(name) for name in names],
        "mainEntity": _id(WORKFLOW),
        "mentions": [_id(RUN)],
    }
    return node | ({"author": _id(person["@id"])} if person else {})


def _licence(text: str) -> Node:
    if not text:
        words = "No licence was stated when this was exported: all rights stay with the authors"
        return {"@id": NO_LICENCE, "@type": "CreativeWork", "name": "No licence stated", "description": words}
    url = text if "://" in text else f"https://spdx.org/licenses/{text}"
    return {"@id": url, "@type": "CreativeWork", "name": text}


def _person(text: str) -> Node | None:
    match = re.fullmatch(r"\s*([^<>]+?)\s*(?:<(https?://\S+)>)?\s*", text)
    return {"@id": match[2] or "#author", "@type": "Person", "name": match[1]} if match else None


def _software(manifest: Manifest) -> list[Node]:
    workflow_parts = [
        {"@id": _stage_id(step.name), "@type": "SoftwareApplication", "name": f"stage {step.stage}"}
        | {"softwareVersion": f"bouton {manifest.bouton}, stage {step.version}"}
        for step in manifest.steps
    ]
    language = {"@id": LANGUAGE, "@type": "ComputerLanguage", "name": "bouton workflow", "alternateName": "bouton"}
    engine: Node = {"@id": ENGINE, "@type": "SoftwareApplication", "name": "bouton"}
    engine["softwareVersion"] = manifest.bouton
    latest = manifest.environments[-1]["versions"] if manifest.environments else {}
    packages = [
        {"@id": f"https://pypi.org/project/{name}/{version}/", "@type": "SoftwareApplication", "name": name}
        | {"softwareVersion": version, "url": f"https://pypi.org/project/{name}/"}
        for name, version in sorted(latest.items())
        if name not in ("bouton", "python")
    ]
    if "python" in latest:
        python = {"@id": "https://www.python.org/", "@type": "SoftwareApplication", "name": "Python"}
        packages.append(python | {"softwareVersion": latest["python"], "url": "https://www.python.org/"})
    engine["softwareRequirements"] = [_id(package["@id"]) for package in packages]
    return [language, engine, *packages, *workflow_parts]


def _parameters(manifest: Manifest) -> list[Node]:
    """Return the slots of the workflow: its sources, and the outputs of its steps."""
    sources = [
        {"@id": f"#in-{name}", "@type": "FormalParameter", "name": name, "valueRequired": True}
        | {"additionalType": "File" if source.is_table else "Dataset"}
        for name, source in manifest.sources.items()
    ]
    outputs = [
        {"@id": f"#out-{step.name}.{name}", "@type": "FormalParameter", "name": f"{step.name}.{name}"}
        | {"additionalType": KINDS[kind]}
        for step in manifest.steps
        for name, kind in step.outputs.items()
    ]
    return sources + outputs


def _action(manifest: Manifest, names: list[str], person: Node | None) -> Node:
    results = [_id(_output_id(step.name, name)) for step in manifest.steps for name in step.outputs]
    results += [_id(name) for name in names if name.startswith(("outputs/", "scores/"))]
    node: Node = {
        "@id": RUN,
        "@type": "CreateAction",
        "name": f"Run {manifest.run}",
        "description": manifest.command,
        "instrument": _id(WORKFLOW),
        "startTime": manifest.started,
        "object": [_id(_source_id(name)) for name in manifest.sources] + [_id(s["@id"]) for s in _settings(manifest)],
        "result": results,
    }
    node |= {"endTime": manifest.finished} if manifest.finished else {}
    node |= {"actionStatus": STATUS[manifest.state]} if manifest.state in STATUS else {}
    node |= {"agent": _id(person["@id"])} if person else {}
    variables = _environment(manifest)
    return node | ({"environment": [_id(variable["@id"]) for variable in variables]} if variables else {})


def _inputs(manifest: Manifest) -> list[Node]:
    nodes = []
    for name, source in manifest.sources.items():
        node: Node = {
            "@id": _source_id(name), "@type": "CreativeWork", "name": name, "alternateName": source.path,
            "exampleOfWork": _id(f"#in-{name}"), "contentSize": str(source.bytes),
        }  # fmt: skip
        node["identifier"] = f"blake2b-256:{source.content}" if source.content else f"blake2b-sample:{source.sample}"
        nodes.append(node | ({"description": source.obtain} if source.obtain else {}))
    return nodes + _settings(manifest) + _environment(manifest)


def _settings(manifest: Manifest) -> list[Node]:
    return [
        {"@id": f"#params-{step.name}", "@type": "PropertyValue", "name": f"{step.name}: {step.stage}"}
        | {"value": json.dumps(step.params, sort_keys=True)}
        for step in manifest.steps
    ]


def _environment(manifest: Manifest) -> list[Node]:
    latest = manifest.environments[-1] if manifest.environments else {}
    variables = latest.get("settings", {})
    return [
        {"@id": f"#env-{name}", "@type": "PropertyValue", "name": name, "value": value}
        for name, value in sorted(variables.items())
    ]


def _outputs(manifest: Manifest) -> list[Node]:
    """Return the results themselves, which stay in the run folder; the listing has the checksum of every file."""
    return [
        {"@id": _output_id(step.name, name), "@type": "CreativeWork", "name": f"{step.name}.{name}"}
        | {"additionalType": kind, "exampleOfWork": _id(f"#out-{step.name}.{name}")}
        | ({"subjectOf": _id(step.listing)} if step.listing else {})
        for step in manifest.steps
        for name, kind in step.outputs.items()
    ]


def _file(name: str, fact: FileFact, manifest: Manifest) -> Node:
    kind = "application/yaml" if name.endswith(".yaml") else mimetypes.guess_type(name)[0]
    node: Node = {
        "@id": name, "@type": "File", "name": WHAT.get(name, name), "contentSize": str(fact.bytes),
        "sha256": fact.sha256,
        "encodingFormat": kind or ("application/jsonl" if name.endswith(".jsonl") else "application/octet-stream"),
    }  # fmt: skip
    if name == WORKFLOW:
        inputs = [_id(f"#in-{source}") for source in manifest.sources]
        outputs = [_id(f"#out-{step.name}.{output}") for step in manifest.steps for output in step.outputs]
        node |= {"@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow"], "programmingLanguage": _id(LANGUAGE)}
        node |= {"name": manifest.run, "description": WHAT[WORKFLOW], "input": inputs, "output": outputs}
        node |= {"hasPart": [_id(_stage_id(step.name)) for step in manifest.steps], "runtimePlatform": _id(ENGINE)}
        node |= {"version": manifest.finished or manifest.started}
    elif name.startswith("stages/"):
        node |= {"@type": ["File", "SoftwareSourceCode"], "version": name.split("/")[1]}
    elif name == README:
        node |= {"about": _id("./"), "encodingFormat": "text/markdown"}
    elif name.startswith(("report/", "events", "plan")):
        node["about"] = _id(RUN)
    return node


def _stage_id(step: str) -> str:
    return f"#stage-{step}"


def _source_id(name: str) -> str:
    return f"#source-{name}"


def _output_id(step: str, name: str) -> str:
    return f"#result-{step}.{name}"
