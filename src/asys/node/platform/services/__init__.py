"""Service managers: systemd over D-Bus, supervisord over XML-RPC."""
