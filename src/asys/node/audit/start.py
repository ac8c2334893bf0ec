"""The audit as asyd starts it: its writer, and what pushes it to a collector."""

from __future__ import annotations

import logging

from asys.node.audit.append_only import give_up_capability
from asys.node.audit.parameters import ParameterKeeping
from asys.node.audit.shadow.host import Shadow
from asys.node.audit.shadow.pinned import KnownCollectors
from asys.node.audit.supervisor import Supervisor
from asys.node.audit.writer import WriterOptions
from asys.node.clock import LoopClock
from asys.node.disk.config_dir import ConfigDir
from asys.node.disk.places import Places
from asys.node.options import Options
from asys.protocol.keys import PrivateKey

_log = logging.getLogger("asyd")


def start_audit(
    options: Options, where: Places, clock: LoopClock, config: ConfigDir, key: PrivateKey
) -> Supervisor | None:
    """Starts the writer of the audit; what it alone may do is given up then. And the shipper, which
    shows the node's `key` to the collector.
    """
    if options.audit == "off":
        _log.warning("the audit is off: nothing that agents do is on record")
        return None
    directory = options.audit_dir or where.state_dir / "audit"
    supervisor = Supervisor(
        WriterOptions(
            directory.absolute(), parameters=ParameterKeeping(days=options.audit_parameters_days)
        ),
        clock,
        parameters=options.audit_parameters == "on",
        shadow=_shadow(options, config, key),
    )
    supervisor.start()
    give_up_capability()
    _log.info("what agents do is on record in %s", directory)
    if supervisor.shadow is not None:
        supervisor.shadow.start()
        _log.info("it is pushed to the collector at %s", options.audit_shadow)
    if options.audit_parameters == "on":
        _log.info(
            "the parameters of what they do are kept in clear, for %d days",
            options.audit_parameters_days,
        )
    return supervisor


def _shadow(options: Options, config: ConfigDir, key: PrivateKey) -> Shadow | None:
    """Where the audit is pushed to. ConfigError: nobody has said which key the collector has."""
    if options.audit_shadow is None:
        return None
    destination = KnownCollectors(config.path).destination(options.audit_shadow)
    return Shadow(destination, key, options.audit_strict)
