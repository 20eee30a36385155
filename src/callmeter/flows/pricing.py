"""A request's price: the table's look-up and the estimate, joined for one provider at one instant."""

from __future__ import annotations

from callmeter.policy.estimate import Prompt, estimate, measure
from callmeter.policy.prices import cost
from callmeter.store.price_table import PriceFound, find_price
from callmeter.words.jsontext import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal

    from callmeter.providers.chat import Request
    from callmeter.providers.presets import Provider
    from callmeter.store.places import Places


# What a price is looked up by: provider, whose prices it has, whether it is free, model.
Known = dict[tuple[str, str, bool, str], PriceFound | None]

_UNBOUNDED = ("plugins", "web_search_options")


class Quote:
    """A model's price for one request: `expected` and `worst` in USD, None when unknown."""

    def __init__(
        self, found: PriceFound | None, model: str, request: Request, prompt: Prompt, at: datetime, service: str
    ) -> None:
        self.found = found
        self._at = at
        self._service = service
        self._images = prompt.images
        figures = estimate(
            found.price if found else None,
            prompt,
            request.max_tokens,
            at,
            model=model,
            context=found.context if found else None,
            service=service,
        )
        self.expected = figures.expected
        # What the endpoint may add by itself (search results, files) has no bound that could be known here.
        bounded = found is not None and found.bounded and not any(name in request.options for name in _UNBOUNDED)
        self.worst = figures.worst if bounded else None
        self.most_tokens = figures.most_input_tokens + request.max_tokens

    def cost(self, tokens: dict[str, int]) -> Decimal | None:
        """What these tokens cost at the call's time; None when it is unknown."""
        return cost(self.found.price, tokens, self._at, self._service, self._images) if self.found else None


class Quoter:
    """Quotes of one provider at one instant; each model is looked up once. `known` is what was looked up for other
    calls at about the same time, and takes what this one looks up."""

    def __init__(self, provider: Provider, places: Places, at: datetime, known: Known | None = None) -> None:
        self._provider = provider
        self._places = places
        self._at = at
        self._found = {} if known is None else known
        self._prompt: tuple[Request, Prompt] | None = None

    def price(self, model: str) -> PriceFound | None:
        """The model's price, with its limits. Raises Malformed for a damaged prices.toml."""
        provider = self._provider
        look_up = (provider.name, provider.price_as, provider.free, model)
        if look_up not in self._found:
            self._found[look_up] = find_price(
                provider.name,
                model,
                self._at,
                overrides=self._places.prices,
                cache_dir=self._places.cache,
                price_as=provider.price_as,
                free=provider.free,
            )
        return self._found[look_up]

    def quote(self, model: str, request: Request) -> Quote:
        """What the request may cost, served by this model."""
        if self._prompt is None or self._prompt[0].messages is not request.messages:
            further = [dumps(request.options[name]) for name in ("tools", "response_format") if name in request.options]
            self._prompt = (request, measure(request.messages, further))
        service = request.options.get("service_tier")
        return Quote(
            self.price(model), model, request, self._prompt[1], self._at, service if isinstance(service, str) else ""
        )
