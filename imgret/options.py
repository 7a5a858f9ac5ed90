"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from imgret.path_types import FileToWrite, FolderToWrite, GalleryPlace
from imgret.ranges import DecimalNumber, WholeNumber
from retrieval.suggestion import did_you_mean
from retrieval.words import (
    BY_FOLDER,
    DEFAULT_MAX_PIXELS,
    ENGINES,
    FITS,
    LEAST_SIZE,
    MEASURED_K,
    MOST_NEIGHBOURS,
    MOST_SIZE,
    POOLS,
    PRIOR_KNOWN,
    VIEWS,
    VOTERS,
)

Function = TypeVar("Function", bound=Callable[..., Any])
if TYPE_CHECKING:
    WholeNumbers = click.ParamType[tuple[int, ...]]
    _Words = click.Choice[str]
else:
    WholeNumbers = click.ParamType  # click before 8.4 does not say of what
    _Words = click.Choice  # nor does click 8.1

TRUST = "imgret.trust"
PAGES = (".html", ".htm")


class TransformOption(click.Option):
    """--transform; its help lists the table of transforms, which is imported for that alone."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the option and its help, as click does."""
        from retrieval.transform import NAMES

        record = super().get_help_record(ctx)
        return record and (record[0], f"{NAMES}. {record[1]}")


class OneOf(_Words):
    """One of several words; a wrong one is told with the word that it resembles."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the word."""
        if value not in self.choices:
            words = ", ".join(self.choices)
            self.fail(
                f"{value!r} is not one of the choices. {did_you_mean(str(value), self.choices)}"
                f"Give one of: {words}.",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)


class Whole(WholeNumbers):
    """Whole numbers from 1, separated by commas."""

    name = "N,N,..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Return the numbers, sorted, each once."""
        try:
            numbers = sorted({int(part) for part in str(value).split(",")})
        except ValueError:
            numbers = []
        if not numbers or numbers[0] < 1 or numbers[-1] > MOST_NEIGHBOURS:
            self.fail(
                f"{value!r} is not a list of whole numbers from 1 to {MOST_NEIGHBOURS:,}. Write it "
                "like 1,5,10.",
                param,
                ctx,
            )
        return tuple(numbers)


SETTING_OPTIONS: dict[
    str, dict[str, Any]
] = {  # what an embedding is made with, and what a search does
    "backbone": {
        "help": "mini (the default: imgret's own small encoder, which needs no network), "
        "mobilenetv2, resnet50, efficientnet-b7, any timm name (`imgret backbones` lists them), "
        "hf-hub:user/model, or a folder with config.json and model.safetensors. Write ./NAME for a "
        "folder that has the name of a backbone."
    },
    "size": {
        "type": WholeNumber(LEAST_SIZE, MOST_SIZE),
        "help": "Side of the input in pixels; by default the backbone's own.",
    },
    "fit": {
        "type": OneOf(FITS),
        "help": "How a picture becomes a square; by default squash, which loses nothing of it.",
    },
    "pool": {
        "type": OneOf(POOLS),
        "help": "How the backbone's last map becomes an embedding; by default in its own way.",
    },
    "views": {
        "type": OneOf(VIEWS),
        "help": "Embed the mean of several views of a picture, for better matches at 2, 3.5 or 7 "
        "times the work.",
    },
    "transform": {
        "cls": TransformOption,
        "metavar": "SPEC",
        "help": "The default is auto, which whitens by the differences between images of the same "
        "thing.",
    },
    "expand": {
        "metavar": "N[:ALPHA]",
        "help": "Search again with the mean of the query and its N nearest images; none turns it "
        "off.",
    },
    "augment": {
        "metavar": "N[:ALPHA]",
        "help": "Replace each image's vector by the mean of it and its N nearest; none turns it "
        "off.",
    },
    "rerank": {
        "metavar": "M[:K1:K2:W]",
        "help": "Sort the M nearest by the neighbours that they share with the query; none turns "
        "it off.",
    },
}


def was_given(name: str) -> bool:
    """Whether a parameter of the running command was given, rather than left at its default."""
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


def check_protocol(*, queries: bool, zero_shot: bool, labels: str, labels_option: str) -> None:
    """Raise UsageError for options of a measurement that contradict each other."""
    if queries and zero_shot:
        raise click.UsageError("--zero-shot evaluates the gallery itself. Leave out --queries.")
    if not queries and labels != BY_FOLDER:
        raise click.UsageError(
            f"{labels_option} labels the images of --queries. Give --queries, or leave it out."
        )
    if (
        zero_shot
        and was_given("interval_over")
        and click.get_current_context().params["interval_over"] != "classes"
    ):
        raise click.UsageError("--zero-shot works by class. Give --by class, or leave it out.")


