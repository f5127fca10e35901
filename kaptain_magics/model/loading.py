"""A saved model back in the notebook, as its library's own object: checked as a server checks it, then loaded."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.files import private_folder
from kaptain_magics.model.revisions import SHOWN, choose_revision
from kaptain_magics.runtime.savers.base import UNSERVABLE
from kaptain_magics.state import Revision

if TYPE_CHECKING:
    from kaptain_magics.model.context import Context


class Loaded(NamedTuple):
    """A model in this process.

    Attributes:
        model: The library's own object, such as a fitted estimator.
        revision: What was loaded.
        text: What was taken, and with which versions.
        differences: A line for each library that is here in another version than the model was saved with.
    """

    model: Any
    revision: Revision
    text: str
    differences: tuple[str, ...]


def load(context: Context, model_id: str, revision: str = "") -> Loaded:
    """Load a revision of a model into this process; also one that was only kept, because no server can load it.

    Its files are compared with the sha256 of the model's record before anything of them is read. The pickles among
    them run code, as they do in a server; only revisions that were saved here have a record.

    Args:
        context: Where the model is kept.
        model_id: The model.
        revision: A revision's id or its beginning; else the one that a deployment would take.

    Raises:
        ModelError: There is no such revision.
        IntegrityError: A file is not the one that was saved.
        FrameworkError: Its library is not installed here.
        ServingError: It cannot be loaded.
    """
    from kaptain_magics.serving.loaders.described import other_versions, read_description
    from kaptain_magics.serving.loaders.kept import load_kept
    from kaptain_magics.serving.loaders.load_model import load_model
    from kaptain_magics.serving.process.artifact import verify_artifact

    chosen = choose_revision(context, model_id, revision=revision).revision
    folder = verify_artifact(local_folder(context, chosen), chosen.files)
    framework = ModelFramework.of(chosen.framework or "sklearn")
    described = read_description(folder)
    loaded: Any = None
    with _as_before():
        if chosen.format == UNSERVABLE:
            native = load_kept(folder, described)
        else:
            loaded = load_model(framework, folder, {})
            native = getattr(loaded, "native", None)
    differences = tuple(
        f"saved with {name} {saved}, here is {here}: its answers may differ"
        for name, (saved, here) in other_versions(described).items()
    )
    model = loaded if native is None else native
    what = f"{chosen.stage} revision {chosen.revision[:SHOWN]} of {model_id}: a {type(model).__name__}"
    if described.kind and described.kind != type(model).__name__:
        what += f" (it was saved from a {described.kind})"
    with_ = ", ".join(f"{name} {version}" for name, version in described.versions.items())
    return Loaded(model, chosen, f"{what}{f', saved with {with_}' if with_ else ''}", differences)


def local_folder(context: Context, revision: Revision) -> Path:
    """Return the folder of a revision on this machine; objects of S3 are fetched into the cache first."""
    parts = urlsplit(revision.uri)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    folder = Path(context.settings.cache) / "models" / revision.revision
    if not folder.exists():
        private_folder(folder.parent)
        context.objects().get(revision.uri, folder)
    return folder


@contextmanager
def _as_before() -> Iterator[None]:
    """Take back what loaders change in their process, which is the notebook's here: warnings, and no bytecode."""
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # nothing may appear in the model's folder
    try:
        with warnings.catch_warnings():
            yield
    finally:
        sys.dont_write_bytecode = before
