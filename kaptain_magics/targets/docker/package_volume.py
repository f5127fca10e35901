"""Requirements that an image lacks: fetched here, kept in the engine as a volume, mounted into containers."""

from __future__ import annotations

from pathlib import Path

from kaptain_magics.files import locked
from kaptain_magics.images.build_context import Entry
from kaptain_magics.images.engine import Engine
from kaptain_magics.images.tar_files import files_below
from kaptain_magics.targets.docker.container_files import archive, copy_in
from kaptain_magics.targets.docker.container_settings import MANAGED, MOUNTED, owner

_COMPLETE = ".complete"


class PackageVolume:
    """A volume of installed packages.

    Args:
        folder: The packages on this machine, in a folder named by what they are.
        cache: Folder for things that can be made again.
        home: The state folder that the volume belongs to.
    """

    def __init__(self, folder: Path, cache: Path, home: Path) -> None:
        # one a state folder: `clean` of another may remove its own between the filling and the container that uses it
        self.name = f"kaptain-{owner(home)[:8]}-packages-{folder.name}"
        self._folder, self._cache, self._home = folder, cache, home

    @property
    def mounts(self) -> dict[str, dict[str, str]]:
        """The volume read-only at ``MOUNTED``, as ``containers.create`` takes it."""
        return {self.name: {"bind": MOUNTED, "mode": "ro"}}

    def fill(self, engine: Engine, image_id: str) -> None:
        """Make the volume and put the packages into it, once; a container that never starts takes them in.

        Raises:
            TargetError: The engine does not answer, or its disk is full.
        """
        from docker import errors

        labels = {**MANAGED, "kaptain.owner": owner(self._home), "kaptain.kind": "packages"}
        with locked(self._cache / "docker" / f".{self.name}.lock", timeout=600.0), engine.translate_errors():
            engine.client.volumes.create(self.name, labels=labels)
            helper = engine.client.containers.create(
                image_id, ["true"], labels=labels, volumes={self.name: {"bind": MOUNTED, "mode": "rw"}}
            )
            try:
                try:
                    pieces, _ = helper.get_archive(f"{MOUNTED}/{_COMPLETE}")
                    list(pieces)
                except errors.NotFound:
                    copy_in(engine, helper, archive(files_below(self._folder), MOUNTED))
                    copy_in(engine, helper, archive([Entry(_COMPLETE, b"")], MOUNTED))
            finally:
                helper.remove(force=True)
