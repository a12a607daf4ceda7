"""The card of a model, README.md with a YAML head as the hub reads it: data, metrics, use, limits, licence, citation.

What a run folder knows is in it; of a model without one, what its configuration says. No paths of this machine. The
text around the facts is in card.md.jinja.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from astrom3 import stored
from astrom3.encoders.informer import InformerEncoder
from astrom3.encoders.towers import MultimodalClassifier, MultimodalModel
from astrom3.export.families import families_of
from astrom3.export.onnx import Written
from astrom3.inference.trained import PREPROCESSING, TrainedModel
from astrom3.modalities.kinds import modality
from astrom3.modalities.schema import in_paper_order
from astrom3.published import astrom3 as published
from astrom3.registry import read_stored
from astrom3.training.run import CONFIG, INFO, METRICS

CARD = "README.md"
TEMPLATE = Path(__file__).parent / "card.md.jinja"
UNRECORDED = "Not recorded beside these weights."
SCORES = {"accuracy": "accuracy", "macro_f1": "f1", "macro_recall": "recall"}  # ours -> as the hub calls them


def read_run(folder: Path) -> dict[str, Any]:
    """configuration, info and metrics of a finished run; {} where `folder` is none."""
    if not (folder / METRICS).is_file() or not (folder / CONFIG).is_file():
        return {}
    info = folder / INFO
    return {
        "cfg": OmegaConf.to_container(read_stored(folder / CONFIG, checked=False)),
        "info": stored.read(info, stored.RunInfo) if info.is_file() else {},
        "metrics": stored.read(folder / METRICS, stored.Scores),
    }


def card(
    model: TrainedModel, name: str, run: Mapping[str, Any], licence: str, base: str | None, files: Sequence[Written]
) -> str:
    """The text. name: as the card calls it, a hub id or the name of a run; base: hub id of the published weights that
    it starts from or is; files: ONNX files that go with it."""
    from huggingface_hub import ModelCard

    families = families_of(model.network)
    made = ModelCard.from_template(
        head(model, name, run, licence, base),
        template_str=TEMPLATE.read_text(),
        name=name,
        what_it_is=what_it_is(model),
        data=data(run),
        training=trained(model, run),
        metrics=metrics(run),
        use=use(model, name),
        onnx=onnx_files(model, files),
        limits=limits(model, run),
        licence=licence,
        methods=[family.method for family in families],
        citations=[family.citation for family in families],
    )
    return str(made)


def head(model: TrainedModel, name: str, run: Mapping[str, Any], licence: str, base: str | None) -> Any:
    """What the hub reads: licence, tags, data set and scores."""
    from huggingface_hub import EvalResult, ModelCardData

    data_set = dataset(run)
    found = run.get("metrics", {})
    results = []
    for key, kind in SCORES.items():
        if key in found:
            result = EvalResult(
                task_type="tabular-classification",
                dataset_type=data_set,
                dataset_name=data_set,
                metric_type=kind,
                metric_value=round(found[key], 4),
                metric_name=key.replace("_", " "),
                dataset_split="test",
            )
            results.append(result)

    tags = ["astronomy", "multimodal", "astrom3"]
    tags += sorted({family.tag for family in families_of(model.network)})
    tags += [modality(name).tag for name in model.modalities]
    return ModelCardData(
        license=licence,
        library_name="astrom3",
        tags=tags,
        datasets=[data_set] if "/" in data_set else None,
        base_model=base,
        model_name=name if results else None,
        eval_results=results or None,
    )


def dataset(run: Mapping[str, Any]) -> str:
    """Hub id of the data, or what they were."""
    origin = run.get("cfg", {}).get("datamodule", {}).get("origin", {})
    if origin.get("repo"):
        return str(origin["repo"])
    return "simulated survey" if "Simulated" in str(origin.get("_target_", "")) else "local data"


def what_it_is(model: TrainedModel) -> str:
    """Task, objects, modalities, number of parameters, classes."""
    modalities = ", ".join(modality(name).plural for name in model.modalities)
    objects = " and ".join(dict.fromkeys(family.objects for family in families_of(model.network)))
    if model.regression is not None:
        task = f"Predicts {', '.join(model.regression.names)} of {objects} from {modalities}"
    elif isinstance(model.network, MultimodalClassifier):
        task = f"Classifies {objects} from {modalities}, any subset of them, through one shared space"
    elif isinstance(model.network, MultimodalModel):
        task = f"Embeds {modalities} of {objects} in one space (contrastive objective)"
    else:
        task = f"{'Classifies' if model.has_head else 'Embeds'} {objects} from {modalities}"
    count = published.count_parameters(model.whole)
    text = f"{task}. {count:,} parameters; embeddings of {model.width} numbers."
    return f"{text}\nClasses: {', '.join(model.classes)}." if model.has_head else text


def data(run: Mapping[str, Any]) -> str:
    """The data set and how many of its objects were used and rejected."""
    if not run:
        return UNRECORDED

    info = run["info"]
    found = info.get("data", {})
    note = f" ({found['note']})" if found.get("note") else ""
    lines = [
        f"{dataset(run)}, subset {info.get('protocol', info.get('sub'))}, split of seed {info.get('seed')}{note}.",
        "",
        "| split | objects | used | rejected |",
        "| --- | ---: | ---: | ---: |",
    ]
    for split, counts in found.get("splits", {}).items():
        reasons = [f"{modality}: {count}" for modality, count in counts.get("rejected", {}).items()]
        rejected = ", ".join(reasons) or "0"
        lines.append(f"| {split} | {counts['objects']:,} | {counts['used']:,} | {rejected} |")

    return "\n".join(lines)


def trained(model: TrainedModel, run: Mapping[str, Any]) -> str:
    """How it was trained, "" where that is not known."""
    lines = []
    if run:
        cfg = run["cfg"]
        info = run["info"]
        optim = [f"{key} {value:g}" for key, value in cfg.get("optim", {}).items() if type(value) in (int, float)]
        known = info.get("versions", {})
        versions = [f"{name} {known[name]}" for name in known if name in ("astrom3", "torch")]
        lines.append(
            f"Training: mode={info.get('mode')} sub={info.get('sub')} init={info.get('init')} seed={info.get('seed')}, "
            f"batch size {cfg['datamodule'].get('batch_size')}, {', '.join(optim)}; {', '.join(versions)}."
        )

    for encoder in informers(model):
        lines.append(
            f"Light-curve encoder: {encoder.e_layers} layers of {encoder.d_model} channels, ProbSparse attention, "
            f"{encoder.head_merge} merge of the heads."
        )

    return "\n".join(lines)


def informers(model: TrainedModel) -> list[InformerEncoder]:
    return [module for module in model.network.modules() if isinstance(module, InformerEncoder)]


def metrics(run: Mapping[str, Any]) -> str:
    """Scores of the test split."""
    found = run.get("metrics", {})
    if not found:
        return UNRECORDED
    if "recall" in found:
        return classification_metrics(found)
    lines = []
    for key, value in found.items():
        if isinstance(value, float):
            lines.append(f"- {key.replace('_', ' ')} on the test split: {value:.4g}")
    for name, value in found.get("centroid_accuracy", {}).items():
        lines.append(f"- {name}: {100 * value:.1f} % of the test objects are nearest to the centroid of their class")
    return "\n".join(lines)


def classification_metrics(found: Mapping[str, Any]) -> str:
    """Accuracy and means over classes in a sentence, recall by class in a table, the paper's classes in its order."""
    classes = in_paper_order(found["recall"])
    recalls = [percent(found["recall"][name]) for name in classes]
    lines = [
        f"Test split, {found['n']} objects: accuracy {100 * found['accuracy']:.2f} %, macro F1 "
        f"{100 * found['macro_f1']:.2f} %, macro recall {100 * found['macro_recall']:.2f} %.",
        "",
        table_line("class", *classes),
        "| --- |" + " ---: |" * len(classes),
        table_line("recall [%]", *recalls),
    ]
    return "\n".join(lines)


