"""A command that takes each option once."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click


class Command(click.Command):
    """Refuses an option that is given twice, where the last one would silently win."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse as click does. Raises UsageError."""
        order = self.make_parser(ctx).parse_args(list(args))[2]
        for option, times in Counter(order).items():
            if times > 1 and _takes_one(option):
                raise click.UsageError(
                    f"{option.opts[0]} was given {times} times. Give it once.", ctx
                )
        return super().parse_args(ctx, args)


def _takes_one(param: Any) -> bool:
    return isinstance(param, click.Option) and not (param.multiple or param.is_flag or param.count)
