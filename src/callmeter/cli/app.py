"""The command tree. A command's module is imported when it is called; help, completion and `did you mean` need none.

Typer's own way registers functions, which means importing every command for each of them. Here a table holds
names and summaries, Typer builds stubs from it, and `resolve_command` puts the real command in place. A test
compares each summary with its command's own help.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise, takewhile
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from callmeter.cli.examples import broken, examples_in
from callmeter.cli.pairs import PairsCommand
from callmeter.cli.world import World
from callmeter.words.errors import CallmeterError, Exit, UsageError

# Path of words -> (module in cli/commands and its function, summary).
COMMANDS: dict[str, tuple[str, str]] = {
    "llm-call": ("llm_call", "Make one tagged call to a model and print the answer."),
    "budget status": ("status", "Where we stand: spend, quotas, burn rate, requests, what is frozen, last errors."),
    "budget watch": (
        "watch",
        "What goes on right now: calls as they come in, spend rates, running calls, quotas, requests, freezes.",
    ),
    "budget breakdown": ("breakdown", "What was spent, by agent, purpose, model, day or any tag."),
    "budget report": (
        "report",
        "The review of the last week, month or day: what was spent, by whom, why it changed, what to look at.",
    ),
    "budget forecast": (
        "forecast",
        "What will probably be spent, by day and in sum, and what that means for each quota.",
    ),
    "budget anomalies": (
        "anomalies",
        "Spikes, shifts, new models, changed prices, error storms, runaway loops, zombie sessions.",
    ),
    "budget savings": (
        "savings",
        "What could be saved in a month: cheaper models, caches, failed calls, long answers, zombie sessions.",
    ),
    "budget value": ("value", "What the spend brought: cost per output and return, by agent, purpose, work item."),
    "budget outcome record": ("outcome_record", "Record what came of a work item: its value, accepted or rejected."),
    "budget outcome list": ("outcome_list", "The outcomes that were recorded, corrections applied."),
    "budget tags": ("tags", "Tags that are missing, unknown, drifting or too many, by agent."),
    "budget metrics": (
        "metrics",
        "Figures for scrapers: totals, agents, tokens, burn rates, error rates, quotas, held money, the log's health.",
    ),
    "budget quota set": (
        "quota_set",
        "Set a quota: change or add it in the policy, and leave the rest of the file as it is.",
    ),
    "budget quota unset": ("quota_unset", "Remove a quota from the policy; nothing else in the file changes."),
    "budget quota show": (
        "quota_show",
        "Where every quota stands: its limit, what is used and held of it, what is left, and when it resets.",
    ),
    "budget quota left": (
        "quota_left",
        "What is left for an agent, in the tightest of its quotas: in dollars, tokens and calls.",
    ),
    "budget quota check": (
        "quota_check",
        "Would this call pass? It is composed and decided like that of `llm-call`, and then not made.",
    ),
    "budget quota explain": (
        "quota_explain",
        "The arithmetic of quotas: limit, approvals, used, held by whom, what a call would take, what is missing.",
    ),
    "budget quota suggest": (
        "quota_suggest",
        "Quotas that would fit what is used, and on what evidence; --apply sets them.",
    ),
    "budget quota allocate": (
        "quota_allocate",
        "Hand the budget out to agents by a strategy: shows what each would get; --apply puts it into the policy.",
    ),
    "budget quota sync": (
        "quota_sync",
        "Write quotas as ceilings, and model lists, to the provider: a second wall behind this one.",
    ),
    "budget quota guarantees": (
        "quota_guarantees",
        "What is enforced under this policy, where, how exactly, and what is out of reach.",
    ),
    "budget policy check": ("policy_check", "Check the policy: every fault at once, with its line and a suggestion."),
    "budget policy show": ("policy_show", "What the policy means for a call, and where each rule comes from."),
    "budget request": ("request", "Ask for headroom over a quota's limit; prints the request's id."),
    "budget requests": ("requests", "What waits for approval, and what is frozen."),
    "budget approve": (
        "approve",
        "Grant a request: headroom over the limit, and the stages that need approval are passed.",
    ),
    "budget deny": ("deny", "Refuse a request, or take an approval back."),
    "budget freeze": ("freeze", "Stop every call under a subject, from the next one on, until it is thawed."),
    "budget thaw": ("thaw", "Let a frozen subject's calls pass again; also one that the loop breaker stopped."),
    "budget alerts": ("alerts", "Alerts that wait to be delivered; --flush delivers them."),
    "budget recover": (
        "recover",
        "Finish what dead processes left, and ask the provider for costs that are only estimated.",
    ),
    "budget keys add": ("keys_add", "Register a key: read without echo from a terminal, or from stdin."),
    "budget keys list": ("keys_list", "The registered keys, where each lies and until when it is good."),
    "budget keys show": ("keys_show", "One key's registry entry and its month, or an end user's; never the key."),
    "budget keys create": (
        "keys_create",
        "Mint a key with a ceiling of its own at the provider, store and register it.",
    ),
    "budget keys import": (
        "keys_import",
        "Match the account's keys with the registry, and learn what it says of them.",
    ),
    "budget keys audit": (
        "keys_audit",
        "Review the keys: what nobody owns, uses, limits or rotates, and what lies or spends where it should not.",
    ),
    "budget keys move": ("keys_move", "Take a key from one store to another, unseen."),
    "budget keys rename": ("keys_rename", "Give a key another label."),
    "budget keys exec": ("keys_exec", "Run a command with an agent's key in its environment."),
    "budget keys retire": ("keys_retire", "Disable a key at the provider and use it no more; its entry is kept."),
    "budget keys remove": ("keys_remove", "Forget a key: its registry entry and its secret."),
    "budget rotate-key": (
        "rotate_key",
        "Replace a key by a new one, test it, and revoke the old one when nobody uses it any more.",
    ),
    "budget log show": ("log_show", "The calls in the usage log, one a line; --follow for those to come."),
    "budget log verify": ("log_verify", "Check every line of the usage log."),
    "budget log close": ("log_close", "Move finished months into compressed segments."),
    "budget log prune": ("log_prune", "Delete closed segments older than the retention."),
    "budget audit show": ("audit_show", "The audit log: who changed what."),
    "budget audit head": ("audit_head", "Print the audit log's newest anchor: a number and its hash."),
    "budget audit verify": ("audit_verify", "Check the audit log's hash chain."),
    "prices show": ("prices_show", "What models cost, and who says so."),
    "prices refresh": ("prices_refresh", "Fetch the provider's current prices."),
    "prices set": ("prices_set", "Set a model's price yourself."),
    "config show": ("config_show", "Every setting, its value, and where it comes from."),
    "local serve": ("local_serve", "Run the small local model behind an OpenAI-compatible endpoint."),
    "local status": ("local_status", "Whether a local model is running, and where."),
    "local stop": ("local_stop", "Stop the local model."),
    "doctor": ("doctor", "Is everything in order? Each check with what to do; status 3 when something is bad."),
    "demo": ("demo", "See it work: real tagged calls to a local model, then the reports."),
}
GROUPS = {
    "budget": "What was spent, by whom, and what may be spent.",
    "budget policy": "The policy, budget.json.",
    "budget quota": "Quotas: what may be spent, by whom.",
    "budget outcome": "Outcomes: what came of work items, and what it is worth.",
    "budget keys": "Keys: one for each agent and provider.",
    "budget log": "The usage log: one line a call.",
    "budget audit": "The audit log of changes and refusals.",
    "prices": "What models cost.",
    "config": "The settings; config.toml is yours to write.",
    "local": "A small real model on this machine, for trying things.",
}
EPILOG = "\b\nExit status:\n" + "\n".join(f"{int(status):>4}  {status.meaning}" for status in Exit)
_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Group(TyperGroup):
    """A group whose stubs become commands when they are called, and the one place that prints errors."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of COMMANDS, groups among them; Typer would put all groups last."""
        above = ctx.command_path.split()[1:]
        paths = [path.split() for path in COMMANDS]
        return list(dict.fromkeys(path[len(above)] for path in paths if path[: len(above)] == above))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and not isinstance(command, TyperGroup):
            command = load(" ".join([*ctx.command_path.split()[1:], command.name or ""]))
            # As they were typed: in what order different options came is lost by the time a command runs.
            ctx.meta["callmeter.arguments"] = tuple(rest)
        return name, command, rest

    def main(self, args: Any = None, prog_name: Any = None, *_: Any, obj: World | None = None, **extra: Any) -> Any:
        """Run, print what went wrong, exit with the status that the error's class carries."""
        from callmeter.cli.failure import run

        world = obj or World()
        extra.pop("standalone_mode", None)
        arguments = list(sys.argv[1:] if args is None else args)
        parent = super().main
        sys.exit(run(world, arguments, lambda: _invoke(parent, arguments, world, extra)))

    def _main_shell_completion(self, *_: Any, **__: Any) -> None:
        """Nothing: the scripts in completions/ know commands and options by themselves, and ask for values."""


