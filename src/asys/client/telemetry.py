"""OpenTelemetry spans of calls; needs `asys[otel]`.

asys.connect(host, observers=[Telemetry()])
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asys.client.observe import Called, Ending, kind, word
from asys.errors import ArgumentError

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider


class Telemetry:
    """An Observer that makes one span a call, a child of the span in whose context it is made.

    The span is named by the instruction and has `asys.instruction`, `asys.sw` (four hex digits),
    `asys.seq`, `asys.attempts`, `asys.session`, `asys.outcome`, `server.address`, and `error.type`.
    An unknown outcome is no error: its status stays unset.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        """`provider`: None is the global one. ArgumentError: OpenTelemetry is not installed."""
        try:
            from opentelemetry import trace
        except ImportError as error:
            raise ArgumentError(
                "spans need OpenTelemetry; install it with: pip install 'asys[otel]'"
            ) from error
        self._trace = trace
        self._tracer = trace.get_tracer("asys", tracer_provider=provider)

    def begin(self, instruction: str, node: str) -> Ending:
        """As Observer.begin."""
        trace = self._trace
        span = self._tracer.start_span(
            instruction,
            kind=trace.SpanKind.CLIENT,
            attributes={"asys.instruction": instruction, "server.address": node},
        )

        def end(called: Called) -> None:
            span.set_attribute("asys.attempts", called.attempts)
            span.set_attribute("asys.session", called.session)
            span.set_attribute("asys.outcome", called.outcome)
            sw, error = word(called.sw), kind(called.error)
            if sw is not None:
                span.set_attribute("asys.sw", sw)
            if called.seq is not None:
                span.set_attribute("asys.seq", called.seq)
            if error is not None:
                span.set_attribute("error.type", error)
            if called.outcome in ("refused", "unanswered"):
                span.set_status(trace.StatusCode.ERROR, sw or error)
            span.end()

        return end
