"""The card of a model, README.md with a YAML head as the hub reads it: data, metrics, use, limits, licence, citation.

What a run folder knows is in it; of a model without one, what its configuration says. No paths of this machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from astrom3 import stored
from astrom3.data.schema import PAPER_ORDER
from astrom3.encoders.informer import InformerEncoder
from astrom3.encoders.towers import MultimodalClassifier, MultimodalModel
from astrom3.export.onnx import Written
from astrom3.inference.trained import PREPROCESSING, TrainedModel
from astrom3.published import astrom3 as published
from astrom3.registry import read_stored
from astrom3.training.run import CONFIG, INFO, METRICS

CARD = "README.md"
TAGS = ["astronomy", "variable-stars", "multimodal", "astrom3"]
MODALITY_TAGS = {"photometry": "light-curves", "spectra": "spectra", "metadata": "catalogue"}
CITATION = """@article{rizhko2024astrom3,
  title = {AstroM$^3$: A self-supervised multimodal model for astronomy},
  author = {Rizhko, Mariia and Bloom, Joshua S.},
  journal = {arXiv preprint arXiv:2411.08842},
  year = {2024}
}"""


def read_run(folder: Path) -> dict[str, Any]:
    """configuration, info and metrics of a finished run; {} where `folder` is none."""
    if not (folder / METRICS).is_file() or not (folder / CONFIG).is_file():
        return {}
    return {
        "cfg": OmegaConf.to_container(read_stored(folder / CONFIG, checked=False)),
        "info": stored.read(folder / INFO, stored.RunInfo) if (folder / INFO).is_file() else {},
        "metrics": stored.read(folder / METRICS, stored.Scores),
    }


def card(
    model: TrainedModel, name: str, run: Mapping[str, Any], licence: str, base: str | None, files: Sequence[Written]
) -> str:
    """The text. name: as the card calls it, a hub id or the name of a run; base: hub id of the published weights that
    it starts from or is; files: ONNX files that go with it."""
    body = [
        f"# {name}", "", *what_it_is(model), "", "## Data", "", *data(run), "", *trained(model, run), "## Metrics", "",
        *metrics(run), "", "## Use", "", *use(model, name), "", *onnx_files(model, files),
        "## Limits", "", *(f"- {line}" for line in limits(model, run)), "", "## Licence and citation", "",
        f"Licence: {licence}. Method: Rizhko & Bloom 2024, arXiv:2411.08842.", "", "```bibtex", CITATION, "```", "",
    ]  # fmt: skip
    return head(model, name, run, licence, base) + "\n" + "\n".join(body)


def head(model: TrainedModel, name: str, run: Mapping[str, Any], licence: str, base: str | None) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    results, found = [], run.get("metrics", {})
    for key, kind in (("accuracy", "accuracy"), ("macro_f1", "f1"), ("macro_recall", "recall")):
        if key in found:
            results.append(EvalResult("tabular-classification", dataset(run), dataset(run), kind, round(found[key], 4),
                                      metric_name=key.replace("_", " "), dataset_split="test"))  # fmt: skip
    about = ModelCardData(
        license=licence, library_name="astrom3", tags=TAGS + [MODALITY_TAGS.get(m, m) for m in model.modalities],
        datasets=[dataset(run)] if "/" in dataset(run) else None, base_model=base,
        model_name=name if results else None, eval_results=results or None,
    )  # fmt: skip
    return f"---\n{about.to_yaml()}\n---\n"


def dataset(run: Mapping[str, Any]) -> str:
    """Hub id of the data, or what they were."""
    origin = run.get("cfg", {}).get("datamodule", {}).get("origin", {})
    if origin.get("repo"):
        return str(origin["repo"])
    return "simulated survey" if str(origin.get("_target_", "")).endswith("Simulated") else "local data"


def what_it_is(model: TrainedModel) -> list[str]:
    kinds = {"photometry": "light curves", "spectra": "spectra", "metadata": "catalogue values"}
    modalities = ", ".join(kinds.get(m, m) for m in model.modalities)
    if isinstance(model.network, MultimodalClassifier):
        task = f"Classifies variable stars from {modalities}, any subset of them, through one shared space"
    elif isinstance(model.network, MultimodalModel):
        task = f"Embeds {modalities} of variable stars in one space (trimodal CLIP objective)"
    else:
        task = f"{'Classifies' if model.has_head else 'Embeds'} variable stars from {modalities}"
    count = published.count_parameters(model.network)
    lines = [f"{task}. {count:,} parameters; embeddings of {model.width} numbers."]
    if model.has_head:
        lines.append(f"Classes: {', '.join(model.classes)}.")
    return lines


def data(run: Mapping[str, Any]) -> list[str]:
    if not run:
        return ["Not recorded beside these weights."]
    info, found = run["info"], run["info"].get("data", {})
    which = f"{dataset(run)}, subset {info.get('sub')}, split of seed {info.get('seed')}"
    lines = [which + (f" ({found['note']})" if found.get("note") else "") + ".", "",
             "| split | objects | used | rejected |", "| --- | ---: | ---: | ---: |"]  # fmt: skip
    for split, n in found.get("splits", {}).items():
        rejected = ", ".join(f"{m}: {k}" for m, k in n.get("rejected", {}).items()) or "0"
        lines.append(f"| {split} | {n['objects']:,} | {n['used']:,} | {rejected} |")
    return lines


def trained(model: TrainedModel, run: Mapping[str, Any]) -> list[str]:
    lines = []
    if run:
        cfg, info = run["cfg"], run["info"]
        optim = ", ".join(f"{k} {v:g}" for k, v in cfg.get("optim", {}).items() if isinstance(v, int | float))
        versions = ", ".join(f"{k} {v}" for k, v in info.get("versions", {}).items() if k in ("astrom3", "torch"))
        lines.append(
            f"Training: mode={info.get('mode')} sub={info.get('sub')} init={info.get('init')} seed={info.get('seed')}, "
            f"batch size {cfg['datamodule'].get('batch_size')}, {optim}; {versions}."
        )
    for encoder in (m for m in model.network.modules() if isinstance(m, InformerEncoder)):
        lines.append(
            f"Light-curve encoder: {encoder.e_layers} layers of {encoder.d_model} channels, ProbSparse attention, "
            f"{encoder.head_merge} merge of the heads."
        )
    return [*lines, ""] if lines else []


def metrics(run: Mapping[str, Any]) -> list[str]:
    found = run.get("metrics", {})
    if not found:
        return ["Not recorded beside these weights."]
    lines = []
    if "recall" in found:
        classes = [c for c in PAPER_ORDER if c in found["recall"]]
        classes += [c for c in found["recall"] if c not in classes]
        lines += [
            f"Test split, {found['n']} objects: accuracy {100 * found['accuracy']:.2f} %, macro F1 "
            f"{100 * found['macro_f1']:.2f} %, macro recall {100 * found['macro_recall']:.2f} %.", "",
            "| " + " | ".join(["class", *classes]) + " |", "| --- |" + " ---: |" * len(classes),
            "| " + " | ".join(["recall [%]", *(percent(found["recall"][c]) for c in classes)]) + " |",
        ]  # fmt: skip
    else:
        lines.append(f"Contrastive loss on the test split {found['loss']:.3f} (three pairs, rows and columns).")
        for name, value in found.get("centroid_accuracy", {}).items():
            lines.append(
                f"- {name}: {100 * value:.1f} % of the test objects are nearest to the centroid of their class"
            )
    return lines


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def use(model: TrainedModel, name: str) -> list[str]:
    call = "classify" if model.has_head else "embed"
    arguments = {"photometry": "light_curve=(time, flux, error)", "spectra": "spectrum=(wavelength, flux, ivar)",
                 "metadata": "metadata={...}"}  # fmt: skip
    given = ", ".join(arguments[m] for m in model.modalities if m in arguments)
    lines = ["```python", "import astrom3", "", f'model = astrom3.load("{name}")', f"model.{call}({given})", "```", "",
             "Raw observations: days, mJy, Angstrom in vacuum, or astropy quantities and tables."]  # fmt: skip
    if model.normaliser is None and model.modalities != ("spectra",):
        lines.append(
            f"There is no {PREPROCESSING} here: give the statistics of the training data, `statistics=<file>`."
        )
    return lines


def onnx_files(model: TrainedModel, files: Sequence[Written]) -> list[str]:
    if not files:
        return []
    rows = [f"| onnx/{f.name}.onnx | {', '.join(f.inputs)} | {', '.join(f.outputs)} | {f.difference:.1e} | "
            f"{f.tied} of {f.objects} |" for f in files]  # fmt: skip
    merges = {m.head_merge for m in model.network.modules() if isinstance(m, InformerEncoder)}
    merge = ""
    if merges:
        merge = (
            f" The heads of the attention are merged as in training ({', '.join(merges)}): the other way is another "
            "network. On simulated light curves it changed 23 % of the predictions and cost 12 points of accuracy "
            "(astrom3, experiments/head_merge)."
        )
    return [
        "## ONNX", "", "Batches of any size; inputs are prepared as by astrom3 (windows of 200 points, normalised)."
        + merge, "", "| file | inputs | outputs | largest difference from torch | tied |",
        "| --- | --- | --- | ---: | ---: |", *rows, "",
        "Tied: objects in which two queries of the attention were equally distinctive to rounding, so that another one "
        "attends; their outputs may differ more.", "",
    ]  # fmt: skip


def limits(model: TrainedModel, run: Mapping[str, Any]) -> list[str]:
    lines = []
    if dataset(run) == "simulated survey":
        lines.append("Trained on simulated data: for trying things out, not for science.")
    if model.has_head:
        lines.append("It knows the classes above only: anything else gets one of them. Check its calibration on your "
                     "data (python -m astrom3.analyse).")  # fmt: skip
    if "photometry" in model.modalities:
        lines.append("Light curves: the band, cadence and the features period, amplitude, lksl_statistic and rfr_score "
                     "of the training survey; those of another shift the embeddings (`astrom3.analyse "
                     "what=[sensitivity]` says how far).")  # fmt: skip
        lines.append("The published attention draws keys at random; here they are constants, so results repeat.")
    if "spectra" in model.modalities:
        lines.append("Spectra: 3850 to 8998 Angstrom, resolution and calibration as in LAMOST low resolution.")
    if "metadata" in model.modalities:
        lines.append("Catalogue values: unknown ones count as the mean of the training objects.")
    return lines
