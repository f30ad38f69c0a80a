"""Finds the images of annotation files that name them in some way."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from protomask.data.folders import list_images
from protomask.data.formats.records import Reading
from protomask.errors import DataError
from protomask.structures.coco_json import few, shown
from protomask.structures.file_names import FileNames, name_flaw, tails, with_slashes


class ImageFiles:
    """The image files in some folders and below.

    Args:
        folders: looked at one after the other, until an image is found.
        reading: says what becomes of images that are not there.

    """

    def __init__(self, folders: Sequence[Path], reading: Reading) -> None:
        self._folders = [_Folder(folder) for folder in dict.fromkeys(folders)]
        self._reading = reading

    def find(self, name: str, where: str, *, or_else: Sequence[str] = ()) -> Path | None:
        """The file of an image; the longest tail of its path that is there decides, at last its name alone.

        Args:
            name: as the annotation file has it: a name or a path.
            where: for messages.
            or_else: other names it may have.

        Returns:
            The file; None if there is none, and missing images are skipped.

        Raises:
            DataError: there is none, or several have the name.

        """
        paths = [with_slashes(one) for one in (name, *or_else)]
        for path in paths:
            last = path.rpartition("/")[2]
            if not last or (flaw := name_flaw(last)) is not None:
                reason = flaw if last else "it names no file"
                raise DataError(f"{where}: expected the name of an image, got {shown(name)}: {reason}")
        for folder in self._folders:
            for path in paths:
                found = folder.find(path, where)
                if found is not None:
                    return found
        close = next((near for folder in self._folders if (near := folder.close_to(paths[0]))), None)
        hint = f"; did you mean {close}?" if close else ""
        places = " or ".join(f"{folder.path} or below" for folder in self._folders)
        self._reading.missing(where, f"no image {shown(name)} in {places}{hint}")
        return None


class _Folder:
    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def _paths(self) -> FileNames:
        found = list_images(self.path) if self.path.is_dir() else []
        return FileNames(image.relative_to(self.path).as_posix() for image in found)

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for path in self._paths.names:
            found.setdefault(path.rpartition("/")[2], []).append(path)
        return found

    @cached_property
    def _names(self) -> FileNames:
        return FileNames(self._by_name)

    def find(self, path: str, where: str) -> Path | None:
        name = self._names.find(path.rpartition("/")[2])
        choices = [] if name is None else self._by_name[name]
        for tail in tails(path):
            if tail in choices:
                return self.path / tail
            fits = [choice for choice in choices if choice.endswith(f"/{tail}")]
            if len(fits) == 1:
                return self.path / fits[0]
        if len(choices) > 1:
            raise DataError(f"{where}: several images are called {shown(name)}: {few(choices)}")
        return self.path / choices[0] if choices else None

    def close_to(self, path: str) -> str | None:
        return self._names.close_to(path.rpartition("/")[2])
