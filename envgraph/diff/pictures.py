"""What differs between two images, by what they say of themselves. Pure.

For images that nobody here has a lock of: of another tool, of another store. What an
image does not say is not compared, and that is told (``unknown``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from envgraph.diff.deciding import Explanation, Input
from envgraph.diff.packages import PackageChange, compare_packages
from envgraph.diff.versions import Lines, Moved, compare_maps

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envgraph.model.locked import LockedBase, LockedPackage
    from envgraph_store.digest import Digest

VARIABLE: Final = "variable "
LABEL: Final = "label "


@dataclass(frozen=True, slots=True)
class PictureLayer:
    """One layer; ``title`` is what the image's history says made it."""

    digest: Digest
    size: int
    diff_id: Digest
    title: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as its manifest and config tell it; or what a lock says of one.

    ``settings`` are the config's values by words for people (``variable PATH``, ``label
    maintainer``, ``entrypoint``). ``packages`` are None where nobody can say; ``exact``: they
    come from a lock, with hashes. What is not known is None, and ``unknown`` says so.
    """

    title: str
    platform: str
    image: Digest | None = None
    layers: tuple[PictureLayer, ...] | None = None
    settings: Mapping[str, Any] | None = None
    packages: tuple[LockedPackage, ...] | None = None
    exact: bool = False
    base: LockedBase | None = None
    created: str = ""
    unknown: tuple[str, ...] = ()

    @property
    def diff_ids(self) -> tuple[Digest, ...] | None:
        """The layers' contents, whatever they are compressed with."""
        return None if self.layers is None else tuple(layer.diff_id for layer in self.layers)


@dataclass(frozen=True, slots=True)
class PictureDiff:
    """Everything that is known to differ between two images."""

    before: Picture
    after: Picture
    packages: tuple[PackageChange, ...] = ()
    settings: tuple[Moved, ...] = ()

    @property
    def same_image(self) -> bool | None:
        """Both are one image, byte for byte; None where one side is none."""
        if self.before.image is None or self.after.image is None:
            return None
        return self.before.image == self.after.image

    @property
    def same_files(self) -> bool | None:
        """Every layer holds the same; None where not known."""
        if self.before.layers is None or self.after.layers is None:
            return None
        return self.before.diff_ids == self.after.diff_ids

    @property
    def same_base(self) -> bool | None:
        """Both stand on one image; None where one of them does not say."""
        before, after = self._bases()
        return None if before is None or after is None else before.manifest == after.manifest

    def _bases(self) -> tuple[LockedBase | None, LockedBase | None]:
        """The bases, one of them told by the layers where only the other side names its own."""
        before, after = self.before.base, self.after.base
        if before is not None and after is None and _stands_on(self.after, before):
            after = before
        if after is not None and before is None and _stands_on(self.before, after):
            before = after
        return before, after

    @property
    def packages_known(self) -> bool:
        """Both sides say what packages they hold."""
        return self.before.packages is not None and self.after.packages is not None

    @property
    def unknown(self) -> tuple[str, ...]:
        """What was not compared, and why."""
        return () if self.same_image else (*self.before.unknown, *self.after.unknown)

    @property
    def new_layers(self) -> tuple[PictureLayer, ...] | None:
        """The layers of the second that the first has not, by digest; None where not known."""
        if self.before.layers is None or self.after.layers is None:
            return None
        known = {layer.digest for layer in self.before.layers}
        after = {layer.digest: layer for layer in self.after.layers}
        return tuple(layer for layer in after.values() if layer.digest not in known)

    @property
    def recompressed(self) -> tuple[PictureLayer, ...]:
        """Those of the new layers that hold what a layer of the first holds."""
        known = set(self.before.diff_ids or ())
        return tuple(layer for layer in self.new_layers or () if layer.diff_id in known)

    @property
    def is_empty(self) -> bool:
        """Nothing that is known differs."""
        return self.same_image is True or (
            self.same_image is None
            and not self.packages
            and self.same_base is not False
            and not self.settings
        )

    def cost(self) -> dict[str, Any] | None:
        """What the second has in layers that the first lacks."""
        new = self.new_layers
        if new is None or self.before.layers is None or self.after.layers is None:
            return None
        return {
            "from": len(self.before.layers),
            "to": len(self.after.layers),
            "new": len(new),
            "new_bytes": sum(layer.size for layer in new),
            "recompressed": len(self.recompressed),
        }

    def to_json(self) -> dict[str, Any]:
        """The object of ``diff --json``; what no image says is null."""
        variables = [
            Moved(item.key.removeprefix(VARIABLE), item.before, item.after)
            for item in self.settings
            if item.key.startswith(VARIABLE)
        ]
        return {
            "a": self.before.title,
            "b": self.after.title,
            "platform": self.after.platform,
            "same_definition": None,
            "same_lock": None,
            "same_runtime": None,
            "same_image": self.same_image,
            "same_files": self.same_files,
            "packages": {
                kind: [c.to_json() for c in self.packages if c.kind == kind]
                for kind in ("added", "removed", "changed")
            },
            "packages_known": self.packages_known,
            "requirements": Lines().to_json(),
            "channels": Lines().to_json(),
            "base": self._base(),
            "docker_steps": Lines().to_json(),
            "build": None,
            "environment_variables": [item.to_json() for item in variables],
            "inference_config": [],
            "metadata": [],
            "settings": [item.to_json() for item in self.settings],
            "layers": self.cost(),
            "unknown": list(self.unknown),
        }

    def _base(self) -> dict[str, Any]:
        before, after = self._bases()
        return {
            "same": self.same_base,
            "from": _base_json(before),
            "to": _base_json(after),
            "labels": [],
        }

    @property
    def bases(self) -> tuple[LockedBase | None, LockedBase | None]:
        """What each stands on, as far as it is known."""
        return self._bases()


