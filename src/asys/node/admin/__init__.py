"""What an admin asks of a running asyd: its sessions, the red button, reading agents again."""
