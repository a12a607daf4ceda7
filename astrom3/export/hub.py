"""Models to the hub and back: `push` uploads a folder; `astrom3.load("owner/name")` and model=owner/name fetch it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from astrom3.errors import UserError, shown

FILES = [
    "config.json",
    "model.safetensors",
    "native.json",
    "native.safetensors",
    "preprocessing.json",
    "confidence.json",
    "README.md",
    "onnx/*.onnx",
]


def check_name(repo: str) -> None:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise UserError(f"push={repo} is no hub id: it is owner/name")


def push(folder: Path, repo: str, *, private: bool = True, message: str = "Model, by astrom3.export") -> str:
    """Upload what astrom3.export wrote in one commit, creating the model; returns its address. The token is that of
    `hf auth login` or $HF_TOKEN; the hub is $HF_ENDPOINT where that is set."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    check_name(repo)
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    later = f"{shown(folder)} is complete: the same command, or `hf upload {repo} {shown(folder)}`, uploads it later"
    try:
        api.create_repo(repo, repo_type="model", private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo, repo_type="model", folder_path=folder, allow_patterns=FILES, commit_message=message
        )
    except LocalTokenNotFoundError:
        raise UserError(f"push={repo} needs a token: `hf auth login`, or HF_TOKEN; {later}") from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        if status in (401, 403):
            raise UserError(
                f"the hub refused {repo} ({status}): `hf auth login` or HF_TOKEN with a token that may write there; "
                f"{later}"
            ) from None
        raise UserError(f"the hub answered {status} for {repo}: {later}") from None
    except OSError as error:  # no connection: requests and httpx errors among them
        raise UserError(f"the hub cannot be reached for {repo} ({type(error).__name__}): {later}") from None
    except Exception as error:
        if not type(error).__module__.startswith(("httpx", "httpcore", "requests")):
            raise
        raise UserError(f"the hub cannot be reached for {repo} ({type(error).__name__}): {later}") from None

    return str(commit.repo_url)