def _invoke(parent: Callable[..., Any], arguments: list[str], world: World, extra: dict[str, Any]) -> int:
    from typer._click.exceptions import ClickException

    if arguments[:1] == ["budget"] and (arguments[1:2] in (["keys"], ["rotate-key"]) or "sync" in arguments[2:3]):
        # Here, because the parser's own messages repeat what they do not understand.
        from callmeter.cli.secret_input import refuse_keys

        refuse_keys(arguments)
    try:
        # The name is fixed: error messages must not depend on how Python was started.
        status = parent(arguments, "callmeter", standalone_mode=False, obj=world, **extra)
    except ClickException as error:
        context = getattr(error, "ctx", None)
        where = context.command_path if context else _command_of(arguments)
        if type(error).__name__ == "NoArgsIsHelpError":
            world.out.text(context.get_help() if context else error.format_message())
            return int(Exit.USAGE)
        message = error.format_message()
        joined = _joined(context.command.params, arguments, message) if context else ""
        meant = _elsewhere(arguments) if message.startswith("No such command") else ""
        if meant:  # the very word in another group, rather than one like it in this
            raise UsageError(_sentence(message.partition(". Did you mean")[0]), f"it is `callmeter {meant}`") from None
        raise UsageError(_sentence(message), joined or f"run `{where} --help`") from None
    except typer.Abort:
        raise CallmeterError("aborted") from None
    return status if isinstance(status, int) else 0


