"""Numbers that no count and no seed can be are usage errors of every command."""

import click
import pytest
from click.testing import CliRunner

from medcore_prune.benchmarks.cli import cli as bench
from medcore_prune.commands.cli import cli
from medcore_prune.commands.options import Whole

HUGE = str(10**30)


def _numbers() -> list[tuple[click.Group, str, str]]:
    found = []
    for group in (cli, bench):
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            found += [
                (group, name, option.opts[0])
                for option in command.params
                if isinstance(option.type, click.types.IntParamType)
            ]
    return found


@pytest.mark.parametrize(("group", "command", "option"), _numbers())
def test_a_number_too_large_is_a_usage_error(group: click.Group, command: str, option: str) -> None:
    result = CliRunner().invoke(group, [command, option, HUGE])
    assert result.exit_code == 2
    assert f"Invalid value for '{option}'" in result.output


def test_the_least_and_the_largest_are_taken() -> None:
    assert Whole(1).convert("1", None, None) == 1
    assert Whole().convert(str(2**31 - 1), None, None) == 2**31 - 1
    for wrong in ("0", str(2**31)):
        with pytest.raises(click.BadParameter):
            Whole(1).convert(wrong, None, None)
