"""What the package imports is declared in pyproject.toml, and what is declared is imported."""

import ast
import importlib.util
import json
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULES = {
    "hydra-core": "hydra",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
    "umap-learn": "umap",
}  # of other names

# Declared without an import of ours, and why.
NOT_IMPORTED = {
    "wandb": "Lightning's logger of conf/logger/wandb.yaml imports it",
    "hydra-submitit-launcher": "a plugin that Hydra finds by itself",
    "hydra-joblib-launcher": "a plugin that Hydra finds by itself",
    "onnxscript": "torch.onnx.export imports it",
    "httptools": "the parser that uvicorn takes where it is installed",
    "hatchling": "builds the wheel",
    "pytest-timeout": "a plugin of pytest",
    "pytest-xdist": "a plugin of pytest",
    "jinja2": "huggingface_hub fills the template of a card with it",
    "mkdocs-material": "the theme of the site",
    "mkdocstrings[python]": "a plugin of mkdocs",
    "zuko": "experiments.astroclip draws posteriors with it",
    "lsdb": "writes and joins the catalogues that data=hats reads, in experiments and tests",
    "nbclient": "tests run docs/pages/examples with it",
    "nbformat": "the notebooks of docs/pages/examples are of its format",
    "ipykernel": "the kernel that runs docs/pages/examples",
    "jupytext": "opens docs/pages/examples as notebooks",
    "coverage": "a program",
    "ruff": "a program",
    "mypy": "a program",
}
# Imported in experiments and tests where they are installed, and not needed to run any of them.
OPTIONAL = {"faiss", "usearch", "light_curve", "nifty_ls", "nested_pandas", "lightkurve", "hyrax", "ipywidgets"}
# Imported by a module that only they load: astrom3/inference/hyrax.py is hyrax's way to our encoders, and IPython is
# there where a notebook runs.
GUESTS = {"hyrax", "IPython"}


def module_of(requirement):
    """The module of a requirement such as "torch>=2.6,<2.14"."""
    name = re.match(r"[\w.-]+", requirement)[0].lower()
    return MODULES.get(name, name.replace("-", "_"))


def declared(*extras):
    """Modules of the requirements of the package and of these extras."""
    requirements = list(PROJECT["dependencies"])
    for extra in extras:
        requirements += PROJECT["optional-dependencies"][extra]
    return {module_of(requirement) for requirement in requirements if not requirement.startswith("astrom3[")}


@cache
def imported(folder):
    """Top modules that the files of a folder import anywhere, and those that `extras.need` imports by name."""
    found: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(node.module)
            elif folder == "astrom3" and isinstance(node, ast.Call) and getattr(node.func, "id", "") == "need":
                found.update(arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant))
    here = {path.stem for path in (ROOT / "tests").rglob("*.py")} | {"astrom3", "experiments", "__future__"}
    return {name.partition(".")[0] for name in found} - set(sys.stdlib_module_names) - here


@pytest.mark.slow
def test_what_the_package_imports_is_declared():
    extras = set(PROJECT["optional-dependencies"]) - {"dev"}
    assert imported("astrom3") - declared(*extras) - GUESTS == set()


def test_what_is_declared_is_imported():
    extras = set(PROJECT["optional-dependencies"]) - {"dev"}
    unused = declared(*extras) - imported("astrom3")
    assert unused == {module_of(name) for name in NOT_IMPORTED} & declared(*extras)


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["experiments", "tests"])
def test_the_rest_is_declared_for_developers(folder):
    assert imported(folder) - declared(*PROJECT["optional-dependencies"]) - OPTIONAL == set()


def test_developers_get_nothing_that_is_not_used():
    used = imported("astrom3") | imported("experiments") | imported("tests")
    assert declared("dev") - used - {module_of(name) for name in NOT_IMPORTED} == set()


@pytest.mark.slow
def test_the_modules_are_those_of_the_distributions():
    """Where they are installed, so that the table above cannot be wrong."""
    known = packages_distributions()
    for requirement in PROJECT["dependencies"]:
        name = re.match(r"[\w.-]+", requirement)[0].lower()
        if name not in NOT_IMPORTED:
            distributions = [distribution.lower().replace("_", "-") for distribution in known[module_of(requirement)]]
            assert name in distributions


def lock():
    """Package -> its version and the number of its hashes, of the lock file."""
    text = (ROOT / "requirements" / "linux-x86_64-py311.txt").read_text()
    found = {}
    for block in re.split(r"\n(?=\w)", text):
        match = re.match(r"([\w.-]+)==(\S+)", block)
        if match:
            found[match[1].lower()] = (match[2], block.count("--hash=sha256:"))
    return found


def test_the_lock_holds_what_developers_need_in_the_declared_ranges():
    locked = lock()
    assert all(hashes for _, hashes in locked.values())
    wanted = list(PROJECT["dependencies"])
    for requirements in PROJECT["optional-dependencies"].values():
        wanted += [requirement for requirement in requirements if not requirement.startswith("astrom3[")]
    for requirement in map(Requirement, wanted):
        if requirement.name != "torch":  # comes from the index that the machine has
            assert requirement.specifier.contains(locked[requirement.name.lower()][0]), requirement


def test_the_workflow_runs_the_versions_of_python_that_are_declared():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    versions = workflow["jobs"]["tests"]["strategy"]["matrix"]["python"]
    declared_versions = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if ":: Python :: 3." in line]
    assert versions == declared_versions
    assert PROJECT["requires-python"] == f">={versions[0]}"


def test_what_the_hooks_and_the_workflow_run_is_there():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    programs = {hook["entry"].split()[0] for repository in hooks for hook in repository["hooks"]}
    assert programs and {Path(program).name for program in programs} <= set(lock())
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"].values()
    lines = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    assert lines
    for line in lines:
        program, argument = line.split()
        assert (program == "make" and argument in targets) or (program == "bash" and (ROOT / argument).is_file())


@pytest.fixture(scope="module")
def audit():
    spec = importlib.util.spec_from_file_location("audit", ROOT / "requirements" / "audit.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


UNKNOWN = {"name": "jinja2", "skip_reason": "Dependency not found on PyPI and could not be audited: jinja2 (3.1.2)"}
CLEAN = {"name": "filelock", "version": "3.12.0", "vulns": []}
WEAK = {"name": "jinja2", "version": "3.1.2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3.1.3"]}]}


def test_an_audit_without_the_advisory_database_says_so_and_fails(audit):
    offline = "Traceback ...\nrequests.exceptions.ConnectionError: HTTPSConnectionPool(host='pypi.org', port=443)"
    for output, errors in (("", offline), (json.dumps({"dependencies": [UNKNOWN]}), "No known vulnerabilities found")):
        sentence, status = audit.verdict(output, errors)
        assert "the advisory database of pypi.org cannot be reached" in sentence
        assert status != 0 and "\n" not in sentence


def test_an_audit_names_what_it_found_and_what_it_did_not_look_up(audit):
    assert audit.verdict(json.dumps({"dependencies": [CLEAN]}), "")[1] == 0
    sentence, status = audit.verdict(json.dumps({"dependencies": [CLEAN, WEAK]}), "Found 1 known vulnerability")
    assert status == 1 and "jinja2 3.1.2: PYSEC-1, fixed in 3.1.3" in sentence
    sentence, status = audit.verdict(json.dumps({"dependencies": [CLEAN, UNKNOWN]}), "")
    assert status == 1 and "jinja2" in sentence
    assert audit.verdict("", "ERROR: requirement jinja2 is not pinned")[1] == 2
