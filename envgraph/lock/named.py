"""The images that an environment stands on and names: its base, and those of its instructions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from envgraph.errors import Diagnostic, EnvgraphError, InputError
from envgraph.lock.images import RegistryResolver, ResolvedBase, resolve_base
from envgraph.model.locked import LockedBase, LockedContext, LockedEnvironment
from envgraph.model.reference import BadReferenceError
from envgraph.model.spec import EnvironmentSpec, NamedImage
from envgraph_store.digest import Digest

if TYPE_CHECKING:
    from envgraph.lock.contexts import Contexts


@dataclass(slots=True)
class NamedBases:
    """What an environment's images are on one platform; see :func:`lock_named`."""

    base: LockedBase
    images: dict[str, LockedBase] = field(default_factory=dict)
    documents: dict[Digest, bytes] = field(default_factory=dict)
    remarks: tuple[Diagnostic, ...] = ()


def named_images(spec: EnvironmentSpec) -> tuple[NamedImage, ...]:
    """Every image that the instructions of an environment name, each text once."""
    if spec.build is not None:
        return spec.build.images
    found = {image.text: image for step in spec.docker_steps for image in step.images}
    return tuple(found.values())


def locked_context(
    spec: EnvironmentSpec, contexts: Contexts, before: LockedContext | None, *, anew: bool = False
) -> tuple[EnvironmentSpec, LockedContext | None, tuple[Diagnostic, ...]]:
    """The build context as a lock has it, with remarks; and the environment with what it says.

    One at an address is fetched and pinned, or stays where ``before`` has it (``anew``: its
    branch or address is asked again): errors of
    :meth:`envgraph.lock.contexts.Contexts.lock`.
    """
    build = spec.build
    if build is None:
        return spec, None, ()
    if build.tree is not None:
        return spec, LockedContext(build.tree, build.dockerfile_path, dict(build.arguments)), ()
    found = contexts.lock(build, before, anew=anew)
    return replace(spec, build=found.build), found.locked, found.remarks


def lock_named(
    spec: EnvironmentSpec,
    platform: str,
    previous: LockedEnvironment | None,
    base: LockedBase | None,
    registry: Callable[[], RegistryResolver | None],
) -> NamedBases:
    """Base and images by digest; what ``previous`` holds under the same name stays.

    ``base`` is taken as it is. Errors of :func:`envgraph.lock.images.resolve_base`, with
    the line of the instruction that names the image.
    """
    from envgraph.spec.platform_arguments import image_for, named_text

    known: Mapping[str, LockedBase] = {} if previous is None else previous.images
    _check_platforms(spec, platform)
    found = NamedBases(LockedBase("scratch"))

    def resolve(reference: str, path: str | None) -> LockedBase:
        resolved = resolve_base(reference, path, platform, registry=registry())
        _take(found, resolved)
        return resolved.locked

    problems: list[Diagnostic] = []
    for image in named_images(spec):
        try:
            text, reference = image_for(image, platform)
            before = known.get(text)
            if before is None or before.reference != reference:
                before = resolve(reference, None)
            found.images[text] = before
        except BadReferenceError as error:
            problems.append(Diagnostic("image-reference", str(error), "", image.source))
        except EnvgraphError as error:
            problems += (_placed(d, image) for d in error.diagnostics)
    if problems:
        raise InputError(dict.fromkeys(problems))
    if spec.build is not None:
        text = named_text(spec.build.base, platform)
        found.base = found.images.get(text, found.base)
        return found
    reference = spec.image or "scratch"
    if base is None and previous is not None and previous.base.reference == reference:
        # A change of packages is no reason to take another base (`base_images: freeze`).
        base = previous.base
    found.base = base or resolve(reference, spec.image_path)
    return found


def _take(found: NamedBases, resolved: ResolvedBase) -> None:
    found.documents |= resolved.documents
    found.remarks = tuple(dict.fromkeys([*found.remarks, *resolved.remarks]))


def _placed(problem: Diagnostic, image: NamedImage) -> Diagnostic:
    return Diagnostic(
        problem.code, problem.summary, problem.detail, problem.source or image.source,
        problem.hint, problem.severity,
    )  # fmt: skip


def _check_platforms(spec: EnvironmentSpec, platform: str) -> None:
    """``FROM --platform=`` has to say what is built for."""
    from envgraph.model.oci import oci_platform, same_platform
    from envgraph.spec.platform_arguments import platform_of

    wanted = oci_platform(platform)
    asked = () if spec.build is None else spec.build.platforms
    for text in asked:
        offered = platform_of(text)
        if wanted is not None and (offered is None or not same_platform(wanted, offered)):
            raise InputError(
                f"the Dockerfile says --platform={text}, and {platform} is built",
                code="dockerfile-platform",
                source=None if spec.build is None else spec.build.source,
                hint="leave --platform out, or lock only platforms that it means: `platforms:`",
            )