def _command_of(arguments: list[str]) -> str:
    """The command that a command line begins with: not each of the parser's errors knows its own."""
    words = list(takewhile(lambda argument: not argument.startswith("-"), arguments))
    while words and " ".join(words) not in (*COMMANDS, *GROUPS):
        words.pop()
    return " ".join(["callmeter", *words])


def _elsewhere(arguments: list[str]) -> str:
    """The command that was meant where its group was left out or is another one: `budget quota set` for `quota set`;
    "" if there is none, or several and none in `budget` itself."""
    words = list(takewhile(lambda argument: not argument.startswith("-"), arguments))
    known = [*COMMANDS, *GROUPS]
    begun = next((number for number in range(len(words)) if " ".join(words[: number + 1]) not in known), len(words))
    for end in range(len(words), begun, -1):
        tail = " ".join(words[begun:end])
        found = [path for path in known if f" {path}".endswith(f" {tail}")]
        if f"budget {tail}" in known:
            return f"budget {tail}"
        if len(found) == 1:
            return found[0]
    return ""


def _joined(options: Sequence[Any], arguments: Sequence[str], message: str) -> str:
    """What to write where a value stands beside an option that takes one only with `=`, and where the shell has made
    several words of a glob; "" if it is not that."""
    extra = message.partition("unexpected extra argument(s) (")[2].rstrip(")").split(" ")
    if any(option == "--log" and after in extra for option, after in zip(arguments, arguments[2:], strict=False)):
        return "put a glob of logs in quotes: `--log 'hosts/*/usage*.jsonl*'`"
    for option, value in pairwise(arguments):
        if f"unexpected extra argument(s) ({value})" in message and any(
            option in each.opts and (each.metavar or "").startswith("[=") for each in options
        ):
            return f"write `{option}={value}`"
    return ""


def _sentence(text: str) -> str:
    """The parser's message in our form; values are checked by pydantic, which speaks of inputs and kinds of errors."""
    text = text.partition(", unable to parse ")[0].rstrip(".").replace("\n", " ")
    text = text.replace(": Value error, ", ": ").replace(": Input should be ", ": it is not ")
    return text[:1].lower() + text[1:]


def load(path: str) -> Any:
    """The real command for a path of words such as `budget status`."""
    name, _ = COMMANDS[path]
    module = importlib.import_module(f"callmeter.cli.commands.{name}")
    function = getattr(module, name)
    examples = [line for line in examples_in(module.__doc__) if line not in (function.__doc__ or "")]
    epilog = _epilog(examples)
    single = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    single.command(path.split()[-1], cls=PairsCommand, context_settings=_CONTEXT, epilog=epilog)(function)
    command: Any = get_command(single)
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            # `SUBJECT <str>`, `MODEL <list[str]>`: Python's types say nothing to those who read a help.
            parameter.display_type_rich = _no_type
    return command


def _epilog(examples: list[str]) -> str:
    """What ends a command's help: its examples, and the exit statuses."""
    shown = "".join(f"  {part}\n" for line in examples for part in broken(line, 76))
    return f"\b\nExamples:\n{shown}\n{EPILOG}" if shown else EPILOG


def _no_type(ctx: Any) -> None:
    """What Typer shows beside an argument's name."""


def _stub() -> None:
    """Stands in the tree until the command is called."""


def _version(wanted: bool) -> None:
    if wanted:
        from callmeter import __version__

        typer.echo(f"callmeter {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """The meter between LLM agents and their keys: tagged calls, one usage log, budgets that hold.

    `callmeter demo` shows it at work, without an account. `callmeter COMMAND --help` and `man callmeter` say more.
    """


def _tree() -> typer.Typer:
    def group(help: str) -> typer.Typer:
        return typer.Typer(
            cls=Group,
            help=help,
            add_completion=False,
            rich_markup_mode=None,
            pretty_exceptions_enable=False,
            no_args_is_help=True,
            context_settings=_CONTEXT,
            epilog=EPILOG,
        )

    root = group(inspect.getdoc(_root) or "")
    root.callback()(_root)
    groups = {"": root}
    for path, help in GROUPS.items():
        parent, _, name = path.rpartition(" ")
        groups[path] = group(help)
        groups[parent].add_typer(groups[path], name=name)
    for path, (_module, summary) in COMMANDS.items():
        parent, _, name = path.rpartition(" ")
        groups[parent].command(name, help=summary, short_help=summary)(_stub)
    return root


app = _tree()