def _base_json(base: LockedBase | None) -> dict[str, Any] | None:
    if base is None:
        return None
    return {
        "reference": base.reference,
        "digest": None if base.manifest is None else str(base.manifest),
        "layers": len(base.layers),
    }


def _stands_on(picture: Picture, base: LockedBase) -> bool:
    """The image's lowest layers are those of the base."""
    wanted = tuple(layer.diff_id for layer in base.layers)
    return bool(wanted) and (picture.diff_ids or ())[: len(wanted)] == wanted


def compare_pictures(before: Picture, after: Picture) -> PictureDiff:
    """Compare two images part by part."""
    packages: tuple[PackageChange, ...] = ()
    if before.packages is not None and after.packages is not None:
        exact = before.exact and after.exact
        packages = compare_packages(before.packages, after.packages, exact=exact)
    settings: tuple[Moved, ...] = ()
    if before.settings is not None and after.settings is not None:
        settings = compare_maps(before.settings, after.settings)
    return PictureDiff(before, after, packages, settings)


@dataclass(frozen=True, slots=True)
class PictureWhy:
    """Why two images differ, by what they say of themselves, and what the second costs."""

    diff: PictureDiff
    image: Explanation
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """The object of ``why --json``; identities that no image tells are null."""
        return {
            "a": self.diff.before.title,
            "b": self.diff.after.title,
            "platform": self.diff.after.platform,
            "definition": None,
            "lock": None,
            "runtime": None,
            "image": self.image.to_json(),
            "cost": self.diff.cost(),
            "note": self.note,
        }


def explain_pictures(before: Picture, after: Picture) -> PictureWhy:
    """The smallest set of parts that makes one image the other.

    Packages stand for the layers that they are; layers are named where packages do not
    explain them. When it was made, and its history, count only where nothing else does.
    """
    diff = compare_pictures(before, after)
    inputs = [*_base_input(diff), *map(_package_input, diff.packages)]
    if not diff.packages and diff.same_files is False:
        inputs += _layer_inputs(diff)
    inputs += [Input(m.key, _word(m.before), _word(m.after)) for m in diff.settings]
    if not inputs and diff.same_image is False and diff.recompressed:
        count = len(diff.recompressed)
        inputs.append(Input(f"compression of {count} layer{'' if count == 1 else 's'}", "", ""))
    if not inputs and diff.same_image is False:
        inputs.append(Input("time of making or history", before.created, after.created))
    one, two = ("none" if p.image is None else str(p.image) for p in (before, after))
    same = diff.same_image is True or diff.is_empty
    image = Explanation("image", same, one, two, () if same else tuple(inputs))
    return PictureWhy(diff, image, "; ".join(diff.unknown))


def _base_input(diff: PictureDiff) -> list[Input]:
    before, after = diff.bases
    if diff.same_base is not False or before is None or after is None:
        return []
    return [Input("base", base_text(before), base_text(after))]


def base_text(base: LockedBase) -> str:
    """The base's name and digest, as far as it has them."""
    if base.is_scratch:
        return base.reference or "scratch"
    return f"{base.reference} ({base.short})" if base.reference else base.short


def _package_input(change: PackageChange) -> Input:
    found = change.to_json()
    name = f"{change.manager} {change.name}"
    return Input(name, str(found["from"] or "-"), str(found["to"] or "-"))


def _layer_inputs(diff: PictureDiff) -> list[Input]:
    before, after = diff.before.layers or (), diff.after.layers or ()
    olds, news = {la.diff_id for la in before}, {la.diff_id for la in after}
    gone = [Input("layer", _layer(la), "-") for la in before if la.diff_id not in news]
    came = [Input("layer", "-", _layer(la)) for la in after if la.diff_id not in olds]
    if not gone and not came:
        return [Input("order of layers", "", "")]
    return gone + came


def _layer(layer: PictureLayer) -> str:
    title = " ".join(layer.title.split())
    if len(title) > 60:
        title = title[:57] + "..."
    return f"{layer.digest.hex[:12]} {title}".strip()


def _word(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "-" if value is None else str(value)
