"""The one place that catches: an exception becomes a message on stderr and an exit status."""

from __future__ import annotations

from callmeter.words.errors import CallmeterError, Exit, Stopped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from callmeter.cli.world import World


def run(world: World, arguments: list[str], command: Callable[[], int]) -> int:
    """Run a command and give its exit status. What is not a CallmeterError keeps its traceback, without locals."""
    _guess_format(world, arguments)
    try:
        status = command()
        world.out.flush()
        return status
    except CallmeterError as error:
        world.out.error(error)
        return int(error.exit_status)
    except Stopped as end:
        return int(end.exit_status)
    except KeyboardInterrupt:
        return int(Exit.INTERRUPTED)
    except MemoryError:
        world.out.error(CallmeterError("there is not enough memory", "free some, or allow this process more"))
        return int(Exit.FAILED)
    except Exception:
        from callmeter.cli.stopping import asked

        ending = asked()
        if ending is not None:
            return int(ending)
        import sys
        import traceback

        stream = world.out.stderr
        if stream is not None:
            traceback.print_exc(file=stream)
            stream.write("callmeter: error: an unexpected failure; this is a defect in callmeter, please report it\n")
        else:
            sys.stderr = None
        return int(Exit.FAILED)


def _guess_format(world: World, arguments: list[str]) -> None:
    """A wrong command line is an error too, and whoever asked for JSON gets it as JSON."""
    for index, argument in enumerate(arguments):
        if argument == "--":
            return
        if argument == "--json" or argument in ("--format=json", "--format=jsonl"):
            world.out.format = "json"
        elif argument == "--format" and arguments[index + 1 : index + 2] in (["json"], ["jsonl"]):
            world.out.format = "json"