def settings_options(
    *names: str, multiple: bool = False, helps: Mapping[str, str] = MappingProxyType({})
) -> Callable[[Function], Function]:
    """Add the options of some settings.

    multiple: each may be given several times. helps: other help texts than usual.
    """

    def added(function: Function) -> Function:
        for name in reversed(names):
            how = dict(SETTING_OPTIONS[name])
            how["help"] = helps.get(name, how["help"])
            if multiple:
                how |= {"multiple": True, "help": f"{how['help']} May be repeated."}
            function = click.option(f"--{name}", **how)(function)
        return function

    return added


def checksum_option(function: Function) -> Function:
    """Add --checksum."""
    return click.option(
        "--checksum",
        is_flag=True,
        help="Also compare the content of files of unchanged size and time.",
    )(function)


def engine_option(function: Function) -> Function:
    """Add --engine."""
    return click.option(
        "--engine",
        type=OneOf(ENGINES),
        help="Engine that runs the backbone; by default chosen for you.",
    )(function)


def gallery_option(function: Function) -> Function:
    """Add --gallery, which IMGRET_GALLERY may give too; None without either."""
    return click.option(
        "--gallery",
        type=GalleryPlace(path_type=Path, file_okay=False, stores=True),
        metavar="FOLDER",
        envvar="IMGRET_GALLERY",
        show_envvar=True,
        help="The gallery's folder, by default .imgret here or in the nearest folder above; or an "
        "address: s3://BUCKET/NAME, or milvus://HOST:PORT/NAME, where it was published.",
    )(function)


def trust_option(function: Function) -> Function:
    """Add --trust, which trusted() tells."""
    return click.option(
        "--trust",
        is_flag=True,
        expose_value=False,
        callback=lambda ctx, _, value: ctx.meta.update({TRUST: value}),
        help="Let a gallery that you did not write here name files outside of its folder, and any "
        "backbone.",
    )(function)


def trusted() -> bool:
    """Whether --trust was given."""
    return bool(click.get_current_context().meta.get(TRUST, False))


def format_option(*formats: str) -> Callable[[Function], Function]:
    """Add --format, by default the first of the given ones."""
    return click.option(
        "--format",
        "output",
        type=OneOf(formats),
        default=formats[0],
        show_default=True,
        help="Format of the results.",
    )


def interval_option(function: Function) -> Function:
    """Add --by, as the argument interval_over: "queries" or "classes"."""
    return click.option(
        "--by",
        "interval_over",
        type=OneOf(["query", "class"]),
        default="query",
        show_default=True,
        callback=lambda _, __, value: {"query": "queries", "class": "classes"}[value],
        help="What the 95 % intervals are for: other queries of these classes, or other classes. "
        "With --zero-shot: classes.",
    )(function)


def report_option(page: str) -> Callable[[Function], Function]:
    """Add --report, an HTML page beside the printed results. page: what it shows."""
    return click.option(
        "--report",
        type=FileToWrite(*PAGES),
        metavar="FILE.html",
        help=f"Also write {page} as an HTML page.",
    )


def figures_option(function: Function) -> Function:
    """Add --figures."""
    return click.option(
        "--figures",
        type=FolderToWrite(),
        metavar="FOLDER",
        help="Write the figures to this folder as PNG and SVG.",
    )(function)


def neighbours_options(function: Function) -> Function:
    """Add --k and --vote."""
    vote = click.option(
        "--vote",
        type=WholeNumber(1, MOST_NEIGHBOURS),
        default=VOTERS,
        show_default=True,
        help="Number of neighbours that vote for a label.",
    )
    return click.option(
        "--k",
        type=Whole(),
        default=",".join(map(str, MEASURED_K)),
        show_default=True,
        help="Numbers of neighbours.",
    )(vote(function))


def prior_option(default: float | None = PRIOR_KNOWN) -> Callable[[Function], Function]:
    """Add --prior-known; without a default it is that of the gallery's calibration."""
    return click.option(
        "--prior-known",
        type=DecimalNumber(0, 1, min_open=True, max_open=True),
        default=default,
        show_default=default is not None or "that of the calibration",
        metavar="P",
        help="Share of queries assumed to have an answer in the gallery.",
    )


def max_pixels_option(function: Function) -> Function:
    """Add --max-pixels."""
    return click.option(
        "--max-pixels",
        type=WholeNumber(min=1),
        default=DEFAULT_MAX_PIXELS,
        show_default=True,
        help="Do not decode images with more pixels than this.",
    )(function)