def table_line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def use(model: TrainedModel, name: str) -> str:
    """The call, and what it takes."""
    call = "classify" if model.has_head else "embed"
    if model.regression is not None:
        call = "predict"
    usages = [view.usage or modality(name).usage for name, view in model.views.items()]
    given = ", ".join(usage for usage in usages if usage)
    lines = [
        "```python",
        "import astrom3",
        "",
        f'model = astrom3.load("{name}")',
        f"model.{call}({given})",
        "```",
        "",
        "Raw observations: days, mJy, Angstrom in vacuum, or astropy quantities and tables.",
    ]
    if model.normaliser is None and model.uses_features:
        lines.append(
            f"There is no {PREPROCESSING} here: give the statistics of the training data, `statistics=<file>`."
        )

    return "\n".join(lines)


def onnx_files(model: TrainedModel, files: Sequence[Written]) -> str:
    """The ONNX files and how far they are from torch, "" without any."""
    if not files:
        return ""

    text = "Batches of any size; inputs are prepared as by astrom3 (its windows, normalised)."
    merges = sorted({encoder.head_merge for encoder in informers(model)})
    if merges:
        text += (
            f" The heads of the attention are merged as in training ({', '.join(merges)}): the other way is another "
            "network. On simulated light curves it changed 23 % of the predictions and cost 12 points of accuracy "
            "(astrom3, experiments/head_merge)."
        )

    lines = [
        "## ONNX",
        "",
        text,
        "",
        "| file | inputs | outputs | largest difference from torch | tied |",
        "| --- | --- | --- | ---: | ---: |",
    ]
    for file in files:
        inputs = ", ".join(file.inputs)
        outputs = ", ".join(file.outputs)
        tied = f"{file.tied} of {file.objects}"
        lines.append(table_line(f"onnx/{file.name}.onnx", inputs, outputs, f"{file.difference:.1e}", tied))

    if merges:
        lines += [
            "",
            "Tied: objects in which two queries of the attention were equally distinctive to rounding, so that another "
            "one attends; their outputs may differ more.",
        ]

    return "\n".join(lines)


def limits(model: TrainedModel, run: Mapping[str, Any]) -> list[str]:
    """What the model must not be trusted with, a sentence each."""
    lines = []
    if dataset(run) == "simulated survey":
        lines.append("Trained on simulated data: for trying things out, not for science.")
    if model.has_head:
        lines.append(
            "It knows the classes above only: anything else gets one of them. Check its calibration on your data "
            "(python -m astrom3.analyse)."
        )
    for view in model.views.values():
        lines += view.limits
    for family in families_of(model.network):
        lines += family.limits
    return lines
