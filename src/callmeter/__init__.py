"""The meter between LLM agents and their keys."""

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection


def get_secret(agent: str, name: str = "llm_api_key", *, environment: str = "", refused: "Collection[str]" = ()) -> str:
    """The key of an agent that is a program, as its provider's own library wants it.

    `llm_api_key` is the key for the provider of the settings, `openai_api_key` the one for openai, and so on. It is
    read anew at each call. After a 401 ask again, with the keys that were refused: then it is the one that a rotation
    put there, or the previous one, since a new key may be unknown for a while. Keep it out of logs: this is the bare
    key. Raises `callmeter.words.errors.NoKey` when there is none to be used, `Unavailable`
    when its store does not answer, `UsageError` for a name that is no key's.
    """
    from callmeter.cli.agent_key import get_secret as look_up

    return look_up(agent, name, environment=environment, refused=refused)
